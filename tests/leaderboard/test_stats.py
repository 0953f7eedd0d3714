"""Values with their errors against scipy.stats, plain loops and examples computed by hand."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from leaderboard.stats import Estimate, ImageError, mid_ranks, summarise, weighted_sum

figures = st.floats(0, 100).map(lambda value: round(value, 2))
samples = st.lists(figures, min_size=2, max_size=6).filter(lambda values: len(set(values)) > 1)


def test_summary_by_hand():
    summary = summarise([[1.0, 2.0, 3.0]])
    assert (summary.n, summary.units, summary.mean, summary.sd, summary.over) == (3, 1, 2.0, 1.0, "seeds")
    assert summary.half == pytest.approx(4.302652730 / math.sqrt(3))  # t(.975, 2 df)
    assert summary.interval == pytest.approx((-0.484138, 4.484138), abs=1e-6)


@settings(deadline=None)
@given(samples)
def test_interval_is_students(values):
    summary = summarise([values])
    error = reference.sem(values)
    assert summary.half == pytest.approx(error * reference.t.ppf(0.975, len(values) - 1), abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.lists(figures, min_size=1, max_size=4), min_size=2, max_size=5))
def test_the_unit_of_a_method_is_its_pretraining_run(units):
    """However many seeds a checkpoint has, it counts once."""
    summary = summarise(units)
    means = [statistics.fmean(values) for values in units]
    assert summary.mean == pytest.approx(statistics.fmean(means))
    assert (summary.n, summary.units) == (sum(map(len, units)), len(units))
    if len({round(mean, 9) for mean in means}) > 1:
        assert summary.over == "pretraining runs"
        assert summary.error == pytest.approx(reference.sem(means), rel=1e-6)
        assert summary.df == len(units) - 1


def test_one_run_has_no_interval_and_takes_part_in_no_test():
    summary = summarise([[5.0]])
    assert (summary.sd, summary.half, summary.interval, summary.tested) == (None, None, None, False)


def test_a_single_run_has_the_error_of_its_images():
    probe, trained = (summarise([[50.0]], ImageError(0.5, 200), trained=trained) for trained in (False, True))
    assert probe.half == trained.half == pytest.approx(0.5 * reference.t.ppf(0.975, 199))
    assert (probe.sd, probe.n, probe.df, probe.over) == (None, 1, 199, "images")
    assert probe.tested and not trained.tested  # another seed would train something else


def test_the_error_of_the_images_stands_beside_that_of_the_seeds():
    summary = summarise([[49.0, 51.0]], ImageError(0.5, 200))
    assert summary.over == "seeds" and summary.error == pytest.approx(1.0)
    assert summary.of_images == Estimate(50.0, 0.5, 199)


def test_seeds_that_change_nothing_are_one_run():
    """A deterministic probe gives the same value for each seed; that says nothing of its error."""
    assert summarise([[5.0, 5.0, 5.0]]).interval is None
    assert summarise([[5.1] * 3], ImageError(0.5, 200), trained=False).over == "images"
    assert summarise([[5.1], [5.1]]).tested is False


@pytest.mark.parametrize("units", [[], [[]], [[1.0], []]])
def test_no_value_is_an_error(units):
    with pytest.raises(ValueError, match="no values"):
        summarise(units)


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=9))
def test_mid_ranks_are_scipys(values):
    array = np.array(values, np.float64)
    assert mid_ranks(array) == pytest.approx(reference.rankdata(-array, method="average"))


def test_a_weighted_sum_by_hand():
    total = weighted_sum([(0.5, Estimate(10.0, 2.0, 4)), (-1.0, Estimate(3.0, 1.0, 2))])
    assert (total.mean, total.error) == (2.0, pytest.approx(math.sqrt(1 + 1)))
    assert total.df == pytest.approx(4 / (1 / 4 + 1 / 2))  # Satterthwaite
    assert weighted_sum([(1.0, Estimate(10.0, 2.0, 4)), (1.0, Estimate(3.0, None, 0))]).error is None
    assert weighted_sum([]).error is None
