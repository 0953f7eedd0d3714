"""What the tables and the page show: groups that may be compared, figures over seeds, ranks, standings.

A group is one exact protocol on one exact data set; figures of different groups are never compared. Of several
groups of one protocol id one is current (`Group.current`), and only current groups enter a track's standings.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

import numpy as np

from leaderboard.records import RANDOM_METHOD, Card, DatasetReference, ProtocolReference, Result
from leaderboard.stats import Floats, Ranking, Summary


def identity(protocol: ProtocolReference) -> dict[str, Any]:
    """What makes a protocol another one: everything but its titles, which are words for readers."""
    return protocol.model_dump(mode="json", exclude={"title", "short_title"})


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
        """Hash of everything that makes the group: the protocol's reference but its titles, the data's fingerprint."""
        protocol = json.dumps(identity(self.protocol), indent=2, ensure_ascii=False)
        return hashlib.sha256(f"{protocol}\n{self.dataset.fingerprint}".encode()).hexdigest()

    @property
    def id(self) -> str:
        """Unique on the board, and fit for an address."""
        return f"{self.protocol.id}.{self.digest[:8]}" if self.suffix else self.protocol.id

    @property
    def label(self) -> str:
        """The protocol's short title: a column heading that can wrap."""
        return f"{self.protocol.short_title} {self.suffix}".strip()

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
    """95 % bootstrap interval over runs; `None` where a single run anywhere has no standard error."""
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
