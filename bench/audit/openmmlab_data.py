"""What a config of MMDetection 3 or MMSegmentation 1 says about data, pipelines and metric."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from bench.audit.words import DATA_SETS, NO_SPLIT, Config, as_list, first_of, number_text, size_range, size_text


def data_facts(config: Config) -> dict[str, str]:
    """Training data and sizes, what is done with pictures, the test size, the metric."""
    facts: dict[str, str] = {}
    training = (config.get("train_dataloader") or {}).get("dataset")
    if training:
        leaves = [leaf for leaf, _ in leaves_of(training)]
        facts["training data"] = _name(leaves)
        facts |= _training_pipeline(_pipeline(training, leaves))
        if any("VOC" in str(leaf.get("type")) and _boxes(leaf) for leaf in leaves):
            ours = all(str(leaf.get("type", "")).startswith("DenseBench") for leaf in leaves)
            facts["difficult objects"] = "trained on" if ours else "left out"
    testing = (config.get("test_dataloader") or {}).get("dataset")
    if testing:
        for step in _pipeline(testing, [leaf for leaf, _ in leaves_of(testing)]):
            if step.get("type") == "Resize" and "scale" in step:
                facts["test size"] = _fit(step)
                break
    facts |= {"metric": text} if (text := _metric(config.get("test_evaluator"))) else {}
    return facts


def leaves_of(dataset: Config, times: int = 1) -> Iterator[tuple[Config, int]]:
    """The data sets in `dataset`, each with how often an epoch goes through it; `times` is that of `dataset`."""
    times *= dataset.get("times", 1)  # of a RepeatDataset
    inner = dataset.get("datasets") or ([dataset["dataset"]] if "dataset" in dataset else [])
    if not inner:
        yield dataset, times
    for one in inner:
        yield from leaves_of(one, times)


def _pipeline(dataset: Config, leaves: Sequence[Config]) -> list[Config]:
    return list(dataset.get("pipeline") or (leaves[0].get("pipeline") if leaves else None) or [])


def _boxes(leaf: Config) -> bool:
    return "Segmentation" not in f"{leaf.get('type')} {leaf.get('data_prefix')}"


def _name(leaves: Sequence[Config]) -> str:
    """The training data in the words of `openmmlab_schedule.IMAGES`, from the names of lists and folders."""
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
        elif leaf.get("type") == "DenseBenchADE20K" or ("ADE20K" in str(leaf.get("type")) and "/training" in text):
            found.append("ADE20K training")
        else:
            found.append(split or _of_type(str(leaf.get("type"))))
    joined = " + ".join(sorted(dict.fromkeys(found)))
    return "VOC2012 trainaug" if joined == "VOC2012 aug + VOC2012 train" else joined


def _of_type(kind: str) -> str:
    """The words for a data set of which a config names the class alone."""
    known = next((name for word, name in DATA_SETS.items() if word in kind.lower()), None)
    return kind if known is None else known + NO_SPLIT


def _training_pipeline(pipeline: Sequence[Config]) -> dict[str, str]:
    facts = {"color changes": "no"}
    for step in pipeline:
        kind = str(step.get("type"))
        if kind in ("RandomChoiceResize", "RandomResize", "Resize") and "training size" not in facts:
            facts["training size"] = _fit(step)
        elif kind == "RandomCrop":
            ratio = step.get("cat_max_ratio", 1.0)
            facts["crop"] = size_text(step["crop_size"]) + (f", one class at most {ratio:g}" if ratio < 1 else "")
        elif kind == "PhotoMetricDistortion":
            facts["color changes"] = "yes"
    return facts


def _fit(step: Config) -> str:
    """The sizes of a step in words: `short side up to long side`."""
    if scales := step.get("scales"):
        pairs = [sorted(scale) for scale in scales]
        short = sorted({pair[0] for pair in pairs})
        longest = {pair[1] for pair in pairs}
        return f"{size_range(short)} up to {size_range(sorted(longest))}"
    scale = step.get("scale")
    text = (
        number_text(scale)
        if isinstance(scale, (int, float))
        else "{} up to {}".format(*map(number_text, sorted(scale or ())))
    )
    if ratios := step.get("ratio_range"):
        text += f", times {ratios[0]:g} to {ratios[1]:g}"
    return text


def _metric(evaluator: Any) -> str:
    one = first_of(evaluator or {})
    kind = str(one.get("type", ""))
    if kind == "VOCMetric":
        thresholds = one.get("iou_thrs", 0.5)
        many = isinstance(thresholds, Sequence) and len(thresholds) > 1
        points = "11-point" if one.get("eval_mode", "11points") == "11points" else "area"
        return f"VOC {points} AP, " + ("mean over IoU .5 to .95" if many else "IoU .5 alone")
    if kind == "VOCDetectionMetric":
        return "VOC 11-point AP, mean over IoU .5 to .95"
    if kind in ("CocoMetric", "CocoDetectionMetric"):
        kinds = sorted(as_list(one.get("iou_types") or one.get("metric") or ["bbox"]))
        return f"COCO AP ({', '.join(kinds)})"
    if kind in ("IoUMetric", "SegmentationMetric"):
        return "mIoU of the whole set"
    return "Cityscapes AP" if kind.lower().startswith("cityscapes") else kind
