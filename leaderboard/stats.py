"""Values with their uncertainty: means over runs, and weighted sums of them.

Plain functions of numbers; nothing here knows of files or records. The quantiles come from `scipy.special` (the
functions behind `scipy.stats`, which takes a second to import).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

CONFIDENCE = 0.95
LEVEL = 1 - CONFIDENCE

Floats = NDArray[np.float64]
Over = Literal["pretraining runs", "seeds", "images"]


@dataclass(frozen=True, slots=True)
class Source:
    """A part of a value's error, which is independent of its other parts.

    Where it is known what was drawn (pretraining runs, validation images), it has `names`. Values with common draws are
    dependent: the shares of each draw are added before they are squared.
    """

    variance: float
    """The part's squared standard error."""
    df: float
    """Degrees of freedom of `variance`."""
    names: tuple[str, ...] = ()
    """What was drawn: hashes of checkpoints, or names of images, in alphabetical order, so that equal sets are equal
    tuples; empty where it is not known."""
    shares: Floats | None = None
    """What each draw contributes to the value (n,), in its unit, to first order; these sum to 0."""

    @classmethod
    def of(cls, names: tuple[str, ...], shares: Floats, df: float | None = None) -> Source:
        """The error that comes from the draw of `names`, at least two, in any order."""
        ordered = tuple(sorted(names))
        if names != ordered:
            names, shares = ordered, shares[sorted(range(len(names)), key=names.__getitem__)]
        df = len(names) - 1 if df is None else df
        return cls(float(np.square(shares).sum()) * (df + 1) / df, df, names, shares)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its standard error."""

    mean: float
    error: float | None
    """Standard error; `None` where it is not known, and then there is no interval."""
    df: float
    """Degrees of freedom of `error`; 0 without one."""
    known: tuple[Source, ...] = field(default=(), kw_only=True, compare=False, repr=False)
    """The parts of the error, where it has several or what was drawn is known."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """The parts of the error; none where it is not known."""
        return self.known if self.known or self.error is None else (Source(self.error**2, self.df),)

    @property
    def half(self) -> float | None:
        """Half of the 95 % interval (Student t)."""
        return None if self.error is None else self.error * _student_quantile(self.df)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval."""
        half = self.half
        return None if half is None else (self.mean - half, self.mean + half)


@dataclass(frozen=True, slots=True)
class Summary(Estimate):
    """A value over the runs of a row.

    Its error is that of the highest level that varies: over pretraining runs where there are several, which then holds
    for the method; else over the fine-tuning seeds of the one checkpoint, given that checkpoint; else over the draw of
    the validation images, given that run.
    """

    n: int
    """Number of runs."""
    units: int
    """Number of pretraining runs, that is, of checkpoints."""
    sd: float | None
    """Standard deviation over the level in `over`, with n - 1 in the denominator; `None` for images or one run."""
    over: Over | None
    """The level that varies; `None` where the error is not known."""
    tested: bool
    """Whether the value takes part in tests. A single run that trained does not: its images say nothing about the value
    that another seed would give."""
    of_images: Estimate | None
    """The same mean with its error for the draw of the validation images, where the results state it."""


class ImageError(NamedTuple):
    """Standard error of one run's value for the draw of its validation images."""

    error: float
    """The standard error."""
    images: int
    """Number of images, at least 2."""


def summarise(
    units: Sequence[Sequence[float]],
    of_images: ImageError | None = None,
    *,
    trained: bool = True,
    checkpoints: tuple[str, ...] = (),
) -> Summary:
    """Mean and error of runs: `units` holds for each checkpoint the values of its seeds, at least one.

    Each checkpoint counts equally, however many seeds it has. `of_images` is the mean's error for the draw of the
    images; `trained` says that a run's seed has an effect. Seeds that change nothing at all count as one run. With the
    names of the `checkpoints`, values of the same ones are known to depend on each other.
    """
    if not units or not all(units):
        raise ValueError("no values to summarise")
    of_units = [math.fsum(values) / len(values) for values in units]
    mean = math.fsum(of_units) / len(units)
    images = None if of_images is None else Estimate(mean, of_images.error, of_images.images - 1)
    n = sum(map(len, units))
    over: Over = "pretraining runs" if len(units) > 1 else "seeds"
    draws = of_units if len(units) > 1 else units[0]
    if len(draws) > 1 and (sd := standard_deviation(draws)) > 0:
        error, df = sd / len(draws) ** 0.5, len(draws) - 1
        shares = (np.array(draws) - mean) / len(draws)
        known = (Source.of(checkpoints, shares),) if checkpoints and over == "pretraining runs" else ()
        return Summary(mean, error, df, n, len(units), sd, over, True, images, known=known)
    if images is not None:
        return Summary(mean, images.error, images.df, n, len(units), None, "images", not trained, images)
    return Summary(mean, None, 0, n, len(units), None, None, False, None)


def standard_deviation(values: Sequence[float]) -> float:
    """Standard deviation of at least two values, with n - 1 in the denominator; exactly 0 where all are equal."""
    if min(values) == max(values):
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def weighted_sum(parts: Iterable[tuple[float, Estimate]]) -> Estimate:
    """The sum of values, each times its weight, with the degrees of freedom of Satterthwaite (1946).

    Values depend on each other through what was drawn for both, and are independent else. Values of which not all draws
    are the same, because a run failed, have the fewest degrees of freedom among them. Where one of the values has no
    error, the sum has none.
    """
    listed = list(parts)
    mean = math.fsum(weight * part.mean for weight, part in listed)
    if not listed or any(part.error is None for _, part in listed):
        return Estimate(mean, None, 0)
    weighted = [(weight, source) for weight, part in listed for source in part.sources]
    alone = [Source(weight**2 * source.variance, source.df) for weight, source in weighted if source.shares is None]
    drawn = [(weight, source) for weight, source in weighted if source.shares is not None]
    sources = list(alone)
    for places in connected([source.names for _, source in drawn]):
        names, shares = aligned([drawn[place][1] for place in places])
        weights = np.array([drawn[place][0] for place in places])
        sources.append(Source.of(names, weights @ shares, min(drawn[place][1].df for place in places)))
    variance = math.fsum(source.variance for source in sources)
    spread = math.fsum(source.variance**2 / source.df for source in sources)
    df = variance**2 / spread if spread else math.fsum(source.df for source in sources)
    return Estimate(mean, variance**0.5, df, known=tuple(sources))


def connected(sets: Sequence[tuple[str, ...]]) -> list[list[int]]:
    """The positions of sets of names, in groups: sets with a common name are in one group, also by way of others."""
    group: dict[str, int] = {}
    of_set: dict[tuple[str, ...], int] = {}
    members: dict[int, list[tuple[str, ...]]] = {}
    for names in dict.fromkeys(sets):
        joined = {group[name] for name in names if name in group}
        number = min(joined, default=len(of_set))
        found = [names, *(one for other in joined for one in members.pop(other))]
        members[number] = found
        for one in found if joined - {number} else [names]:
            group |= dict.fromkeys(one, number)
        of_set |= dict.fromkeys(found, number)
    groups: dict[int, list[int]] = defaultdict(list)
    for place, names in enumerate(sets):
        groups[of_set[names]].append(place)
    return list(groups.values())


def aligned(sources: Sequence[Source]) -> tuple[tuple[str, ...], Floats]:
    """All names of sources with shares (k,), in order, and the shares (k, n) of these names; 0 for a lacking one."""
    names = sources[0].names
    if all(source.names == names for source in sources):
        return names, np.stack([source.shares for source in sources if source.shares is not None])
    names = tuple(sorted({name for source in sources for name in source.names}))
    place = {name: i for i, name in enumerate(names)}
    shares = np.zeros((len(sources), len(names)))
    for row, source in enumerate(sources):
        shares[row, [place[name] for name in source.names]] = source.shares
    return names, shares


def mid_ranks(values: Floats) -> Floats:
    """Ranks of values (k,), 1 for the highest; equal values share the mean of their ranks."""
    ordered = np.sort(values)
    above = len(values) - np.searchsorted(ordered, values, "right")
    equal = len(values) - np.searchsorted(ordered, values, "left") - above
    ranks: Floats = above + (equal + 1) / 2
    return ranks


@lru_cache(10_000)
def _student_quantile(df: float) -> float:
    return float(stdtrit(df, (1 + CONFIDENCE) / 2))
