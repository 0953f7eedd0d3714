"""The statistics against scipy.stats, plain loops and examples computed by hand."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from leaderboard.stats import (
    RESAMPLES,
    ImageError,
    bootstrap_means,
    holm,
    mid_ranks,
    percentile_interval,
    rank,
    summarise,
    welch,
)

figures = st.floats(0, 100).map(lambda value: round(value, 2))
samples = st.lists(figures, min_size=2, max_size=6)


def test_summary_by_hand():
    summary = summarise([1.0, 2.0, 3.0])
    assert (summary.n, summary.mean, summary.sd) == (3, 2.0, 1.0)
    assert summary.half == pytest.approx(4.302652730 / math.sqrt(3))  # t(.975, 2 df)
    assert (summary.low, summary.high) == pytest.approx((-0.484138, 4.484138), abs=1e-6)


@settings(deadline=None)
@given(samples)
def test_interval_is_students(values):
    summary = summarise(values)
    error = reference.sem(values)
    assert summary.half == pytest.approx(error * reference.t.ppf(0.975, len(values) - 1), abs=1e-9)


def test_one_seed_has_no_interval():
    summary = summarise([5.0])
    assert summary.sd is None
    assert summary.half is None
    assert summary.low == summary.high == 5.0


def test_no_seed_is_an_error():
    with pytest.raises(ValueError, match="no values"):
        summarise([])


@settings(deadline=None)
@given(st.lists(samples, min_size=2, max_size=4))
def test_welch_is_scipys(groups):
    p = welch([summarise(group) for group in groups])
    for i, j in combinations(range(len(groups)), 2):
        if np.ptp(groups[i]) > 0.01 or np.ptp(groups[j]) > 0.01:
            expected = reference.ttest_ind(groups[i], groups[j], equal_var=False).pvalue
            assert p[i, j] == p[j, i] == pytest.approx(expected, abs=1e-9)
    assert (np.diag(p) == 1).all()


def test_welch_without_spread_or_with_one_seed():
    p = welch([summarise(values) for values in ([2.0, 2.0], [2.0, 2.0], [3.0, 3.0], [2.0])])
    assert p[0, 1] == 1
    assert p[0, 2] == 0
    assert np.isnan(p[:3, 3]).all()


def test_holm_by_hand():
    p = np.array([[1, 0.01, 0.04], [0.01, 1, 0.03], [0.04, 0.03, 1]])
    # Sorted .01 .03 .04, times 3 2 1: .03 .06 .04, made monotone: .03 .06 .06.
    assert holm(p) == pytest.approx(np.array([[1, 0.03, 0.06], [0.03, 1, 0.06], [0.06, 0.06, 1]]))


@settings(deadline=None)
@given(st.integers(2, 5).flatmap(lambda k: st.tuples(st.just(k), st.lists(
    st.one_of(st.floats(0, 1), st.just(math.nan)), min_size=k * (k - 1) // 2, max_size=k * (k - 1) // 2))))  # fmt: skip
def test_holm_is_the_step_down_loop(case):
    k, flat = case
    p = np.ones((k, k))
    pairs = list(combinations(range(k), 2))
    for (i, j), value in zip(pairs, flat, strict=True):
        p[i, j] = p[j, i] = value
    adjusted = holm(p)
    known = sorted(value for value in flat if not math.isnan(value))
    for (i, j), value in zip(pairs, flat, strict=True):
        if math.isnan(value):
            assert math.isnan(adjusted[i, j])
            continue
        steps = [(len(known) - place) * other for place, other in enumerate(known) if other <= value]
        assert adjusted[i, j] == adjusted[j, i] == pytest.approx(min(1, max(steps)))


def test_ranks_leave_open_what_the_tests_leave_open():
    far, near, nearer = [90.0, 90.1, 89.9], [50.0, 52.0, 51.0], [51.0, 50.5, 52.5]
    rankings = rank([summarise(values) for values in (near, far, nearer, [51.2])])
    assert [r.position for r in rankings] == [4, 1, 2, 3]
    assert [(r.best, r.worst) for r in rankings] == [(2, 4), (1, 2), (2, 4), (1, 4)]  # the single seed is in no test


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=5, max_size=5), min_size=1, max_size=4))
def test_mid_ranks_are_scipys(rows):
    values = np.array(rows, np.float64)
    assert mid_ranks(values) == pytest.approx(reference.rankdata(-values, method="average", axis=1))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_bootstrap_has_the_variance_of_the_mean(n):
    values = np.random.default_rng(n).normal(50, 2, n)
    draws = np.concatenate([bootstrap_means(values.tolist(), key) for key in range(100)])
    assert len(draws) == 100 * RESAMPLES
    assert draws.mean() == pytest.approx(values.mean(), abs=0.02)
    assert draws.var() == pytest.approx(values.var(ddof=1) / n, rel=0.03)


def test_bootstrap_is_a_function():
    assert (bootstrap_means([1.0, 2.0, 4.0], 7) == bootstrap_means([1.0, 2.0, 4.0], 7)).all()
    assert (bootstrap_means([1.0, 2.0, 4.0], 7) != bootstrap_means([1.0, 2.0, 4.0], 8)).any()
    assert (bootstrap_means([3.0], 0) == 3.0).all()


def test_percentile_interval():
    assert percentile_interval(np.arange(1001.0)[::-1]) == pytest.approx((25.0, 975.0))
    draws = np.random.default_rng(0).normal(size=97)
    assert percentile_interval(draws) == pytest.approx(np.quantile(draws, (0.025, 0.975)))


def test_a_single_run_has_the_error_of_its_images():
    near, far = (summarise([value], ImageError(0.5, 200)) for value in (50.0, 50.3))
    above = summarise([53.0], ImageError(0.4, 200))
    assert near.half == pytest.approx(0.5 * reference.t.ppf(0.975, 199))
    assert (near.sd, near.n, near.df) == (None, 1, 199)
    p = welch([near, far, above, summarise([90.0])])
    assert p[0, 1] > 0.5 and p[0, 2] < 0.001 and np.isnan(p[3, :3]).all()
    # as of two samples whose means have these errors: 0.5 = sd / sqrt(200)
    theirs = reference.ttest_ind_from_stats(50.0, 0.5 * 200**0.5, 200, 53.0, 0.4 * 200**0.5, 200, equal_var=False)
    assert p[0, 2] == pytest.approx(theirs.pvalue, rel=1e-9)
    draws = bootstrap_means([50.0], 3, 0.5)
    assert draws.mean() == pytest.approx(50.0, abs=0.06) and draws.std() == pytest.approx(0.5, abs=0.05)
