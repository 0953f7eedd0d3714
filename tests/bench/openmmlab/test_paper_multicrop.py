"""The multi-crop study's VOC protocol: its steps and its labels against OpenCV, what is built, and a small run."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from augmented_voc import with_train_aug
from short_protocols import changed, checkpoint, reference
from training_plans import plan_of

from bench.openmmlab import guards, prepare_openmmlab
from bench.openmmlab.build import build_model, resolve
from bench.openmmlab.runner import run_transfer
from bench.protocols import Protocol, load_protocol
from pretrain.exported import read_exported

prepare_openmmlab()
from mmengine.registry import PARAM_SCHEDULERS, TRANSFORMS  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402

from bench.openmmlab.multicrop import LabelResizingSegmenter  # noqa: E402

STUDY = "paper_voc12aug_seg_fcn_multicrop_45e"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("work"))


@pytest.mark.parametrize("seed", range(3))
def test_images_are_turned_and_scaled_about_their_middle(seed: int) -> None:
    """Where a pixel comes from, by the definition of a rotation and a scale; labels take the nearest pixel."""
    rng = np.random.default_rng(seed)
    image, labels = rng.integers(0, 256, (40, 61, 3), np.uint8), rng.integers(1, 21, (40, 61), np.uint8)
    step = TRANSFORMS.build({"type": "ScaleAndRotate", "degrees": 5, "ratios": (0.75, 1.25)})
    np.random.seed(seed)
    angle, ratio = np.deg2rad(np.random.uniform(-5, 5)), np.random.uniform(0.75, 1.25)
    np.random.seed(seed)
    found = step({"img": image, "gt_seg_map": labels, "seg_fields": ["gt_seg_map"]})
    assert found["img"].shape == image.shape and found["gt_seg_map"].dtype == np.uint8
    y, x = np.mgrid[:40, :61]
    right, down = (x - 30.5) / ratio, (y - 20) / ratio
    from_x = np.cos(angle) * right - np.sin(angle) * down + 30.5
    from_y = np.sin(angle) * right + np.cos(angle) * down + 20
    clear = (abs(from_x % 1 - 0.5) > 0.05) & (abs(from_y % 1 - 0.5) > 0.05)  # of a nearest pixel beyond rounding
    columns, rows = np.rint(from_x).astype(int), np.rint(from_y).astype(int)
    inside = (columns >= 0) & (columns < 61) & (rows >= 0) & (rows < 40)
    expected = np.where(inside, labels[rows.clip(0, 39), columns.clip(0, 60)], 0)
    np.testing.assert_array_equal(found["gt_seg_map"][clear], expected[clear])
    far = (from_x < -3) | (from_x > 64) | (from_y < -3) | (from_y > 43)
    assert not found["img"][far].any()


def test_predicted_labels_are_resized_to_the_nearest() -> None:
    rng = np.random.default_rng(0)
    for size in ((375, 500), (333, 500), (500, 281), (100, 700)):
        scores = torch.from_numpy(rng.normal(size=(1, 21, 64, 64)).astype(np.float32))
        sample = SegDataSample(metainfo={"ori_shape": size})
        (found,) = LabelResizingSegmenter.postprocess_result(None, scores, [sample])  # type: ignore[arg-type]
        labels = scores[0].argmax(0).numpy().astype(np.uint8)
        expected = cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST)
        np.testing.assert_array_equal(found.pred_sem_seg.data[0].numpy(), expected)


def test_what_is_built_at_full_size(backbone: Path) -> None:
    protocol, exported = load_protocol(STUDY), read_exported(backbone)
    model = build_model(resolve(protocol, exported.card, Path("/data")), dict(exported.tensors), seed=0)
    guards.check_segmenter(model, plan_of(protocol))
    guards.check_trained(model.train())
    layer4 = model.backbone.layer4
    assert [block.conv1.dilation for block in layer4] == [(2, 2)] * 2
    assert {one.stride for one in layer4.modules() if isinstance(one, torch.nn.Conv2d)} == {(1, 1)}
    head = model.decode_head
    assert [one.conv.dilation for one in head.convs] == [(6, 6)] * 2 and head.dropout is None
    assert head.loss_decode.avg_non_ignore and not head.align_corners and not model.with_auxiliary_head
    maps = model.to("meta").extract_feat(torch.empty(2, 3, 512, 512, device="meta"))
    assert head.to("meta")(maps).shape == (2, 21, 32, 32)


def test_rates_are_those_of_the_epochs() -> None:
    """A tenth in the epochs after number 30 and after number 40, counted from 0, of 10,582 // 16 iterations."""
    protocol = load_protocol(STUDY)
    plan: Any = protocol.plan
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=plan.learning_rate)
    (scheduler,) = [PARAM_SCHEDULERS.build({**s, "optimizer": optimizer}) for s in protocol.config["param_scheduler"]]
    guards.check_schedule(plan.iterations, optimizer, [scheduler], plan)
    assert (plan.iterations, plan.batch_size) == (45 * (10_582 // 16), 16)
    drops = [number // 661 for number in protocol.config["param_scheduler"][0]["milestones"]]
    for epoch in range(45):
        passed = sum(epoch > limit for limit in (30, 40))
        assert passed == sum(epoch >= drop for drop in drops)


def small() -> Protocol:
    """The protocol with two iterations of two images of 48 x 48."""

    def cut(config: dict[str, Any]) -> None:
        config["protocol"]["plan"] |= {"batch_size": 2, "iterations": 3}
        config["train_dataloader"]["batch_size"] = 2
        config["train_cfg"]["max_iters"] = 3
        config["param_scheduler"][0] |= {"end": 3, "milestones": [1, 2]}
        config["model"]["data_preprocessor"]["size"] = (48, 48)
        for loader in ("train_dataloader", "test_dataloader"):
            for step in config[loader]["dataset"]["pipeline"]:
                if step["type"] == "Resize":
                    step["scale"] = (48, 48)

    return changed(load_protocol(STUDY), cut)


@pytest.mark.slow
def test_a_small_run_is_whole(tiny_data: Path, backbone: Path, tmp_path: Path) -> None:
    protocol, data = small(), with_train_aug(tiny_data, tmp_path / "data")
    result: Any = run_transfer(protocol, backbone, data, reference(protocol), 0, tmp_path / "run")
    assert result.status == "finished" and set(result.metrics) == {"mIoU", "mAcc", "aAcc"}
    assert (result.training.images_seen, result.training.frozen_parameters) == (6, 0)
