"""From results to a board: group what may be compared, rank within the groups, aggregate over them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from statistics import fmean

import numpy as np

from leaderboard.board import Board, Cell, Group, Standing, Submission, Track, identity
from leaderboard.records import Card, ProtocolReference, Result
from leaderboard.stats import Floats, ImageError, bootstrap_means, mid_ranks, percentile_interval, rank, summarise


def analyse(results: Iterable[Result]) -> Board:
    """Build the board; the order of `results` does not matter."""
    ordered = sorted(results, key=lambda result: result.file_name)
    submissions, notes = _submissions(ordered)
    by_reference: dict[tuple[ProtocolReference, str], list[Result]] = defaultdict(list)
    for result in ordered:
        by_reference[result.protocol, result.dataset.fingerprint].append(result)
    by_group: dict[tuple[str, str], list[list[Result]]] = defaultdict(list)  # references differ in titles alone
    for (protocol, fingerprint), found in by_reference.items():
        by_group[json.dumps(identity(protocol)), fingerprint].append(found)
    groups = [_group(found, submissions) for found in by_group.values()]
    by_track: dict[str, list[Group]] = defaultdict(list)
    for group in _mark_current(groups, notes):
        by_track[group.protocol.track].append(group)
    tracks = tuple(_track(name, by_track[name]) for name in sorted(by_track))
    return Board(tracks, len(ordered), tuple(notes))


def _submissions(results: Sequence[Result]) -> tuple[dict[tuple[str, str], Submission], list[str]]:
    cards: dict[tuple[str, str], list[Card]] = defaultdict(list)
    for result in results:
        versions = cards[result.card.name, result.card.sha256]
        if result.card not in versions:
            versions.append(result.card)
    weights: dict[str, set[str]] = defaultdict(set)
    names: dict[str, set[str]] = defaultdict(set)
    for name, sha256 in cards:
        weights[name].add(sha256)
        names[sha256].add(name)
    notes = [
        f"{name}: {len(found)} checkpoints carry this name; they are shown apart, with a piece of their hash"
        for name, found in sorted(weights.items())
        if len(found) > 1
    ]
    notes += [
        f"{', '.join(sorted(found))}: one checkpoint under {len(found)} names"
        for _, found in sorted(names.items())
        if len(found) > 1
    ]
    notes += [
        f"{name}: its results carry {len(versions)} different cards; the first is shown"
        for (name, _), versions in sorted(cards.items())
        if len(versions) > 1
    ]
    submissions = {
        (name, sha256): Submission(versions[0], ambiguous=len(weights[name]) > 1)
        for (name, sha256), versions in cards.items()
    }
    return submissions, notes


def _group(by_reference: Sequence[Sequence[Result]], submissions: dict[tuple[str, str], Submission]) -> Group:
    """The group of results that differ at most in their protocol's titles: it takes those that most results carry."""
    runs: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in chain.from_iterable(by_reference):
        runs[result.card.name, result.card.sha256].append(result)
    cells = [_cell(submissions[id_], found) for id_, found in runs.items()]
    scored = [(cell, cell.summary) for cell in cells if cell.summary is not None]
    scored.sort(key=lambda pair: (-pair[1].mean, pair[0].submission.id))
    rankings = rank([summary for _, summary in scored])
    anchors = _anchors([cell for cell, _ in scored])
    ranked = [
        replace(
            cell,
            ranking=ranking,
            anchor=anchors.get(cell.submission.card.architecture),
            leads=ranking.worst == 1 and len(scored) > 1,
        )
        for (cell, _), ranking in zip(scored, rankings, strict=True)
    ]
    failed = sorted((cell for cell in cells if cell.summary is None), key=lambda cell: cell.submission.id)
    most = max(map(len, by_reference))
    first = [found[0] for found in by_reference if len(found) == most]
    usual = min(first, key=lambda result: (result.protocol.title, result.protocol.short_title))
    return Group(usual.protocol, usual.dataset, (*ranked, *failed))


def _cell(submission: Submission, runs: list[Result]) -> Cell:
    runs.sort(key=lambda run: run.seed)
    cell = Cell(submission, tuple(runs), None)
    return replace(cell, summary=summarise(cell.values, _image_error(cell.finished[0]))) if cell.values else cell


def _image_error(run: Result) -> ImageError | None:
    """What the run's result says of the draw of its validation images."""
    error = run.standard_errors.get(run.protocol.headline)
    return None if error is None or run.dataset.val_images < 2 else ImageError(error, run.dataset.val_images)


def _anchors(cells: Sequence[Cell]) -> dict[str, float]:
    """Mean of all random initialisations by architecture (several submissions count equally)."""
    means: dict[str, list[float]] = defaultdict(list)
    for cell in cells:
        if cell.submission.is_random and cell.summary is not None:
            means[cell.submission.card.architecture].append(cell.summary.mean)
    return {architecture: fmean(found) for architecture, found in means.items()}


def _mark_current(groups: Sequence[Group], notes: list[str]) -> list[Group]:
    """Of the groups of one protocol id: the highest version, then most submissions, then most runs, then the hash."""
    by_id: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        by_id[group.protocol.id].append(group)
    marked = []
    for id_, found in sorted(by_id.items()):
        found.sort(key=lambda g: (-g.protocol.version, -len(g.cells), -sum(len(c.finished) for c in g.cells), g.digest))
        marked += [replace(g, current=g is found[0], suffix=_suffix(g, found)) for g in found]
        if len(found) > 1:
            notes.append(
                f"{id_}: {len(found)} different protocols or data sets, shown apart; current is version "
                f"{found[0].protocol.version}, protocol {found[0].protocol.sha256[:8]}, "
                f"data {found[0].dataset.fingerprint[:8]}"
            )
    return marked


def _suffix(group: Group, found: Sequence[Group]) -> str:
    if len(found) == 1:
        return ""
    protocol, fingerprint = group.protocol, group.dataset.fingerprint
    parts = []
    if any(other.protocol.version != protocol.version for other in found):
        parts.append(f"v{protocol.version}")
    if any(o.protocol.sha256 != protocol.sha256 and o.protocol.version == protocol.version for o in found):
        parts.append(f"protocol {protocol.sha256[:4]}")
    if any(other.dataset.fingerprint != fingerprint for other in found):
        parts.append(f"data {fingerprint[:4]}")
    return " ".join(parts) or group.digest[:4]


def _track(name: str, groups: Sequence[Group]) -> Track:
    current = [group for group in groups if group.current]
    found = {cell.submission.id: cell.submission for group in current for cell in group.cells}
    standings = [
        Standing(submission, tuple(group.by_submission.get(id_) for group in current))
        for id_, submission in sorted(found.items())
    ]
    complete = [s for s in standings if s.is_complete]
    rest = [s for s in standings if not s.is_complete]
    return Track(name, tuple(groups), (*_aggregate(complete, current), *rest))


def _aggregate(standings: Sequence[Standing], groups: Sequence[Group]) -> list[Standing]:
    """Mean rank and mean normalised score over `groups`, with bootstrap intervals over runs; best first.

    The 0 and the 100 of the normalised score are held fixed, so that an interval tells the noise of the
    submission's own runs.
    """
    if not standings:
        return []
    table = [[cell for s in standings if (cell := s.cells[i]) is not None] for i in range(len(groups))]
    means = [np.array([cell.summary.mean for cell in cells if cell.summary]) for cells in table]
    draws = [np.stack([_draws(cell) for cell in cells], 1) for cells in table]
    mean_ranks = np.mean([mid_ranks(values) for values in means], axis=0)
    rank_draws = np.mean([mid_ranks(values) for values in draws], axis=0)
    aggregated = []
    for i, standing in enumerate(standings):
        known = all(s is not None and s.error is not None for s in (cells[i].summary for cells in table))
        score = _mean([g.score(c[i], m[i : i + 1]) for g, c, m in zip(groups, table, means, strict=True)])
        scores = _mean([g.score(c[i], d[:, i]) for g, c, d in zip(groups, table, draws, strict=True)])
        aggregated.append(
            replace(
                standing,
                mean_rank=float(mean_ranks[i]),
                mean_rank_interval=percentile_interval(rank_draws[:, i]) if known else None,
                score=None if score is None else float(score[0]),
                score_interval=None if scores is None or not known else percentile_interval(scores),
            )
        )
    return sorted(aggregated, key=lambda s: (s.mean_rank, -(s.score or 0.0), s.submission.id))


def _draws(cell: Cell) -> Floats:
    return bootstrap_means(cell.values, int(cell.finished[0].key, 16), cell.summary.error if cell.summary else None)


def _mean(parts: Sequence[Floats | None]) -> Floats | None:
    """The mean over the groups, or nothing: leaving out the groups without a score would flatter."""
    present = [part for part in parts if part is not None]
    return np.mean(present, axis=0) if len(present) == len(parts) else None
