"""Standard errors of segmentation metrics: against the exact leave-one-out formula, and their intervals' coverage."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from bench.benchmarks.interval_coverage import population
from bench.metrics.segmentation import segmentation_scores
from bench.metrics.uncertainty import segmentation_shares
from leaderboard.shares import Shares


def standard_errors(counts: NDArray[np.int64]) -> dict[str, float]:
    return Shares(tuple(map(str, range(len(counts)))), segmentation_shares(counts)).standard_errors()


def scores(counts: NDArray[np.int64]) -> dict[str, float]:
    found = segmentation_scores(counts.sum(0))
    return {"mIoU": found.miou, "mAcc": found.mean_accuracy, "aAcc": found.pixel_accuracy}


def test_the_errors_are_nearly_the_jackknife_s() -> None:
    """Leaving out one image at a time gives the same variance to first order; no class here hangs on one image."""
    counts = population(np.random.default_rng(0), 400)
    left_out = [scores(np.delete(counts, i, 0)) for i in range(len(counts))]
    for name, error in standard_errors(counts).items():
        values = np.array([found[name] for found in left_out])
        jackknife = np.sqrt((len(values) - 1) * values.var())
        assert error == pytest.approx(jackknife, rel=0.03), name


def test_an_interval_covers_the_population_s_value() -> None:
    """Of samples of 100 images, in which the rarest class has a few, 94 % (mIoU, aAcc) and 91 % (mAcc) of the 95 %
    intervals hold the value of the population: with rare classes they are a little short, not beside it."""
    rng = np.random.default_rng(1)
    everything = population(rng, 6_000)
    truth = scores(everything)
    draws, held = 300, dict.fromkeys(truth, 0)
    for _ in range(draws):
        sample = everything[rng.choice(len(everything), 100, replace=False)]
        errors, found = standard_errors(sample), scores(sample)
        for name in truth:
            held[name] += abs(found[name] - truth[name]) <= stats.t.ppf(0.975, 99) * errors[name]
    shares = {name: count / draws for name, count in held.items()}
    assert shares["mIoU"] > 0.92 and shares["aAcc"] > 0.92 and shares["mAcc"] > 0.88, shares


def test_one_image_says_nothing_and_equal_images_have_no_error() -> None:
    counts = population(np.random.default_rng(2), 1)
    assert set(standard_errors(counts).values()) == {0.0}
    assert standard_errors(np.repeat(counts, 5, 0)) == pytest.approx(
        dict.fromkeys(("mIoU", "mAcc", "aAcc"), 0.0), abs=1e-9
    )
