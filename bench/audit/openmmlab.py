"""What a config of MMDetection 3 or MMSegmentation 1 says about each aspect of a protocol.

The same reader reads the protocols and the user's config, so that a text means the same in both. A slot of a protocol
(`card:...`, `run:...`) becomes the words for what it stands for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from bench.audit.aspects import Facts

Config = Mapping[str, Any]

IMAGES = {
    "COCO train2017": 117_266,
    "VOC2007 trainval + VOC2012 trainval": 16_551,
    "VOC2012 trainaug": 10_582,
    "Cityscapes train": 2_975,
}
"""Training images after those without an object are left out, to turn epochs into iterations."""

IMAGENET = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
AS_CARD = "RGB as the checkpoint's card says"
"""Of protocols, and of a config with ImageNet's mean and deviation, which nearly all of these checkpoints have."""


def openmmlab_facts(config: Config, *, gpus: int) -> tuple[Facts, list[str]]:
    """The facts of `config` trained on `gpus` processes, and what it says but does not do, a sentence each.

    Raises:
        KeyError: it has no `model`.
    """
    model = config["model"]
    facts: dict[str, str] = {}
    notes = _ineffective(config)
    facts |= _backbone(model.get("backbone") or {})
    facts |= _input(model, config)
    facts |= _detector(model) if "roi_head" in model else {}
    facts |= _segmenter(model) if "decode_head" in model else {}
    facts |= _data(config)
    facts |= _schedule(config, facts.get("training data", ""), gpus)
    facts["starting weights"] = "the checkpoint's backbone" if not config.get("load_from") else str(config["load_from"])
    hooks = [str(hook.get("type")) for hook in config.get("custom_hooks") or [] if isinstance(hook, Mapping)]
    plan = (config.get("protocol") or {}).get("plan") or {}
    precise = plan.get("precise_bn_images") or any("PreciseBN" in hook for hook in hooks)
    facts["precise batch norm"] = "yes" if precise else "no"
    return facts, notes


def _ineffective(config: Config) -> list[str]:
    """Traps: settings that are written down and have no effect."""
    notes = []
    own, outer = config["model"].get("data_preprocessor"), config.get("data_preprocessor")
    if own and outer and any(own.get(key) != outer[key] for key in ("mean", "std", "bgr_to_rgb") if key in outer):
        notes.append(
            "the top-level data_preprocessor has no effect: `model` has its own, "
            f"{normalization(own)}, and mmengine keeps that one"
        )
    for scheduler in _list(config.get("param_scheduler")):
        loop = config.get("train_cfg") or {}
        last = loop.get("max_epochs") if scheduler.get("by_epoch", True) else loop.get("max_iters")
        late = [step for step in _list(scheduler.get("milestones")) if last and step >= last]
        if late:
            unit = "epoch" if scheduler.get("by_epoch", True) else "iteration"
            listed = ", ".join(map(str, late))
            notes.append(f"the drop at {unit} {listed} is never reached: training ends at {last}")
    dead = [key for key in ("runner", "checkpoint_config", "lr_config", "optimizer_config") if key in config]
    if dead:
        notes.append(f"mmengine ignores {', '.join(dead)}: keys of the former versions")
    if (config.get("auto_scale_lr") or {}).get("enable"):
        notes.append(
            "auto_scale_lr changes the learning rate with the number of GPUs: the one below is the unscaled one"
        )
    return notes


def _backbone(backbone: Config) -> dict[str, str]:
    kind = str(backbone.get("type", ""))
    facts = {}
    if match := re.fullmatch(r"(?:mm\w+\.)?(ResNe[Xx]t|ResNet)(V1[cd])?", kind):
        depth = backbone.get("depth")
        facts["backbone"] = "the checkpoint's" if depth == "card:depth" else f"{match[1]}-{depth}"
        facts["stem"] = "deep" if match[2] or backbone.get("deep_stem") else "7x7"
        facts["stride on"] = "3x3" if backbone.get("style", "pytorch") == "pytorch" else "1x1"
        strides = list(backbone.get("strides") or (1, 2, 2, 2))
        facts["output stride"] = str(4 * math.prod(strides[: backbone.get("num_stages", 4)]))
        frozen = backbone.get("frozen_stages", -1)
        facts["frozen stages"] = "none" if frozen < 0 else "stem" if frozen == 0 else f"stem and {frozen}"
        facts["backbone norm"] = _norm(backbone.get("norm_cfg") or {"type": "BN"}, backbone.get("norm_eval", True))
    elif kind:
        facts["backbone"] = kind
    return facts


def _norm(norm: Config | None, evaluation: bool = False) -> str:
    if not norm:
        return "no norm"
    kind = "batch norm" if norm["type"] in ("BN", "SyncBN", "run:norm", "naiveSyncBN", "MMSyncBN") else norm["type"]
    if not norm.get("requires_grad", True):
        return f"{kind}, frozen"
    return f"{kind}, fixed statistics" if evaluation else kind


def _input(model: Config, config: Config) -> dict[str, str]:
    own = model.get("data_preprocessor") or config.get("data_preprocessor")
    if not own:
        return {}
    divisor = own.get("pad_size_divisor")
    return {"input": normalization(own)} | ({"padding": f"to multiples of {divisor}"} if divisor else {})


def normalization(own: Config) -> str:
    """The words for a data preprocessor's `mean`, `std` and `bgr_to_rgb`."""
    mean, std, order = own.get("mean"), own.get("std"), own.get("bgr_to_rgb")
    if order == "card:bgr_to_rgb":
        return AS_CARD
    if mean is None or std is None:
        return "not normalized"
    name = "RGB" if order else "BGR"
    if name == "RGB" and _close(mean, IMAGENET["mean"]) and _close(std, IMAGENET["std"]):
        return AS_CARD
    return f"{name}, mean {_numbers(mean)}, std {_numbers(std)}"


def _close(a: Sequence[float], b: Sequence[float]) -> bool:
    return len(a) == len(b) and all(abs(x - y) < 0.5 for x, y in zip(a, b, strict=True))


def _detector(model: Config) -> dict[str, str]:
    facts = {"model": _model_name(model)}
    head = model["roi_head"].get("bbox_head") or {}
    neck = model.get("neck")
    facts["neck"] = "none" if not neck else f"{neck['type']}, {_norm(neck.get('norm_cfg'))}"
    shared = model["roi_head"].get("shared_head")
    kind = str(head.get("type", ""))
    if match := re.search(r"Shared(\d)(?:Conv(\d))?FC", kind):
        convolutions, layers = (match[1], match[2]) if match[2] else ("0", match[1])
        facts["box head"] = box_head(int(convolutions), int(layers), _norm(head.get("norm_cfg")))
    elif shared:
        extra = shared["type"] != "ResLayer"  # mmselfsup's is called ResLayerExtraNorm
        fixed = shared.get("norm_eval", not extra)
        facts["box head"] = f"res5, {_norm(shared.get('norm_cfg') or {'type': 'BN'}, fixed)}"
        facts["box head"] += ", a batch norm after it" if extra else ""
        ours = str(shared.get("depth", "")).startswith("card:")
        facts["res5 weights"] = "the checkpoint's" if ours or shared.get("init_cfg") else "random, unless given apart"
    mask = model["roi_head"].get("mask_head")
    if mask:
        facts["mask head"] = f"{count(mask.get('num_convs', 4), 'convolution')}, {_norm(mask.get('norm_cfg'))}"
    training = model.get("train_cfg") or {}
    assigner = (training.get("rcnn") or {}).get("assigner") or {}
    low = assigner.get("match_low_quality", assigner.get("best_anchors"))  # mmdet's name, and that of our matching
    if low is not None:
        facts["low-quality matches"] = "yes" if low else "no"
    kept = [
        f"{name} {proposals['nms_pre']}/{proposals['max_per_img']}"
        for name, proposals in (
            ("training", training.get("rpn_proposal")),
            ("testing", (model.get("test_cfg") or {}).get("rpn")),
        )
        if proposals and "nms_pre" in proposals
    ]
    if kept:
        facts["proposals"] = ", ".join(kept)
    loss = head.get("loss_bbox")
    if loss:
        beta = loss.get("beta", 1.0) if loss["type"] == "SmoothL1Loss" else 0.0
        facts["box loss"] = "L1" if not beta else f"smooth L1, beta {beta:g}"
    return facts


def box_head(convolutions: int, layers: int, norm: str) -> str:
    """The words for a box head behind a pyramid."""
    return f"{count(convolutions, 'convolution')}, {count(layers, 'linear layer')}, {norm}"


def count(number: int, noun: str) -> str:
    """The number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _model_name(model: Config) -> str:
    return f"{model['type']} {'FPN' if model.get('neck') else 'C4'}"


def _segmenter(model: Config) -> dict[str, str]:
    head, auxiliary = model["decode_head"], model.get("auxiliary_head")
    facts = {"model": f"{model['type']} {_one(head).get('type')}", "decode head": _head(_one(head))}
    facts["auxiliary head"] = "none"
    if auxiliary:
        loss = _one(_one(auxiliary).get("loss_decode") or {})
        facts["auxiliary head"] = f"{_head(_one(auxiliary))}, weight {loss.get('loss_weight', 1.0):g}"
    facts["align corners"] = "yes" if _one(head).get("align_corners") else "no"
    test = model.get("test_cfg") or {}
    if "mode" in test:
        slide = test["mode"] == "slide"
        facts["test mode"] = f"slide {_size(test['crop_size'])} by {_size(test['stride'])}" if slide else test["mode"]
    return facts


def _head(head: Config) -> str:
    parts = [f"{count(head.get('num_convs', 2), 'convolution')} of {head.get('channels')}"]
    parts += [f"dilation {head['dilation']}"] if head.get("dilation", 1) != 1 else []
    parts += ["joined with its input"] if head.get("concat_input", True) else []
    parts += [f"dropout {head.get('dropout_ratio', 0.1):g}"]
    return ", ".join(parts)


def _data(config: Config) -> dict[str, str]:
    facts: dict[str, str] = {}
    training = (config.get("train_dataloader") or {}).get("dataset")
    if training:
        leaves = list(_leaves(training))
        facts["training data"] = _name(leaves)
        facts |= _training_pipeline(_pipeline(training, leaves))
        if any("VOC" in str(leaf.get("type")) and _boxes(leaf) for leaf in leaves):
            ours = all(str(leaf.get("type", "")).startswith("DenseBench") for leaf in leaves)
            facts["difficult objects"] = "trained on" if ours else "left out"
    testing = (config.get("test_dataloader") or {}).get("dataset")
    if testing:
        for step in _pipeline(testing, list(_leaves(testing))):
            if step.get("type") == "Resize" and "scale" in step:
                facts["test size"] = _fit(step)
                break
    facts |= {"metric": text} if (text := _metric(config.get("test_evaluator"))) else {}
    return facts


def _leaves(dataset: Config) -> Iterator[Config]:
    inner = dataset.get("datasets") or ([dataset["dataset"]] if "dataset" in dataset else [])
    if not inner:
        yield dataset
    for one in inner:
        yield from _leaves(one)


def _pipeline(dataset: Config, leaves: Sequence[Config]) -> list[Config]:
    return list(dataset.get("pipeline") or (leaves[0].get("pipeline") if leaves else None) or [])


def _boxes(leaf: Config) -> bool:
    return "Segmentation" not in f"{leaf.get('type')} {leaf.get('data_prefix')}"


def _name(leaves: Sequence[Config]) -> str:
    """The training data in the words of `IMAGES`, from the names of lists and folders."""
    found = []
    for leaf in leaves:
        prefix = leaf.get("data_prefix") or {}
        text = " ".join(str(part) for part in (leaf.get("data_root"), leaf.get("ann_file"), *prefix.values()))
        split = PurePosixPath(str(leaf.get("ann_file") or "")).stem
        if "VOCAugmented" in str(leaf.get("type")):
            found.append("VOC2012 trainaug")
        elif match := re.search(r"VOC(20\d\d)", str(leaf.get("ann_file")) + " " + text):
            augmented = "SegmentationClassAug" in text and split in ("trainaug", "train_aug")
            found.append(f"VOC{match[1]} {'trainaug' if augmented else split}")
        elif match := re.search(r"(train|val|test)2017", split + " " + text):
            found.append(f"COCO {match[0]}")
        elif match := re.search(r"leftImg8bit/(\w+)", text):
            found.append(f"Cityscapes {match[1]}")
        else:
            found.append(split or str(leaf.get("type")))
    joined = " + ".join(sorted(dict.fromkeys(found)))
    return "VOC2012 trainaug" if joined == "VOC2012 aug + VOC2012 train" else joined


def _training_pipeline(pipeline: Sequence[Config]) -> dict[str, str]:
    facts = {"color changes": "no"}
    for step in pipeline:
        kind = str(step.get("type"))
        if kind in ("RandomChoiceResize", "RandomResize", "Resize") and "training size" not in facts:
            facts["training size"] = _fit(step)
        elif kind == "RandomCrop":
            ratio = step.get("cat_max_ratio", 1.0)
            facts["crop"] = _size(step["crop_size"]) + (f", one class at most {ratio:g}" if ratio < 1 else "")
        elif kind == "PhotoMetricDistortion":
            facts["color changes"] = "yes"
    return facts


def _fit(step: Config) -> str:
    """Sizes as `short side up to long side`."""
    if scales := step.get("scales"):
        pairs = [sorted(scale) for scale in scales]
        short = sorted({pair[0] for pair in pairs})
        longest = {pair[1] for pair in pairs}
        return f"{size_range(short)} up to {size_range(sorted(longest))}"
    scale = step.get("scale")
    text = (
        _number(scale) if isinstance(scale, (int, float)) else "{} up to {}".format(*map(_number, sorted(scale or ())))
    )
    if ratios := step.get("ratio_range"):
        text += f", times {ratios[0]:g} to {ratios[1]:g}"
    return text


def size_range(values: Sequence[float]) -> str:
    """The words for sizes in ascending order."""
    if len(values) < 3:
        return " or ".join(map(_number, values))
    return f"{_number(values[0])} to {_number(values[-1])}"


def _metric(evaluator: Any) -> str:
    one = _one(evaluator or {})
    kind = str(one.get("type", ""))
    if kind == "VOCMetric":
        thresholds = one.get("iou_thrs", 0.5)
        many = isinstance(thresholds, Sequence) and len(thresholds) > 1
        points = "11-point" if one.get("eval_mode", "11points") == "11points" else "area"
        return f"VOC {points} AP, " + ("mean over IoU .5 to .95" if many else "IoU .5 alone")
    if kind == "VOCDetectionMetric":
        return "VOC 11-point AP, mean over IoU .5 to .95"
    if kind in ("CocoMetric", "CocoDetectionMetric"):
        kinds = sorted(_list(one.get("iou_types") or one.get("metric") or ["bbox"]))
        return f"COCO AP ({', '.join(kinds)})"
    if kind in ("IoUMetric", "SegmentationMetric"):
        return "mIoU of the whole set"
    return "Cityscapes AP" if kind.lower().startswith("cityscapes") else kind


def _schedule(config: Config, data: str, gpus: int) -> dict[str, str]:
    facts: dict[str, str] = {}
    loader, loop = config.get("train_dataloader") or {}, config.get("train_cfg") or {}
    batch = loader["batch_size"] * gpus if "batch_size" in loader else None
    if batch is not None:
        facts["batch"] = str(batch)
    epoch = IMAGES[data] / batch if batch and data in IMAGES else None
    last = loop.get("max_iters") or (loop["max_epochs"] * epoch if loop.get("max_epochs") and epoch else None)
    if last is not None:
        facts["iterations"] = str(round(last))
    elif loop.get("max_epochs"):
        facts["iterations"] = f"{loop['max_epochs']} epochs"
    facts["schedule"] = "constant"
    facts["warm-up"] = "none"
    for scheduler in _list(config.get("param_scheduler")):
        unit = 1.0 if not scheduler.get("by_epoch", True) else epoch
        kind = scheduler.get("type")
        if kind == "LinearLR":
            facts["warm-up"] = f"{scheduler.get('end')} from {scheduler.get('start_factor', 1 / 3):g}"
        elif kind == "MultiStepLR":
            steps = [round(step * unit) if unit else f"epoch {step}" for step in scheduler["milestones"]]
            facts["schedule"] = f"times {scheduler.get('gamma', 0.1):g} at {', '.join(map(str, steps))}"
        elif kind == "PolyLR":
            facts["schedule"] = f"poly {scheduler.get('power', 1.0):g} to {scheduler.get('eta_min', 0):g}"
        elif kind:
            facts["schedule"] = str(kind)
    return facts | _optimizer(config.get("optim_wrapper") or {})


def _optimizer(wrapper: Config) -> dict[str, str]:
    optimizer = wrapper.get("optimizer")
    if not optimizer:
        return {}
    decay = optimizer.get("weight_decay", 0.0)
    norms = decay * (wrapper.get("paramwise_cfg") or {}).get("norm_decay_mult", 1.0)
    clip = wrapper.get("clip_grad")
    momentum = f", momentum {optimizer['momentum']:g}" if "momentum" in optimizer else ""
    return {
        "optimizer": f"{optimizer['type']}{momentum}",
        "learning rate": f"{optimizer['lr']:g}",
        "weight decay": f"{decay:g}",
        "weight decay of norms": f"{norms:g}",
        "gradient clipping": f"norm {clip['max_norm']:g}" if clip and "max_norm" in clip else "no",
    }


def _one(value: Any) -> Config:
    return value[0] if isinstance(value, (list, tuple)) and value else value or {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]


def _size(value: Any) -> str:
    return "x".join(_number(side) for side in value) if isinstance(value, (list, tuple)) else _number(value)


def _numbers(values: Sequence[float]) -> str:
    return "/".join(_number(value) for value in values)


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)
