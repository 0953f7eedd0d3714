"""Checks Cityscapes: `leftImg8bit` images and `gtFine` trainId masks."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.datasets.cityscapes import Frame, list_frames, list_labels
from bench.datasets.files import ImageFiles, report_ids
from bench.datasets.masks import CONVERT, check_masks
from bench.datasets.names import CITYSCAPES_CLASSES, VOID
from bench.datasets.report import Findings, Split

FOLDER: Final = Path("cityscapes")
LAYOUT: Final = (
    "cityscapes with leftImg8bit/{train,val}/CITY/*_leftImg8bit.png (or .jpg) and "
    "gtFine/{train,val}/CITY/*_gtFine_labelTrainIds.png"
)
_LABEL_IDS: Final = frozenset(range(34))


def check_cityscapes(root: Path, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    """Read images and masks."""
    splits: dict[str, Split] = {}
    frames: dict[str, list[Frame]] = {}
    for name in ("train", "val"):
        labels = root / FOLDER / "gtFine" / name
        frames[name] = listed = list_frames(root / FOLDER / "leftImg8bit" / name, labels, findings)
        splits[name] = Split([frame.image for frame in listed], [frame.label for frame in listed])
        splits[name].counts["cities"] = len({frame.city for frame in listed})
        for path in sorted(set(list_labels(labels, findings)) - set(splits[name].annotations)):
            findings.warning("masks without an image", f"{findings.name(path)} has no image")
    every = [path for split in splits.values() for path in split.images]
    if len({path.suffix.lower().replace("jpeg", "jpg") for path in every}) > 1:
        findings.error("mixed image types", "cityscapes/leftImg8bit holds both .png and .jpg images: keep one sort")
    train, val = ([frame.id for frame in frames[name]] for name in ("train", "val"))
    report_ids(train, val, "cityscapes", findings)
    if cities := {frame.city for frame in frames["train"]} & {frame.city for frame in frames["val"]}:
        findings.warning(
            "cities in both splits",
            f"cityscapes: {', '.join(sorted(cities))} in both train and val: neighbouring frames resemble each other",
        )
    images = ImageFiles(root, every, findings)
    names = {**dict(enumerate(CITYSCAPES_CLASSES)), VOID: "void"}
    pairs = {name: [(frame.image, frame.label) for frame in listed] for name, listed in frames.items()}
    check_masks(pairs, splits, names, _explain, images)
    return splits, images


def _explain(found: frozenset[int]) -> str:
    last = len(CITYSCAPES_CLASSES) - 1
    wanted = f"trainIds are 0 to {last}, and {VOID} = void"
    if 0 not in found and max(found - {VOID}) == last + 1:
        return f"{wanted}; yours seem to begin with 1 for {CITYSCAPES_CLASSES[0]}: subtract 1"
    if found - {VOID} <= _LABEL_IDS:
        return f"{wanted}. If these are Cityscapes' labelIds (0 to 33), {CONVERT}; map ids of your own to trainIds"
    return wanted
