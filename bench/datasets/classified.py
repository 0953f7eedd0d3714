"""Images with classes: folders of classes as in ImageNet, and VOC's images with the objects of their XML files.

An image of a folder tree has one class, the folder in which it lies. An image of VOC can have several: a class is
there if an object of it is not difficult; where all its objects are difficult, the image does not count for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from bench.datasets.check_voc import FOLDER as VOC2012
from bench.datasets.check_voc import FOLDER_2007 as VOC2007
from bench.datasets.files import SUFFIXES, ImageFiles, is_file, listed_in, relative, report_lengths, why_missing
from bench.datasets.names import VOC_CLASSES
from bench.datasets.report import Findings, Split, Strict
from bench.datasets.voc import read_annotation, read_entries
from bench.errors import BenchError
from leaderboard.base.lists import read_lines

Part = Literal["train", "val"]
FOLDER: Final = Path("imagenet")
LAYOUT: Final = "imagenet/{train,val} with a folder for each class, which holds its images (.jpg, .jpeg or .png)"
LONGEST_LIST: Final = 2**28
"""Most bytes of a list: ten times those of all images of ImageNet."""
PRESENT, ABSENT, UNKNOWN = 1, 0, -1
"""Whether an image of VOC has a class; `UNKNOWN` if all its objects of the class are difficult."""

_VOC: Final[Mapping[str, tuple[Path, Mapping[str, str]]]] = {
    "voc2007": (VOC2007, {"train": "trainval", "val": "test"}),
    "voc2012_det": (VOC2012, {"train": "train", "val": "val"}),
}
"""The folder of each data set of VOC, and the lists of its parts."""
TREES: Final[Mapping[str, Mapping[str, str]]] = {
    "imagenet": {},
    "imagenet-lt": {"train": "ImageNet_LT_train.txt", "val": "ImageNet_LT_test.txt"},
    "imagenet-1percent": {"train": "train-1percent.txt"},
    "imagenet-10percent": {"train": "train-10percent.txt"},
}
"""The lists below `imagenet/` that name the images of a part; without one, a part is the folder of its name."""
_PUBLISHED: Final[Mapping[str, Mapping[str, int]]] = {
    "imagenet": {"train": 1_281_167, "val": 50_000},
    "imagenet-lt": {"train": 115_846, "val": 50_000},
    "imagenet-1percent": {"train": 12_811, "val": 50_000},
    "imagenet-10percent": {"train": 128_116, "val": 50_000},
}
"""Numbers of images with which published results were trained and evaluated."""


@dataclass(frozen=True)
class ClassifiedImages:
    """The images of a part of a data set, with their classes."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    """A name for each image that no other image of the part has: its path below the folder of the part or data set."""
    labels: NDArray[np.int64]
    """The index of each image's class (N,), or, where images can have several, `PRESENT`, `ABSENT` or `UNKNOWN` for
    each image and class (N, K)."""
    classes: tuple[str, ...]


def classified_images(root: Path, dataset: str, part: Part) -> ClassifiedImages:
    """The images of a part of one of ImageNet's variants, `voc2007` or `voc2012_det` in the data root `root`.

    Classes of a folder tree are the folders below `imagenet/train`, sorted by name.

    Raises:
        BenchError: the data set has no classes of images, or a list, folder or XML file is missing or damaged.
    """
    findings = Strict(root)
    if dataset in _VOC:
        return _voc(root, *_VOC[dataset], part, findings)
    if dataset not in TREES:
        raise BenchError(f"{dataset} has no classes of images: a probe of images takes {', '.join([*_VOC, *TREES])}")
    classes = class_names(root, findings)
    paths = list_images(root, dataset, part, findings)
    _report_unknown(part, {path.parent.name for path in paths}, classes, findings)
    number = {name: i for i, name in enumerate(classes)}
    labels = np.array([number[path.parent.name] for path in paths], np.int64)
    return ClassifiedImages(tuple(paths), tuple(relative(p, root / FOLDER) for p in paths), labels, classes)


def class_names(root: Path, findings: Findings | None = None) -> tuple[str, ...]:
    """The classes of ImageNet's variants in the data root `root`: the folders below `imagenet/train`, sorted by name.

    That the folder is missing is reported to `findings`.

    Raises:
        BenchError: it is missing, and there are no `findings`.
    """
    found = listed_in(root / FOLDER / "train", Strict(root) if findings is None else findings)
    return tuple(path.name for path in found if path.is_dir())


def read_trees(root: Path, findings: Findings, dataset: str) -> tuple[dict[str, Split], ImageFiles]:
    """Read the folders or lists of a folder tree's parts, and its images."""
    classes = class_names(root, findings)
    splits = {"train": Split(), "val": Split()}
    parts: tuple[Part, Part] = ("train", "val")
    for part in parts:
        split = splits[part]
        if part in TREES[dataset]:
            split.annotations.append(root / FOLDER / TREES[dataset][part])
        split.images = list_images(root, dataset, part, findings)
        split.histogram = Counter(path.parent.name for path in split.images)
        _report_unknown(part, split.histogram, classes, findings)
    images = ImageFiles(root, [path for split in splits.values() for path in split.images], findings)
    for split in splits.values():
        for path in split.images:
            images.size(path)
    if len(splits["train"].histogram) < 2:
        findings.error("too few classes", f"train needs images of two classes or more: expected {LAYOUT}")
    report_lengths(splits, _PUBLISHED[dataset], findings)
    return splits, images


def _voc(root: Path, folder: Path, lists: Mapping[str, str], part: Part, findings: Findings) -> ClassifiedImages:
    base = root / folder
    listed = base / "ImageSets" / "Main" / f"{lists[part]}.txt"
    entries = read_entries(listed, base / "JPEGImages", base / "Annotations", ".xml", findings)
    labels = np.full((len(entries), len(VOC_CLASSES)), ABSENT, np.int64)
    for row, entry in zip(labels, entries, strict=True):
        annotation = read_annotation(entry.annotation, findings)
        for item in annotation.objects if annotation else ():
            column = VOC_CLASSES.index(item.name)
            row[column] = UNKNOWN if item.difficult and row[column] != PRESENT else PRESENT
    paths = tuple(entry.image for entry in entries)
    return ClassifiedImages(paths, tuple(path.name for path in paths), labels, VOC_CLASSES)


def _report_unknown(part: str, found: Iterable[str], classes: Iterable[str], findings: Findings) -> None:
    for name in sorted(set(found) - set(classes)):
        findings.error("unknown classes", f"{part} has images of {name}, which is no folder of imagenet/train")


def list_images(root: Path, dataset: str, part: Part, findings: Findings) -> list[Path]:
    """The images of a part of one of `TREES`, in the order of its list or else of their names."""
    listed = TREES[dataset].get(part)
    folder = root / FOLDER
    if listed is None:
        found = [
            path
            for kind in listed_in(folder / part, findings)
            if kind.is_dir()
            for path in listed_in(kind, findings)
            if path.suffix.lower() in SUFFIXES
        ]
        if not found:
            findings.error("parts without images", f"no image below {relative(folder / part, root)}: expected {LAYOUT}")
        return found
    path = folder / listed
    if not is_file(path):
        how = f"densebench data prepare {root} {'imagenet-lt' if dataset == 'imagenet-lt' else 'imagenet-subsets'}"
        findings.error("missing lists", f"{relative(path, root)} {why_missing(path)}: {how}")
        return []
    try:
        lines = [line.split(" ")[0] for line in read_lines(path, LONGEST_LIST)]
    except (OSError, ValueError) as error:
        findings.error("damaged lists", f"{relative(path, root)} cannot be read: {error}")
        return []
    wrong = next((line for line in lines if line.startswith("/") or ".." in line.split("/")), None)
    if wrong is not None:
        findings.error("damaged lists", f"{relative(path, root)}: {wrong!r} is no path below imagenet/")
        return []
    return [folder / line for line in lines]
