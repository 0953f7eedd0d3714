"""Checks Cityscapes: `leftImg8bit` images and `gtFine` trainId masks."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from bench.datasets.files import ImageFiles, read_labels, relative, report_ids, same_size
from bench.datasets.names import CITYSCAPES_CLASSES, VOID
from bench.datasets.report import Findings, Split
from bench.errors import BenchError

LAYOUT: Final = (
    "cityscapes with leftImg8bit/{train,val}/CITY/*_leftImg8bit.png (or .jpg) and "
    "gtFine/{train,val}/CITY/*_gtFine_labelTrainIds.png"
)
_IMAGE: Final = "_leftImg8bit"
_LABEL: Final = "_gtFine_labelTrainIds.png"
_CONVERT: Final = "make them with `csCreateTrainIdLabelImgs` of the package cityscapesscripts"


def cityscapes_suffix(root: Path) -> str:
    """`_leftImg8bit.png` as Cityscapes has it, or `_leftImg8bit.jpg`; `BenchError` if there is neither, or both."""
    found = {suffix for split in ("train", "val") for suffix in (".png", ".jpg") if _images(root, split, suffix)}
    if len(found) != 1:
        why = "both .png and .jpg images" if found else "no images"
        raise BenchError(f"{root / 'cityscapes' / 'leftImg8bit'} holds {why}: expected {LAYOUT}")
    return f"{_IMAGE}{found.pop()}"


def check_cityscapes(root: Path, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    """Read images and masks."""
    splits = {}
    for name in ("train", "val"):
        splits[name] = Split(images=sorted(_images(root, name, ".png") + _images(root, name, ".jpg")))
    every = [path for split in splits.values() for path in split.images]
    if len({path.suffix for path in every}) > 1:
        findings.error("mixed image types", "cityscapes/leftImg8bit holds both .png and .jpg images: keep one sort")
    train, val = ([path.stem.removesuffix(_IMAGE) for path in splits[name].images] for name in ("train", "val"))
    report_ids(train, val, "cityscapes", findings)
    cities = {path.parent.name for path in splits["train"].images} & {path.parent.name for path in splits["val"].images}
    if cities:
        findings.warning(
            "cities in both splits",
            f"cityscapes: {', '.join(sorted(cities))} in both train and val: neighbouring frames resemble each other",
        )

    names = {**dict(enumerate(CITYSCAPES_CLASSES)), VOID: "void"}
    images = ImageFiles(root, every, findings)
    for name, split in splits.items():
        split.histogram.update(dict.fromkeys(names.values(), 0))
        split.counts["cities"] = len({path.parent.name for path in split.images})
        folder = root / "cityscapes" / "gtFine" / name
        for image in split.images:
            path = folder / image.parent.name / (image.stem.removesuffix(_IMAGE) + _LABEL)
            split.annotations.append(path)
            size = images.size(image)
            _mask(path, image, size, names, split, root, findings)
        for path in sorted(set(folder.glob(f"*/*{_LABEL}")) - set(split.annotations)):
            findings.warning("masks without an image", f"{relative(path, root)} has no image")
    return splits, images


def _images(root: Path, split: str, suffix: str) -> list[Path]:
    return list((root / "cityscapes" / "leftImg8bit" / split).glob(f"*/*{_IMAGE}{suffix}"))


def _mask(
    path: Path,
    image: Path,
    size: tuple[int, int] | None,
    names: dict[int, str],
    split: Split,
    root: Path,
    findings: Findings,
) -> None:
    name = relative(path, root)
    if not path.exists() and path.with_name(path.name.replace("labelTrainIds", "labelIds")).exists():
        findings.error("missing trainId masks", f"{name} is missing, only its labelIds exist: {_CONVERT}")
        return
    labels = read_labels(path, root, findings)
    if labels is None:
        return
    same_size(labels, size, name, image.name, findings)
    counts = np.bincount(labels.ravel(), minlength=256)
    wrong = [label for label in np.flatnonzero(counts).tolist() if label not in names]
    if wrong and max(wrong) <= 33:
        findings.error(
            "masks with labelIds",
            f"{name} has label {wrong[0]}: these look like labelIds (0 to 33), not trainIds (0 to 18, 255 = void); "
            + _CONVERT,
        )
    elif wrong:
        findings.error(
            "masks with wrong labels",
            f"{name} has label {wrong[0]} on {counts[wrong[0]]} pixels: trainIds are 0 to 18, and 255 = void",
        )
    for label, kind in names.items():
        split.histogram[kind] += int(counts[label])
