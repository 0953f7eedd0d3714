"""A protocol with smaller batches: the linear rule, an id and a hash of its own, and a table of its own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from fake_fine_tuning import instant
from torch.optim.lr_scheduler import LRScheduler
from training_plans import plan_of

from bench.cli import run as command
from bench.config_data import hash_config
from bench.errors import BenchError
from bench.known import known_to_leaderboard
from bench.protocols import Protocol, TrainingPlan, all_protocols, load_protocol, with_batch
from bench.smaller_batch import possible_batches, split_id, with_smaller_batch
from bench.submit import choose_protocols, plan_submission
from leaderboard.analysis import analyse
from leaderboard.store import ResultStore
from leaderboard.tables import markdown

C4 = "paper_voc0712_det_c4_24k"
TRAINED = [protocol for protocol in all_protocols() if isinstance(protocol.plan, TrainingPlan)]


def test_the_linear_rule_as_detectron2_applies_it() -> None:
    own, smaller = load_protocol(C4), load_protocol(f"{C4}_batch4")
    plan = plan_of(smaller)
    assert (plan.batch_size, plan.iterations, plan.learning_rate, plan.final_learning_rate) == (4, 96_000, 0.005, 5e-5)
    assert plan.precise_bn_batches == 800 and plan.norm_weight_decay == 0.0
    config: Any = smaller.config
    assert config["train_dataloader"]["batch_size"] == 4 and config["train_cfg"]["max_iters"] == 96_000
    assert config["optim_wrapper"]["optimizer"] == {"type": "SGD", "lr": 0.005, "momentum": 0.9, "weight_decay": 0.0001}
    warm_up, steps = config["param_scheduler"]
    assert (warm_up["end"], steps["milestones"], steps["end"]) == (401, [72_000, 88_000], 96_000)
    assert config["model"] == own.config["model"] and config["test_dataloader"] == own.config["test_dataloader"]
    assert smaller.docstring.startswith(own.docstring) and "Here 4 images per iteration" in smaller.docstring


@pytest.mark.parametrize("protocol", TRAINED, ids=lambda protocol: protocol.id)
def test_every_protocol_can_be_cut_and_sees_as_many_images(protocol: Protocol) -> None:
    before = hash_config(protocol.config)
    own = plan_of(protocol)
    assert possible_batches(own.batch_size)
    for batch in possible_batches(own.batch_size):
        smaller = with_batch(protocol, batch)
        plan = plan_of(smaller)
        assert plan.batch_size * plan.iterations == own.batch_size * own.iterations
        assert plan.learning_rate / batch == pytest.approx(own.learning_rate / own.batch_size)
        assert smaller == load_protocol(smaller.id) and split_id(smaller.id) == (protocol.id, batch)
        assert smaller.sha256 != protocol.sha256 and smaller.short_title.endswith(f", batch {batch}")
        assert smaller.reference().track == protocol.track
    assert with_batch(protocol, own.batch_size) is protocol is with_batch(protocol, 2000)
    assert hash_config(protocol.config) == before == protocol.sha256, "the protocol itself was changed"


@pytest.mark.parametrize("name", ["mini_coco_mrcnn_fpn", "mini_voc_seg_fcn"])
def test_the_rate_follows_the_same_course(name: str) -> None:
    """The schedulers that mmengine builds of both: at the same number of images the rate is in proportion."""
    own, smaller = load_protocol(name), load_protocol(f"{name}_batch2")
    times = plan_of(own).batch_size // 2
    rates, slower = executed(own), executed(smaller)
    assert len(slower) == times * len(rates)
    # the last of so many steps is nearer to the end of a course that falls without steps
    assert slower[::times] == pytest.approx([rate / times for rate in rates], abs=0.005 * max(slower))
    assert max(slower) == pytest.approx(plan_of(smaller).learning_rate)
    assert slower[-1] == pytest.approx(plan_of(smaller).final_learning_rate, rel=1e-3)


def executed(protocol: Protocol) -> list[float]:
    from mmengine.optim import scheduler as schedulers

    plan = plan_of(protocol)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=plan.learning_rate)
    built: list[LRScheduler] = []
    for entry in protocol.config["param_scheduler"]:
        arguments = {name: value for name, value in entry.items() if name != "type"}
        built.append(getattr(schedulers, entry["type"])(optimizer, **arguments))
    rates = []
    for _ in range(plan.iterations):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for one in built:
            one.step()
    return rates


def test_what_cannot_be_cut_is_said() -> None:
    with pytest.raises(BenchError, match=rf"{C4} has batches of 16: a batch of 6 is not possible, only 8, 4, 2"):
        load_protocol(f"{C4}_batch6")
    with pytest.raises(BenchError, match="a batch of 1 is not possible"):
        choose_protocols("paper", [C4], None, batch=1)
    with pytest.raises(BenchError, match="frozen_voc_seg_linear is a probe: it has no batch"):
        load_protocol("frozen_voc_seg_linear_batch2")
    with pytest.raises(BenchError, match="is a probe"):
        choose_protocols("frozen", (), None, batch=2)
    with pytest.raises(BenchError, match=f"track mini has no protocol '{C4}_batch4'"):
        choose_protocols("mini", [f"{C4}_batch4"], None)
    config = dict(load_protocol(C4).config) | {"param_scheduler": [{"type": "OneCycleLR", "begin": 0, "end": 9}]}
    with pytest.raises(BenchError, match="not written for the schedule OneCycleLR"):
        with_smaller_batch(config, 8)


def test_a_protocol_of_somebodys_own_states_its_batch_itself(tmp_path: Path) -> None:
    from bench.protocol_text import as_python

    file = tmp_path / "mine.py"
    text = as_python(load_protocol("mini_voc_seg_fcn")).replace('"mini_voc_seg_fcn"', '"mine"')
    file.write_text(text.replace('track="mini"', 'track="ours"'))
    with pytest.raises(
        BenchError, match=r"mine is a protocol of your own: write its batch and schedule into .*mine.py"
    ):
        choose_protocols("mini", [str(file)], None, batch=2)


def test_its_results_stand_in_a_table_of_their_own(tiny_data: Path, tmp_path: Path) -> None:
    name = "mini_voc_seg_fcn"
    for batch in (None, 2):
        planned = plan_submission(
            "random:resnet18", name="random", data=tiny_data, work=tmp_path, protocols=[name], seeds=2, batch=batch
        )
        assert len(planned.todo) == 2, "the results of one are not those of the other"
        for run in planned.todo:
            instant(run, 1)
    results, problems = ResultStore(tmp_path / "results").load()
    assert not problems and {result.protocol.id for result in results} == {name, f"{name}_batch2"}
    known = known_to_leaderboard()
    board = analyse(results, known["protocols"])
    tables = {track.id: [group.label for group in track.groups] for track in board.tracks}
    assert tables == {"mini": ["VOC seg FCN"], "mini-batch2": ["VOC seg FCN, batch 2"]} and not board.notes
    assert "VOC seg FCN, batch 2" in markdown(board)
    alone = analyse([result for result in results if result.protocol.id == name], known["protocols"])
    assert alone.tracks[0] == board.tracks[0], "it changes nothing of the table of the protocol itself"
    assert known["plans"][load_protocol(f"{name}_batch2").sha256] == 960


def test_the_command_takes_a_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["submit", "random:resnet18", "--name", "x", "--data", str(tmp_path), "--work", str(tmp_path / "work")]
    assert command([*line, "--track", "paper", "--protocol", C4, "--batch", "3"]) == 1
    assert "a batch of 3 is not possible, only 8, 4, 2" in " ".join(capsys.readouterr().err.split())
