"""From results to a board: group what may be compared, test within the groups, aggregate over them.

No row can take anything from another. Which groups enter the standings of a track is declared, so that a result of
another version, protocol or plan changes nothing; a track that nobody declared uses all its groups. Entries are ranked
on what they have, and by overall scores only among those that have the same.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from statistics import fmean

import numpy as np

from leaderboard.board import Board, Cell, Entry, Group, Ranking, Standing, Track, identity
from leaderboard.comparison import Contest, Measured, leader, rank_intervals, tiers
from leaderboard.entries import Checkpoint, find_entries
from leaderboard.records import ProtocolReference, Result
from leaderboard.shares import Shares
from leaderboard.stats import Estimate, ImageError, Summary, mid_ranks, summarise, weighted_sum

Loader = Callable[[Result], Shares | None]
"""Gives the images' shares of a run's metrics, where they are kept."""


def analyse(
    results: Iterable[Result],
    declared: Collection[ProtocolReference] = (),
    *,
    shares: Loader = lambda result: None,
    each: bool = False,
) -> Board:
    """Build the board; the order of `results` does not matter.

    `declared` are the protocols of the tracks that are known: those tracks' standings use exactly these. `shares` lets
    single runs on the same images be compared image by image. With `each`, every checkpoint has a row of its own.
    """
    ordered = sorted(results, key=lambda result: result.file_name)
    entries, notes = find_entries(ordered, each=each)
    tracks = {protocol.track for protocol in declared}
    kinds: dict[ProtocolReference, str] = {}
    found: dict[tuple[str, str, str, int | None], list[Result]] = defaultdict(list)
    for result in ordered:
        kind = kinds.setdefault(result.protocol, json.dumps(identity(result.protocol)))
        plan = None if result.protocol.track in tracks or not result.training else result.training.planned_iterations
        entry = entries[result.card.name, result.card.sha256]
        found[kind, result.dataset.fingerprint, entry.card.architecture, plan].append(result)
    standard = {json.dumps(identity(protocol)): protocol for protocol in declared}
    by_table: dict[tuple[str, str], list[Group]] = defaultdict(list)
    for (kind, _, architecture, plan), members in found.items():
        group = _group(members, entries, shares, architecture, plan)
        group = replace(
            group,
            protocol=standard.get(kind, group.protocol),
            current=kind in standard or group.protocol.track not in tracks,
        )
        by_table[group.protocol.track, architecture].append(group)
    made = []
    for (track, architecture), groups in sorted(by_table.items()):
        marked = _mark(groups, notes)
        count = sum(protocol.track == track for protocol in declared)
        made.append(_track(track, architecture, marked, count))
    return Board(tuple(made), len(ordered), tuple(notes))


def _group(
    results: Sequence[Result], entries: dict[Checkpoint, Entry], shares: Loader, architecture: str, plan: int | None
) -> Group:
    """The group of results that differ at most in their protocol's titles: it takes the most frequent ones."""
    runs: dict[tuple[str, str], list[Result]] = defaultdict(list)
    of: dict[tuple[str, str], Entry] = {}
    for result in results:
        entry = entries[result.card.name, result.card.sha256]
        of[entry.id] = entry
        runs[entry.id].append(result)
    titles = [result.protocol for result in results]
    usual = min(set(titles), key=lambda protocol: (-titles.count(protocol), protocol.title, protocol.short_title))
    return Group(usual, results[0].dataset, architecture, plan, _cells(of, runs, shares))


def _cells(
    entries: dict[tuple[str, str], Entry], runs: dict[tuple[str, str], list[Result]], shares: Loader
) -> tuple[Cell, ...]:
    cells = [_cell(entries[id_], found) for id_, found in runs.items()]
    random = [run for cell in cells if cell.entry.is_random for run in cell.finished]
    anchor = _summary(random) if random else None
    scored = [(cell, cell.summary) for cell in cells if cell.summary is not None]
    scored.sort(key=lambda pair: (-pair[1].mean, pair[0].entry.id))
    compared = _compare([cell for cell, _ in scored], [summary for _, summary in scored], shares)
    failed = sorted((cell for cell in cells if cell.summary is None), key=lambda cell: cell.entry.id)
    return tuple(replace(cell, anchor=anchor) for cell in (*compared, *failed))


def _cell(entry: Entry, runs: list[Result]) -> Cell:
    places = {card.sha256: place for place, card in enumerate(entry.cards)}
    runs.sort(key=lambda run: (places[run.card.sha256], run.seed))
    cell = Cell(entry, tuple(runs), None)
    return replace(cell, summary=_summary(cell.finished)) if cell.finished else cell


def _summary(runs: Sequence[Result]) -> Summary:
    """Of the headline metric of finished runs; each checkpoint counts equally."""
    headline = runs[0].protocol.headline
    units: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        units[run.card.sha256].append(run.metrics[headline])
    return summarise(list(units.values()), _image_error(runs), trained=runs[0].probe is None)


def _image_error(runs: Sequence[Result]) -> ImageError | None:
    """For the draw of the images, of the mean over runs: they share their images, so that it is no smaller than one's."""
    errors = [run.standard_errors.get(run.protocol.headline) for run in runs]
    known = [error for error in errors if error is not None]
    images = runs[0].dataset.val_images
    return ImageError(fmean(known), images) if len(known) == len(runs) and images > 1 else None


def _compare(cells: Sequence[Cell], summaries: Sequence[Summary], shares: Loader) -> list[Cell]:
    """The cells with their ranks and tiers. What is not tested has a position only, and no part in others' ranks."""
    everyone = mid_ranks(np.array([summary.mean for summary in summaries], np.float64))
    ranked = [replace(cell, ranking=Ranking(float(rank), None, None)) for cell, rank in zip(cells, everyone, strict=True)]
    tested = [i for i, summary in enumerate(summaries) if summary.tested]
    if not tested:
        return ranked
    measured = _measured([cells[i] for i in tested], [summaries[i] for i in tested], shares)
    contest = Contest([measured])
    first = leader(contest)
    results = zip(tested, mid_ranks(contest.mean), rank_intervals(contest), tiers(contest), strict=True)
    for place, (i, position, (best, worst), tier) in enumerate(results):
        ranking = Ranking(float(position), best, worst)
        ranked[i] = replace(ranked[i], ranking=ranking, tier=tier, leads=place == first)
    return ranked
