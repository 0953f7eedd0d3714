"""Reads LVIS v1 (Gupta et al., CVPR 2019, arXiv 1908.03195): objects of 1,203 classes on COCO's images.

Its annotations are federated: of each image it is known which classes it has, of which others it has none (`absent`),
and of which not every object is annotated (`incomplete`); of all other classes nothing is known. The files are COCO's
but for these lists and the address of each image, which says in which of COCO's folders it lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.datasets.coco import CocoFile, parse_coco, read_lists
from bench.datasets.files import ImageFiles, by, report_lengths
from bench.datasets.report import Findings, Split, Strict
from bench.datasets.standard.coco import LVIS

NAME: Final = LVIS.name
FOLDER: Final = Path("lvis")
LAYOUT: Final = "lvis/lvis_v1_{train,val}.json, and coco with train2017/*.jpg and val2017/*.jpg"
FREQUENCIES: Final = {"r": "rare", "c": "common", "f": "frequent"}
"""Kinds of classes: those on at most 10, on at most 100, and on more images of train."""
CLASSES: Final = 1_203
_LONGEST_FILE: Final = 2**31
"""Most bytes of an annotation file; that of train has 1.1 GB, and takes about ten times as much in memory."""
_PUBLISHED: Final = {"train": 100_170, "val": 19_809}


@dataclass(frozen=True)
class LvisFile:
    """Content of an annotation file."""

    coco: CocoFile
    """Images, objects and classes; names of images are paths below the folder `coco`."""
    absent: Mapping[int, list[int]]
    """Classes that an image does not have, by its id."""
    incomplete: Mapping[int, list[int]]
    """Classes of which objects of an image may lack, by its id."""
    frequency: Mapping[int, str]
    """A key of `FREQUENCIES` for each class."""


def annotation_file(root: Path, split: str) -> Path:
    """Path of the annotations of `train` or `val` in a data root."""
    return root / FOLDER / f"lvis_v1_{split}.json"


def load_lvis(path: Path) -> LvisFile:
    """Read an annotation file; raises `BenchError` for what the check would report as an error."""
    return read_lvis(path, Strict())


def read_lvis(path: Path, findings: Findings) -> LvisFile:
    """Read an annotation file. Entries that cannot be used are left out and reported as errors."""
    where = findings.name(path)
    content = read_lists(path, where, findings, _LONGEST_FILE)
    images = [entry for entry in content.get("images", ()) if _is_image(entry, where, findings)]
    named = [{**entry, "file_name": "/".join(entry["coco_url"].split("/")[-2:])} for entry in images]
    for entry in content.get("annotations", ()):
        if isinstance(entry, dict):
            entry.setdefault("iscrowd", 0)  # LVIS has no crowds
    coco = parse_coco({**content, "images": named}, where, findings, folders=True)
    listed = [entry for entry in content.get("categories", ()) if isinstance(entry, dict)]
    frequency = {entry["id"]: str(entry.get("frequency")) for entry in listed if type(entry.get("id")) is int}
    numbered = set(coco.categories) == set(range(1, CLASSES + 1))
    if content and not (numbered and set(frequency.values()) <= FREQUENCIES.keys()):
        findings.error(
            "wrong categories",
            f"{where}: categories are not LVIS v1's {CLASSES:,}, numbered from 1, each with its frequency r, c or f",
        )
    return LvisFile(
        coco,
        {entry["id"]: entry["neg_category_ids"] for entry in images},
        {entry["id"]: entry["not_exhaustive_category_ids"] for entry in images},
        frequency,
    )


def _is_image(entry: Any, where: str, findings: Findings) -> bool:
    if isinstance(entry, dict) and isinstance(entry.get("coco_url"), str) and type(entry.get("id")) is int:
        lists = [entry.get(key) for key in ("neg_category_ids", "not_exhaustive_category_ids")]
        if all(isinstance(one, list) and all(type(number) is int for number in one) for one in lists):
            return True
    findings.error(
        "damaged entries in images",
        f"{where}: an image lacks id, coco_url, neg_category_ids or not_exhaustive_category_ids, which LVIS v1 has",
    )
    return False


def check_lvis(root: Path, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    """Read both annotation files and the images; the histogram counts objects of rare, common and frequent classes."""
    splits: dict[str, Split] = {}
    contents: dict[str, LvisFile] = {}
    for name in ("train", "val"):
        path = annotation_file(root, name)
        contents[name] = content = read_lvis(path, findings)
        images = content.coco.images.values()
        splits[name] = split = Split([root / "coco" / image.file_name for image in images], [path])
        split.histogram.update(dict.fromkeys(FREQUENCIES.values(), 0))
        split.histogram.update(
            FREQUENCIES.get(content.frequency[item.category_id], "of no frequency") for item in content.coco.objects
        )
        split.counts.update({"objects": len(content.coco.objects)})
        if not content.coco.objects:
            findings.error("splits without objects", f"{findings.name(path)} has no object")
        for item in content.coco.objects:
            if item.mask is None:
                findings.error("objects without a mask", f"{findings.name(path)}: annotation {item.id} has no mask")
    files = ImageFiles(root, [path for split in splits.values() for path in split.images], findings)
    for name, split in splits.items():
        where = findings.name(split.annotations[0])
        for image, path in zip(contents[name].coco.images.values(), split.images, strict=True):
            what = f"{where}: image {image.id} is given as {by(image.size)}, "
            files.compare(path, files.size(path), image.size, what, "images of another size than annotated")
    report_lengths(splits, _PUBLISHED, findings)
    return splits, files
