"""What protocols show for their time: their variants, and the table's numbers."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from training_plans import plan_of

from bench.benchmarks import protocol_power
from bench.benchmarks.protocol_power import RANDOM, summary, value_of, variant
from bench.checkpoints import random_backbone
from bench.errors import BenchError
from bench.power import runs_needed
from bench.protocols import load_protocol
from bench.submit import check_data_sets
from leaderboard.store import ResultStore

DETECTION = "mini_voc_det_frcnn_fpn"
SEGMENTATION = "mini_city_seg_fcn"


@pytest.mark.parametrize("name", [DETECTION, SEGMENTATION])
def test_a_variant_differs_in_rate_and_length_alone(name: str) -> None:
    own = load_protocol(name)
    same, changed = variant(own, rate=1, length=1), variant(own, rate=0.1, length=0.5)
    assert same.plan == own.plan
    assert {key: same.config[key] for key in own.config if key != "protocol"} == {
        key: own.config[key] for key in own.config if key != "protocol"
    }
    assert len({own.sha256, same.sha256, changed.sha256}) == 3
    before, after = plan_of(own), plan_of(changed)
    assert after.learning_rate == pytest.approx(before.learning_rate / 10)
    assert after.final_learning_rate == pytest.approx(before.final_learning_rate / 10)
    assert after.iterations == before.iterations // 2
    kept = [key for key in own.config if key not in ("protocol", "train_cfg", "param_scheduler", "optim_wrapper")]
    assert all(changed.config[key] == own.config[key] for key in kept)


@pytest.mark.parametrize("name", [DETECTION, SEGMENTATION])
def test_heads_keep_their_rate_where_that_of_the_backbone_changes(name: str) -> None:
    own = load_protocol(name)
    before, after = plan_of(own), plan_of(variant(own, rate=0.1, length=1, head_rate=1))
    assert after.learning_rate == pytest.approx(before.learning_rate / 10)
    assert after.head_learning_rate == (before.head_learning_rate or before.learning_rate)


def test_a_variant_of_a_protocol_that_chooses_its_settings_chooses_nothing() -> None:
    own = load_protocol("fair_mini_city_seg_fcn")
    half = variant(own, rate=1, length=0.5)
    assert own.sweep is not None and half.sweep is None
    assert plan_of(half).iterations == plan_of(own).iterations // 2
    assert plan_of(half).learning_rate == plan_of(own).learning_rate


def test_probes_and_impossible_variants_are_refused() -> None:
    with pytest.raises(BenchError, match="is a probe"):
        variant(load_protocol("frozen_city_seg_linear"), rate=1, length=1)
    with pytest.raises(BenchError, match="above 0"):
        variant(load_protocol(SEGMENTATION), rate=0, length=1)


def test_a_variant_runs_once_as_it_says(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = variant(load_protocol(SEGMENTATION), rate=0.5, head_rate=0.2, length=0.01)
    dataset = check_data_sets(tiny_data, [tried])[tried.dataset]
    checkpoint = random_backbone("resnet18", seed=0, name="random", work=tmp_path)
    value, minutes = value_of(tried, checkpoint, tiny_data, dataset, 0, tmp_path)
    (result,), _ = ResultStore(tmp_path / "results").load()
    assert (result.protocol.id, result.protocol.track) == ("mini_city_seg_fcn_rate0.5_head0.2_length0.01", "power")
    assert result.training is not None and result.training.executed_iterations == 2
    assert result.training.learning_rate == pytest.approx(0.0025)
    monkeypatch.setattr(protocol_power, "run_transfer", lambda *_: pytest.fail("it is stored"))
    assert value_of(tried, checkpoint, tiny_data, dataset, 0, tmp_path) == (value, minutes)


def test_the_summary_is_that_of_a_plain_count() -> None:
    values = {RANDOM: [10.0, 12.0], "a": [15.0, 16.0], "b": [18.0, 17.0]}
    found = summary(values, minutes=2.0)
    assert found["gain"] == pytest.approx(16.5 - 11)
    assert found["sd"] == pytest.approx(np.sqrt((2 + 0.5 + 0.5) / 3))
    assert found["between"] == pytest.approx(np.std([15.5, 17.5], ddof=1))
    runs = 2 * ((1.959964 + 0.841621) * found["sd"] / found["gain"]) ** 2
    assert found["to show"] == pytest.approx(2 * runs * 2.0, rel=1e-5)


def test_so_many_minutes_show_the_gain() -> None:
    """Where many runs are needed, their number is that of the t test's own power."""
    rng = np.random.default_rng(0)
    noise = [stats.zscore(rng.normal(size=50), ddof=1) for _ in range(2)]
    found = summary({RANDOM: list(noise[0]), "a": list(0.3 + noise[1])}, minutes=1.0)
    assert found["to show"] / 2 == pytest.approx(runs_needed(0.3, 1.0, 0.8) or 0, abs=2)


def test_no_gain_is_never_shown_and_one_run_is_no_noise() -> None:
    assert summary({RANDOM: [2.0, 3.0], "a": [1.0, 2.0]}, minutes=1.0)["to show"] == float("inf")
    with pytest.raises(BenchError, match="at least two seeds"):
        summary({RANDOM: [2.0], "a": [1.0]}, minutes=1.0)


def test_what_cannot_be_measured_is_said_before_anything_runs(tmp_path: Path) -> None:
    network = random_backbone("resnet18", seed=0, name="mine", work=tmp_path)
    other = random_backbone("resnet34", seed=0, name="other", work=tmp_path)
    wrong = {
        "at least two seeds": ([network], 1),
        "at least one folder": ([], 2),
        "of one architecture": ([network, other], 2),
        "a name of its own": ([network, network], 2),
    }
    for words, (folders, seeds) in wrong.items():
        with pytest.raises(BenchError, match=words):
            protocol_power.main(*folders, data=tmp_path, work=tmp_path, protocol=SEGMENTATION, seeds=seeds)
