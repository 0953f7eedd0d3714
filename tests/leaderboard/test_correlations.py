"""Rank correlations between protocols against scipy.stats, and the coverage of their intervals."""

import csv
import io

import numpy as np
import pytest
from fabricate import make_card, make_protocol, make_result
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats as reference

from leaderboard import correlations
from leaderboard.analysis import analyse
from leaderboard.records import Pretraining

SEG, DET = "mini_voc_seg_fcn", "mini_voc_det_frcnn_fpn"
FROZEN = make_protocol("frozen_voc_seg_linear", track="frozen")


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=4, max_size=9))
def test_spearman_is_scipys(pairs):
    a, b = zip(*pairs, strict=True)
    rho = correlations.spearman(a, b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert rho is None
    else:
        assert rho == pytest.approx(reference.spearmanr(a, b).statistic)


def test_the_interval_by_hand():
    low, high = correlations.interval(0.6, 12)
    half = 1.959964 * np.sqrt((1 + 0.18) / 9)
    assert (low, high) == pytest.approx((np.tanh(np.arctanh(0.6) - half), np.tanh(np.arctanh(0.6) + half)), abs=1e-6)
    low, high = correlations.interval(1.0, 6)
    assert 0.5 < low < 1 and high > 0.99
    assert correlations.interval(-1.0, 6) == pytest.approx((-high, -low))


@pytest.mark.parametrize("true", [0.0, 0.6, 0.9])
def test_the_interval_covers(true):
    """Of 1000 samples of 12 checkpoints from a normal distribution; its rank correlation is 6 / pi asin(r / 2)."""
    generator = np.random.default_rng(0)
    expected = 6 / np.pi * np.arcsin(true / 2)
    covered = 0
    for _ in range(1000):
        x = generator.standard_normal(12)
        y = true * x + np.sqrt(1 - true**2) * generator.standard_normal(12)
        low, high = correlations.interval(correlations.spearman(x.tolist(), y.tolist()), 12)
        covered += low <= expected <= high
    assert covered / 1000 > 0.93


def results():
    """Six checkpoints, two of them of one method, under three protocols of two tracks; one of another architecture."""
    found = []
    for i, value in enumerate([10.0, 20.0, 15.0, 40.0, 30.0, 50.0]):
        seen = Pretraining.known(group="a" * 16, seed=i) if i < 2 else Pretraining.known()
        card = make_card(f"m{i}", method="M", pretraining=seen)
        found += [make_result(card, SEG, seed, value + seed) for seed in range(2)]
        found += [make_result(card, DET, 0, 60 - value), make_result(card, FROZEN, 0, 2 * value - 15 * (i == 3))]
    return [*found, make_result(make_card("big", architecture="resnet50"), SEG, 0, 99.0)]


def test_rows_are_correlated_not_checkpoints():
    """Two checkpoints are pretraining runs of one row, whose value is their mean."""
    found = correlations.correlate(analyse(results()))
    pairs = {tuple(group.protocol.id for group in one.protocols): one for one in found}
    assert len(pairs) == 3 and {one.rows for one in found} == {5}
    assert pairs[DET, SEG].rho == pytest.approx(-1)
    (mixed,) = (one for ids, one in pairs.items() if set(ids) == {SEG, FROZEN.id})
    expected = reference.spearmanr([15, 15, 40, 30, 50], [30, 30, 65, 60, 100]).statistic
    assert mixed.rho == pytest.approx(expected)


def test_of_a_row_the_common_checkpoints_count():
    """Under one protocol the row has one run alone, which is better than the mean of both."""
    found = [result for result in results() if (result.card.name, result.protocol.id) != ("m0", DET)]
    pairs = {tuple(g.protocol.id for g in one.protocols): one for one in correlations.correlate(analyse(found))}
    expected = reference.spearmanr([20, 15, 40, 30, 50], [40, 45, 20, 30, 10]).statistic
    assert pairs[DET, SEG].rho == pytest.approx(expected) and pairs[DET, SEG].rows == 5


def test_table_and_csv():
    found = correlations.correlate(analyse(results()))
    console = Console(file=io.StringIO(), width=120)
    console.print(correlations.table(found))
    assert "-1.00" in console.file.getvalue() and DET in console.file.getvalue()
    rows = list(csv.DictReader(io.StringIO(correlations.csv(found))))
    assert [row["rows"] for row in rows] == ["5"] * 3
    assert [float(row["spearman"]) for row in rows] == pytest.approx([one.rho for one in found], abs=1e-4)
    few = correlations.correlate(analyse(results()[:6]))
    console.print(correlations.table(few))
    assert few == [] and "no two protocols have 4 rows" in console.file.getvalue()
