"""Which differences between rows are more than noise: the tests behind bold values, ranks and tiers.

All of them are Welch's t-test of two rows; they differ in what is claimed. That a row is better than *every* other is
an intersection-union claim: it needs each of its tests at 5 % and no correction (Berger 1982). A rank interval makes
many claims about one row, and is corrected over that row's tests (Holm 1979). A tier says of each row that it is, or
is not, worse than the tier's best; the 5 % are per pair of equal rows.

A row's tests use its own value and the other's, so that what a third row does changes none of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr, stdtrit

from leaderboard.stats import LEVEL, Estimate, Floats, Source

Places = NDArray[np.intp]
Flags = NDArray[np.bool_]
LARGE = 400
"""With more rows than this, Holm's thresholds use the smaller of two rows' degrees of freedom, which is conservative:
the p-values of millions of pairs would take minutes."""
_BLOCK = 1_000_000
"""Number of pairs computed at a time: 8 MB per array."""
_NORMAL = float(ndtri(1 - LEVEL / 2))
"""Standard errors that every test at 5 % needs at least."""


@dataclass(frozen=True)
class _Drawn:
    """The errors that rows owe to exactly the same draws, such as the same images."""

    place: Places
    """Each of the contest's rows' number among them (k,), or -1."""
    shares: Floats
    """What each draw contributes to their values (m, n)."""
    df: Floats
    """Degrees of freedom of the rows' errors (m,)."""

    def add_to(self, variance: Floats, spread: Floats, rows: Places, others: Places) -> None:
        """Add to those of the differences of `rows` (r,) and `others` (o,) the part of these draws; see `difference`.

        Two rows that both have such draws are compared draw by draw.
        """
        a, b = self.place[rows], self.place[others]
        own = (self.shares**2).sum(1) * (self.df + 1) / self.df
        one, other = (np.where(at >= 0, own[at], 0.0) for at in (a, b))
        part = one[:, None] + other
        squares = (one**2 / self.df[a])[:, None] + other**2 / self.df[b]
        i, j = np.flatnonzero(a >= 0), np.flatnonzero(b >= 0)
        if len(i) and len(j):
            df = np.minimum.outer(self.df[a[i]], self.df[b[j]])
            paired = _squares(self.shares[a[i]], self.shares[b[j]]) * (df + 1) / df
            part[np.ix_(i, j)], squares[np.ix_(i, j)] = paired, paired**2 / df
        variance += part
        spread += squares


def _squares(a: Floats, b: Floats) -> Floats:
    """Sums of squares (r, o) of the differences of rows with shares `a` (r, n) and `b` (o, n) of the same draws."""
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)


class Contest:
    """Rows and the values that they are compared by, of one protocol or sums over several.

    All values have an error. Where two rows have exactly the same draws (images), they are compared draw by draw; all
    else is taken as independent. (Which draws two rows have in common does not depend on a third row.)
    """

    def __init__(self, figures: Sequence[Estimate]) -> None:
        self.mean: Floats = np.array([figure.mean for figure in figures], np.float64)
        """Values of the rows (k,)."""
        self.least_df: Floats = np.array([min(s.df for s in figure.sources) for figure in figures], np.float64)
        """Fewest degrees of freedom per row (k,): a test has at least the smaller of its two rows' numbers."""
        drawn: dict[tuple[str, ...], list[tuple[int, Source]]] = defaultdict(list)
        alone: list[tuple[int, Source]] = []
        for row, figure in enumerate(figures):
            for source in figure.sources:
                (alone if source.shares is None else drawn[source.names]).append((row, source))
        self._common: list[_Drawn] = []
        for found in drawn.values():
            if len(found) == 1:
                alone += found
                continue
            place = np.full(len(figures), -1)
            place[[row for row, _ in found]] = np.arange(len(found))
            shares = np.stack([source.shares for _, source in found if source.shares is not None])
            self._common.append(_Drawn(place, shares, np.array([source.df for _, source in found], np.float64)))
        self._variance, self._spread = np.zeros((2, len(figures)))
        for row, source in alone:
            self._variance[row] += source.variance
            self._spread[row] += source.variance**2 / source.df

    @cached_property
    def _enough(self) -> Floats:
        """Standard errors (k,) that suffice at 5 % with the fewest degrees of freedom."""
        enough: Floats = stdtrit(self.least_df, 1 - LEVEL / 2)
        return enough

    def within_reach(self) -> Flags:
        """Whether a row (k,) may differ from another at the first of Holm's levels: a quick check that saves tests.

        The row's largest difference is divided by its own variance plus the smallest of the others, and the threshold
        uses its own degrees of freedom: no pair has a larger statistic or a lower threshold. Common draws may lower
        variances.
        """
        k, variance = len(self.mean), self._variance
        if self._common:
            return np.ones(k, np.bool_)
        largest = np.maximum(self.mean.max() - self.mean, self.mean - self.mean.min())
        needed = stdtrit(self.least_df, 1 - LEVEL / (k - 1) / 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            reach: Flags = largest / np.sqrt(variance + variance.min()) >= needed
        return reach

    def p_values(self, rows: Places, others: Places) -> Floats:
        """Welch's two-sided p-values (r, o). Without any variance, equal values have p = 1 and others p = 0."""
        return _p_values(*self.difference(rows, others))

    def different(self, row: int, others: Places) -> Flags:
        """Whether each of `others` (o,) differs from `row` at 5 %; p-values are computed where they decide."""
        difference, variance, spread = (found[0] for found in self.difference(np.array([row]), others))
        with np.errstate(divide="ignore", invalid="ignore"):
            errors = np.abs(difference) / np.sqrt(variance)
        needed = self._enough
        verdict = (errors >= np.maximum(needed[row], needed[others])) & (difference != 0)
        near = np.flatnonzero((errors >= _NORMAL) & ~verdict)
        verdict[near] = _p_values(difference[near], variance[near], spread[near]) < LEVEL
        return verdict

    def difference(self, rows: Places, others: Places) -> tuple[Floats, Floats, Floats]:
        """Differences of each of `rows` (r,) minus each of `others` (o,), their variances, and the sums of the parts'
        squared variances over their degrees of freedom; each (r, o)."""
        difference = self.mean[rows, None] - self.mean[others]
        variance = self._variance[rows, None] + self._variance[others]
        spread = self._spread[rows, None] + self._spread[others]
        for drawn in self._common:
            drawn.add_to(variance, spread, rows, others)
        return difference, variance, spread


def _p_values(difference: Floats, variance: Floats, spread: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stdtr(variance**2 / spread, -np.abs(difference) / np.sqrt(variance))
    return np.where(variance == 0, (difference == 0).astype(np.float64), p)


def leader(contest: Contest) -> int | None:
    """The row that is better than every other one, at 5 %; `None` if there is none, or only one row."""
    best = int(np.argmax(contest.mean))
    others = np.delete(np.arange(len(contest.mean)), best)
    return best if len(others) and contest.different(best, others).all() else None


def tiers(contest: Contest) -> list[int]:
    """Each row's tier, from 1: the best row without a tier and the rows not worse than it (5 %) form the next tier."""
    tier = np.zeros(len(contest.mean), np.intp)
    left = np.argsort(-contest.mean, kind="stable")
    number = 0
    while len(left):
        number += 1
        worse = np.concatenate([[False], contest.different(int(left[0]), left[1:])])
        tier[left[~worse]] = number
        left = left[worse]
    return [int(number) for number in tier]


def rank_intervals(contest: Contest) -> list[tuple[int, int]]:
    """Best and worst rank that each row's tests leave possible, with Holm's correction over the row's tests (5 %)."""
    mean = contest.mean
    k = len(mean)
    best, worst = np.ones(k, np.intp), np.full(k, k)
    size = max(1, _BLOCK // k)
    candidates = np.arange(k) if k <= LARGE else np.flatnonzero(contest.within_reach())
    for rows in (candidates[first : first + size] for first in range(0, len(candidates), size)):
        different = holm(_rejection(contest, rows), len(rows), k - 1)
        better = mean[rows, None] > mean
        best[rows] += (different & ~better).sum(1)
        worst[rows] -= (different & better).sum(1)
    return [(int(low), int(high)) for low, high in zip(best, worst, strict=True)]


def holm(rejected: Callable[[Floats], Flags], rows: int, tests: int) -> Flags:
    """Which pairs Holm's step-down procedure rejects in each row, out of `tests` tests.

    `rejected` gives the pairs (rows, k) that a level (rows, 1) rejects. With m rejections at a level, the next is that
    of the tests less m; it ends where none is added. That is Holm's procedure without its sorting.
    """
    left = np.full((rows, 1), tests)
    while True:
        found = rejected(LEVEL / np.maximum(left, 1))
        fewer = tests - found.sum(1, keepdims=True)
        if (fewer == left).all():
            return found
        left = fewer


def _rejection(contest: Contest, rows: Places) -> Callable[[Floats], Flags]:
    """Function that returns the pairs (r, k) of `rows` and all rows that a level (r, 1) rejects; no row with itself."""
    everyone = np.arange(len(contest.mean))
    difference, variance, spread = contest.difference(rows, everyone)
    if len(everyone) <= LARGE:
        p = np.where(difference == 0, np.inf, _p_values(difference, variance, spread))
        return lambda level: p <= level
    kinds, kind = np.unique(contest.least_df, return_inverse=True)
    lower = np.minimum.outer(kind[rows], kind.astype(np.intp))
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.where(difference == 0, 0, np.abs(difference) / np.sqrt(variance))
    return lambda level: errors >= np.take_along_axis(stdtrit(kinds, 1 - level / 2), lower, 1)
