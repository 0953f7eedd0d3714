"""RetinaNet as detectron2 has it: pyramid, moving average and clipping against their definitions; small runs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from reduced_protocols import reduced
from short_protocols import checkpoint, reference
from torch import nn
from torch.nn.functional import conv2d, interpolate

from bench.openmmlab import guards, prepare_openmmlab
from bench.openmmlab.adapting import with_backbone
from bench.openmmlab.build import build_model, checkpoint_part, prove_backbone, resolve
from bench.openmmlab.runner import evaluate_stored, run_transfer
from bench.protocols import load_protocol
from pretrain.exported import read_exported

prepare_openmmlab()
from mmengine import DefaultScope  # noqa: E402
from mmengine.config import ConfigDict  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

from bench.openmmlab.retina import FIRST_POSITIVES, KEPT, Detectron2RetinaHead, RetinaPyramid  # noqa: E402

RETINA = "paper_coco_retinanet_1x"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


def small_head(**more: Any) -> Detectron2RetinaHead:
    """The protocol's head with two classes and narrow layers."""
    config = dict(load_protocol(RETINA).config["model"]["bbox_head"])
    del config["type"]
    parts = load_protocol(RETINA).config["model"]
    with DefaultScope.overwrite_default_scope("mmdet"):
        return Detectron2RetinaHead(
            **(config | {"num_classes": 2, "in_channels": 4, "feat_channels": 4, "stacked_convs": 1} | more),
            train_cfg=ConfigDict(parts["train_cfg"]),
            test_cfg=ConfigDict(parts["test_cfg"]),
        )


def test_the_detector_is_detectron2s(work: Path) -> None:
    """Numbers of card D4 and of the model that RegionCL's log prints."""
    protocol, exported = load_protocol(RETINA), read_exported(checkpoint(work))
    tensors = dict(exported.tensors)
    model = build_model(resolve(protocol, exported.card, Path("/data")), tensors, seed=0)
    assert prove_backbone(checkpoint_part(model), tensors) == 100
    neck, head = model.neck, model.bbox_head
    convolutions = [(one.conv.in_channels, one.conv.stride[0], one.with_norm) for one in neck.fpn_convs]
    assert convolutions == [(256, 1, True)] * 3 + [(512, 2, False), (256, 2, False)]
    assert all(one.conv.bias is not None and not one.with_activation for one in neck.fpn_convs[3:])
    assert [one.conv.in_channels for one in neck.lateral_convs] == [128, 256, 512]
    assert not [one for one in head.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    assert len(head.cls_convs) == len(head.reg_convs) == 4
    assert (head.retina_cls.out_channels, head.retina_reg.out_channels) == (720, 36)
    torch.testing.assert_close(head.retina_cls.bias.sigmoid(), torch.full((720,), 0.01))
    sides = [(a[:, 2:] - a[:, :2]).prod(1).sqrt() for a in head.prior_generator.base_anchors]
    for level, found in enumerate(sides):
        expected = [32 * 2**level * 2 ** (octave / 3) for octave in range(3)] * 3
        torch.testing.assert_close(found, torch.tensor(expected))
    assert [type(head.loss_cls).__name__, type(head.loss_bbox).__name__] == ["FocalLoss", "L1Loss"]
    guards.check_trained(model.train())
    assert protocol.config["optim_wrapper"]["optimizer"]["lr"] == 0.01


def test_levels_of_the_pyramid_are_their_definition() -> None:
    torch.manual_seed(0)
    pyramid = RetinaPyramid(
        in_channels=[2, 3, 4, 5], start_level=1, out_channels=6, num_outs=5, norm_cfg={"type": "BN"}
    ).eval()
    maps = [torch.randn(1, width, 40 // 2**i, 24 // 2**i) for i, width in enumerate((2, 3, 4, 5))]
    found = pyramid(maps)
    lateral = [conv(one) for conv, one in zip(pyramid.lateral_convs, maps[1:], strict=True)]
    summed = [lateral[2]]
    for one in (lateral[1], lateral[0]):
        summed.insert(0, one + interpolate(summed[0], size=one.shape[2:]))
    expected = [conv(one) for conv, one in zip(pyramid.fpn_convs, summed, strict=False)]
    for source in (maps[-1], None):
        layer = pyramid.fpn_convs[len(expected)].conv
        inputs = expected[-1].relu() if source is None else source
        expected.append(conv2d(inputs, layer.weight, layer.bias, stride=2, padding=1))
    assert [one.shape[2:] for one in found] == [(20, 12), (10, 6), (5, 3), (3, 2), (2, 1)]
    for one, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(one, wanted)


def test_losses_are_sums_divided_by_the_moving_average() -> None:
    """Two iterations on two images, one of which has no object; all sums again in float64."""
    torch.manual_seed(0)
    head = small_head().double()
    sizes = [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]
    meta = [{"img_shape": (64, 64), "pad_shape": (64, 64)}] * 2
    average = FIRST_POSITIVES
    for boxes in ([[4.0, 6, 40, 44], [20, 20, 60, 50]], [[1.0, 1, 60, 60]]):
        objects = [
            InstanceData(bboxes=torch.tensor(boxes).double(), labels=torch.arange(len(boxes))),
            InstanceData(bboxes=torch.zeros(0, 4).double(), labels=torch.zeros(0, dtype=torch.long)),
        ]
        scores = [torch.randn(2, 18, *size, dtype=torch.float64) for size in sizes]
        deltas = [torch.randn(2, 36, *size, dtype=torch.float64) for size in sizes]
        losses = head.loss_by_feat(scores, deltas, objects, meta)
        anchors = torch.cat(head.prior_generator.grid_priors(sizes, dtype=torch.float64, device="cpu"))
        matched = [head.assigner.assign(InstanceData(priors=anchors), one) for one in objects]
        numbers = torch.stack([one.gt_inds for one in matched])
        flat = torch.cat([s.permute(0, 2, 3, 1).reshape(2, -1, 2) for s in scores], 1)
        regressed = torch.cat([d.permute(0, 2, 3, 1).reshape(2, -1, 4) for d in deltas], 1)
        classes, boxes_loss = 0.0, 0.0
        for image, anchor in (numbers >= 0).nonzero().tolist():
            number = int(numbers[image, anchor])
            wanted = int(objects[image].labels[number - 1]) if number else 2
            for column in range(2):
                p = flat[image, anchor, column].sigmoid()
                right = p if column == wanted else 1 - p
                classes -= float((0.25 if column == wanted else 0.75) * (1 - right) ** 2 * right.log())
            if number:
                target = head.bbox_coder.encode(anchors[[anchor]], objects[image].bboxes[[number - 1]])
                boxes_loss += float((regressed[image, anchor] - target).abs().sum())
        average = KEPT * average + (1 - KEPT) * int((numbers > 0).sum()) / 2
        assert float(head.positives_per_image) == pytest.approx(average, rel=1e-12)
        assert float(sum(losses["loss_cls"])) == pytest.approx(classes / (2 * average), rel=1e-6)
        assert float(sum(losses["loss_bbox"])) == pytest.approx(boxes_loss / (2 * average), rel=1e-6)
    assert "positives_per_image" in head.state_dict()  # a run that continues has it


def test_boxes_are_clipped_after_suppression() -> None:
    """Two boxes whose IoU is above .5 only within the image are both kept, and one outside is dropped."""
    head = small_head()
    boxes = torch.tensor([[-60.0, 0, 20, 20], [0, 0, 20, 20], [-9, -9, -1, -1]])
    found = InstanceData(bboxes=boxes, scores=torch.tensor([0.9, 0.8, 0.7]), labels=torch.zeros(3, dtype=torch.long))
    meta = {"img_shape": (15, 40), "ori_shape": (30, 80), "scale_factor": (0.5, 0.5)}
    kept = head._bbox_post_process(found, head.test_cfg, rescale=True, img_meta=meta)
    assert kept.bboxes.tolist() == [[0, 0, 40, 30], [0, 0, 40, 30]] and kept.scores.tolist() == [
        pytest.approx(0.9),
        pytest.approx(0.8),
    ]


def test_other_networks_take_the_place_of_the_resnet() -> None:
    model = load_protocol(RETINA).config["model"]
    adapted = with_backbone(model, "vit_small_patch16", RETINA, synchronised=False)
    assert adapted["neck"]["strides"] == [8, 16, 32, 64, 128]
    assert with_backbone(model, "wide_resnet50_2", RETINA, synchronised=False)["neck"] == model["neck"]


@pytest.mark.slow
def test_a_small_run_is_whole(tiny_data: Path, work: Path, tmp_path: Path) -> None:
    protocol, folder = reduced(RETINA), checkpoint(work)
    result = run_transfer(protocol, folder, tiny_data, reference(protocol), 0, tmp_path / "run")
    assert (result.status, result.training.frozen_parameters, result.training.images_seen) == ("finished", 0, 10)
    assert "bbox_AP" in result.metrics and "segm_AP" not in result.metrics
    cells = sum(-(-64 // stride) * -(-96 // stride) for stride in (8, 16, 32, 64, 128))
    of_head = 2 * 9 * 256 * (8 * 256 + 720 + 36) * cells
    assert result.operations is not None and (result.operations.height, result.operations.width) == (64, 96)
    assert of_head < result.operations.head < 1.5 * of_head  # the rest is the pyramid
    assert evaluate_stored(protocol, folder, tiny_data, tmp_path / "run", tmp_path / "again") == result.metrics
