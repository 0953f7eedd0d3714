"""How many runs show a difference: the power of the two-sided t test of two means with equal numbers of runs.

With runs of standard deviation sd, n of each, the statistic of a difference d has the noncentral t distribution with
2n - 2 degrees of freedom and noncentrality d / (sd sqrt(2 / n)). The quantiles come from `scipy.special`.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import chdtri, nctdtr, ndtri, stdtrit

LEVEL = 0.05
"""Level of the two-sided test."""
MOST_RUNS = 1000
"""Most runs of each that are considered."""


def power(difference: float, sd: float, runs: int) -> float:
    """The chance that `runs` (at least 2) of each show a `difference` at the level .05."""
    if sd == 0:
        return 1.0 if difference else LEVEL
    freedom = 2 * runs - 2
    far = abs(difference) / (sd * math.sqrt(2 / runs))
    critical = float(stdtrit(freedom, 1 - LEVEL / 2))
    if far > critical + 8:  # the quantile lies eight standard deviations below
        return 1.0
    below = float(nctdtr(freedom, far, -critical))  # NaN where it is practically 0
    return float(1 - nctdtr(freedom, far, critical)) + (0.0 if math.isnan(below) else below)


def runs_needed(difference: float, sd: float, wanted: float) -> int | None:
    """Smallest number of runs of each with the power `wanted`; None if it is more than `MOST_RUNS`."""
    if power(difference, sd, MOST_RUNS) < wanted:
        return None
    low, high = 1, MOST_RUNS  # the power grows with the runs
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(difference, sd, middle) >= wanted else (middle, high)
    return high


def least_difference(sd: float, runs: int, wanted: float) -> float:
    """Smallest difference that `runs` of each show with the power `wanted`."""
    low, high = 0.0, 1.0
    while power(high, 1.0, runs) < wanted:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, 1.0, runs) >= wanted else (middle, high)
    return sd * high


def least_known_error(error: float, wanted: float) -> float:
    """Smallest difference that a measurement with the known standard `error` shows with the power `wanted`."""
    return error * float(ndtri(1 - LEVEL / 2) + ndtri(wanted))


def pooled_sd(groups: list[list[float]]) -> tuple[float, int] | None:
    """The standard deviation within groups and its degrees of freedom; None if no group has two values."""
    freedom = sum(len(values) - 1 for values in groups)
    if freedom < 1:
        return None
    squares = sum(float(np.square(np.subtract(values, np.mean(values))).sum()) for values in groups)
    return math.sqrt(squares / freedom), freedom


def cautious_sd(sd: float, freedom: int) -> float:
    """The upper end of the one-sided 80 % interval of a standard deviation (Browne, Statistics in Medicine 1995).

    With the estimate itself, half of all experiments planned from a small pilot would have less power than wanted.
    """
    return sd * math.sqrt(freedom / float(chdtri(freedom, 0.8)))
