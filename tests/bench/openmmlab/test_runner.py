"""Whole runs of every protocol, cut to two iterations on a handful of generated images."""

import csv
import dataclasses
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from short_protocols import IDS, RATE, SEGMENTATION, changed, checkpoint, reference, short
from training_plans import plan_of

from bench.datasets import generate
from bench.datasets.shares import LABELLED
from bench.errors import BenchError
from bench.metrics.outputs import COUNTS, DETECTIONS
from bench.openmmlab.loss_log import LOSSES
from bench.openmmlab.prepare import prepare_openmmlab
from bench.openmmlab.runner import evaluate_stored, run_transfer, write_labelled
from bench.openmmlab.stored_weights import WEIGHTS
from leaderboard.base.errors import FileError
from leaderboard.base.files import file_sha256
from leaderboard.records import Result, read_result_json
from leaderboard.shares import SHARES, read_shares


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generated") / "data"
    generate(root, train=8, val=4, pretrain=0)
    return root


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("work"))


@dataclasses.dataclass
class Run:
    protocol_id: str
    folder: Path
    result: Result


@pytest.fixture(scope="module", params=[*IDS, pytest.param("mini_city_inst_mrcnn_fpn", marks=pytest.mark.slow)])
def run(request: pytest.FixtureRequest, data: Path, backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / request.param
    protocol = short(request.param)
    return Run(request.param, folder, run_transfer(protocol, backbone, data, reference(protocol), 0, folder))


def test_the_result_is_whole(run: Run) -> None:
    result = run.result
    assert read_result_json(result.to_json().encode()) == result
    assert (result.status, result.failure) == ("finished", None)
    assert all(0 <= value <= 100 for value in result.metrics.values())
    wanted = {
        "mini_voc_det_frcnn_fpn": {"AP", "AP50", "AP75", "cocoAP"},
        "mini_coco_mrcnn_fpn": {"bbox_AP", "bbox_AP50", "bbox_AP75", "segm_AP", "segm_AP50", "segm_AP75"},
        "mini_voc_seg_fcn": {"mIoU", "mAcc", "aAcc"},
        "mini_city_seg_fcn": {"mIoU", "mAcc", "aAcc"},
        "mini_city_inst_mrcnn_fpn": {"AP", "AP50", "bbox_AP", "bbox_AP50"},
    }
    assert wanted[run.protocol_id] <= set(result.metrics)
    assert result.environment.packages["torch"] == torch.__version__.partition("+")[0]
    assert result.environment.threads == torch.get_num_threads()


def test_the_report_counts_what_was_executed(run: Run) -> None:
    report = run.result.training
    assert report is not None
    assert (report.planned_iterations, report.executed_iterations, report.batch_size, report.images_seen) == (
        2,
        2,
        2,
        4,
    )
    assert report.learning_rate == RATE
    assert report.frozen_parameters == 0
    assert report.trainable_parameters == run.result.card.parameters + report.head_parameters
    assert report.backbone_tensors == 100  # 20 convolutions, 20 norms of 4 tensors


def test_time_and_memory_are_accounted_for(run: Run) -> None:
    result = run.result
    assert {"build", "data", "forward_backward", "evaluation"} <= set(result.seconds)
    assert 0.5 * result.wall_seconds < sum(result.seconds.values()) <= result.wall_seconds + 0.1
    assert result.peak_memory_mib is not None and result.peak_memory_mib > 100


def test_every_layer_of_the_backbone_was_trained(run: Run, backbone: Path) -> None:
    before = safetensors.torch.load_file(backbone / "backbone.safetensors")
    after = safetensors.torch.load_file(run.folder / WEIGHTS)
    # a norm's scale near 1 moves by less than float16 resolves in two iterations; its shift and statistics do move
    names = [name for name, tensor in before.items() if tensor.ndim > 1 or name.endswith(("bias", "mean", "var"))]
    unchanged = [name for name in names if torch.equal(before[name], after[f"backbone.{name}"].float())]
    assert not unchanged


def test_losses_of_every_iteration_are_kept(run: Run) -> None:
    rows = list(csv.DictReader((run.folder / "losses.csv").open()))
    assert [row["iteration"] for row in rows] == ["1", "2"]
    assert all(float(row["loss"]) > 0 and float(row["learning_rate"]) == RATE for row in rows)


def test_the_resolved_config_is_kept(run: Run, data: Path) -> None:
    config = json.loads((run.folder / "config.json").read_text())
    assert config["model"]["backbone"]["depth"] == 18
    assert config["train_dataloader"]["dataset"]["data_root"] == str(data)


def test_predictions_are_kept(run: Run, data: Path) -> None:
    if run.protocol_id in SEGMENTATION:
        with np.load(run.folder / COUNTS) as kept:
            matrix = kept["counts"].sum(0)
        assert 100 * np.trace(matrix) / matrix.sum() == pytest.approx(run.result.metrics["aAcc"])
    else:
        detections = json.loads((run.folder / "detections.json").read_text())
        assert all({"image_id", "category_id", "bbox", "score"} <= set(entry) for entry in detections)


def test_the_errors_are_those_of_the_kept_shares(run: Run) -> None:
    shares = read_shares(run.folder / SHARES)
    assert len(set(shares.names)) == len(shares.names) >= 2
    assert run.result.standard_errors == shares.standard_errors()
    assert run.result.standard_errors.keys() == run.result.metrics.keys()
    kept = COUNTS if run.protocol_id in SEGMENTATION else DETECTIONS
    assert run.result.outputs == {name: file_sha256(run.folder / name) for name in (kept, SHARES, LOSSES, WEIGHTS)}


def test_stored_weights_give_the_same_figures(run: Run, data: Path, backbone: Path, tmp_path: Path) -> None:
    again = evaluate_stored(short(run.protocol_id), backbone, data, run.folder, tmp_path / "again")
    assert again == run.result.metrics


def test_weights_of_another_protocol_are_refused(run: Run, data: Path, backbone: Path, tmp_path: Path) -> None:
    others = {"mini_voc_seg_fcn": "mini_city_seg_fcn", "mini_city_seg_fcn": "mini_voc_seg_fcn"}
    if run.protocol_id not in others:
        pytest.skip("two protocols show it")
    with pytest.raises(BenchError, match="another protocol"):
        evaluate_stored(short(others[run.protocol_id]), backbone, data, run.folder, tmp_path / "x")
    with pytest.raises(BenchError, match="missing"):
        evaluate_stored(short(run.protocol_id), backbone, data, tmp_path / "empty", tmp_path / "x")


@pytest.mark.parametrize(
    "protocol_id", ["mini_coco_mrcnn_fpn", pytest.param("mini_voc_seg_fcn", marks=pytest.mark.slow)]
)
def test_a_seed_decides_everything(protocol_id: str, data: Path, backbone: Path, tmp_path: Path) -> None:
    protocol = short(protocol_id)
    files = []
    for number, seed in enumerate((1, 1, 2)):
        folder = tmp_path / str(number)
        run_transfer(protocol, backbone, data, reference(protocol), seed, folder)
        files.append((folder / WEIGHTS).read_bytes())
    assert files[0] == files[1] != files[2]


def test_a_loss_that_is_not_finite_is_a_failed_result(data: Path, backbone: Path, tmp_path: Path) -> None:
    protocol = short("mini_voc_seg_fcn", iterations=4, rate=1e30)
    result = run_transfer(protocol, backbone, data, reference(protocol), 0, tmp_path)
    assert result.status == "failed" and result.metrics == {}
    assert result.failure is not None and "diverged: " in result.failure and "at iteration 2" in result.failure
    found = json.loads((tmp_path / "diverged.json").read_text())
    assert found["iteration"] == 2 and not math.isfinite(found["losses"]["loss"])
    assert len(found["images"]) == 2 and all(Path(image).is_file() for image in found["images"])
    assert all(Path(image).name in result.failure for image in found["images"])
    assert len((tmp_path / "losses.csv").read_text().splitlines()) == 3
    assert result.training is not None and result.training.executed_iterations == 2
    assert not (tmp_path / WEIGHTS).exists()
    assert read_result_json(result.to_json().encode()) == result


def custom_keys(config: dict[str, Any]) -> dict[str, Any]:
    """Rates and weight decays of parts of the model."""
    keys: dict[str, Any] = config["optim_wrapper"]["paramwise_cfg"]["custom_keys"]
    return keys


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["train_dataloader"].update(batch_size=1), "1 images per iteration"),
        (lambda c: c["train_cfg"].update(max_iters=3), "will run 3 iterations"),
        (lambda c: c["optim_wrapper"]["optimizer"].update(lr=0.5), "starts from learning rates"),
        (lambda c: custom_keys(c).update({"bn1": {"decay_mult": 0.0}}), "has weight decay 0.0"),
        (
            lambda c: custom_keys(c).update({"layer4": {"lr_mult": 10.0}}),
            "backbone start from learning rate 0.1",
        ),
        (lambda c: c["model"]["backbone"].update(norm_eval=True), "fixed statistics"),
        (lambda c: c["model"]["data_preprocessor"].update(std=[1.0, 1.0, 1.0]), "normalises with std"),
        (lambda c: c.update(bf16_modules=["backbon"]), "no such module"),
        (lambda c: c["param_scheduler"][0].update(factor=0.5, end=1), "starts from|peak learning rate"),
    ],
)
def test_guards_stop_a_run_before_it_has_trained(
    change: Any, message: str, data: Path, backbone: Path, tmp_path: Path
) -> None:
    protocol = changed(short("mini_voc_seg_fcn"), change)
    with pytest.raises(BenchError, match=message):
        run_transfer(protocol, backbone, data, reference(protocol), 0, tmp_path)
    assert not (tmp_path / WEIGHTS).exists()


def test_a_run_that_ended_early_has_no_result(
    data: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the loop and its hooks say: what counts is what the protocol plans and what was recorded."""
    prepare_openmmlab()
    from mmengine.runner import IterBasedTrainLoop

    def first_only(loop: Any) -> None:
        loop.runner.call_hook("before_train")
        loop.run_iter(next(loop.dataloader_iterator))

    monkeypatch.setattr(IterBasedTrainLoop, "run", first_only)
    protocol = short("mini_voc_seg_fcn")
    with pytest.raises(BenchError, match="1 iterations were executed, the protocol plans 2"):
        run_transfer(protocol, backbone, data, reference(protocol), 0, tmp_path)
    assert not (tmp_path / WEIGHTS).exists()


def test_a_run_folder_that_cannot_be_written_is_named(data: Path, backbone: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    protocol = short("mini_voc_seg_fcn")
    with pytest.raises(FileError, match="cannot make the folder"):
        run_transfer(protocol, backbone, data, reference(protocol), 0, tmp_path / "file" / "run")


def test_real_data(shared_data: Path, backbone: Path, tmp_path: Path) -> None:
    protocol = short("mini_city_seg_fcn", iterations=1)
    result = run_transfer(protocol, backbone, shared_data, reference(protocol), 0, tmp_path)
    assert result.status == "finished"


def test_listed_names_need_not_be_utf_8(tmp_path: Path) -> None:
    names = [os.fsdecode(b"\xe9.jpg"), "a.jpg"]
    plan = dataclasses.replace(plan_of(short("mini_voc_seg_fcn")), labels=0.5)
    write_labelled(SimpleNamespace(taken=names), plan, tmp_path)
    assert (tmp_path / LABELLED).read_bytes() == b"\xe9.jpg\na.jpg\n"
