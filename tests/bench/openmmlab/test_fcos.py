"""FCOS as AdelaiDet has it: losses, candidates and scores against plain computations; what is built; a small run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from reduced_protocols import reduced
from short_protocols import checkpoint, reference
from torch import nn
from torch.nn.functional import conv2d

from bench.openmmlab import guards, prepare_openmmlab
from bench.openmmlab.build import build_model, checkpoint_part, prove_backbone, resolve
from bench.openmmlab.runner import evaluate_stored, run_transfer
from bench.protocols import load_protocol
from pretrain.exported import read_exported

prepare_openmmlab()
from mmengine import DefaultScope  # noqa: E402
from mmengine.config import ConfigDict  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

from bench.openmmlab.fcos import AdelaiFCOSHead  # noqa: E402

FCOS = "paper_coco_fcos_1x"
STRIDES, LIMITS = (8, 16, 32, 64, 128), (0, 64, 128, 256, 512, float("inf"))
SIZES = [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


def small_head(**testing: Any) -> AdelaiFCOSHead:
    """The protocol's head with two classes and narrow layers."""
    parts = load_protocol(FCOS).config["model"]
    config = {key: value for key, value in parts["bbox_head"].items() if key != "type"}
    config |= {"num_classes": 2, "in_channels": 32, "feat_channels": 32, "stacked_convs": 1}
    with DefaultScope.overwrite_default_scope("mmdet"):
        return AdelaiFCOSHead(**config, test_cfg=ConfigDict(parts["test_cfg"] | testing))


def cells() -> list[tuple[int, int, int, float, float]]:
    """Level, row, column and middle of every cell."""
    return [
        (level, row, column, STRIDES[level] * (column + 0.5), STRIDES[level] * (row + 0.5))
        for level, (height, width) in enumerate(SIZES)
        for row in range(height)
        for column in range(width)
    ]


def test_losses_are_adelaidets() -> None:
    """Every cell by itself, in the distances to the four sides, which are in cells of the level."""
    torch.manual_seed(0)
    head = small_head()
    boxes, labels = [[8.0, 10, 70, 90], [30, 20, 64, 56], [1, 1, 120, 125]], [0, 1, 1]
    objects = [
        InstanceData(bboxes=torch.tensor(boxes), labels=torch.tensor(labels)),
        InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)),
    ]
    scores, deltas, center = ([torch.randn(2, width, *size) * 2 for size in SIZES] for width in (2, 4, 1))
    deltas = [one.abs() for one in deltas]
    losses = head.loss_by_feat(scores, deltas, center, objects, [{}, {}])
    classes = of_boxes = centers = weights = 0.0
    positive = 0
    for image in (0, 1):
        for level, row, column, x, y in cells():
            stride, found = STRIDES[level], None
            for box, label in zip(boxes, labels, strict=True) if image == 0 else ():
                sides = (x - box[0], y - box[1], box[2] - x, box[3] - y)
                near = max(abs(x - (box[0] + box[2]) / 2), abs(y - (box[1] + box[3]) / 2)) < 1.5 * stride
                area = (box[2] - box[0]) * (box[3] - box[1])
                fits = LIMITS[level] <= max(sides) <= LIMITS[level + 1]
                if near and min(sides) > 0 and fits and (found is None or area < found[0]):
                    found = area, label, [side / stride for side in sides]
            for label in range(2):
                p = float(scores[level][image, label, row, column].double().sigmoid())
                wanted = found is not None and found[1] == label
                right = p if wanted else 1 - p
                classes -= (0.25 if wanted else 0.75) * (1 - right) ** 2 * float(torch.tensor(right).double().log())
            if found is None:
                continue
            positive += 1
            left, top, right_, bottom = found[2]
            a, t, c, b = deltas[level][image, :, row, column].double().tolist()
            weight = (min(left, right_) / max(left, right_) * min(top, bottom) / max(top, bottom)) ** 0.5
            shared = (min(left, a) + min(right_, c)) * (min(top, t) + min(bottom, b))
            union = (left + right_) * (top + bottom) + (a + c) * (t + b) - shared
            hull = (max(left, a) + max(right_, c)) * (max(top, t) + max(bottom, b))
            of_boxes += weight * (1 - ((shared + 1) / (union + 1) - (hull - union) / hull))
            weights += weight
            p_center = center[level][image, 0, row, column].double().sigmoid()
            centers -= float(weight * p_center.log() + (1 - weight) * (1 - p_center).log())
    assert positive > 10
    assert float(losses["loss_cls"]) == pytest.approx(classes / positive, rel=1e-5)
    assert float(losses["loss_bbox"]) == pytest.approx(of_boxes / weights, rel=1e-4)
    assert float(losses["loss_centerness"]) == pytest.approx(centers / positive, rel=1e-5)


def test_candidates_and_scores_are_adelaidets() -> None:
    """Before suppression: of each level the best by class and centerness together, among those of a probable class."""
    torch.manual_seed(1)
    head = small_head(nms_pre=20, nms={"type": "nms", "iou_threshold": 1.0}, max_per_img=1000)
    scores, center = ([torch.randn(1, width, *size) for size in SIZES] for width in (2, 1))
    deltas = [20 + torch.rand(1, 4, *size) for size in SIZES]
    meta = [{"img_shape": (128, 128), "ori_shape": (256, 256), "scale_factor": (0.5, 0.5)}]
    (found,) = head.predict_by_feat(scores, deltas, center, batch_img_metas=meta, rescale=True)
    expected = []
    for level in range(5):
        of_level = []
        for at, row, column, x, y in cells():
            for label in range(2) if at == level else ():
                p = float(scores[level][0, label, row, column].sigmoid())
                if p > 0.05:
                    joint = p * float(center[level][0, 0, row, column].sigmoid())
                    left, top, right, bottom = deltas[level][0, :, row, column].tolist()
                    box = [2 * max(0, side) for side in (x - left, y - top)]
                    box += [2 * min(128, side) for side in (x + right, y + bottom)]
                    of_level.append((joint**0.5, label, box))
        expected += sorted(of_level, key=lambda one: -one[0])[:20]
    expected.sort(key=lambda one: -one[0])
    assert found.scores.tolist() == pytest.approx([score for score, _, _ in expected], rel=1e-5)
    assert found.labels.tolist() == [label for _, label, _ in expected]
    torch.testing.assert_close(found.bboxes, torch.tensor([box for _, _, box in expected]), rtol=0, atol=1e-3)


def test_the_detector_is_adelaidets(work: Path) -> None:
    """Numbers of its configuration and of the code at DenseCL's commit."""
    protocol, exported = load_protocol(FCOS), read_exported(checkpoint(work))
    tensors = dict(exported.tensors)
    model = build_model(resolve(protocol, exported.card, Path("/data")), tensors, seed=0)
    assert prove_backbone(checkpoint_part(model), tensors) == 100
    guards.check_trained(model.train())
    neck, head = model.neck.eval(), model.bbox_head
    convolutions = [(one.conv.in_channels, one.conv.stride[0], one.with_norm) for one in neck.fpn_convs]
    assert convolutions == [(256, 1, True)] * 3 + [(256, 2, False)] * 2
    maps = [torch.randn(1, width, 64 // 2**i, 64 // 2**i) for i, width in enumerate((64, 128, 256, 512))]
    *_, p5, p6, p7 = neck(maps)
    for below, level, layer in ((p5, p6, neck.fpn_convs[3].conv), (p6.relu(), p7, neck.fpn_convs[4].conv)):
        torch.testing.assert_close(level, conv2d(below, layer.weight, layer.bias, stride=2, padding=1))
    towers = [*head.cls_convs, *head.reg_convs]
    assert len(towers) == 8 and all(one.conv.bias is not None for one in towers)
    assert {(type(one.norm), one.norm.num_groups) for one in towers} == {(nn.GroupNorm, 32)}
    assert (head.conv_cls.out_channels, head.conv_reg.out_channels, head.conv_centerness.out_channels) == (80, 4, 1)
    torch.testing.assert_close(head.conv_cls.bias.sigmoid(), torch.full((80,), 0.01))
    assert not head.conv_reg.bias.any() and [one.scale.item() for one in head.scales] == [1.0] * 5
    assert (model.test_cfg.nms.iou_threshold, model.test_cfg.nms_pre, model.test_cfg.max_per_img) == (0.6, 1000, 100)


@pytest.mark.slow
def test_a_small_run_is_whole(tiny_data: Path, work: Path, tmp_path: Path) -> None:
    protocol, folder = reduced(FCOS), checkpoint(work)
    result = run_transfer(protocol, folder, tiny_data, reference(protocol), 0, tmp_path / "run")
    assert (result.status, result.training.frozen_parameters, result.training.images_seen) == ("finished", 0, 10)
    assert "bbox_AP" in result.metrics and result.operations is not None and result.operations.head > 0
    assert evaluate_stored(protocol, folder, tiny_data, tmp_path / "run", tmp_path / "again") == result.metrics
