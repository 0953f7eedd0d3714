"""Checks COCO 2017: `instances_{train,val}2017.json` and the images that they list."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.datasets.coco import CocoFile, annotation_file, image_folder, read_coco
from bench.datasets.coco_units import report_units
from bench.datasets.files import ImageFiles, by
from bench.datasets.names import COCO_CATEGORIES
from bench.datasets.report import Findings, Split

LAYOUT: Final = "coco with train2017/*.jpg, val2017/*.jpg and annotations/instances_{train,val}2017.json"
_COPY: Final = "copy the list `categories` from COCO's own file"


def check_coco(root: Path, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    """Read both annotation files and the images."""
    splits: dict[str, Split] = {}
    contents: dict[str, CocoFile] = {}
    for name in ("train", "val"):
        path = annotation_file(root, name)
        before = findings.errors
        contents[name] = content = read_coco(path, findings)
        folder = image_folder(root, name)
        splits[name] = split = Split([folder / image.file_name for image in content.images.values()], [path])
        _count(content, split)
        where = findings.name(path)
        if content.images:
            _categories(content.categories, where, findings)
            _report_absent_masks(content, where, findings)
            report_units(content.objects, where, findings)
        if findings.errors == before:  # otherwise those errors explain what is missing
            _report_nothing(content, name, where, findings)
    files = ImageFiles(root, [path for split in splits.values() for path in split.images], findings)
    for name, split in splits.items():
        where = findings.name(split.annotations[0])
        for image, path in zip(contents[name].images.values(), split.images, strict=True):
            files.compare(
                path,
                files.size(path),
                image.size,
                f"{where}: image {image.id} is given as {by(image.size)}, ",
                "images of another size than annotated",
            )
    _report_shared_names(splits, files)
    return splits, files


def _count(content: CocoFile, split: Split) -> None:
    split.histogram.update({name: 0 for name, _ in COCO_CATEGORIES.values()})
    # a class that COCO lacks is an error, but it is counted under its name
    split.histogram.update(content.categories[item.category_id] for item in content.objects)
    split.counts.update(
        {
            "objects": len(content.objects),
            "crowds": sum(item.crowd for item in content.objects),
            "images without objects": sum(not items for items in content.by_image().values()),
        }
    )


def _report_absent_masks(content: CocoFile, where: str, findings: Findings) -> None:
    without = [item for item in content.objects if item.mask is None]
    if without:
        findings.error(
            "objects without a mask",
            f"{where}: {len(without):,} of {len(content.objects):,} annotations have no mask, such as annotation "
            f"{without[0].id} (its segmentation is missing, empty or of fewer than 3 points): masks are trained and "
            "evaluated, so draw one or remove the annotation",
        )


def _report_nothing(content: CocoFile, split: str, where: str, findings: Findings) -> None:
    """Report errors that leave nothing to train on or to evaluate."""
    if not content.images:
        findings.error("empty splits", f"coco: the {split} split is empty: {where} lists no image")
    elif split == "train" and not any(item.trained_on and not item.crowd for item in content.objects):
        findings.error("splits without objects", f"{where} has no object to train on{_why(content)}")
    elif split == "val" and all(item.crowd for item in content.objects):
        findings.error("splits without objects", f"{where} has no object to find{_why(content)}")


def _why(content: CocoFile) -> str:
    if not content.objects:
        return ": its list `annotations` is empty"
    if all(item.crowd for item in content.objects):
        return ": all are crowds (iscrowd 1), which are neither found nor missed"
    return ": none has a whole pixel and is not ignored"


def _report_shared_names(splits: Mapping[str, Split], files: ImageFiles) -> None:
    """Report images of the same name and size in both splits where images were not hashed, which would find copies.

    The name alone proves nothing: many tools number the images of each file from 1.
    """
    if files.thorough:
        return
    known = {path.name: path for path in splits["train"].images}
    for path in splits["val"].images:
        twin = known.get(path.name)
        if twin is not None and path in files.bytes and files.bytes[path] == files.bytes.get(twin):
            files.findings.error("images in both splits", f"coco: image file {path.name} is in train and in val")


def _categories(categories: Mapping[int, str], where: str, findings: Findings) -> None:
    """The table must be COCO's: readers map names to labels by it, and a gap shifts every later label."""
    wanted = {number: name for number, (name, _) in COCO_CATEGORIES.items()}
    if categories == wanted:
        return
    strange = [f"{number} {name}" for number, name in categories.items() if name not in wanted.values()]
    missing = [name for name in wanted.values() if name not in categories.values()]
    moved = [
        f"{name} is {number}, not {right}"
        for right, name in wanted.items()
        for number, found in categories.items()
        if found == name and number != right
    ]
    hints = []
    if set(categories) == set(range(1, 81)):
        hints.append("ids run 1 to 80 without COCO's gaps")
    elif moved:
        hints.append(f"other ids: {_few(moved)}")
    if strange:
        hints.append(f"{len(strange)} of its own: {_few(strange)}")
    if missing:
        hints.append(f"{len(missing)} missing: {_few(missing)}")
    remedy = "these benchmarks are of COCO's classes alone" if strange else _COPY
    findings.error(
        "wrong categories",
        f"{where}: categories are not COCO's 80 with their ids up to 90 ({'; '.join(hints)}); {remedy}",
    )


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
