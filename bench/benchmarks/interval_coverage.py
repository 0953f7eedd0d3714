"""How often 95 % intervals contain the true value, by simulation.

    python -m bench.benchmarks.interval_coverage [--counts RUN/counts.npz ...] [--draws 1000]

Over images: samples are drawn from a population of images whose metric is known. These are made-up images or, with
`--counts`, the validation images of a segmentation run; a sample of them draws with replacement as many as there are.
Two intervals of mIoU are compared: the t interval with the linearized standard error, as results hold it, and the usual
percentile bootstrap over images. A resample that lacks a rare class has its mean over fewer classes, so that the
bootstrap's interval is shifted: the table shows how far its middle is from the sample's own mIoU, on average. A sample
may also lack a class that the population has; "same classes" is coverage of the population's mean over the classes of
the sample.

Over seeds: the t interval of a few runs, and the percentile bootstrap, where single runs are normal, skewed or have
heavy tails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter, run
from rich.table import Table
from scipy import stats

from bench.errors import BenchError
from bench.metrics.segmentation import segmentation_scores
from bench.metrics.uncertainty import Counts, Floats, segmentation_shares
from leaderboard.base.terminal import Console

RESAMPLES = 500
POPULATION = 5000
"""Number of made-up images."""
SIZES = (30, 100, 300)
"""Numbers of images in a sample of the made-up population."""
SEEDS = (2, 3, 5, 10)
RUNS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Floats]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "skewed (exponential)": lambda rng, shape: rng.standard_exponential(shape) - 1,
    "heavy tails (t, 3 df)": lambda rng, shape: rng.standard_t(3, shape),
}
"""Deviations of single runs from their mean, by distribution."""
Interval = tuple[float, float]


@dataclass(frozen=True)
class Coverage:
    """Performance of one kind of interval."""

    covered: float
    """Share of the intervals that contain the population's value."""
    covered_same: float
    """Share of the intervals that contain the population's value over the sample's own classes."""
    width: float
    """Mean width, in points."""
    shift: float
    """Mean distance of the interval's middle from the value that the sample itself has, in points."""


def coverage(intervals: list[tuple[float, Interval]], truth: float, same: Sequence[float] = ()) -> Coverage:
    """Coverage of intervals, each given with the sample's own value; `same` are the true values over its classes."""
    value, low, high = np.array([(value, *interval) for value, interval in intervals]).T
    held, held_same = ((low <= target) & (target <= high) for target in (truth, np.asarray(same or truth)))
    return Coverage(
        covered=float(held.mean()),
        covered_same=float(held_same.mean()),
        width=float((high - low).mean()),
        shift=float(((low + high) / 2 - value).mean()),
    )


def population(rng: np.random.Generator, images: int) -> Counts:
    """Confusion matrices of images of eight classes, of which an image holds one to three, the last classes seldom."""
    shares = np.array([0.3, 0.2, 0.15, 0.12, 0.1, 0.07, 0.04, 0.02])
    counts = np.zeros((images, 8, 8), np.int64)
    for matrix in counts:
        quality = rng.beta(4, 3)
        for label in {0, *rng.choice(8, rng.integers(1, 4), replace=False, p=shares)}:
            pixels = int(rng.integers(50, 400))
            right = rng.binomial(pixels, quality)
            matrix[label, label] += right
            matrix[label] += rng.multinomial(pixels - right, shares)
    return counts


def over_images(everything: Counts, size: int, draws: int, rng: np.random.Generator) -> dict[str, Coverage]:
    """Both intervals of mIoU over `draws` samples of `size` images of the population."""
    truth, of_classes = _miou(everything), segmentation_scores(everything.sum(0)).iou
    linearised, bootstrap, same = [], [], []
    for _ in range(draws):
        sample = everything[rng.integers(0, len(everything), size)]
        value, there = _miou(sample), np.isfinite(segmentation_scores(sample.sum(0)).iou)
        same.append(float(of_classes[there].mean()))
        error = float(np.sqrt(size / (size - 1) * np.square(segmentation_shares(sample)["mIoU"]).sum()))
        half = float(stats.t.ppf(0.975, size - 1)) * error
        linearised.append((value, (value - half, value + half)))
        bootstrap.append((value, _percentiles(_resampled_miou(sample, rng))))
    return {"linearised": coverage(linearised, truth, same), "bootstrap": coverage(bootstrap, truth, same)}


def over_seeds(kind: str, seeds: int, draws: int, rng: np.random.Generator) -> dict[str, Coverage]:
    """Both intervals of the mean of `seeds` runs, whose single runs have the distribution `kind`."""
    runs = RUNS[kind](rng, (draws, seeds))
    mean = runs.mean(1)
    half = stats.t.ppf(0.975, seeds - 1) * runs.std(1, ddof=1) / np.sqrt(seeds)
    resampled = [row[rng.integers(0, seeds, (RESAMPLES, seeds))].mean(1) for row in runs]
    t = [(float(m), (float(m - h), float(m + h))) for m, h in zip(mean, half, strict=True)]
    bootstrap = [(float(m), _percentiles(values)) for m, values in zip(mean, resampled, strict=True)]
    return {"t": coverage(t, 0.0), "bootstrap": coverage(bootstrap, 0.0)}


def main(
    counts: Annotated[list[Path] | None, Parameter(negative="")] = None, *, draws: int = 1000, seed: int = 0
) -> None:
    """Print both tables.

    Parameters
    ----------
    counts
        `counts.npz` of a segmentation run, whose images are taken as the population.
    draws
        Samples of each kind.
    """
    rng = np.random.default_rng(seed)
    columns = ("population", "images", "interval", "covers", "same classes", "width", "shift")
    table = Table(*columns, title="Over images: mIoU")
    for name, everything, size in _populations(counts or [], rng):
        for kind, found in over_images(everything, size, draws, rng).items():
            shares = (f"{found.covered:.1%}", f"{found.covered_same:.1%}")
            table.add_row(name, str(size), kind, *shares, f"{found.width:.2f}", f"{found.shift:+.2f}")
    console = Console()
    console.print(table)
    table = Table("single runs", "seeds", "interval", "covers", "width / sd", title="Over seeds: mean")
    for name in RUNS:
        for seeds in SEEDS:
            for kind, found in over_seeds(name, seeds, 10 * draws, rng).items():
                table.add_row(name, str(seeds), kind, f"{found.covered:.1%}", f"{found.width:.2f}")
    console.print(table)


def _populations(files: list[Path], rng: np.random.Generator) -> Iterator[tuple[str, Counts, int]]:
    everything = population(rng, POPULATION)
    for size in SIZES:
        yield "made up, 8 classes", everything, size
    for file in files:
        try:
            with np.load(file, allow_pickle=False) as kept:
                found: Counts = kept["counts"]
        except (OSError, ValueError, KeyError) as error:
            raise BenchError(f"{file} holds no confusion matrices: {error}") from error
        yield f"{file.parent.parent.name}, {len(found[0])} classes", found, len(found)


def _miou(counts: Counts) -> float:
    return segmentation_scores(counts.sum(0)).miou


def _resampled_miou(counts: Counts, rng: np.random.Generator) -> Floats:
    """mIoU of each of `RESAMPLES` draws of the images, over the classes that are in it."""
    hits = np.diagonal(counts, axis1=1, axis2=2).astype(np.float64)
    union = counts.sum(2) + counts.sum(1) - hits
    times = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), RESAMPLES).astype(np.float64)
    with np.errstate(invalid="ignore"):
        ratios = (times @ hits) / (times @ union)
    return np.asarray(100 * np.nanmean(ratios, axis=1), np.float64)


def _percentiles(values: Floats) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    run(main)
