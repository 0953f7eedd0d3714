"""Whether two protocols rank the rows of a table alike: Spearman's rank correlation, with an interval.

The value of a row is the mean over those of its checkpoints that have one under both protocols; that of a checkpoint is
its mean over seeds. Pretraining runs of one method are no further rows: they are alike, and counted as independent they
would make the interval too narrow. Backbones of different architectures differ in more than their pretraining, so that
each architecture is reported separately.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from csv import writer
from dataclasses import dataclass
from itertools import combinations
from math import atanh, sqrt, tanh
from statistics import fmean

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text
from scipy.special import ndtri

from leaderboard import text
from leaderboard.board import Board, Group
from leaderboard.stats import CONFIDENCE, mid_ranks

FEWEST = 4
"""Fewest rows for which the interval is defined."""

Means = Mapping[str, Mapping[str, float]]
"""The mean value of each checkpoint, by its hash, of each row, by its label."""


@dataclass(frozen=True)
class Correlation:
    """Rank correlation of two protocols over the rows of one architecture."""

    architecture: str
    protocols: tuple[Group, Group]
    rows: int
    rho: float
    low: float
    """Lower end of the 95 % interval."""
    high: float


def correlate(board: Board) -> list[Correlation]:
    """Correlations of all pairs of current protocols with at least `FEWEST` rows in common, not all equal."""
    groups: dict[str, list[tuple[Group, Means]]] = {}
    for track in board.tracks:
        for group in track.current:
            groups.setdefault(track.architecture, []).append((group, _means(group)))
    return [
        found
        for architecture, members in sorted(groups.items())
        for (a, of_a), (b, of_b) in combinations(members, 2)
        if (found := _correlation(architecture, a, b, of_a, of_b)) is not None
    ]


def _means(group: Group) -> Means:
    """Mean value of each checkpoint of each row."""
    values: dict[str, dict[str, list[float]]] = {}
    for cell in group.cells:
        for run, value in zip(cell.finished, cell.values, strict=True):
            values.setdefault(cell.entry.label, {}).setdefault(run.card.sha256, []).append(value)
    return {label: {sha256: fmean(found) for sha256, found in row.items()} for label, row in values.items()}


def _correlation(architecture: str, a: Group, b: Group, of_a: Means, of_b: Means) -> Correlation | None:
    pairs = []
    for label in sorted(of_a.keys() & of_b.keys()):
        common = sorted(of_a[label].keys() & of_b[label].keys())
        if common:
            pairs.append([fmean(of[label][sha256] for sha256 in common) for of in (of_a, of_b)])
    if len(pairs) < FEWEST:
        return None
    rho = spearman(*zip(*pairs, strict=True))
    return None if rho is None else Correlation(architecture, (a, b), len(pairs), rho, *interval(rho, len(pairs)))


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's correlation of the ranks; ties share theirs. `None` where all values of one side are equal."""
    ranks = [mid_ranks(np.array(values, np.float64)) for values in (a, b)]
    x, y = (values - values.mean() for values in ranks)
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return None if norm == 0 else min(max(float(x @ y) / norm, -1.0), 1.0)


def interval(rho: float, n: int) -> tuple[float, float]:
    """95 % interval by Fisher's transformation, with the standard error sqrt((1 + rho^2 / 2) / (n - 3)) of Bonett and
    Wright (Psychometrika 2000); `n` is at least 4."""
    # At 1 the transformation is infinite: use the value half a swap of two neighboring ranks below 1.
    most = 1 - 6 / (n**3 - n)
    rho = min(max(rho, -most), most)
    half = float(ndtri((1 + CONFIDENCE) / 2)) * sqrt((1 + rho**2 / 2) / (n - 3))
    return tanh(atanh(rho) - half), tanh(atanh(rho) + half)


def table(found: Sequence[Correlation]) -> Table | Text:
    """Table for a terminal, the strongest correlation first within an architecture."""
    if not found:
        return Text(f"no two protocols have {FEWEST} rows of one architecture in common")
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    shown.title, shown.title_style, shown.title_justify = "Rank correlations between protocols", "bold", "left"
    for heading in ("Backbone", "Protocol", "Protocol"):
        shown.add_column(heading, overflow="fold")
    for heading in ("Spearman", "95 % interval", "Rows"):
        shown.add_column(heading, justify="right")
    for one in sorted(found, key=lambda one: (one.architecture, -one.rho)):
        names = (group.label if group.suffix else group.protocol.id for group in one.protocols)
        ends = text.span((one.low, one.high), 2)
        shown.add_row(one.architecture, *map(Text, names), text.number(one.rho, 2), ends, str(one.rows))
    return shown


def csv(found: Sequence[Correlation]) -> str:
    """CSV with one row per pair, and the protocols' ids, hashes and data."""
    file = io.StringIO()
    rows = writer(file, lineterminator="\n")
    rows.writerow(["architecture", *_columns("a"), *_columns("b"), "rows", "spearman", "ci95_low", "ci95_high"])
    for one in found:
        sides = [field for group in one.protocols for field in _side(group)]
        figures = [text.number(value, 4) for value in (one.rho, one.low, one.high)]
        rows.writerow([text.spreadsheet(field) for field in (one.architecture, *sides)] + [one.rows, *figures])
    return file.getvalue()


def _columns(side: str) -> Iterator[str]:
    return (f"{name}_{side}" for name in ("protocol", "metric", "protocol_sha256", "dataset_fingerprint"))


def _side(group: Group) -> tuple[str, str, str, str]:
    protocol = group.protocol
    return protocol.id, protocol.headline, protocol.sha256, group.dataset.fingerprint
