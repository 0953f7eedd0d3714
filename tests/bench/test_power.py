"""Power of the t test: against simulation, against published tables, and as the inverse of what is needed for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.power import cautious_sd, least_difference, least_known_error, pooled_sd, power, runs_needed


@pytest.mark.parametrize(("difference", "sd", "runs"), [(1, 1, 2), (1, 0.5, 3), (-0.8, 0.6, 5), (1, 1, 17), (0, 1, 4)])
def test_power_is_that_of_simulated_experiments(difference: float, sd: float, runs: int) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(mean, sd, (20_000, runs)) for mean in (difference, 0))
    shown = stats.ttest_ind(a, b, axis=1).pvalue < 0.05
    assert power(difference, sd, runs) == pytest.approx(shown.mean(), abs=0.012)


def test_least_differences_are_the_published_ones() -> None:
    """COCO box .27, Cityscapes .29, ImageNet linear .07, at 3, 5 and 10 runs of each, from rounded standard deviations.

    At 2 runs of each simulation gives 5.65 standard deviations.
    """
    for sd, published in ((0.27, (0.82, 0.55, 0.36)), (0.29, (0.88, 0.59, 0.38)), (0.07, (0.21, 0.14, 0.09))):
        for runs, least in zip((3, 5, 10), published, strict=True):
            assert least_difference(sd, runs, 0.8) == pytest.approx(least, abs=0.011)
    assert least_difference(1, 2, 0.8) == pytest.approx(5.65, abs=0.01)


@settings(max_examples=40)
@given(st.floats(0.05, 20), st.floats(0.01, 10), st.floats(0.5, 0.95))
def test_what_is_needed_is_enough_and_one_less_is_not(difference: float, sd: float, wanted: float) -> None:
    runs = runs_needed(difference, sd, wanted)
    if runs is None:
        assert power(difference, sd, 1000) < wanted
        return
    assert power(difference, sd, runs) >= wanted
    assert runs == 2 or power(difference, sd, runs - 1) < wanted
    least = least_difference(sd, runs, wanted)
    assert runs == 2 or least <= difference * (1 + 1e-6)
    assert power(least, sd, runs) == pytest.approx(wanted, abs=1e-6)


def test_ends() -> None:
    assert power(1, 0, 2) == 1 and power(0, 0, 2) == 0.05
    assert power(100, 0.1, 2) == 1
    assert runs_needed(1, 0, 0.8) == 2
    assert least_known_error(0.5, 0.8) == pytest.approx(0.5 * (1.959964 + 0.841621), rel=1e-6)


def test_standard_deviations_are_pooled_and_widened() -> None:
    groups = [[1.0, 2.0, 4.0], [7.0], [3.0, 3.5]]
    found = pooled_sd(groups)
    assert found is not None
    expected = np.sqrt((2 * np.var(groups[0], ddof=1) + np.var(groups[2], ddof=1)) / 3)
    assert found == (pytest.approx(expected), 3)
    assert pooled_sd([[1.0], [2.0]]) is None and pooled_sd([]) is None
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((20_000, 4)).std(1, ddof=1)
    assert (cautious_sd(1.0, 3) * samples >= 1).mean() == pytest.approx(0.8, abs=0.01)
