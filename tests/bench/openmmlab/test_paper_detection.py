"""The detectors of track paper: what is built at full size is what their cards say, and small runs end whole."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from instance_ids import with_instance_ids
from reduced_protocols import reduced
from short_protocols import checkpoint, reference
from torch import nn
from voc_0712 import with_voc2007

from bench.errors import BenchError
from bench.openmmlab import guards, prepare_openmmlab
from bench.openmmlab.build import build_model, checkpoint_part, prove_backbone, resolve
from bench.openmmlab.runner import evaluate_stored, run_transfer
from bench.protocols import Protocol, load_protocol
from leaderboard.records import Card
from leaderboard.shares import SHARES, read_shares
from pretrain.exported import read_exported
from pretrain.nets.architectures import build_backbone

C4 = "paper_voc0712_det_c4_24k"
COCO = [f"paper_coco_mrcnn_fpn_{length}_{family}" for length in ("1x", "2x") for family in "ab"]
COCO_C4 = [f"paper_coco_mrcnn_c4_{length}" for length in ("1x", "2x")]
R2O, VOC_FPN = "paper_coco_mrcnn_fpn_r2o_24k", "paper_voc0712_det_fpn_18k"
FEW = "paper_coco_frcnn_fpn_p5"
CITY = "paper_city_inst_mrcnn_fpn_24k"
ROOT = Path("/data")


@dataclasses.dataclass
class Built:
    protocol: Protocol
    card: Card
    tensors: dict[str, torch.Tensor]
    model: Any


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


def build(protocol: Protocol, folder: Path) -> Built:
    exported = read_exported(folder)
    tensors = dict(exported.tensors)
    return Built(protocol, exported.card, tensors, build_model(resolve(protocol, exported.card, ROOT), tensors, seed=0))


@pytest.fixture(scope="module")
def c4(work: Path) -> Built:
    return build(load_protocol(C4), checkpoint(work, "resnet50"))


def norms(module: nn.Module) -> list[nn.Module]:
    return [one for one in module.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]


# What is built.


def test_c4_takes_every_tensor_of_the_checkpoint(c4: Built) -> None:
    part = checkpoint_part(c4.model)
    assert prove_backbone(part, c4.tensors) == sum("num_batches" not in name for name in c4.tensors)
    assert sum(p.numel() for p in part.parameters()) == c4.card.parameters
    assert not hasattr(c4.model.backbone, "layer4")


def test_c4_computes_what_pretraining_computed(c4: Built) -> None:
    ours = build_backbone(c4.card.architecture)
    ours.load_state_dict(c4.tensors, strict=False)
    images = torch.randn(1, 3, 64, 96)
    c4.model.eval(), ours.eval()
    with torch.no_grad():
        *_, third, fourth = ours.features(images)
        (res4,) = c4.model.backbone(images)
        res5 = c4.model.roi_head.shared_head(res4)
    torch.testing.assert_close(res4, third, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(res5, fourth / (1 + 1e-5) ** 0.5, rtol=1e-4, atol=1e-4)  # the norm is new: mean 0, 1


def test_a_c4_head_without_the_checkpoints_layer4_is_found(work: Path) -> None:
    built = build(load_protocol(C4), checkpoint(work))
    with torch.no_grad():
        built.model.roi_head.shared_head.layer4[1].conv2.weight.mul_(2)
    with pytest.raises(BenchError, match=r"1 tensors differ, first layer4.1.conv2.weight"):
        prove_backbone(checkpoint_part(built.model), built.tensors)


def test_the_c4_detector_is_the_cards(c4: Built) -> None:
    """Numbers of card D1 and of detectron2's C4, read from the built model."""
    model, channels = c4.model, (1024, 2048)
    rpn, head = model.rpn_head, model.roi_head
    assert (rpn.rpn_conv.in_channels, rpn.rpn_conv.out_channels) == (channels[0], channels[0])
    assert [tuple(stride) for stride in rpn.prior_generator.strides] == [(16, 16)]
    (anchors,) = rpn.prior_generator.base_anchors
    sides = ((anchors[:, 2:] - anchors[:, :2]).prod(1)).sqrt()
    assert sides.round().int().tolist() == [32, 64, 128, 256, 512] * 3
    assert not (anchors[:, 2:] + anchors[:, :2]).any()  # centered on the corner of their cell
    assert head.bbox_roi_extractor.roi_layers[0].output_size == (14, 14)
    assert head.bbox_roi_extractor.roi_layers[0].sampling_ratio == 0 and head.bbox_roi_extractor.roi_layers[0].aligned
    assert head.shared_head.norm.num_features == head.bbox_head.fc_cls.in_features == channels[1]
    assert (head.bbox_head.fc_cls.out_features, head.bbox_head.fc_reg.out_features) == (21, 80)
    assert model.data_preprocessor.pad_size_divisor == 1
    assert (head.bbox_sampler.num, head.bbox_sampler.pos_fraction, rpn.sampler.num) == (512, 0.25, 256)
    assert [loss.loss_weight for loss in (rpn.loss_bbox, head.bbox_head.loss_bbox)] == [1, 1]
    assert {type(loss).__name__ for loss in (rpn.loss_bbox, head.bbox_head.loss_bbox)} == {"L1Loss"}
    assert (model.train_cfg.rpn_proposal.nms_pre, model.train_cfg.rpn_proposal.max_per_img) == (12_000, 2_000)
    assert (model.test_cfg.rpn.nms_pre, model.test_cfg.rpn.max_per_img) == (6_000, 1_000)


def test_the_c4_detector_of_coco_has_masks_from_res5(work: Path) -> None:
    """Numbers of card D2 and of detectron2's C4: everything else is VOC's detector, with other classes."""
    built = build(load_protocol(COCO_C4[0]), checkpoint(work))
    model, head = built.model, built.model.roi_head
    assert prove_backbone(checkpoint_part(model), built.tensors) == 100
    assert head.share_roi_extractor and head.mask_head.upsample.in_channels == head.shared_head.norm.num_features
    assert (head.mask_head.upsample.out_channels, head.mask_head.upsample.stride, len(head.mask_head.convs)) == (
        256,
        (2, 2),
        0,
    )
    assert head.mask_head.conv_logits.out_channels == 80 and head.bbox_head.fc_cls.out_features == 81
    assert (model.train_cfg.rcnn.mask_size, model.data_preprocessor.pad_size_divisor) == (14, 1)
    guards.check_trained(model.train())

    def boxes_alone(config: dict[str, Any]) -> dict[str, Any]:
        model = copy.deepcopy(config["model"])
        for name in ("mask_roi_extractor", "mask_head"):
            model["roi_head"].pop(name, None)
        for part, name in (("data_preprocessor", "pad_mask"), ("roi_head", "bbox_head")):
            model[part].pop(name, None)
        model["train_cfg"]["rcnn"].pop("mask_size", None)
        model["test_cfg"]["rcnn"].pop("mask_thr_binary", None)
        return {**model, "type": "RCNN"}

    assert boxes_alone(dict(built.protocol.config)) == boxes_alone(dict(load_protocol(C4).config))


@pytest.mark.parametrize("protocol_id", COCO[:2])
def test_the_families_stay_apart(protocol_id: str, work: Path) -> None:
    """Numbers of card D3: what differs between the families, and what does not."""
    built = build(load_protocol(protocol_id), checkpoint(work))
    model, head, family = built.model, built.model.roi_head, protocol_id[-1]
    assert len(norms(head.bbox_head)) == len(norms(head.mask_head)) == (4 if family == "b" else 0)
    assert len(head.bbox_head.shared_fcs) == (1 if family == "b" else 2)
    assert [fc.out_features for fc in head.bbox_head.shared_fcs] == [1024] * len(head.bbox_head.shared_fcs)
    assert (len(norms(model.neck)), len(norms(model.rpn_head))) == (8, 0)
    assert len(head.mask_head.convs) == 4
    sides = [(a[:, 2:] - a[:, :2]).prod(1).sqrt().round().tolist() for a in model.rpn_head.prior_generator.base_anchors]
    assert sides == [[side] * 3 for side in (32, 64, 128, 256, 512)]
    guards.check_trained(model.train())


def test_a_longer_protocol_differs_in_its_schedule_alone() -> None:
    names = [
        (f"paper_coco_{name}", "2x") for name in ("mrcnn_fpn_{}_a", "mrcnn_fpn_{}_b", "mrcnn_c4_{}", "retinanet_{}")
    ]
    names += [(name, "12k") for name, _ in names if not name.endswith("_b")]
    for name, other in names:
        one, long = (dict(load_protocol(name.format(length)).config) for length in ("1x", other))
        assert {key for key in one if one[key] != long[key]} == {"protocol", "train_cfg", "param_scheduler"}


def test_other_detectors_differ_from_their_models_in_what_their_files_say() -> None:
    """R2O's from family B in schedule and batch; those without masks from family A in the masks."""
    other, b = dict(load_protocol(R2O).config), dict(load_protocol(COCO[1]).config)
    changed = {"protocol", "train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"}
    assert {key for key in b if b[key] != other[key]} == changed
    assert {**other["train_dataloader"], "batch_size": 16} == b["train_dataloader"]
    assert other["optim_wrapper"]["optimizer"] == {"type": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.00004}
    assert other["optim_wrapper"]["paramwise_cfg"] == {"norm_decay_mult": 0.0}
    assert other["param_scheduler"][0]["end"] == 501  # complete at iteration 500
    few, a, voc = (dict(load_protocol(name).config["model"]) for name in (FEW, COCO[0], VOC_FPN))
    assert few.keys() == a.keys() and all(few[part] == a[part] for part in ("backbone", "neck", "rpn_head"))
    assert all(few["roi_head"][part] == a["roi_head"][part] for part in few["roi_head"])
    assert a["roi_head"].keys() - few["roi_head"].keys() == {"mask_roi_extractor", "mask_head"}
    assert few["train_cfg"]["rpn"] == a["train_cfg"]["rpn"] and few["test_cfg"]["rpn"] == a["test_cfg"]["rpn"]
    voc["roi_head"]["bbox_head"]["num_classes"] = 80
    assert voc == few
    c4 = load_protocol(C4).config
    assert all(load_protocol(VOC_FPN).config[part] == c4[part] for part in ("train_dataloader", "test_dataloader"))


def test_a_share_of_the_labels_is_that_of_the_fold(data: Path, work: Path) -> None:
    """What the built data set holds, and what a data set without the share or of another fold is told."""
    prepare_openmmlab()
    from mmdet.registry import DATASETS
    from mmengine import DefaultScope

    protocol, card = load_protocol(FEW), read_exported(checkpoint(work)).card
    plan = dataclasses.replace(protocol.plan, labels=0.5)  # type: ignore[type-var]

    def built(share: float, seed: int) -> Any:
        config = resolve(protocol, card, data, seed=seed)["train_dataloader"]["dataset"]
        with DefaultScope.overwrite_default_scope("mmdet"):
            return DATASETS.build(config | {"share": share, "filter_cfg": None})

    for fold in (0, 1):
        dataset = built(0.5, fold)
        kept = [dataset.get_data_info(i)["img_path"] for i in range(len(dataset))]
        assert [Path(path).name for path in kept] == dataset.taken
        assert 2 * len(dataset) == len(dataset.listed) == len(set(dataset.listed))
        guards.check_labels(dataset, plan, fold)
        with pytest.raises(BenchError, match=r"has 4 of 8 images, the protocol plans 50% of 8, 4 of fold"):
            guards.check_labels(dataset, plan, 1 - fold)
    with pytest.raises(BenchError, match=r"has 8 of 8 images, the protocol plans 50% of 8"):
        guards.check_labels(built(1.0, 0), plan, 0)
    with pytest.raises(BenchError, match="object cannot be cut to a part of its images"):
        guards.check_labels(object(), plan, 0)


@pytest.mark.parametrize("protocol_id", [C4, *COCO_C4, *COCO])
def test_a_network_that_the_protocol_does_not_know_is_refused_or_built(protocol_id: str) -> None:
    """C4 takes a ResNet apart, which has to be one of the libraries'."""
    from bench.openmmlab.adapting import with_backbone

    model = load_protocol(protocol_id).config["model"]
    for architecture in ("wide_resnet50_2", "vit_small_patch16"):
        if "c4" in protocol_id:
            with pytest.raises(BenchError, match="submit one of resnet18"):
                with_backbone(model, architecture, protocol_id, synchronised=False)
        else:
            assert with_backbone(model, architecture, protocol_id, synchronised=False)["backbone"]["architecture"]


# Small runs.


@pytest.fixture(scope="module")
def data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VOC 2007 and 2012, COCO, and Cityscapes with instance ids."""
    root = with_voc2007(tiny_data, tmp_path_factory.mktemp("paper") / "data")
    (root / "coco").symlink_to(tiny_data.absolute() / "coco")
    return with_instance_ids(tiny_data, root)


@pytest.mark.parametrize(
    "protocol_id",
    [C4, CITY, *(pytest.param(name, marks=pytest.mark.slow) for name in [*COCO, *COCO_C4, FEW, R2O, VOC_FPN])],
)
def test_a_small_run_is_whole(protocol_id: str, data: Path, work: Path, tmp_path: Path) -> None:
    """Built, guarded, trained, evaluated, stored; and what was stored gives the same values."""
    protocol, folder = reduced(protocol_id), checkpoint(work)
    result = run_transfer(protocol, folder, data, reference(protocol), 0, tmp_path / "run")
    assert (result.status, result.training.frozen_parameters, result.training.images_seen) == ("finished", 0, 10)
    assert result.training.backbone_tensors == 100
    assert protocol.headline in result.metrics
    assert (
        result.standard_errors.keys() == result.metrics.keys() == read_shares(tmp_path / "run" / SHARES).metrics.keys()
    )
    assert isinstance(json.loads((tmp_path / "run" / "detections.json").read_text()), list)
    assert ("labelled.txt" in result.outputs) == (protocol_id == FEW)
    assert evaluate_stored(protocol, folder, data, tmp_path / "run", tmp_path / "again") == result.metrics
