"""Tests between rows against scipy.stats and plain loops."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from leaderboard import comparison
from leaderboard.comparison import Contest, Measured, leader, rank_intervals, tiers
from leaderboard.stats import summarise

samples = st.lists(st.integers(0, 60).map(lambda value: value / 4), min_size=2, max_size=5).filter(
    lambda values: len(set(values)) > 1
)
boards = st.lists(samples, min_size=2, max_size=6)


def contest(groups, weight=1.0):
    return Contest([Measured.of([summarise([list(group)]) for group in groups], weight)])


def p_of(a, b):
    return reference.ttest_ind(a, b, equal_var=False).pvalue


@settings(deadline=None, max_examples=30)
@given(boards)
def test_p_values_are_scipys(groups):
    everyone = np.arange(len(groups))
    p = contest(groups).p_values(everyone, everyone)
    for i, j in combinations(everyone, 2):
        assert p[i, j] == p[j, i] == pytest.approx(p_of(groups[i], groups[j]), abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(boards)
def test_the_leader_is_better_than_each_other_row(groups):
    means = [np.mean(group) for group in groups]
    best = int(np.argmax(means))
    others = [i for i in range(len(groups)) if i != best]
    leads = all(means[best] > means[i] and p_of(groups[best], groups[i]) < 0.05 for i in others)
    assert leader(contest(groups)) == (best if leads else None)


@settings(deadline=None, max_examples=30)
@given(boards)
def test_tiers_are_the_greedy_loop(groups):
    left = sorted(range(len(groups)), key=lambda i: -np.mean(groups[i]))
    expected, number = {}, 0
    while left:
        number += 1
        best, *rest = left
        worse = [i for i in rest if np.mean(groups[i]) < np.mean(groups[best]) and p_of(groups[best], groups[i]) < 0.05]
        expected |= dict.fromkeys([i for i in left if i not in worse], number)
        left = worse
    assert tiers(contest(groups)) == [expected[i] for i in range(len(groups))]


def holm_loop(p):
    """Indices that Holm's step-down procedure rejects at 5 %."""
    rejected = []
    for place, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if p[i] > 0.05 / (len(p) - place):
            break
        rejected.append(i)
    return rejected


def ranks_of(groups, p_value):
    means = [np.mean(group) for group in groups]
    expected = []
    for i, own in enumerate(means):
        others = [j for j in range(len(groups)) if j != i]
        different = [others[k] for k in holm_loop([p_value(i, j) for j in others])]
        better, worse = (sum(sign * (means[j] - own) > 0 for j in different) for sign in (1, -1))
        expected.append((1 + better, len(groups) - worse))
    return expected


@settings(deadline=None, max_examples=30)
@given(boards)
def test_rank_intervals_are_holms_within_each_row(groups):
    assert rank_intervals(contest(groups)) == ranks_of(groups, lambda i, j: p_of(groups[i], groups[j]))


@settings(deadline=None, max_examples=30)
@given(boards)
def test_large_tables_use_the_smaller_degrees_of_freedom(groups):
    def cautious(i, j):
        a, b = groups[i], groups[j]
        t = (np.mean(a) - np.mean(b)) / math.hypot(reference.sem(a), reference.sem(b))
        return 2 * reference.t.sf(abs(t), min(len(a), len(b)) - 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "LARGE", 1)
        patch.setattr(comparison, "_BLOCK", 7)
        assert rank_intervals(contest(groups)) == ranks_of(groups, cautious)


def of_images(shares, means, names=None):
    """Rows measured once: their shares (k, V) of the same images."""
    shares = np.asarray(shares)
    n = shares.shape[1]
    variance = n / (n - 1) * (shares**2).sum(1)
    k = len(shares)
    return Measured(
        np.array(means), variance, np.full(k, n - 1.0), np.zeros(k, int) if names is None else names, list(shares)
    )


def test_rows_on_the_same_images_are_compared_image_by_image():
    """As the paired t-test of per-image values: a mean's share of an image is its deviation over their number."""
    generator = np.random.default_rng(0)
    hard = generator.normal(0, 10, 40)  # difficult images are difficult for all
    values = np.stack([50 + shift + hard + generator.normal(0, 1, 40) for shift in (0.0, 0.6, 2.0)])
    means = values.mean(1)
    measured = of_images((values - means[:, None]) / 40, means)
    everyone = np.arange(3)
    p = Contest([measured]).p_values(everyone, everyone)
    for i, j in combinations(everyone, 2):
        assert p[i, j] == pytest.approx(reference.ttest_rel(values[i], values[j]).pvalue, rel=1e-6)
    apart = of_images((values - means[:, None]) / 40, means, np.array([0, 1, -1]))
    p = Contest([apart]).p_values(everyone, everyone)
    assert p[0, 1] == pytest.approx(p_of(values[0], values[1]), rel=1e-6)
    assert p[0, 1] > 0.5


def test_several_protocols_are_compared_by_their_weighted_sum():
    """Welch's test of two sums, with Satterthwaite's degrees of freedom, in a plain loop."""
    generator = np.random.default_rng(1)
    data = [[generator.normal(10 * i, 1 + i, n) for i in range(3)] for n in (3, 4)]  # protocols of rows
    weights = (0.5, 1.5)
    parts = [contest(rows, weight).parts[0] for rows, weight in zip(data, weights, strict=True)]
    whole = Contest(parts)
    everyone = np.arange(3)
    p = whole.p_values(everyone, everyone)
    for i, j in combinations(everyone, 2):
        pairs = [(w * rows[k].mean(), w**2 * rows[k].var(ddof=1) / len(rows[k]), len(rows[k]) - 1, sign)
                 for rows, w in zip(data, weights, strict=True) for k, sign in ((i, 1), (j, -1))]  # fmt: skip
        difference = sum(sign * mean for mean, _, _, sign in pairs)
        variance = sum(v for _, v, _, _ in pairs)
        df = variance**2 / sum(v**2 / free for _, v, free, _ in pairs)
        assert p[i, j] == pytest.approx(2 * reference.t.sf(abs(difference) / variance**0.5, df), rel=1e-9)
    assert whole.mean == pytest.approx([0.5 * a.mean() + 1.5 * b.mean() for a, b in zip(*data, strict=True)])


def test_one_row_leads_nobody():
    one = contest([[1.0, 2.0]])
    assert (leader(one), tiers(one), rank_intervals(one)) == (None, [1], [(1, 1)])
