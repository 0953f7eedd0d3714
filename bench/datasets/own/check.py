"""Checks own data: reads everything that training and evaluation read, by the same functions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bench.datasets.files import ImageFiles, fingerprint, report_copies
from bench.datasets.masks import read_labels
from bench.datasets.names import VOID
from bench.datasets.own.description import DATASETS, DETECTION, INSTANCES, SEGMENTATION, Own, PartName, read_own
from bench.datasets.own.maps import MaskValues, list_masks, too_many_classes
from bench.datasets.own.objects import Listed, Objects, has_masks, list_objects, read_objects
from bench.datasets.own.pictures import Header, resolve
from bench.datasets.own.unmatched import report_unmatched
from bench.datasets.report import DatasetReport, Findings, Split
from leaderboard.base.printable import printable_name

PARTS: tuple[PartName, ...] = ("train", "val")


def check_own(data: Path, dataset: str | None = None) -> DatasetReport:
    """What is in the data set whose description is `data`, or lies in it, and what is wrong with it.

    `dataset` (one of `DATASETS`) names what a protocol uses: what the data set does not have is an error.

    Raises:
        BenchError: there is no valid description.
    """
    own = read_own(data)
    findings = Findings(own.folder)
    splits: dict[str, Split] = {name: Split() for name in PARTS}
    if not own.folder.is_dir():
        findings.error("missing folders", f"{own.folder} is not a folder: correct `root` in {own.file}")
        images = ImageFiles(own.folder, (), findings)
    elif own.said.format == "masks":
        images = _check_masks(own, splits, findings)
        if dataset in (DETECTION, INSTANCES):
            findings.error("no objects", f"{own.said.name} has masks and no objects, which {dataset} needs")
    else:
        images = _check_objects(own, splits, dataset, findings)
    for path in sorted(set(splits["train"].images) & set(splits["val"].images)):
        name = findings.name(path)
        findings.error("images in both splits", f"{name} is in train and in val: evaluate on other images")
    report_copies(splits["train"].images, splits["val"].images, images)
    digest, rule = fingerprint(own.folder, images, [file for split in splits.values() for file in split.annotations])
    if digest:
        digest = hashlib.sha256(f"{digest}\n{own.said.canonical()}".encode()).hexdigest()
    return DatasetReport(
        own.said.name,
        own.folder,
        "pixels" if own.said.format == "masks" else "objects",
        splits,
        findings.problems(),
        digest,
        f"{rule}, description",
        classes=own.map_names if dataset == SEGMENTATION else own.names,
    )


def usable(data: Path) -> tuple[str, ...]:
    """Those of `DATASETS` that the data set described in `data` has, read from its first part.

    Raises:
        BenchError: there is no valid description, or the annotations cannot be read.
    """
    own = read_own(data)
    if own.said.format == "masks":
        return (SEGMENTATION,)
    if own.said.format != "coco":
        return (DETECTION,)
    content = list_objects(own, "train", Findings(own.folder)).coco
    assert content is not None
    counted = [item for item in content.objects if item.category_id in own.said.classes]
    if not counted or any(item.mask is None for item in counted):
        return (DETECTION,)
    return (DETECTION, INSTANCES) if too_many_classes(own) else DATASETS


def _check_masks(own: Own, splits: Mapping[str, Split], findings: Findings) -> ImageFiles:
    pairs = {name: list_masks(own, name, findings) for name in PARTS}
    images = ImageFiles(own.folder, [image for listed in pairs.values() for image, _ in listed], findings)
    values = MaskValues.of(own)
    for name, listed in pairs.items():
        split, counts = splits[name], np.zeros(256, np.int64)
        split.images, split.annotations = [image for image, _ in listed], [mask for _, mask in listed]
        split.annotations += _lists(own, name)
        for image, mask in listed:
            labels = read_labels(mask, findings)
            if labels is None:
                continue
            height, width = labels.shape
            resolve(image, (width, height), own, lambda path: _header(path, images), findings)
            found = np.bincount(labels.ravel(), minlength=256)
            counts += found
            if unknown := np.flatnonzero((found > 0) & ~values.known).tolist():
                shown = ", ".join(map(str, unknown[:5])) + (", ..." if unknown[5:] else "")
                findings.error(
                    "masks with unknown values",
                    f"{findings.name(mask)} has the value{'s' * bool(unknown[1:])} {shown} on "
                    f"{found[unknown].sum():,} pixels: add them to classes, or to ignore, in {own.file.name}",
                )
        split.histogram.update({label: int(counts[value]) for value, label in own.said.classes.items()})
        ignored = int(counts[values.table == VOID].sum())
        split.histogram.update({"void": ignored} if ignored else {})
        if listed and not any(split.histogram[label] for label in own.names):
            findings.error("splits without labels", f"no pixel of {name} belongs to a class")
    return images


def _check_objects(own: Own, splits: Mapping[str, Split], dataset: str | None, findings: Findings) -> ImageFiles:
    parts = {name: list_objects(own, name, findings) for name in PARTS}
    images = ImageFiles(own.folder, [image for listed in parts.values() for image in listed.images], findings)
    _report_renamed(own, parts, findings)
    if own.said.format == "yolo":
        report_unmatched(own, parts, findings)
    drawn = True
    for name, listed in parts.items():
        before = findings.errors
        found = read_objects(own, name, listed, lambda path: _header(path, images), findings)
        _count(own, name, listed, found, splits[name])
        drawn = drawn and has_masks(found)
        if findings.errors == before:  # otherwise those errors explain what is missing
            _report_nothing(name, found, findings)
            if dataset in (SEGMENTATION, INSTANCES) and found.content.objects and not has_masks(found):
                findings.error(
                    "objects without a mask",
                    f"{dataset} needs a mask of every object, and objects of {name} have none: only {DETECTION} can be "
                    f"made of {own.said.name}",
                )
    if drawn and dataset in (SEGMENTATION, None) and (problem := too_many_classes(own)):
        (findings.error if dataset else findings.warning)("too many classes", problem)
    return images


def _report_renamed(own: Own, parts: Mapping[PartName, Listed], findings: Findings) -> None:
    """Report categories to which the COCO files of the parts give different names: their objects differ, too."""
    train, val = (parts[name].coco for name in PARTS)
    if train is None or val is None:
        return
    used = {item.category_id for content in (train, val) for item in content.objects} & set(own.said.classes)
    files = [findings.name(own.folder / own.part(name).annotations) for name in PARTS]
    for number in sorted(used & train.categories.keys() & val.categories.keys()):
        names = [printable_name(content.categories[number]) for content in (train, val)]
        if train.categories[number] != val.categories[number]:
            findings.error(
                "categories with two names",
                f"the category {number} is {names[0]} in {files[0]} and {names[1]} in {files[1]}: number the "
                "categories of both files alike",
            )


def _count(own: Own, name: PartName, listed: Listed, found: Objects, split: Split) -> None:
    objects = found.content.objects
    split.images, split.annotations = listed.images, [*listed.annotations, *_lists(own, name)]
    split.histogram.update(dict.fromkeys(own.names, 0))
    split.histogram.update(own.said.classes[item.category_id] for item in objects)
    split.counts.update(
        {
            "objects": len(objects),
            "crowds": sum(item.crowd for item in objects),
            "with masks": sum(item.mask is not None for item in objects),
            "images without objects": sum(not items for items in found.content.by_image().values()),
        }
    )


def _report_nothing(name: PartName, found: Objects, findings: Findings) -> None:
    objects = found.content.objects
    if not found.content.images:
        findings.error("empty splits", f"{name} has no image")
    elif name == "train" and not any(item.trained_on and not item.crowd for item in objects):
        findings.error("splits without objects", "train has no object to train on")
    elif name == "val" and all(item.crowd for item in objects):
        findings.error("splits without objects", "val has no object to find")


def _lists(own: Own, name: PartName) -> list[Path]:
    listed = own.part(name).listed
    return [own.folder / listed] if listed else []


def _header(path: Path, images: ImageFiles) -> Header | None:
    size = images.size(path)
    return None if size is None else Header(size, images.orientations.get(path, 1))
