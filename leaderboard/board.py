"""From results to a board: groups that may be compared, figures over seeds, ranks, standings.

A group is one exact protocol on one exact data set; figures of different groups are never compared. Of several
groups of one protocol id one is current (`Group.current`), and only current groups enter a track's standings.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean

import numpy as np

from leaderboard.records import RANDOM_METHOD, Card, DatasetReference, ProtocolReference, Result
from leaderboard.stats import Floats, Ranking, Summary, bootstrap_means, mid_ranks, percentile_interval, rank, summarise
from leaderboard.text import protocol_words


@dataclass(frozen=True)
class Submission:
    """A name and the exact weights behind it."""

    card: Card
    ambiguous: bool = False
    """Other weights carry the same name."""

    @property
    def id(self) -> tuple[str, str]:
        """Name and checkpoint hash."""
        return self.card.name, self.card.sha256

    @property
    def label(self) -> str:
        """The name; with a piece of the hash where the name alone would be ambiguous."""
        return f"{self.card.name}@{self.card.sha256[:8]}" if self.ambiguous else self.card.name

    @property
    def is_random(self) -> bool:
        """Random initialisation is the zero of the normalised score."""
        return self.card.method == RANDOM_METHOD


@dataclass(frozen=True)
class Cell:
    """One submission in one group."""

    submission: Submission
    runs: tuple[Result, ...]
    """In the order of their seeds, failed ones among them."""
    summary: Summary | None
    """Of the headline metric over the finished runs; `None` if all failed."""
    ranking: Ranking | None = None
    anchor: float | None = None
    """Mean of random initialisation of the same architecture in this group."""
    leads: bool = False
    """Best, and significantly better than every other submission."""

    @property
    def ties_best(self) -> bool:
        """Nothing is significantly better, and it is not alone in that."""
        return self.ranking is not None and self.ranking.best == 1 < self.ranking.worst

    @cached_property
    def finished(self) -> tuple[Result, ...]:
        """The runs that count."""
        return tuple(run for run in self.runs if run.status == "finished")

    @property
    def failed(self) -> int:
        """Number of failed runs: they stay visible."""
        return len(self.runs) - len(self.finished)

    @cached_property
    def values(self) -> tuple[float, ...]:
        """The headline metric of the finished runs."""
        return tuple(run.metrics[run.protocol.headline] for run in self.finished)

    @cached_property
    def metric_means(self) -> dict[str, float]:
        """Mean of each metric that all finished runs have, in the order of the first."""
        names = self.finished[0].metrics if self.finished else ()
        return {
            name: fmean(run.metrics[name] for run in self.finished)
            for name in names
            if all(name in run.metrics for run in self.finished)
        }


@dataclass(frozen=True)
class Group:
    """Results that may be compared: one protocol hash, one data set fingerprint."""

    protocol: ProtocolReference
    dataset: DatasetReference
    cells: tuple[Cell, ...]
    """Best mean first; those without a finished run at the end."""
    current: bool = True
    suffix: str = ""
    """What tells it from the other groups of its protocol id; empty if there is none."""

    @cached_property
    def digest(self) -> str:
        """Hash of everything that makes the group: the protocol's reference and the data's fingerprint."""
        return hashlib.sha256(f"{self.protocol.to_json()}{self.dataset.fingerprint}".encode()).hexdigest()

    @property
    def id(self) -> str:
        """Unique on the board, and fit for an address."""
        return f"{self.protocol.id}.{self.digest[:8]}" if self.suffix else self.protocol.id

    @property
    def label(self) -> str:
        """The protocol's name without its track, in words: a column heading that can wrap."""
        return " ".join([protocol_words(self.protocol.id, self.protocol.track), self.suffix]).strip()

    @cached_property
    def by_submission(self) -> dict[tuple[str, str], Cell]:
        """Cells by `Submission.id`."""
        return {cell.submission.id: cell for cell in self.cells}

    @cached_property
    def best(self) -> float | None:
        """The best mean."""
        return max((cell.summary.mean for cell in self.cells if cell.summary), default=None)

    def score(self, cell: Cell, values: Floats) -> Floats | None:
        """Normalise `values`: 0 is random initialisation of the cell's architecture, 100 the group's best mean.

        `None` where random initialisation is missing or is itself the best.
        """
        if cell.anchor is None or self.best is None or self.best <= cell.anchor:
            return None
        return 100 * (values - cell.anchor) / (self.best - cell.anchor)

    def score_of(self, cell: Cell) -> float | None:
        """The normalised score of the cell's mean."""
        score = None if cell.summary is None else self.score(cell, np.array([cell.summary.mean]))
        return None if score is None else float(score[0])


@dataclass(frozen=True)
class Standing:
    """A submission over all current groups of a track."""

    submission: Submission
    cells: tuple[Cell | None, ...]
    """One a current group; `None` where there is no result."""
    mean_rank: float | None = None
    """Over the groups, among complete submissions; `None` if a group is missing or failed."""
    mean_rank_interval: tuple[float, float] | None = None
    """95 % bootstrap interval over seeds; `None` with a single seed anywhere."""
    score: float | None = None
    """Normalised score (`Group.score`), mean over the groups; `None` if one of them has none."""
    score_interval: tuple[float, float] | None = None

    @property
    def is_complete(self) -> bool:
        """Every group has a figure; only then is there a place in the standings."""
        return all(cell is not None and cell.summary is not None for cell in self.cells)


@dataclass(frozen=True)
class Track:
    """All groups of one track."""

    id: str
    groups: tuple[Group, ...]
    standings: tuple[Standing, ...]
    """Complete submissions by mean rank, then the incomplete ones by name."""

    @property
    def current(self) -> tuple[Group, ...]:
        """The groups that the standings use."""
        return tuple(group for group in self.groups if group.current)


@dataclass(frozen=True)
class Board:
    """Everything that the tables and the page show."""

    tracks: tuple[Track, ...]
    results: int
    notes: tuple[str, ...]
    """Things that a reader should know, such as a name used for two checkpoints."""

    @property
    def submissions(self) -> int:
        """Number of submissions."""
        return len({s.submission.id for track in self.tracks for s in track.standings})


def analyse(results: Iterable[Result]) -> Board:
    """Build the board; the order of `results` does not matter."""
    ordered = sorted(results, key=lambda result: result.file_name)
    submissions, notes = _submissions(ordered)
    by_group: dict[tuple[ProtocolReference, str], dict[tuple[str, str], list[Result]]] = {}
    for result in ordered:
        cells = by_group.setdefault((result.protocol, result.dataset.fingerprint), defaultdict(list))
        cells[result.card.name, result.card.sha256].append(result)
    groups = [_group(protocol, cells, submissions) for (protocol, _), cells in by_group.items()]
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


def _group(
    protocol: ProtocolReference,
    runs: dict[tuple[str, str], list[Result]],
    submissions: dict[tuple[str, str], Submission],
) -> Group:
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
    dataset = next(iter(runs.values()))[0].dataset
    return Group(protocol, dataset, (*ranked, *failed))


def _cell(submission: Submission, runs: list[Result]) -> Cell:
    runs.sort(key=lambda run: run.seed)
    cell = Cell(submission, tuple(runs), None)
    return replace(cell, summary=summarise(cell.values)) if cell.values else cell


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
    """Mean rank and mean normalised score over `groups`, with bootstrap intervals over seeds; best first.

    The 0 and the 100 of the normalised score are held fixed, so that an interval tells the noise of the
    submission's own runs.
    """
    if not standings:
        return []
    table = [[cell for s in standings if (cell := s.cells[i]) is not None] for i in range(len(groups))]
    means = [np.array([cell.summary.mean for cell in cells if cell.summary]) for cells in table]
    draws = [np.stack([bootstrap_means(c.values, int(c.finished[0].key, 16)) for c in cells], 1) for cells in table]
    mean_ranks = np.mean([mid_ranks(values) for values in means], axis=0)
    rank_draws = np.mean([mid_ranks(values) for values in draws], axis=0)
    aggregated = []
    for i, standing in enumerate(standings):
        several = all(len(cells[i].values) > 1 for cells in table)
        score = _mean([g.score(c[i], m[i : i + 1]) for g, c, m in zip(groups, table, means, strict=True)])
        scores = _mean([g.score(c[i], d[:, i]) for g, c, d in zip(groups, table, draws, strict=True)])
        aggregated.append(
            replace(
                standing,
                mean_rank=float(mean_ranks[i]),
                mean_rank_interval=percentile_interval(rank_draws[:, i]) if several else None,
                score=None if score is None else float(score[0]),
                score_interval=None if scores is None or not several else percentile_interval(scores),
            )
        )
    return sorted(aggregated, key=lambda s: (s.mean_rank, -(s.score or 0.0), s.submission.id))


def _mean(parts: Sequence[Floats | None]) -> Floats | None:
    """The mean over the groups, or nothing: leaving out the groups without a score would flatter."""
    present = [part for part in parts if part is not None]
    return np.mean(present, axis=0) if len(present) == len(parts) else None
