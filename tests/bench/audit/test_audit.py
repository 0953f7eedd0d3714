"""`densebench audit`: what departs from a protocol is found, whatever library and version the config is written for."""

from __future__ import annotations

import copy
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.audit.aspects import ASPECTS
from bench.audit.audit import Audit, audit, audited
from bench.audit.detectron2 import detectron2_facts
from bench.audit.former import translate
from bench.audit.openmmlab import openmmlab_facts
from bench.audit.reading import UserConfig, read_config, read_literals
from bench.cli import run
from bench.errors import BenchError
from bench.protocols import all_protocols, load_protocol

TUNED = audited(all_protocols())
FAMILY_A, C4, FCN = "paper_coco_mrcnn_fpn_1x_a", "paper_voc0712_det_c4_24k", "paper_voc12aug_seg_fcn_d8_20k"
CITYSCAPES, ADE20K = "paper_city_seg_fcn_d8_40k", "paper_ade20k_fcn_d8_80k"
RETINANET, FCOS = "paper_coco_retinanet_1x", "paper_coco_fcos_1x"


def as_user_writes(protocol_id: str, change: Callable[[dict[str, Any]], object] = lambda _: None) -> UserConfig:
    """The protocol's own values as a config of mmengine on one GPU, changed."""
    config = copy.deepcopy(dict(load_protocol(protocol_id).config))
    change(config)
    return UserConfig(config, gpus=1, notes=())


def against(protocol_id: str, user: UserConfig) -> Audit:
    (found,) = audit(user, [load_protocol(protocol_id)])
    return found


def departures(found: Audit) -> dict[str, str]:
    return {deviation.aspect: deviation.config for deviation in found.deviations}


@pytest.mark.parametrize("protocol", TUNED, ids=lambda protocol: protocol.id)
def test_a_protocol_does_not_depart_from_itself(protocol: Any) -> None:
    found = against(protocol.id, as_user_writes(protocol.id))
    assert (found.deviations, found.unknown, found.notes) == ((), (), ())
    assert found.comparable and len(found.alike) >= 20


@pytest.mark.parametrize("protocol_id", ["paper_in1pct_finetune_swav", "frozen_voc_seg_linear"])
def test_other_protocols_are_refused(protocol_id: str) -> None:
    with pytest.raises(BenchError, match=f"of detectors and segmenters that are trained: {protocol_id} is another"):
        audit(as_user_writes(FCN), [load_protocol(protocol_id)])


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], object]:
    def change(config: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        place: Any = config
        for key in parents:
            place = place[int(key) if isinstance(place, list) else key]
        place[last] = value

    return change


CHANGES = [
    (FAMILY_A, _set("model.backbone.frozen_stages", 1), "frozen stages"),
    (FAMILY_A, _set("model.backbone.norm_eval", True), "backbone norm"),
    (FAMILY_A, _set("model.backbone.norm_cfg", {"type": "BN", "requires_grad": False}), "backbone norm"),
    (FAMILY_A, _set("model.backbone.style", "caffe"), "stride on"),
    (FAMILY_A, _set("model.backbone.type", "ResNetV1d"), "stem"),
    (FAMILY_A, _set("model.neck.norm_cfg", None), "neck"),
    (FAMILY_A, _set("model.roi_head.bbox_head.type", "Shared4Conv1FCBBoxHead"), "box head"),
    (FAMILY_A, _set("model.roi_head.mask_head.norm_cfg", {"type": "SyncBN"}), "mask head"),
    (FAMILY_A, _set("model.roi_head.bbox_head.loss_bbox", {"type": "SmoothL1Loss", "beta": 1.0}), "box loss"),
    (FAMILY_A, _set("model.train_cfg.rcnn.assigner", {"match_low_quality": True}), "low-quality matches"),
    (FAMILY_A, _set("model.train_cfg.rpn_proposal.nms_pre", 1_000), "proposals"),
    (FAMILY_A, _set("model.data_preprocessor", {"mean": [0.0] * 3, "std": [1.0] * 3, "bgr_to_rgb": True}), "input"),
    (FAMILY_A, _set("model.data_preprocessor.pad_size_divisor", 1), "padding"),
    (FAMILY_A, _set("load_from", "mask_rcnn_r50_fpn_1x_coco.pth"), "starting weights"),
    (FAMILY_A, _set("train_cfg.max_iters", 180_000), "iterations"),
    (FAMILY_A, _set("param_scheduler.1.milestones", [60_000, 70_000]), "schedule"),
    (FAMILY_A, _set("param_scheduler.0.end", 500), "warm-up"),
    (FAMILY_A, _set("optim_wrapper.optimizer.lr", 0.01), "learning rate"),
    (FCN, _set("optim_wrapper.paramwise_cfg", {"custom_keys": {"decode_head": {"lr_mult": 10}}}), "learning rate"),
    (FAMILY_A, _set("optim_wrapper.optimizer.weight_decay", 2.5e-5), "weight decay"),
    (FAMILY_A, _set("optim_wrapper.paramwise_cfg", {}), "weight decay of norms"),
    (FAMILY_A, _set("optim_wrapper.optimizer.type", "AdamW"), "optimizer"),
    (FAMILY_A, _set("optim_wrapper.clip_grad", {"max_norm": 35}), "gradient clipping"),
    (FAMILY_A, _set("train_dataloader.batch_size", 8), "batch"),
    (FAMILY_A, _set("train_dataloader.dataset.ann_file", "annotations/instances_val2017.json"), "training data"),
    (FAMILY_A, _set("protocol", {}), "precise batch norm"),
    (RETINANET, _set("model.neck.norm_cfg", None), "neck"),
    (RETINANET, _set("model.bbox_head.type", "FreeAnchorRetinaHead"), "model"),
    (RETINANET, _set("model.type", "ATSS"), "model"),
    (C4, _set("model.roi_head.shared_head.type", "ResLayer"), "box head"),
    (C4, _set("model.roi_head.shared_head.depth", 50), "res5 weights"),
    (C4, _set("test_evaluator", {"type": "VOCMetric"}), "metric"),
    (FCN, _set("model.backbone.strides", (1, 2, 2, 2)), "output stride"),
    (FCN, _set("model.decode_head.dilation", 6), "decode head"),
    (FCN, _set("model.auxiliary_head", None), "auxiliary head"),
    (FCN, _set("model.decode_head.align_corners", True), "align corners"),
    (FCN, _set("model.test_cfg", {"mode": "slide", "crop_size": (512, 512), "stride": (341, 341)}), "test mode"),
]


@pytest.mark.parametrize(("protocol", "change", "aspect"), CHANGES, ids=[f"{p}-{a}" for p, _, a in CHANGES])
def test_a_changed_value_is_found(protocol: str, change: Callable[[dict[str, Any]], object], aspect: str) -> None:
    found = against(protocol, as_user_writes(protocol, change))
    assert aspect in departures(found)
    assert found.comparable == (not any(ASPECTS[name].decisive for name in departures(found)))


def test_every_aspect_is_one_that_a_protocol_has() -> None:
    had = {name for protocol in TUNED for name in against(protocol.id, as_user_writes(protocol.id)).alike}
    assert set(ASPECTS) == had


def test_what_is_written_down_without_effect_is_said() -> None:
    def change(config: dict[str, Any]) -> None:
        config["model"]["data_preprocessor"] |= {
            "mean": [103.53, 116.28, 123.675],
            "std": [1, 1, 1],
            "bgr_to_rgb": False,
        }
        config["data_preprocessor"] = {"mean": [123.675, 116.28, 103.53], "bgr_to_rgb": True}
        config["param_scheduler"][1]["milestones"] = [120_000, 160_000]

    found = against(FAMILY_A, as_user_writes(FAMILY_A, change))
    assert departures(found)["input"] == "BGR, mean 103.53/116.28/123.675, std 1/1/1"
    assert any("has no effect" in note for note in found.notes)
    assert any("120000, 160000 is never reached" in note for note in found.notes)


def test_epochs_count_as_the_iterations_that_they_are() -> None:
    def epochs(last: int, steps: list[int]) -> Callable[[dict[str, Any]], object]:
        def change(config: dict[str, Any]) -> None:
            config["train_cfg"] = {"type": "EpochBasedTrainLoop", "max_epochs": last}
            config["param_scheduler"][1] |= {"by_epoch": True, "milestones": steps, "end": last}
            config["train_dataloader"]["batch_size"] = 2

        return change

    one = as_user_writes(FAMILY_A, epochs(12, [8, 11]))
    found = against(FAMILY_A, UserConfig(one.config, gpus=8, notes=()))
    assert departures(found) == {}
    two = as_user_writes(FAMILY_A, epochs(24, [16, 22]))
    found = against(FAMILY_A, UserConfig(two.config, gpus=8, notes=()))
    assert departures(found) == {"iterations": "175899", "schedule": "times 0.1 at 117266, 161241"}
    unknown = against(FAMILY_A, UserConfig(one.config, gpus=None, notes=()))
    assert {"batch", "iterations", "schedule"} <= set(unknown.unknown)
    assert any("--gpus" in note for note in unknown.notes)


REPEATED = {
    "type": "RepeatDataset",
    "times": 3,
    "dataset": {
        "type": "ConcatDataset",
        "datasets": [{"type": "VOCDataset", "ann_file": f"VOC{y}/ImageSets/Main/trainval.txt"} for y in (2007, 2012)],
    },
}


def test_data_that_is_repeated_makes_an_epoch_longer() -> None:
    """As mmdet's voc0712.py: three times 16,551 images on 16 images an iteration are 3,103 iterations."""

    def change(config: dict[str, Any]) -> None:
        config["train_dataloader"] |= {"batch_size": 2, "dataset": copy.deepcopy(REPEATED)}
        config["train_cfg"] = {"type": "EpochBasedTrainLoop", "max_epochs": 4}
        config["param_scheduler"] = [{"type": "MultiStepLR", "milestones": [3]}]

    user = as_user_writes(C4, change)
    found = departures(against(C4, UserConfig(user.config, gpus=8, notes=())))
    assert (found["iterations"], found["schedule"]) == ("12413", "times 0.1 at 9310")
    user.config["train_dataloader"]["dataset"]["dataset"]["datasets"][0] = REPEATED["dataset"]["datasets"][0] | {
        "times": 2
    }
    unequal = departures(against(C4, UserConfig(user.config, gpus=8, notes=())))
    assert (unequal["iterations"], unequal["schedule"]) == ("4 epochs", "times 0.1 at epoch 3")


FORMER_VOC = [
    {"type": "VOCDataset", "ann_file": f"VOC{y}/ImageSets/Main/trainval.txt", "pipeline": [{"type": "Pad"}]}
    for y in (2007, 2012)
]


@pytest.mark.parametrize(
    "union",
    [
        {**FORMER_VOC[0], "ann_file": [str(one["ann_file"]) for one in FORMER_VOC]},
        FORMER_VOC,
        {"type": "ConcatDataset", "datasets": FORMER_VOC},
    ],
)
@pytest.mark.parametrize(
    "batch",
    [
        {"imgs_per_gpu": 2},
        {"samples_per_gpu": 2},
        {"train_dataloader": {"samples_per_gpu": 2}},
        {"samples_per_gpu": 4, "train_dataloader": {"samples_per_gpu": 2}},
    ],
)
def test_a_former_config_says_batch_and_several_data_sets_in_many_ways(union: Any, batch: dict[str, Any]) -> None:
    repeated = {"type": "RepeatDataset", "times": 3, "dataset": union}
    training = {"data": {"train": repeated, **batch}, "model": {}, "runner": {"max_epochs": 4}}
    config = translate(training)
    facts, _ = openmmlab_facts(config, gpus=8)
    assert (facts["training data"], facts["batch"]) == ("VOC2007 trainval + VOC2012 trainval", "16")
    assert facts["iterations"] == "12413"
    assert config["train_dataloader"]["dataset"]["pipeline"] == [{"type": "Pad"}]


def test_a_former_config_without_a_batch_is_read() -> None:
    """mmdet's default is then 2, other libraries have none: the batch is not known."""
    config = translate({"data": {"train": FORMER_VOC[0]}, "model": {}, "runner": {"max_epochs": 4}})
    facts, _ = openmmlab_facts(config, gpus=8)
    assert "batch" not in facts and facts["iterations"] == "4 epochs"


@pytest.mark.parametrize(
    ("protocol", "library", "norm"),
    [
        (FCN, "", "batch norm"),
        (FCN, "mmseg.", "batch norm"),
        (FCN, "mmdet.", "batch norm, fixed statistics"),
        (FAMILY_A, "", "batch norm, fixed statistics"),
        (FAMILY_A, "mmpretrain.", "batch norm"),
    ],
)
def test_each_library_has_its_own_default_of_the_statistics(protocol: str, library: str, norm: str) -> None:
    def change(config: dict[str, Any]) -> None:
        backbone = config["model"]["backbone"]
        del backbone["norm_eval"]
        backbone |= {"type": f"{library}ResNet", "depth": 50}

    found = against(protocol, as_user_writes(protocol, change))
    assert departures(found) == ({} if norm == "batch norm" else {"backbone norm": norm})


@pytest.mark.parametrize(
    ("clip", "words"),
    [({"max_norm": 35}, "norm 35"), ({"type": "value", "clip_value": 0.2}, "value 0.2"), (None, None)],
)
def test_the_kinds_of_gradient_clipping(clip: dict[str, Any] | None, words: str | None) -> None:
    found = against(FAMILY_A, as_user_writes(FAMILY_A, _set("optim_wrapper.clip_grad", clip)))
    assert departures(found).get("gradient clipping") == words


@pytest.mark.parametrize(
    ("clip", "words"),
    [
        ({"ENABLED": True}, "value 1"),
        ({"ENABLED": True, "CLIP_TYPE": "norm", "CLIP_VALUE": 0.01}, "norm of each tensor 0.01"),
        ({"ENABLED": False, "CLIP_VALUE": 1.0}, "no"),
    ],
)
def test_the_kinds_of_gradient_clipping_of_detectron2(clip: dict[str, Any], words: str) -> None:
    facts, _ = detectron2_facts({"SOLVER": {"CLIP_GRADIENTS": clip}, "MODEL": {}}, whole=True)
    assert facts["gradient clipping"] == words
    alone, _ = detectron2_facts({"SOLVER": {"CLIP_GRADIENTS": {"ENABLED": True}}}, whole=False)
    assert alone["gradient clipping"] == "yes"  # the default is unknown where a base is missing


def test_the_nearest_family_comes_first() -> None:
    protocols = [load_protocol(f"paper_coco_mrcnn_fpn_1x_{family}") for family in "ab"]
    for wanted in protocols:
        first, second = audit(as_user_writes(wanted.id), protocols)
        assert (first.protocol, first.comparable, second.comparable) == (wanted.id, True, False)
        assert {"box head", "mask head"} <= set(departures(second))


@pytest.mark.parametrize("wanted", [RETINANET, FCOS, "paper_voc0712_det_fpn_18k", FAMILY_A, C4, FCN])
def test_protocols_of_the_same_kind_of_model_come_first(wanted: str) -> None:
    paper = [protocol for protocol in TUNED if protocol.track == "paper"]
    changes = {"model.backbone.frozen_stages": 1, "model.backbone.norm_eval": True, "train_cfg.max_iters": 1}

    def change(config: dict[str, Any]) -> None:
        for path, value in changes.items():
            _set(path, value)(config)

    found = audit(as_user_writes(wanted, change), paper)
    kinds = [one.other_model is None for one in found]
    assert kinds == sorted(kinds, reverse=True) and kinds[0] and not kinds[-1]
    assert not any(one.comparable for one in found if one.other_model is not None)


VOC_2007 = {"type": "VOCDataset", "ann_file": "VOC2007/ImageSets/Main/trainval.txt"}


@pytest.mark.parametrize(
    ("written", "dataset", "labels", "nearest"),
    [
        ("paper_voc0712_det_fpn_18k", VOC_2007, 1.0, "paper_voc0712_det_fpn_18k"),
        ("paper_voc0712_det_fpn_p25", None, 0.25, "paper_voc0712_det_fpn_p25"),
        ("paper_coco_frcnn_fpn_p1", VOC_2007, 1.0, "paper_voc0712_det_fpn_18k"),
        (FCN, {"type": "CityscapesDataset"}, 1.0, CITYSCAPES),
        (FCN, {"type": "ADE20KDataset", "data_prefix": {"img_path": "images/training"}}, 1.0, ADE20K),
        (CITYSCAPES, {"type": "PascalVOCDataset"}, 1.0, FCN),
    ],
)
def test_protocols_of_the_same_data_come_before_smaller_differences(
    written: str, dataset: dict[str, Any] | None, labels: float, nearest: str
) -> None:
    """What is left of the config, model and data alone, departs least from a protocol of which it says least."""
    config = as_user_writes(written).config
    training = dataset or config["train_dataloader"]["dataset"]
    said = {"model": config["model"], "train_dataloader": {"dataset": training}}
    user = UserConfig({**said, "protocol": {"plan": {"labels": labels}}}, gpus=1, notes=())
    found = audit(user, [protocol for protocol in TUNED if protocol.track == "paper"])
    assert found[0].protocol == nearest
    of_model = [one for one in found if one.other_model is None]
    assert [one.other_data for one in of_model] == sorted(one.other_data for one in of_model)
    assert not of_model[0].other_data and of_model[-1].other_data


def test_a_data_set_without_a_split_may_be_the_protocols() -> None:
    user = as_user_writes(CITYSCAPES, _set("train_dataloader.dataset", {"type": "CityscapesDataset"}))
    found = against(CITYSCAPES, user)
    assert "training data" in found.unknown and found.comparable
    assert departures(against(FCN, user))["training data"] == "Cityscapes, split not named"
    val = {"type": "CityscapesDataset", "data_prefix": {"img_path": "leftImg8bit/val"}}
    found = against(CITYSCAPES, as_user_writes(CITYSCAPES, _set("train_dataloader.dataset", val)))
    assert departures(found)["training data"] == "Cityscapes val"


@pytest.mark.parametrize("gpus", [0, -3])
def test_a_training_is_on_one_gpu_or_more(gpus: int) -> None:
    with pytest.raises(BenchError, match=rf"--gpus is {gpus}: give 1 or more"):
        audit(as_user_writes(FCN), [load_protocol(FCN)], gpus=gpus)


def test_detectors_of_one_stage_are_told_apart() -> None:
    assert departures(against(FCOS, as_user_writes(RETINANET))) == {"model": "RetinaNet"}
    assert departures(against(RETINANET, as_user_writes(FCOS))) == {"model": "FCOS"}
    assert departures(against(FCOS, as_user_writes(C4)))["model"] == "FasterRCNN C4"

    def as_in_mmdet(config: dict[str, Any]) -> None:
        config["model"]["neck"]["type"], config["model"]["bbox_head"]["type"] = "FPN", "RetinaHead"

    assert against(RETINANET, as_user_writes(RETINANET, as_in_mmdet)).comparable


def test_all_labels_are_other_training_data_than_a_share_of_them() -> None:
    few = "paper_coco_frcnn_fpn_p10"
    found = against(few, as_user_writes(few, _set("protocol.plan.labels", 1.0)))
    (deviation,) = found.deviations
    assert (deviation.aspect, deviation.protocol, deviation.config, deviation.decisive) == (
        "training data", "10 % of COCO train2017", "COCO train2017", True,
    )  # fmt: skip


STOCK = Path(importlib.util.find_spec("mmdet").submodule_search_locations[0]) / ".mim" / "configs"  # type: ignore[union-attr, index]


@pytest.mark.skipif(not STOCK.is_dir(), reason="this installation of mmdet has no configs")
def test_mmdets_own_config() -> None:
    found = against(FAMILY_A, read_config(STOCK / "mask_rcnn" / "mask-rcnn_r50_fpn_1x_coco.py"))
    assert departures(found) == {
        "frozen stages": "stem and 1",
        "backbone norm": "batch norm, fixed statistics",
        "neck": "FPN, no norm",
        "low-quality matches": "yes",
        "training size": "800 up to 1333",
        "warm-up": "500 from 0.001",
        "weight decay of norms": "0.0001",
        "precise batch norm": "no",
    }


FORMER = {
    "model": {
        "type": "MaskRCNN",
        "pretrained": "moco.pth",
        "backbone": {
            "type": "ResNet",
            "depth": 50,
            "frozen_stages": -1,
            "norm_cfg": {"type": "SyncBN"},
            "norm_eval": False,
        },
        "neck": {"type": "FPN", "norm_cfg": {"type": "SyncBN"}},
        "roi_head": {
            "bbox_head": {"type": "Shared2FCBBoxHead", "loss_bbox": {"type": "L1Loss"}},
            "mask_head": {"type": "FCNMaskHead", "num_convs": 4},
        },
    },
    "data": {
        "samples_per_gpu": 2,
        "train": {
            "type": "CocoDataset",
            "ann_file": "data/coco/annotations/instances_train2017.json",
            "img_prefix": "data/coco/train2017/",
            "pipeline": [
                {"type": "Resize", "img_scale": [(1333, 640), (1333, 800)], "multiscale_mode": "range"},
                {
                    "type": "Normalize",
                    "mean": [123.675, 116.28, 103.53],
                    "std": [58.395, 57.12, 57.375],
                    "to_rgb": True,
                },
                {"type": "Pad", "size_divisor": 32},
            ],
        },
        "test": {
            "type": "CocoDataset",
            "ann_file": "data/coco/annotations/instances_val2017.json",
            "pipeline": [{"type": "MultiScaleFlipAug", "img_scale": (1333, 800), "transforms": []}],
        },
    },
    "optimizer": {"type": "SGD", "lr": 0.02, "momentum": 0.9, "weight_decay": 0.0001},
    "optimizer_config": {"grad_clip": None},
    "lr_config": {"policy": "step", "warmup": "linear", "warmup_iters": 500, "warmup_ratio": 0.001, "step": [8, 11]},
    "runner": {"type": "EpochBasedRunner", "max_epochs": 12},
    "evaluation": {"metric": ["bbox", "segm"]},
}


def test_a_config_of_the_former_version(tmp_path: Path) -> None:
    file = tmp_path / "old_8xb2.json"
    file.write_text(json.dumps(FORMER))
    found = against(FAMILY_A, read_config(file))
    assert departures(found) == {
        "warm-up": "500 from 0.001",
        "weight decay of norms": "0.0001",
        "precise batch norm": "no",
    }
    assert {"batch", "iterations", "schedule", "training size", "input", "test size", "metric"} <= set(found.alike)
    assert set(found.unknown) == {"low-quality matches", "proposals"}


DETECTRON2 = {
    "DATASETS": {"TRAIN": "('voc_2007_trainval', 'voc_2012_trainval')", "TEST": ["voc_2007_test"]},
    "INPUT": {"FORMAT": "RGB", "MIN_SIZE_TRAIN": "(480, 512, 544, 800)"},
    "MODEL": {
        "BACKBONE": {"FREEZE_AT": 0},
        "PIXEL_MEAN": [123.675, 116.28, 103.53],
        "PIXEL_STD": [58.395, 57.12, 57.375],
        "RESNETS": {"NORM": "SyncBN", "STRIDE_IN_1X1": False},
        "ROI_HEADS": {"NAME": "Res5ROIHeadsExtraNorm"},
        "WEIGHTS": "moco.pkl",
    },
    "SOLVER": {"BASE_LR": 0.02, "MAX_ITER": 24000, "STEPS": "(18000, 22000)", "WARMUP_ITERS": 100},
    "TEST": {"PRECISE_BN": {"ENABLED": True}},
}


def test_a_config_of_detectron2_and_its_defaults(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({**DETECTRON2, "TEST": {}}))
    file = tmp_path / "voc.yaml"
    file.write_text(yaml.safe_dump({"_BASE_": "base.yaml", "TEST": DETECTRON2["TEST"]}))
    found = against(C4, read_config(file))
    assert (departures(found), found.unknown) == ({}, ())
    file.write_text(yaml.safe_dump({"_BASE_": "base.yaml", "MODEL": {"BACKBONE": {"FREEZE_AT": 2}}}))
    assert departures(against(C4, read_config(file))) == {"frozen stages": "stem and 1", "precise batch norm": "no"}
    with (tmp_path / "base.yaml").open("ab") as base:
        base.truncate(2**30)
    with pytest.raises(BenchError, match=r"base.yaml cannot be read: .*base.yaml"):
        read_config(file)
    (tmp_path / "base.yaml").unlink()
    file.write_text(yaml.safe_dump({"_BASE_": "base.yaml", "DATASETS": DETECTRON2["DATASETS"]}))
    alone = against(C4, read_config(file))
    assert set(alone.unknown) > {"batch", "input", "learning rate"}
    assert any("base.yaml is not at hand" in note for note in alone.notes)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("DATASETS: {TRAIN: ('voc_2007_trainval',)}", "DATASETS.TRAIN"),
        ("DATASETS: {TRAIN: voc_2007_trainval voc_2012_trainval}", "DATASETS.TRAIN"),
        ("DATASETS: {TEST: 3}", "DATASETS.TEST"),
        ("SOLVER: {STEPS: (18000, 22000)}", "SOLVER.STEPS"),
    ],
)
def test_a_list_of_detectron2_that_is_a_text_is_refused(text: str, place: str) -> None:
    """Within braces, YAML ends the text `(a, b)` at the comma."""
    with pytest.raises(BenchError, match=rf"^{place} is .*, not a list: write \[a, b\]"):
        detectron2_facts(yaml.safe_load(text), whole=True)


def test_a_text_that_is_a_name_is_one_data_set() -> None:
    for train in ("coco_2017_train", "('coco_2017_train')", "('coco_2017_train',)"):
        facts, _ = detectron2_facts({"DATASETS": {"TRAIN": train}}, whole=True)
        assert facts["training data"] == "COCO train2017"


@pytest.mark.parametrize(
    "model",
    [
        {"META_ARCHITECTURE": "RetinaNet"},
        {"META_ARCHITECTURE": "OneStageDetector", "PROPOSAL_GENERATOR": {"NAME": "FCOS"}},
    ],
)
def test_a_detector_of_one_stage_of_detectron2(tmp_path: Path, model: dict[str, Any]) -> None:
    file = tmp_path / "one_stage.yaml"
    model |= {"BACKBONE": {"NAME": "build_retinanet_resnet_fpn_backbone"}, "FPN": {"NORM": "SyncBN"}}
    file.write_text(yaml.safe_dump({"MODEL": model, "DATASETS": {"TRAIN": ["coco_2017_train"]}}))
    found = {protocol: against(protocol, read_config(file)) for protocol in (RETINANET, FCOS, FAMILY_A)}
    own = FCOS if "PROPOSAL_GENERATOR" in model else RETINANET
    assert [protocol for protocol, one in found.items() if one.other_model is None] == [own]
    assert {"model", "neck"} <= set(found[own].alike)


def test_the_log_of_a_training(tmp_path: Path) -> None:
    text = "model = dict(\n    type='MaskRCNN',\n    backbone=dict(type='ResNet', depth=50))\nload_from = None\n"
    file = tmp_path / "20260101_000000.log"
    file.write_text(
        "2026/01/01 00:00:00 - mmengine - INFO - \n    Distributed launcher: pytorch\n    GPU number: 8\n\n"
        f"2026/01/01 00:00:01 - mmengine - INFO - Config:\n{text}\n2026/01/01 00:00:02 - mmengine - INFO - start\n"
    )
    user = read_config(file)
    assert (user.gpus, user.config["model"]["backbone"]["depth"]) == (8, 50)
    file.write_text(
        f"[01/01 00:00:01 d2]: Running with full config:\n{yaml.safe_dump(DETECTRON2)}\n[01/01 00:00:02 d2]: start\n"
    )
    assert departures(against(C4, read_config(file))) == {}


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "a", "b"]), inner, max_size=3),
    max_leaves=10,
)


def _as_mmengine(value: Any) -> str:
    if isinstance(value, dict):
        return f"dict({', '.join(f'{key}={_as_mmengine(item)}' for key, item in value.items())})"
    return f"[{', '.join(map(_as_mmengine, value))}]" if isinstance(value, list) else repr(value)


@settings(max_examples=50)
@given(_VALUES)
def test_data_is_read_without_executing_it(value: Any) -> None:
    assert read_literals(f"'a docstring'\nmodel = {_as_mmengine(value)}\n") == {"model": value}


@pytest.mark.parametrize(
    "text",
    ["import os", "a = open('x')", "_base_ = []", "a = dict(**{})", "a = b", "def f(): pass", "a = [", "a = 1 + x"],
)
def test_code_is_not_read_as_data(text: str) -> None:
    assert read_literals(f"model = dict()\n{text}\n") is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.py", None, "does not exist"),
        ("a.json", "{", "is damaged"),
        ("a.yaml", "a: [", "is damaged"),
        ("a.yaml", "- 1", "holds no config"),
        ("a.py", "x = 1", "holds no config"),
        ("a.py", "model = nothing_of_that_name", "cannot be executed"),
        ("a.log", "2026/01/01 nothing", "a log without a config"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(BenchError, match=message):
        read_config(tmp_path / name)


@pytest.mark.parametrize("model", [1, [], {"backbone": 3}, {"roi_head": 3, "type": "X"}, {"decode_head": {}}])
def test_a_config_that_nothing_could_build_is_told(model: Any) -> None:
    user = UserConfig({"model": model, "train_dataloader": {"batch_size": "x"}}, gpus=1, notes=())
    with pytest.raises(BenchError, match=r"could build|neither a model nor"):
        audit(user, [load_protocol(FAMILY_A)])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "voc.yaml"
    file.write_text(yaml.safe_dump(DETECTRON2))
    assert run(["audit", str(file)]) == 0
    text = capsys.readouterr().out
    assert f"may stand beside those of {C4}" in text and "published values" in text
    file.write_text(yaml.safe_dump({**DETECTRON2, "SOLVER": {**DETECTRON2["SOLVER"], "MAX_ITER": 18000}}))
    assert run(["audit", str(file), "--protocol", C4, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [one["aspect"] for one in found["deviations"] if one["decisive"]] == ["iterations"]
    assert any("22000 is never reached" in note for note in found["notes"])


def test_the_command_says_that_no_protocol_has_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heads = [{"type": "Shared2FCBBoxHead"}] * 3
    model = {"type": "CascadeRCNN", "neck": [{"type": "FPN"}, {"type": "BFP"}], "roi_head": {"bbox_head": heads}}
    file = tmp_path / "cascade.json"
    file.write_text(json.dumps({"model": model}))
    assert run(["audit", str(file)]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert "no protocol of track paper has the model of this config, CascadeRCNN FPN, so" in err and "--protocol" in err
    assert run(["audit", str(file), "--protocol", FAMILY_A]) == 1
    assert f"must not stand beside those of {FAMILY_A}" in capsys.readouterr().out
