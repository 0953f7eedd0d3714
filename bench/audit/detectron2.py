"""What a config of detectron2 says about each aspect of a protocol, in the words of the other reader.

A config as training writes it (`config.yaml` in its output folder, or the one in its log) is complete. In one that a
person wrote, what no file of it says is detectron2's default; where one of its bases is missing, that stays unknown.
"""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Mapping
from typing import Any

from bench.audit.aspects import Facts
from bench.audit.words import box_head, count, normalization, size_range
from bench.errors import BenchError

DATA = {
    "voc_2007_trainval": "VOC2007 trainval",
    "voc_2012_trainval": "VOC2012 trainval",
    "coco_2017_train": "COCO train2017",
    "cityscapes_fine_instance_seg_train": "Cityscapes train",
}


DEFAULTS = {
    "INPUT.FORMAT": "BGR",
    "INPUT.MAX_SIZE_TEST": 1333,
    "INPUT.MAX_SIZE_TRAIN": 1333,
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MIN_SIZE_TRAIN": (800,),
    "MODEL.BACKBONE.FREEZE_AT": 2,
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.FPN.NORM": "",
    "MODEL.MASK_ON": False,
    "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
    "MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675],
    "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.RESNETS.STRIDE_IN_1X1": True,
    "MODEL.ROI_BOX_HEAD.NORM": "",
    "MODEL.ROI_BOX_HEAD.NUM_CONV": 0,
    "MODEL.ROI_BOX_HEAD.NUM_FC": 0,
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 0.0,
    "MODEL.ROI_HEADS.NAME": "Res5ROIHeads",
    "MODEL.ROI_MASK_HEAD.NORM": "",
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 0,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 6000,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 12000,
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "value",
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 1.0,
    "SOLVER.CLIP_GRADIENTS.ENABLED": False,
    "SOLVER.GAMMA": 0.1,
    "SOLVER.IMS_PER_BATCH": 16,
    "SOLVER.MAX_ITER": 40000,
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.STEPS": (30000,),
    "SOLVER.WARMUP_FACTOR": 0.001,
    "SOLVER.WARMUP_ITERS": 1000,
    "SOLVER.WEIGHT_DECAY": 0.0001,
    "SOLVER.WEIGHT_DECAY_NORM": 0.0,
    "TEST.PRECISE_BN.ENABLED": False,
}
"""Default values of detectron2 0.6 and later (`detectron2/config/defaults.py`)."""


def detectron2_facts(config: Mapping[str, Any], *, whole: bool) -> tuple[Facts, list[str]]:
    """The facts of `config`, and one sentence for each thing that it says but does not do.

    `whole` says that none of its bases is missing, so that the rest is as by default.

    Raises:
        BenchError: a list is written as a text that is none.
    """
    value = _Values(config, DEFAULTS if whole else {})
    facts: dict[str, str] = {}
    facts |= _model(value)
    facts |= _heads(value)
    facts |= _data(value)
    facts |= _schedule(value)
    return facts, _ineffective(value)


class _Values:
    """Values by their path, else the default, else `None`; tuples may be written as text."""

    def __init__(self, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        self._config, self._defaults = config, defaults

    def __call__(self, path: str) -> Any:
        found: Any = self._config
        for key in path.split("."):
            if not isinstance(found, Mapping) or key not in found:
                return self._defaults.get(path)
            found = found[key]
        if isinstance(found, str):
            try:
                return literal_eval(found)
            except (ValueError, SyntaxError):
                if found.startswith(("(", "[")):
                    raise BenchError(f"{path} is {_as_text(found)}") from None
                return found
        return found

    def names(self, path: str) -> list[str]:
        """The names in a list; a text that is a name is a list of one."""
        found = self(path)
        if isinstance(found, str) and re.fullmatch(r"[\w.+/-]+", found):
            return [found]
        if found is not None and not isinstance(found, (list, tuple)):
            raise BenchError(f"{path} is {_as_text(found)}")
        return [str(name) for name in found or ()]


def _as_text(found: Any) -> str:
    return f"{found!r}, not a list: write [a, b] (YAML splits (a, b) at the comma where it stands within braces)"


def _ineffective(value: _Values) -> list[str]:
    last, steps = value("SOLVER.MAX_ITER"), value("SOLVER.STEPS") or ()
    late = [step for step in steps if last is not None and step >= last]
    notes = (
        [f"the drop at iteration {', '.join(map(str, late))} is never reached: training ends at {last}"] if late else []
    )
    if "SyncBN" in str(value("MODEL.RESNETS.NORM")) and value("TEST.PRECISE_BN.ENABLED") is False:
        notes.append("precise batch norm is off: the running statistics lag behind where the learning rate drops")
    return notes


def _model(value: _Values) -> dict[str, str]:
    facts: dict[str, str] = {}
    backbone, heads = str(value("MODEL.BACKBONE.NAME") or ""), str(value("MODEL.ROI_HEADS.NAME") or "")
    pyramid, masks = "fpn" in backbone, value("MODEL.MASK_ON")
    kind = value("MODEL.META_ARCHITECTURE")
    if kind == "OneStageDetector":  # AdelaiDet's, whose detector is the generator of proposals
        kind = value("MODEL.PROPOSAL_GENERATOR.NAME") or kind
    if (backbone or "Res5" in heads) and kind in (None, "GeneralizedRCNN"):
        facts["model"] = f"{'MaskRCNN' if masks else 'FasterRCNN'} {'FPN' if pyramid else 'C4'}"
        facts["output stride"] = "32" if pyramid else "16"
        facts["padding"] = f"to multiples of {32 if pyramid else 1}"
        facts["neck"] = f"FPN, {_norm(value('MODEL.FPN.NORM'))}" if pyramid else "none"
    elif kind not in (None, "GeneralizedRCNN"):
        facts["model"] = str(kind)
        facts |= {"neck": f"FPN, {_norm(value('MODEL.FPN.NORM'))}"} if pyramid else {}
    if value("MODEL.RESNETS.DEPTH") is not None:
        facts["backbone"] = f"ResNet-{value('MODEL.RESNETS.DEPTH')}"
        facts["stem"] = "deep" if "deeplab" in str(value("MODEL.RESNETS.STEM_TYPE")).lower() else "7x7"
    if value("MODEL.RESNETS.STRIDE_IN_1X1") is not None:
        facts["stride on"] = "1x1" if value("MODEL.RESNETS.STRIDE_IN_1X1") else "3x3"
    if value("MODEL.RESNETS.NORM") is not None:
        facts["backbone norm"] = _norm(value("MODEL.RESNETS.NORM"))
    frozen = value("MODEL.BACKBONE.FREEZE_AT")
    if frozen is not None:
        facts["frozen stages"] = "none" if frozen < 1 else "stem" if frozen == 1 else f"stem and {frozen - 1}"
    mean, std, order = value("MODEL.PIXEL_MEAN"), value("MODEL.PIXEL_STD"), value("INPUT.FORMAT")
    if mean and std and order:
        facts["input"] = normalization({"mean": mean, "std": std, "bgr_to_rgb": order == "RGB"})
    weights = str(value("MODEL.WEIGHTS") or "")
    if weights:
        trained = "model_final" in weights or "COCO-" in weights
        facts["starting weights"] = f"a trained detector ({weights})" if trained else "the checkpoint's backbone"
    return facts


def _heads(value: _Values) -> dict[str, str]:
    facts: dict[str, str] = {}
    kind = str(value("MODEL.ROI_HEADS.NAME") or "")
    if "Res5" in kind:
        facts["box head"] = f"res5, {_norm(value('MODEL.RESNETS.NORM'))}"
        facts["box head"] += ", a batch norm after it" if "ExtraNorm" in kind else ""
        facts["res5 weights"] = "the checkpoint's"
    elif kind and value("MODEL.ROI_BOX_HEAD.NUM_FC") is not None:
        convolutions, layers = value("MODEL.ROI_BOX_HEAD.NUM_CONV") or 0, value("MODEL.ROI_BOX_HEAD.NUM_FC")
        norm = _norm(value("MODEL.ROI_BOX_HEAD.NORM"))
        facts["box head"] = box_head(convolutions, layers, norm)
    if value("MODEL.MASK_ON") and value("MODEL.ROI_MASK_HEAD.NUM_CONV") is not None:
        norm = _norm(value("MODEL.ROI_MASK_HEAD.NORM"))
        facts["mask head"] = f"{count(value('MODEL.ROI_MASK_HEAD.NUM_CONV'), 'convolution')}, {norm}"
    if kind:
        facts["low-quality matches"] = "no"
    beta = value("MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA")
    if beta is not None:
        facts["box loss"] = "L1" if not beta else f"smooth L1, beta {beta:g}"
    counts = [value(f"MODEL.RPN.{when}_NMS_TOPK_{part}") for part in ("TRAIN", "TEST") for when in ("PRE", "POST")]
    if None not in counts:
        facts["proposals"] = "training {}/{}, testing {}/{}".format(*counts)
    return facts


def _norm(name: Any) -> str:
    if not name:
        return "no norm"
    return "batch norm, frozen" if name == "FrozenBN" else "batch norm" if str(name).endswith("BN") else str(name)


def _data(value: _Values) -> dict[str, str]:
    facts: dict[str, str] = {}
    train = value.names("DATASETS.TRAIN")
    if train:
        facts["training data"] = " + ".join(sorted(DATA.get(name, name) for name in train))
        facts["color changes"] = "no"
        if all(name.startswith("voc") for name in train):
            facts["difficult objects"] = "trained on"
    sides = value("INPUT.MIN_SIZE_TRAIN")
    if sides and value("INPUT.MAX_SIZE_TRAIN"):
        sides = sorted(sides) if isinstance(sides, (list, tuple)) else [sides]
        facts["training size"] = f"{size_range(sides)} up to {value('INPUT.MAX_SIZE_TRAIN')}"
    if value("INPUT.MIN_SIZE_TEST") and value("INPUT.MAX_SIZE_TEST"):
        facts["test size"] = f"{value('INPUT.MIN_SIZE_TEST')} up to {value('INPUT.MAX_SIZE_TEST')}"
    test = " ".join(value.names("DATASETS.TEST"))
    if test.startswith("voc"):
        facts["metric"] = "VOC 11-point AP, mean over IoU .5 to .95"
    elif test.startswith("coco"):
        facts["metric"] = "COCO AP (bbox, segm)" if value("MODEL.MASK_ON") else "COCO AP (bbox)"
    elif test.startswith("cityscapes"):
        facts["metric"] = "Cityscapes AP"
    return facts


def _schedule(value: _Values) -> dict[str, str]:
    facts: dict[str, str] = {}
    for name, path in (("batch", "IMS_PER_BATCH"), ("learning rate", "BASE_LR"), ("weight decay", "WEIGHT_DECAY")):
        if value(f"SOLVER.{path}") is not None:
            facts[name] = f"{value(f'SOLVER.{path}'):g}"
    if value("SOLVER.MAX_ITER") is not None:
        facts["iterations"] = str(value("SOLVER.MAX_ITER"))
    steps = value("SOLVER.STEPS")
    if steps:
        gamma = value("SOLVER.GAMMA")
        facts["schedule"] = f"times {0.1 if gamma is None else gamma:g} at {', '.join(map(str, steps))}"
    if value("SOLVER.WARMUP_ITERS") is not None and value("SOLVER.WARMUP_FACTOR") is not None:
        facts["warm-up"] = f"{value('SOLVER.WARMUP_ITERS')} from {value('SOLVER.WARMUP_FACTOR'):g}"
    if value("SOLVER.WEIGHT_DECAY_NORM") is not None:
        facts["weight decay of norms"] = f"{value('SOLVER.WEIGHT_DECAY_NORM'):g}"
    if value("SOLVER.MOMENTUM") is not None:
        facts["optimizer"] = f"SGD, momentum {value('SOLVER.MOMENTUM'):g}"
    if value("SOLVER.CLIP_GRADIENTS.ENABLED") is not None:
        facts["gradient clipping"] = _clipping(value) if value("SOLVER.CLIP_GRADIENTS.ENABLED") else "no"
    enabled = value("TEST.PRECISE_BN.ENABLED")
    if enabled is not None:
        facts["precise batch norm"] = "yes" if enabled else "no"
    return facts


def _clipping(value: _Values) -> str:
    kind, limit = (value(f"SOLVER.CLIP_GRADIENTS.CLIP_{part}") for part in ("TYPE", "VALUE"))
    words = {None: "yes", "norm": "norm of each tensor", "full_model": "norm"}.get(kind, str(kind))
    return words if limit is None else f"{words} {limit:g}"
