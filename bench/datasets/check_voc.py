"""Checks PASCAL VOC 2012: boxes (XML) for detection, masks (palette PNG) for segmentation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import numpy as np

from bench.datasets.files import ImageFiles, read_labels, relative, report_ids, same_size
from bench.datasets.names import VOC_CLASSES, VOID
from bench.datasets.report import Findings, Split

FOLDER: Final = Path("VOCdevkit") / "VOC2012"
DETECTION_LAYOUT: Final = (
    "VOCdevkit/VOC2012 with JPEGImages/*.jpg, Annotations/*.xml and ImageSets/Main/{train,val}.txt"
)
SEGMENTATION_LAYOUT: Final = (
    "VOCdevkit/VOC2012 with JPEGImages/*.jpg, SegmentationClass/*.png and ImageSets/Segmentation/{train,val}.txt"
)


def check_voc_detection(root: Path, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    """Read lists, XML files and images."""
    splits, ids, images = _open(root, "Main", findings)
    for name, split in splits.items():
        split.histogram.update(dict.fromkeys(VOC_CLASSES, 0))
        split.counts.update({"objects": 0, "difficult": 0, "truncated": 0, "images without objects": 0})
        for image_id, image in zip(ids[name], split.images, strict=True):
            path = root / FOLDER / "Annotations" / f"{image_id}.xml"
            split.annotations.append(path)
            _annotation(root, path, images.size(image), split, findings)
    return splits, images


def check_voc_segmentation(root: Path, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    """Read lists, masks and images."""
    splits, ids, images = _open(root, "Segmentation", findings)
    names = {0: "background", **{index + 1: name for index, name in enumerate(VOC_CLASSES)}, VOID: "void"}
    for name, split in splits.items():
        split.histogram.update(dict.fromkeys(names.values(), 0))
        for image_id, image in zip(ids[name], split.images, strict=True):
            path = root / FOLDER / "SegmentationClass" / f"{image_id}.png"
            split.annotations.append(path)
            size = images.size(image)
            labels = read_labels(path, root, findings)
            if labels is None:
                continue
            same_size(labels, size, relative(path, root), image.name, findings)
            for label, pixels in enumerate(np.bincount(labels.ravel(), minlength=256).tolist()):
                if pixels and label not in names:
                    findings.error(
                        "masks with wrong labels",
                        f"{relative(path, root)} has label {label} on {pixels} pixels: VOC has 0 to 20, and 255 = void",
                    )
                elif pixels:
                    split.histogram[names[label]] += pixels
    return splits, images


def _open(root: Path, task: str, findings: Findings) -> tuple[dict[str, Split], dict[str, list[str]], ImageFiles]:
    folder = root / FOLDER
    splits: dict[str, Split] = {}
    ids: dict[str, list[str]] = {}
    for name in ("train", "val"):
        path = folder / "ImageSets" / task / f"{name}.txt"
        ids[name] = _read_list(path, root, findings)
        images = [folder / "JPEGImages" / f"{image_id}.jpg" for image_id in ids[name]]
        splits[name] = Split(images=images, annotations=[path])
    report_ids(ids["train"], ids["val"], f"{FOLDER.as_posix()}/ImageSets/{task}", findings)
    return splits, ids, ImageFiles(root, [path for split in splits.values() for path in split.images], findings)


def _read_list(path: Path, root: Path, findings: Findings) -> list[str]:
    """One image id a line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        findings.error("missing lists", f"{relative(path, root)} is missing")
        return []
    except (OSError, UnicodeDecodeError) as error:
        findings.error("damaged lists", f"{relative(path, root)} cannot be read: {error}")
        return []
    ids = [line.strip() for line in lines if line.strip()]
    for image_id in ids:
        if len(image_id.split()) > 1 or "/" in image_id or "\\" in image_id:
            findings.error("lists with wrong lines", f"{relative(path, root)}: {image_id!r} is not an image id")
    return [image_id for image_id in ids if len(image_id.split()) == 1 and "/" not in image_id and "\\" not in image_id]


def _annotation(root: Path, path: Path, size: tuple[int, int] | None, split: Split, findings: Findings) -> None:
    name = relative(path, root)
    try:
        tree = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        findings.error("missing annotations", f"{name} is missing")
        return
    except (ElementTree.ParseError, OSError, ValueError) as error:
        findings.error("damaged annotations", f"{name} is damaged: {error}")
        return
    written = _number(tree.findtext("size/width")), _number(tree.findtext("size/height"))
    valid = not any(map(math.isnan, written))
    if size is not None and written != size:
        shown = f"says {_by(written)}" if valid else "says no valid size"
        findings.error("annotations of another size than their image", f"{name} {shown}, the image is {_by(size)}")
    # Where the sizes disagree, boxes are held against neither: one report says it all.
    frame = written if valid and size in (written, None) else None
    objects = tree.findall("object")
    split.counts["images without objects"] += not objects
    for number, item in enumerate(objects, start=1):
        kind = (item.findtext("name") or "").strip()
        if kind in VOC_CLASSES:
            split.histogram[kind] += 1
        else:
            findings.error(
                "objects of unknown classes",
                f"{name}: object {number} is a {kind!r}, which is none of VOC's 20 classes",
            )
        split.counts["objects"] += 1
        split.counts["difficult"] += (item.findtext("difficult") or "").strip() == "1"
        split.counts["truncated"] += (item.findtext("truncated") or "").strip() == "1"
        _box(item, f"{name}: box of object {number} ({kind})", frame, findings)


def _box(item: ElementTree.Element, what: str, size: tuple[float, float] | None, findings: Findings) -> None:
    """VOC's boxes are 1-based and inclusive: 1 <= xmin <= xmax <= width."""
    box = [_number(item.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")]
    if any(map(math.isnan, box)):
        findings.error("damaged boxes", f"{what} has missing or unreadable coordinates")
        return
    left, top, right, bottom = box
    shown = f"[{left:g}, {top:g}, {right:g}, {bottom:g}]"
    if left > right or top > bottom:
        findings.error("damaged boxes", f"{what} is {shown}: xmin or ymin exceeds xmax or ymax")
        return
    if size is None:
        return
    beyond = max(1 - left, 1 - top, right - size[0], bottom - size[1])
    if beyond > 1:
        findings.error("boxes outside their image", f"{what} is {shown}, outside the image of {_by(size)}")
    elif beyond > 0:
        findings.warning("boxes a pixel outside", f"{what} is {shown}, up to a pixel outside the image of {_by(size)}")


def _number(text: str | None) -> float:
    """A finite number, or nan."""
    try:
        value = float(text or "nan")
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _by(size: tuple[float, float]) -> str:
    return f"{size[0]:g}x{size[1]:g}"
