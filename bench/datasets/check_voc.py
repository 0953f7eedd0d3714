"""Checks PASCAL VOC: boxes (XML) for detection, of 2012 or of 2007 with 2012; masks (palette PNG) of 2012 for
segmentation, with or without SBD's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.datasets.files import ImageFiles, by, report_ids, report_lengths
from bench.datasets.masks import check_masks
from bench.datasets.names import VOC_CLASSES, VOID
from bench.datasets.report import Findings, Split
from bench.datasets.voc import Entry, read_annotation, read_augmented, read_entries, report_boxes

FOLDER: Final = Path("VOCdevkit") / "VOC2012"
DETECTION_LAYOUT: Final = (
    "VOCdevkit/VOC2012 with JPEGImages/*.jpg, Annotations/*.xml and ImageSets/Main/{train,val}.txt"
)
FOLDER_2007: Final = Path("VOCdevkit") / "VOC2007"
LAYOUT_2007: Final = "VOCdevkit/VOC2007 with JPEGImages/*.jpg, Annotations/*.xml and ImageSets/Main/{trainval,test}.txt"
LAYOUT_0712: Final = (
    "VOCdevkit/VOC2007 and VOCdevkit/VOC2012, each with JPEGImages/*.jpg, Annotations/*.xml and "
    "ImageSets/Main/trainval.txt, and VOC2007 with ImageSets/Main/test.txt"
)
SEGMENTATION_LAYOUT: Final = (
    "VOCdevkit/VOC2012 with JPEGImages/*.jpg, SegmentationClass/*.png and ImageSets/Segmentation/{train,val}.txt"
)
AUGMENTED_FOLDER: Final = FOLDER / "SegmentationClassAug"
AUGMENTED_LAYOUT: Final = (
    "VOCdevkit/VOC2012 with JPEGImages/*.jpg, SegmentationClass/*.png, SegmentationClassAug/*.png (SBD's masks, which "
    "`densebench data prepare` makes) and ImageSets/Segmentation/{train,trainaug,val}.txt"
)
_PUBLISHED: Final = {"train": 10_582, "val": 1_449}
"""Numbers of images with which published results of train_aug were trained and evaluated."""
_PUBLISHED_0712: Final = {"train": 5_011 + 11_540, "val": 4_952}
"""Numbers of images with which published results of VOC 2007 with 2012 were trained and evaluated."""
_PUBLISHED_2007: Final = {"train": 5_011, "val": 4_952}
"""The same of VOC 2007 alone."""


def check_voc_detection(root: Path, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    """Read lists, XML files and images."""
    entries, splits, images = _open(root, "Main", "Annotations", ".xml", findings)
    _check_objects(entries, splits, images, findings)
    return splits, images


def check_voc0712_detection(root: Path, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    """Read lists, XML files and images: trained on trainval of 2007 and of 2012, evaluated on test of 2007."""
    parts = {"train": [(FOLDER_2007, "trainval"), (FOLDER, "trainval")], "val": [(FOLDER_2007, "test")]}
    return _check_years(root, parts, _PUBLISHED_0712, findings)


def check_voc2007(root: Path, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    """Read lists, XML files and images of 2007: trainval and test."""
    parts = {"train": [(FOLDER_2007, "trainval")], "val": [(FOLDER_2007, "test")]}
    return _check_years(root, parts, _PUBLISHED_2007, findings)


def _check_years(
    root: Path, parts: Mapping[str, Sequence[tuple[Path, str]]], published: Mapping[str, int], findings: Findings
) -> tuple[dict[str, Split], ImageFiles]:
    """Read the parts of which each is made of lists of several years."""
    entries: dict[str, list[Entry]] = {name: [] for name in parts}
    lists: dict[str, list[Path]] = {name: [] for name in parts}
    for name, listed in parts.items():
        for folder, stem in listed:
            path = root / folder / "ImageSets" / "Main" / f"{stem}.txt"
            lists[name].append(path)
            photos, annotations = root / folder / "JPEGImages", root / folder / "Annotations"
            entries[name] += read_entries(path, photos, annotations, ".xml", findings)
    splits, images = _splits(root, entries, lists, findings)
    _check_objects(entries, splits, images, findings)
    report_lengths(splits, published, findings)
    return splits, images


def check_voc_segmentation(root: Path, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    """Read lists, masks and images."""
    entries, splits, images = _open(root, "Segmentation", "SegmentationClass", ".png", findings)
    _check_masks(entries, splits, images)
    return splits, images


def check_voc_augmented(root: Path, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    """Read lists, masks and images, with train_aug as the training images."""
    folder = root / FOLDER
    lists = {name: folder / "ImageSets" / "Segmentation" / f"{name}.txt" for name in ("trainaug", "val")}
    entries = {
        "train": read_augmented(folder, findings),
        "val": read_entries(lists["val"], folder / "JPEGImages", folder / "SegmentationClass", ".png", findings),
    }
    splits, images = _splits(root, entries, {"train": [lists["trainaug"]], "val": [lists["val"]]}, findings)
    _check_masks(entries, splits, images)
    report_lengths(splits, _PUBLISHED, findings)
    return splits, images


def _open(
    root: Path, task: str, annotations: str, suffix: str, findings: Findings
) -> tuple[dict[str, list[Entry]], dict[str, Split], ImageFiles]:
    folder = root / FOLDER
    lists = {name: folder / "ImageSets" / task / f"{name}.txt" for name in ("train", "val")}
    entries = {
        name: read_entries(path, folder / "JPEGImages", folder / annotations, suffix, findings)
        for name, path in lists.items()
    }
    return entries, *_splits(root, entries, {name: [path] for name, path in lists.items()}, findings)


def _splits(
    root: Path, entries: dict[str, list[Entry]], lists: dict[str, list[Path]], findings: Findings
) -> tuple[dict[str, Split], ImageFiles]:
    """The splits with their files; reports ids that are listed twice."""
    splits = {
        name: Split([entry.image for entry in listed], [*lists[name], *(entry.annotation for entry in listed)])
        for name, listed in entries.items()
    }
    train, val = ([entry.id for entry in entries[name]] for name in ("train", "val"))
    report_ids(train, val, lists["val"][0].parent.relative_to(root).as_posix(), findings)
    return splits, ImageFiles(root, [path for split in splits.values() for path in split.images], findings)


def _check_masks(entries: dict[str, list[Entry]], splits: dict[str, Split], images: ImageFiles) -> None:
    names = {0: "background", **{index + 1: name for index, name in enumerate(VOC_CLASSES)}, VOID: "void"}
    pairs = {name: [(entry.image, entry.annotation) for entry in listed] for name, listed in entries.items()}
    check_masks(pairs, splits, names, _explain, images)


def _check_objects(
    entries: dict[str, list[Entry]], splits: dict[str, Split], images: ImageFiles, findings: Findings
) -> None:
    for name, split in splits.items():
        split.histogram.update(dict.fromkeys(VOC_CLASSES, 0))
        split.counts.update({"objects": 0, "difficult": 0, "truncated": 0, "images without objects": 0})
        before = findings.errors
        for entry in entries[name]:
            _annotation(entry, split, images, findings)
        if entries[name] and findings.errors == before:  # otherwise those errors may explain missing objects
            _report_nothing(name, split, findings)


def _annotation(entry: Entry, split: Split, images: ImageFiles, findings: Findings) -> None:
    size = images.size(entry.image)
    annotation = read_annotation(entry.annotation, findings)
    if annotation is None:
        return
    what = f"{findings.name(entry.annotation)} says {by(annotation.size)}, "
    images.compare(entry.image, size, annotation.size, what, "annotations of another size than their image")
    if size in (annotation.size, None):  # where they disagree, boxes are compared with neither: one report is enough
        report_boxes(annotation, entry.annotation, findings)
    split.counts["images without objects"] += not annotation.objects
    for item in annotation.objects:
        split.histogram[item.name] += 1
        split.counts["objects"] += 1
        split.counts["difficult"] += item.difficult
        split.counts["truncated"] += item.truncated


def _report_nothing(name: str, split: Split, findings: Findings) -> None:
    """Report a split that is of no use for training or evaluation."""
    if not split.counts["objects"]:
        findings.error("splits without objects", f"no image of {name} has an object")
    elif name == "val" and split.counts["objects"] == split.counts["difficult"]:
        findings.error(
            "splits without objects", "every object of val is marked difficult, so no value can be computed from it"
        )


def _explain(found: frozenset[int]) -> str:
    wanted = f"VOC has 0 to {len(VOC_CLASSES)}, and {VOID} = void"
    if 0 not in found and max(found - {VOID}) == len(VOC_CLASSES) + 1:
        return f"{wanted}; yours seem to begin with 1 for the background: subtract 1"
    return wanted
