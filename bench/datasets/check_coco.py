"""Checks COCO 2017: `instances_{train,val}2017.json` and the images that they list."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

from bench.datasets.files import ImageFiles, relative, report_ids
from bench.datasets.names import COCO_CATEGORIES
from bench.datasets.report import Findings, Split

LAYOUT: Final = "coco with train2017/*.jpg, val2017/*.jpg and annotations/instances_{train,val}2017.json"
_SLACK: Final = 1.0
"""Pixels by which COCO's own boxes may exceed an image, from rounding."""


def check_coco(root: Path, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    """Read both annotation files and the images."""
    splits: dict[str, Split] = {}
    contents: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name in ("train", "val"):
        path = root / "coco" / "annotations" / f"instances_{name}2017.json"
        contents[name] = content = _read(path, root, findings)
        folder = root / "coco" / f"{name}2017"
        images = [folder / str(image["file_name"]) for image in content["images"]]
        splits[name] = Split(images=images, annotations=[path])
    _ids(contents, findings)
    files = ImageFiles(root, [path for split in splits.values() for path in split.images], findings)
    for name, split in splits.items():
        where = relative(split.annotations[0], root)
        sizes = {}
        for image, path in zip(contents[name]["images"], split.images, strict=True):
            size = files.size(path)
            sizes[image["id"]] = written = (image["width"], image["height"])
            if size is not None and size != written:
                findings.error(
                    "images of another size than annotated",
                    f"{where}: image {image['id']} is given as {written[0]}x{written[1]}, but "
                    f"{path.name} is {size[0]}x{size[1]}",
                )
        if contents[name]["images"]:
            _categories(contents[name]["categories"], where, findings)
        _annotations(contents[name]["annotations"], sizes, split, where, findings)
    return splits, files


def _read(path: Path, root: Path, findings: Findings) -> dict[str, list[dict[str, Any]]]:
    """The three lists of an annotation file, without entries that lack what they need (which are reported)."""
    empty: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": []}
    name = relative(path, root)
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        findings.error("missing annotations", f"{name} is missing")
        return empty
    except (OSError, ValueError, RecursionError) as error:
        findings.error("damaged annotations", f"{name} is damaged: {error}")
        return empty
    needed = {
        "images": {"id": int, "file_name": str, "width": int, "height": int},
        "annotations": {"id": int, "image_id": int, "category_id": int, "bbox": list},
        "categories": {"id": int, "name": str},
    }
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in needed):
        findings.error("damaged annotations", f"{name} must hold the lists {', '.join(needed)}")
        return empty
    kept = empty
    for key, fields in needed.items():
        for number, entry in enumerate(content[key]):
            if isinstance(entry, dict) and all(type(entry.get(field)) is kind for field, kind in fields.items()):
                if "/" in entry.get("file_name", "") or "\\" in entry.get("file_name", ""):
                    findings.error("image files elsewhere", f"{name}: {entry['file_name']!r} must be a plain file name")
                    continue
                kept[key].append(entry)
            else:
                findings.error(
                    f"damaged entries in {key}", f"{name}: {key}[{number}] needs {', '.join(fields)} of the usual types"
                )
    return kept


def _ids(contents: dict[str, dict[str, list[dict[str, Any]]]], findings: Findings) -> None:
    for key, field, what in (
        ("images", "id", "image id"),
        ("images", "file_name", "image file"),
        ("annotations", "id", "annotation id"),
    ):
        train, val = ([f"{what} {entry[field]}" for entry in contents[split][key]] for split in ("train", "val"))
        report_ids(train, val, "coco", findings)


def _categories(categories: list[dict[str, Any]], where: str, findings: Findings) -> None:
    """The table must be COCO's: readers map names to labels by it, and a gap shifts every later label."""
    found = [(entry["id"], entry["name"]) for entry in categories]
    wanted = [(number, name) for number, (name, _) in COCO_CATEGORIES.items()]
    if sorted(found) == wanted:
        return
    missing = [name for number, name in wanted if (number, name) not in found]
    shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    hint = "ids run 1 to 80 without COCO's gaps" if {i for i, _ in found} == set(range(1, 81)) else f"wrong: {shown}"
    findings.error(
        "wrong categories", f"{where}: categories are not COCO's 80 with their ids up to 90 ({hint or 'repeated ids'})"
    )


def _annotations(
    annotations: list[dict[str, Any]], sizes: dict[int, tuple[int, int]], split: Split, where: str, findings: Findings
) -> None:
    split.histogram.update({name: 0 for name, _ in COCO_CATEGORIES.values()})
    seen = {annotation["image_id"] for annotation in annotations}
    split.counts.update(
        {"objects": 0, "crowds": 0, "images without objects": sum(image_id not in seen for image_id in sizes)}
    )
    for annotation in annotations:
        what = f"{where}: annotation {annotation['id']}"
        size = sizes.get(annotation["image_id"])
        if size is None:
            findings.error("annotations of unknown images", f"{what} is of image {annotation['image_id']}, not listed")
            continue
        if annotation["category_id"] not in COCO_CATEGORIES:
            findings.error("wrong category ids", f"{what} has category {annotation['category_id']}, which COCO lacks")
            continue
        split.histogram[COCO_CATEGORIES[annotation["category_id"]][0]] += 1
        split.counts["objects"] += 1
        split.counts["crowds"] += annotation.get("iscrowd") == 1
        if annotation.get("iscrowd", 0) not in (0, 1):
            findings.error("wrong iscrowd", f"{what} has iscrowd {annotation['iscrowd']!r}: it must be 0 or 1")
        _box(annotation["bbox"], size, what, findings)
        _segmentation(annotation.get("segmentation"), size, what, findings)


def _box(box: list[Any], size: tuple[int, int], what: str, findings: Findings) -> None:
    """COCO's boxes are [x, y, width, height], 0-based."""
    if len(box) != 4 or not all(_is_number(value) for value in box):
        findings.error("damaged boxes", f"{what} has box {box}: it must be 4 numbers [x, y, width, height]")
        return
    x, y, width, height = box
    if width < 0 or height < 0:
        findings.error("damaged boxes", f"{what} has box {box}, of negative size")
    elif max(-x, -y, x + width - size[0], y + height - size[1]) > _SLACK:
        findings.error(
            "boxes outside their image", f"{what} has box {box}, outside its image of {size[0]}x{size[1]} pixels"
        )
    elif width == 0 or height == 0:
        findings.warning("empty boxes", f"{what} has box {box} without area: readers drop it")


def _segmentation(segmentation: Any, size: tuple[int, int], what: str, findings: Findings) -> None:
    """Polygons `[[x0, y0, ...], ...]`, or run lengths `{"counts": ..., "size": [height, width]}`."""
    if isinstance(segmentation, dict):
        counts = segmentation.get("counts")
        if segmentation.get("size") != [size[1], size[0]]:
            findings.error(
                "damaged masks", f"{what}: its run lengths are for size {segmentation.get('size')}, not {size[::-1]}"
            )
        elif isinstance(counts, list):
            if not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != size[0] * size[1]:
                findings.error("damaged masks", f"{what}: its run lengths do not add up to the image's pixels")
        elif not isinstance(counts, str):
            findings.error("damaged masks", f"{what}: its run lengths are neither a list nor a string")
    elif isinstance(segmentation, list):
        if not segmentation:
            findings.warning("objects without a mask", f"{what} has no mask: readers drop it")
        for polygon in segmentation:
            if not isinstance(polygon, list) or len(polygon) % 2 or not all(_is_number(value) for value in polygon):
                findings.error("damaged masks", f"{what}: a polygon is not a list of x, y pairs")
            elif len(polygon) < 6:
                findings.warning("polygons of fewer than 3 points", f"{what}: a polygon has fewer than 3 points")
    else:
        findings.error("objects without a mask", f"{what} has no segmentation")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
