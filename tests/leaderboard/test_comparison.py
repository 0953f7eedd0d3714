"""Tests between rows against scipy.stats and plain loops."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference

from leaderboard import comparison
from leaderboard.comparison import Contest, leader, rank_intervals, tiers
from leaderboard.stats import Estimate, Source, connected, summarise, weighted_sum

samples = st.lists(st.integers(0, 60).map(lambda value: value / 4), min_size=2, max_size=5).filter(
    lambda values: len(set(values)) > 1
)
boards = st.lists(samples, min_size=2, max_size=6)


def contest(groups):
    return Contest([summarise([list(group)]) for group in groups])


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


def of_images(values, images):
    """A row measured once: each image's share of a mean is its deviation over their number."""
    source = Source.of(images, (values - values.mean()) / len(values))
    return Estimate(values.mean(), source.variance**0.5, source.df, known=(source,))


def test_rows_on_the_same_images_are_compared_image_by_image():
    """As the paired t-test of per-image values."""
    generator = np.random.default_rng(0)
    hard = generator.normal(0, 10, 40)  # difficult images are difficult for all
    values = np.stack([50 + shift + hard + generator.normal(0, 1, 40) for shift in (0.0, 0.6, 2.0)])
    images = tuple(f"image{i}" for i in range(40))
    everyone = np.arange(3)
    p = Contest([of_images(row, images) for row in values]).p_values(everyone, everyone)
    for i, j in combinations(everyone, 2):
        assert p[i, j] == pytest.approx(reference.ttest_rel(values[i], values[j]).pvalue, rel=1e-6)
    others = tuple(f"other{i}" for i in range(40))
    rows = [of_images(values[0], images), of_images(values[1], others), of_images(values[2], images)]
    p = Contest(rows).p_values(everyone, everyone)
    assert p[0, 1] == pytest.approx(p_of(values[0], values[1]), rel=1e-6)
    assert p[0, 1] > 0.5
    assert p[0, 2] == pytest.approx(reference.ttest_rel(values[0], values[2]).pvalue, rel=1e-6)


def test_sums_over_protocols_on_the_same_images_are_compared_image_by_image():
    """As the paired t-test of the images' weighted sums; rows with other draws are independent of them."""
    generator = np.random.default_rng(3)
    values = generator.normal(50, 10, (2, 2, 30)) + generator.normal(0, 10, 30)  # rows, protocols, images
    images = tuple(f"image{i}" for i in range(30))
    weights = (0.5, 1.5)
    rows = [weighted_sum((w, of_images(v, images)) for w, v in zip(weights, row, strict=True)) for row in values]
    sums = np.tensordot(np.array(weights), values, (0, 1))
    assert rows[0].error == pytest.approx(reference.sem(sums[0]), rel=1e-9)
    runs = generator.normal(50, 10, (2, 3))
    names = ("a", "b", "c")
    other = weighted_sum(
        (w, summarise([[x] for x in v], checkpoints=names)) for w, v in zip(weights, runs, strict=True)
    )
    p = Contest([*rows, other]).p_values(np.arange(3), np.arange(3))
    assert p[0, 1] == pytest.approx(reference.ttest_rel(*sums).pvalue, rel=1e-6)
    assert p[1, 2] == p[2, 1] == pytest.approx(p_of(sums[1], weights @ runs), rel=1e-6)


def test_a_run_that_failed_under_one_protocol_makes_a_sum_no_surer():
    """The sum over protocols of each run's shares, by hand, with the degrees of freedom of the fewer runs."""
    all_runs = [40.0, 42.0, 44.0, 46.0]
    whole = summarise([[x] for x in all_runs], checkpoints=("a", "b", "c", "d"))
    part = summarise([[x] for x in all_runs[1:]], checkpoints=("b", "c", "d"))
    both, lacking = (weighted_sum([(0.5, whole), (0.5, other)]) for other in (whole, part))
    assert both.error == pytest.approx(whole.error) and both.df == 3
    shares = 0.5 * (np.array(all_runs) - 43) / 4 + 0.5 * np.array([0, -2, 0, 2]) / 3
    assert lacking.error == pytest.approx((1.5 * (shares**2).sum()) ** 0.5) and lacking.df == 2
    assert lacking.half > both.half


def test_a_third_row_with_some_of_the_draws_changes_no_test_of_two():
    generator = np.random.default_rng(4)
    left, right = (tuple(f"{side}{i}" for i in range(20)) for side in ("left", "right"))
    values = generator.normal(50, 5, (3, 40))
    rows = [weighted_sum([(0.5, of_images(row[:20], left)), (0.5, of_images(row[20:], right))]) for row in values[:2]]
    third = of_images(values[2], left + right)
    alone, beside = (Contest(found).difference(np.array([0]), np.array([1])) for found in (rows, [*rows, third]))
    assert [part.item() for part in alone] == [part.item() for part in beside]


def test_sets_with_a_common_name_are_connected_by_way_of_others():
    sets = [("a", "b"), ("x",), ("c", "d"), ("a", "b"), ("b", "c"), ("y", "x"), ("z",)]
    assert connected(sets) == [[0, 2, 3, 4], [1, 5], [6]]
    assert connected([]) == []


@pytest.mark.parametrize("correlation", [0.0, 0.8, 1.0])
def test_equal_methods_over_protocols_that_share_their_runs_are_told_apart_in_5_percent(correlation):
    generator = np.random.default_rng(0)
    boards, wrong, covered = 1500, 0, 0
    for _ in range(boards):
        shared, own = generator.standard_normal((2, 3, 1)), generator.standard_normal((2, 3, 4))
        values = 50 + correlation**0.5 * shared + (1 - correlation) ** 0.5 * own  # methods, runs, protocols
        rows = [
            weighted_sum(
                (1 / 4, summarise([[x] for x in runs], checkpoints=(f"{m}a", f"{m}b", f"{m}c"))) for runs in values[m].T
            )
            for m in (0, 1)
        ]
        wrong += len(set(tiers(Contest(rows)))) == 2
        low, high = rows[0].interval
        covered += low <= 50 <= high
    assert wrong / boards < 0.06
    assert covered / boards == pytest.approx(0.95, abs=0.02)


def test_several_protocols_are_compared_by_their_weighted_sum():
    """Welch's test of two sums, with Satterthwaite's degrees of freedom, in a plain loop."""
    generator = np.random.default_rng(1)
    data = [[generator.normal(10 * i, 1 + i, n) for i in range(3)] for n in (3, 4)]  # protocols of rows
    weights = (0.5, 1.5)
    whole = Contest(
        [weighted_sum((w, summarise([list(rows[k])])) for rows, w in zip(data, weights, strict=True)) for k in range(3)]
    )
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
