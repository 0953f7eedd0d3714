"""What the tables and the page show: groups that may be compared, values with errors, ranks, tiers, standings.

A group is one exact protocol, one exact data set and one architecture; values of different groups are never compared.
The current groups (`Group.current`) enter the standings of their track.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from leaderboard.records import RANDOM_METHOD, Card, Copies, DatasetReference, ProtocolReference, Result
from leaderboard.stats import Estimate, Summary


def identity(protocol: ProtocolReference) -> dict[str, Any]:
    """What distinguishes one protocol from another: everything but its titles, which are words for readers."""
    return protocol.model_dump(mode="json", exclude={"title", "short_title"})


@dataclass(frozen=True)
class Entry:
    """What a row stands for: one checkpoint, or several of pretraining runs that differ in nothing but their seed."""

    label: str
    """The checkpoint's name, or what the names of several have in common; unique on the board."""
    cards: tuple[Card, ...]
    """One card per checkpoint, by pretraining seed and name; the first stands for what all have in common."""

    @property
    def id(self) -> tuple[str, str]:
        """Label and hash of the first checkpoint."""
        return self.label, self.card.sha256

    @property
    def card(self) -> Card:
        """The first checkpoint's card."""
        return self.cards[0]

    @property
    def is_random(self) -> bool:
        """Whether the row is random initialization, which is the zero of the score."""
        return self.card.method == RANDOM_METHOD


@dataclass(frozen=True)
class Ranking:
    """Where a row stands under one protocol."""

    position: float
    """1 + number of rows with a higher mean; rows with equal means share the mean of their positions."""
    best: int | None
    """Best rank that the row's tests leave possible; `None` for a row without tests."""
    worst: int | None


@dataclass(frozen=True)
class Cell:
    """One entry in one group."""

    entry: Entry
    runs: tuple[Result, ...]
    """All runs, failed ones included, by checkpoint and seed."""
    summary: Summary | None
    """Summary of the headline metric over the finished runs; `None` if all failed."""
    score: Estimate | None = None
    """The share of the errors of random initialization that is gone, in per cent: 0 is as good as random
    initialization, 100 is without errors. `None` where random initialization has no value."""
    ranking: Ranking | None = None
    """Rank among the rows that take part in tests; for a row that does not, the position among all rows."""
    tier: int | None = None
    """Tier of the row: a tier holds the rows that are not worse than its best. `None` without a part in any test."""
    leads: bool = False
    """Whether the row is better than every other row that takes part in tests."""

    @cached_property
    def finished(self) -> tuple[Result, ...]:
        """The finished runs: only they count."""
        return tuple(run for run in self.runs if run.status == "finished")

    @property
    def failed(self) -> int:
        """Number of failed runs, which stay visible."""
        return len(self.runs) - len(self.finished)

    @cached_property
    def copies(self) -> Copies | None:
        """The search that found most copies of the test images, of those that the runs' cards tell of."""
        found = [run.card.pretraining.copies_of(run.dataset.name) for run in self.runs]
        return max((one for one in found if one is not None), key=lambda one: one.copies, default=None)

    @cached_property
    def values(self) -> tuple[float, ...]:
        """The headline metric of the finished runs."""
        return tuple(run.metrics[run.protocol.headline] for run in self.finished)

    @cached_property
    def metric_values(self) -> dict[str, tuple[float, ...]]:
        """Values over the runs of each metric that all finished runs have, in the order of the first run's metrics."""
        names = self.finished[0].metrics if self.finished else ()
        return {
            name: tuple(run.metrics[name] for run in self.finished)
            for name in names
            if all(name in run.metrics for run in self.finished)
        }

    @cached_property
    def metric_means(self) -> dict[str, float]:
        """The means of `metric_values` over the runs."""
        return {name: fmean(values) for name, values in self.metric_values.items()}


@dataclass(frozen=True)
class Group:
    """Results that may be compared: one protocol hash, one data set fingerprint, one architecture."""

    protocol: ProtocolReference
    dataset: DatasetReference
    architecture: str
    iterations: int | None
    """The iterations that the runs planned, for a protocol that nobody declared; else `None`."""
    cells: tuple[Cell, ...]
    """The rows' cells, best mean first; those without a finished run come last."""
    anchor: Summary | None
    """Summary of random initialization, the zero of the score; `None` where it has no value."""
    current: bool = True
    suffix: str = ""
    """What distinguishes the group from others of its table with its protocol id and architecture; empty if there are
    none."""
    elsewhere: bool = False
    """Whether another table has a group with the same protocol id and architecture."""

    @cached_property
    def digest(self) -> str:
        """Hash of everything that defines the group: protocol (without titles), data, architecture, plan."""
        protocol = json.dumps(identity(self.protocol), indent=2, ensure_ascii=False)
        rest = f"{self.dataset.fingerprint}\n{self.architecture}\n{self.iterations}"
        return hashlib.sha256(f"{protocol}\n{rest}".encode()).hexdigest()

    @property
    def id(self) -> str:
        """Identifier that is unique on the board and can be part of a URL."""
        id_ = f"{self.protocol.id}.{self.architecture}"
        alone = not self.suffix and not self.elsewhere and self.dataset.classes is None
        return id_ if alone else f"{id_}.{self.digest[:8]}"

    @property
    def label(self) -> str:
        """The protocol's short title: a column heading that can wrap."""
        return f"{self.protocol.short_title} {self.suffix}".strip()

    @cached_property
    def by_entry(self) -> dict[tuple[str, str], Cell]:
        """Cells by `Entry.id`."""
        return {cell.entry.id: cell for cell in self.cells}


@dataclass(frozen=True)
class Standing:
    """An entry over the current groups of a track."""

    entry: Entry
    cells: tuple[Cell | None, ...]
    """One cell per current group; `None` where there is no result."""
    protocols: int
    """Number of protocols with a value."""
    mean_rank: float | None = None
    """Mean of the entry's ranks in the groups where it has a value."""
    mean_rank_interval: tuple[float, float] | None = None
    """Means of the best and of the worst ranks that the tests leave possible; `None` where a value is not tested."""
    score: Estimate | None = None
    """Mean of the entry's scores over the groups with random initialization; `None` if there is no such group."""
    tier: int | None = None
    """Tier by score, among the entries with values in the same groups; `None` where a value takes part in no test."""

    @property
    def columns(self) -> tuple[int, ...]:
        """Indices of the current groups where the entry has a value."""
        return tuple(i for i, cell in enumerate(self.cells) if cell is not None and cell.summary is not None)


@dataclass(frozen=True)
class Track:
    """All groups of one track and one architecture."""

    id: str
    architecture: str
    groups: tuple[Group, ...]
    protocols: int
    """Number of protocols that make a row complete: those declared, else all there are."""
    standings: tuple[Standing, ...]
    """The rows: entries with values in the same groups together, best first; complete rows come before the others."""

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

    @cached_property
    def checkpoints(self) -> int:
        """Number of checkpoints."""
        groups = (group for track in self.tracks for group in track.groups)
        return len({card.sha256 for group in groups for cell in group.cells for card in cell.entry.cards})
