"""Statistics over runs: intervals, tests between submissions, ranks with their uncertainty.

Plain functions of arrays; nothing here knows of files or records. The p-values and quantiles come from
`scipy.special` (the functions behind `scipy.stats`, which takes a second to import).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.95
RESAMPLES = 1000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Summary:
    """A figure over `n` runs."""

    n: int
    mean: float
    sd: float | None
    """Standard deviation over the runs, with n - 1 in the denominator; `None` for one run."""
    error: float | None
    """Standard error of the mean: of several runs from their spread, of one from the draw of its validation images,
    where its result says that; else `None`, and there is no interval."""
    df: int
    """Degrees of freedom of `error`; 0 without one."""

    @property
    def half(self) -> float | None:
        """Half of the 95 % interval of the mean (Student t)."""
        return None if self.error is None else self.error * _student_quantile(self.df)

    @property
    def low(self) -> float:
        """Lower end of the interval; the mean itself where there is none."""
        return self.mean - (self.half or 0.0)

    @property
    def high(self) -> float:
        """Upper end of the interval; the mean itself where there is none."""
        return self.mean + (self.half or 0.0)


class ImageError(NamedTuple):
    """How far one run's figure may be off because its validation images were drawn and not others."""

    error: float
    """A standard error."""
    images: int
    """At least 2."""


def summarise(values: Sequence[float], of_images: ImageError | None = None) -> Summary:
    """Mean, standard deviation and standard error of at least one value; one value has the error `of_images`."""
    n = len(values)
    if n == 0:
        raise ValueError("no values to summarise")
    mean = math.fsum(values) / n
    if n == 1:
        error, images = of_images or (None, 1)
        return Summary(1, mean, None, error, images - 1)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return Summary(n, mean, sd, sd / n**0.5, n - 1)


@cache
def _student_quantile(df: int) -> float:
    return float(stdtrit(df, (1 + CONFIDENCE) / 2))


def welch(summaries: Sequence[Summary]) -> Floats:
    """Two-sided p-values of Welch's t-test between all pairs, shape (k, k), symmetric, 1 on the diagonal.

    NaN where one of the two has no standard error: nothing can be said. Two figures without any spread differ with
    p = 0 unless they are equal (p = 1). Errors are taken as independent.
    """
    free = np.array([s.df for s in summaries], np.float64)
    mean = np.array([s.mean for s in summaries], np.float64)
    of_mean = np.array([np.nan if s.error is None else s.error**2 for s in summaries], np.float64)
    i, j = np.triu_indices(len(summaries), 1)
    variance, difference = of_mean[i] + of_mean[j], np.abs(mean[i] - mean[j])
    with np.errstate(divide="ignore", invalid="ignore"):
        df = variance**2 / (of_mean[i] ** 2 / free[i] + of_mean[j] ** 2 / free[j])
        p = 2 * stdtr(df, -difference / np.sqrt(variance))
    matrix = np.ones((len(summaries), len(summaries)))
    matrix[i, j] = matrix[j, i] = np.where(variance == 0, difference == 0, p)
    return matrix


def holm(p: Floats) -> Floats:
    """Holm's step-down adjustment over the pairs of a symmetric (k, k) matrix of p-values.

    Controls the probability of any false difference (Holm 1979). NaN pairs are no part of the family and stay NaN.
    """
    adjusted = p.copy()
    rows, columns = np.triu_indices(len(p), 1)
    family = p[rows, columns]
    known = np.flatnonzero(~np.isnan(family))
    order = known[np.argsort(family[known], kind="stable")]
    steps = family[order] * np.arange(len(order), 0, -1)
    family[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    adjusted[rows, columns] = adjusted[columns, rows] = family
    return adjusted


@dataclass(frozen=True, slots=True)
class Ranking:
    """Where a submission stands under one protocol."""

    position: int
    """1 + number of submissions with a higher mean."""
    best: int
    """1 + number of submissions that are significantly better."""
    worst: int
    """Number of submissions less those that are significantly worse."""


def rank(summaries: Sequence[Summary]) -> list[Ranking]:
    """Positions by mean, and the ranks that Welch's tests with Holm's adjustment leave open (5 %)."""
    mean = np.array([s.mean for s in summaries], np.float64)
    higher = mean[:, None] > mean
    better = higher & (holm(welch(summaries)) < 1 - CONFIDENCE)
    above, beaten_by, beats = higher.sum(0), better.sum(0), better.sum(1)
    return [
        Ranking(1 + int(above[i]), 1 + int(beaten_by[i]), len(summaries) - int(beats[i])) for i in range(len(summaries))
    ]


def mid_ranks(values: Floats) -> Floats:
    """Ranks along the last axis, 1 for the highest; equal values share the mean of their ranks."""
    order = np.argsort(-values, axis=-1)
    ordered = np.take_along_axis(values, order, -1)
    if not (ordered[..., 1:] == ordered[..., :-1]).any():
        return _invert(order)
    # Ties broken once by position and once by its reverse: the mean of both is the mid-rank.
    forward = np.argsort(-values, axis=-1, kind="stable")
    backward = np.argsort(-values[..., ::-1], axis=-1, kind="stable")
    return (_invert(forward) + _invert(backward)[..., ::-1]) / 2


def _invert(order: NDArray[np.intp]) -> Floats:
    ranks = np.empty(order.shape, np.float64)
    np.put_along_axis(ranks, order, np.broadcast_to(np.arange(1.0, order.shape[-1] + 1), order.shape), -1)
    return ranks


def bootstrap_means(values: Sequence[float], key: int, error: float | None = None) -> Floats:
    """`RESAMPLES` bootstrap means over seeds; the same values and key always give the same draws.

    Deviations from the mean are stretched by sqrt(n / (n - 1)), so that the draws have the variance of the mean
    (Davison and Hinkley 1997, section 2.3): with three seeds the plain bootstrap would understate it by a third.
    A single value gives normal draws with its standard `error`, or constant ones.
    """
    data = np.asarray(values, np.float64)
    n = len(data)
    if n == 1:
        return data[0] + (error or 0.0) * np.random.default_rng(key).standard_normal(RESAMPLES)
    draws = np.random.default_rng(key).integers(0, n, (RESAMPLES, n))
    mean = data.mean()
    return mean + (data[draws].mean(axis=1) - mean) * (n / (n - 1)) ** 0.5


def percentile_interval(draws: Floats) -> tuple[float, float]:
    """The central 95 % of bootstrap draws."""
    tail = (1 - CONFIDENCE) / 2
    places = np.array([tail, 1 - tail]) * (len(draws) - 1)
    low, high = np.interp(places, np.arange(len(draws)), np.sort(draws))
    return float(low), float(high)
