"""Checks Cityscapes: `leftImg8bit` images, and `gtFine` masks of trainIds or of instance ids."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.datasets import cityscapes, cityscapes_instances
from bench.datasets.cityscapes import Frame, list_frames, list_labels
from bench.datasets.cityscapes_instances import find_instances, read_ids
from bench.datasets.files import ImageFiles, by, report_ids, report_lengths
from bench.datasets.masks import CONVERT, check_masks
from bench.datasets.names import CITYSCAPES_CLASSES, CITYSCAPES_THINGS, VOID
from bench.datasets.report import Findings, Split

FOLDER: Final = Path("cityscapes")
LAYOUT: Final = (
    "cityscapes with leftImg8bit/{train,val}/CITY/*_leftImg8bit.png (or .jpg) and "
    "gtFine/{train,val}/CITY/*_gtFine_labelTrainIds.png"
)
INSTANCE_LAYOUT: Final = LAYOUT.replace(cityscapes.LABEL, cityscapes_instances.LABEL)
_LABEL_IDS: Final = frozenset(range(34))
_PUBLISHED: Final = {"train": 2_975, "val": 500}
"""Numbers of images with which published results were trained and evaluated."""


def check_cityscapes(root: Path, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    """Read images and masks."""
    frames, splits, images = _open(root, cityscapes.LABEL, findings)
    for name in ("train", "val"):
        labels = root / FOLDER / "gtFine" / name
        for path in sorted(set(list_labels(labels, findings)) - set(splits[name].annotations)):
            findings.warning("masks without an image", f"{findings.name(path)} has no image")
    names = {**dict(enumerate(CITYSCAPES_CLASSES)), VOID: "void"}
    pairs = {name: [(frame.image, frame.label) for frame in listed] for name, listed in frames.items()}
    check_masks(pairs, splits, names, _explain, images)
    return splits, images


def check_cityscapes_instances(root: Path, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    """Read images and instance ids, and count objects."""
    frames, splits, images = _open(root, cityscapes_instances.LABEL, findings)
    names = list(CITYSCAPES_THINGS.values())
    for name, split in splits.items():
        split.histogram.update(dict.fromkeys(names, 0))
        split.counts.update({"objects": 0, "groups": 0, "images without objects": 0})
        before = findings.errors
        for frame in frames[name]:
            _instances(frame, split, images)
        if frames[name] and findings.errors == before and not split.counts["objects"]:
            findings.error("splits without objects", f"no image of {name} has an object of {', '.join(names)}")
    report_lengths(splits, _PUBLISHED, findings)
    return splits, images


def _open(root: Path, label: str, findings: Findings) -> tuple[dict[str, list[Frame]], dict[str, Split], ImageFiles]:
    """Frames with masks called `label`; reports what is wrong with the frames."""
    splits: dict[str, Split] = {}
    frames: dict[str, list[Frame]] = {}
    for name in ("train", "val"):
        images, labels = (root / FOLDER / kind / name for kind in ("leftImg8bit", "gtFine"))
        frames[name] = listed = list_frames(images, labels, findings, label)
        splits[name] = Split([frame.image for frame in listed], [frame.label for frame in listed])
        splits[name].counts["cities"] = len({frame.city for frame in listed})
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
    return frames, splits, ImageFiles(root, every, findings)


def _instances(frame: Frame, split: Split, images: ImageFiles) -> None:
    size, findings = images.size(frame.image), images.findings
    ids = read_ids(frame.label, findings)
    if ids is None:
        return
    height, width = ids.shape
    what = f"{findings.name(frame.label)} is {by((width, height))}, "
    images.compare(frame.image, size, (width, height), what, "masks of another size than their image")
    names, found = list(CITYSCAPES_THINGS.values()), find_instances(ids)
    split.counts["images without objects"] += all(instance.group for instance in found)
    for instance in found:
        split.counts["groups" if instance.group else "objects"] += 1
        if not instance.group:
            split.histogram[names[instance.label]] += 1


def _explain(found: frozenset[int]) -> str:
    last = len(CITYSCAPES_CLASSES) - 1
    wanted = f"trainIds are 0 to {last}, and {VOID} = void"
    if 0 not in found and max(found - {VOID}) == last + 1:
        return f"{wanted}; yours seem to begin with 1 for {CITYSCAPES_CLASSES[0]}: subtract 1"
    if found - {VOID} <= _LABEL_IDS:
        return (
            f"{wanted}. If these are Cityscapes' labelIds (0 to 33), call the files *_gtFine_labelIds.png and "
            f"{CONVERT}; map ids of your own to trainIds"
        )
    return wanted
