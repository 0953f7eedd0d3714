"""Reads PASCAL VOC's lists and XML files, in the same way for the check, the fingerprint and fine-tuning.

Each function reports problems to `Findings`: the check collects them, a reader's `Strict` findings raise the first
error. So data that the check calls usable are also usable for training. PyTorch is not imported.
"""

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Final, NamedTuple
from xml.etree import ElementTree

from bench.datasets.files import SUFFIXES, by, is_file, what_is_in, why_missing
from bench.datasets.names import VOC_CLASSES
from bench.datasets.pixels import first_line
from bench.datasets.report import Findings
from leaderboard.base.errors import DenseBenchError
from leaderboard.base.files import describe_os_error, read_bounded
from leaderboard.base.lists import read_lines

LONGEST_FILE: Final = 2**24
"""Most bytes of a list or an XML file; VOC's own have a few thousand."""
_LONGEST_ID: Final = 200
"""Most bytes of an image id, so that the names made from it fit any file system."""
_LABELLED: Final = re.compile(r"(\S+)\s+-?\d+")
"""Matches a line of VOC's lists of one class: an image id and -1, 0 or 1."""
_FLAGS: Final = {"": False, "0": False, "1": True, "false": False, "true": True, "unspecified": False}
"""Meaning of the texts that labeling tools write into `<difficult>`, in lower case."""


class Entry(NamedTuple):
    """An image of a list, and the XML file or mask that belongs to it."""

    id: str
    image: Path
    annotation: Path


class VOCObject(NamedTuple):
    """An object of an XML file."""

    name: str
    """Class name, one of those that are known."""
    box: tuple[float, float, float, float]
    """Box as xmin, ymin, xmax, ymax in the file's convention: pixels count from 1, the last one included."""
    difficult: bool
    truncated: bool


class Annotation(NamedTuple):
    """An XML file."""

    size: tuple[int, int]
    """Width and height of the image."""
    objects: list[VOCObject]


def read_entries(list_file: Path, images: Path, annotations: Path, suffix: str, findings: Findings) -> list[Entry]:
    """The images that a list names, in its order, with their annotations.

    An image is the file in the folder `images` whose name is the id with one of `files.SUFFIXES`, in upper or lower
    case; where there is none, it is `ID.jpg`, which is missing. An annotation is `ID` plus `suffix` in `annotations`.
    """
    photos = _photos(images, findings)
    entries = []
    for image_id in read_list(list_file, findings):
        names = photos.get(image_id, [])
        if len(names) > 1:
            findings.error("ids of two images", f"{findings.name(images)} holds {' and '.join(names)}: keep one")
        image = images / (names[0] if names else f"{image_id}.jpg")
        entries.append(Entry(image_id, image, annotations / f"{image_id}{suffix}"))
    return entries


def read_augmented(folder: Path, findings: Findings) -> list[Entry]:
    """The images that `ImageSets/Segmentation/trainaug.txt` names, in its order, with their masks.

    `folder` is `VOCdevkit/VOC2012`. An image of VOC's own `train.txt` has VOC's mask in `SegmentationClass`; the others
    have that of the Semantic Boundaries Dataset (SBD; Hariharan et al., ICCV 2011) in `SegmentationClassAug`, where
    outlines are not void. mmseg reads the same pairs, from `train.txt` and `aug.txt`.
    """
    lists, photos = folder / "ImageSets" / "Segmentation", folder / "JPEGImages"
    listed = read_entries(lists / "trainaug.txt", photos, folder / "SegmentationClassAug", ".png", findings)
    own = read_entries(lists / "train.txt", photos, folder / "SegmentationClass", ".png", findings)
    by_id = {entry.id: entry for entry in own}
    return [by_id.get(entry.id, entry) for entry in listed]


def read_list(path: Path, findings: Findings) -> list[str]:
    """The ids in a list, one per line; a column of labels after them is not read, which is reported."""
    name = findings.name(path)
    if not is_file(path):
        found = "" if why_missing(path) != "is missing" else f"; its folder {what_is_in(path.parent)}"
        findings.error("missing lists", f"{name} {why_missing(path)}{found}")
        return []
    try:
        lines = read_lines(path, LONGEST_FILE)
    except (DenseBenchError, OSError, ValueError) as error:
        findings.error("damaged lists", f"{name} cannot be read: {_reason(error)}")
        return []
    ids = []
    for line in lines:
        labelled = _LABELLED.fullmatch(line)
        image_id = labelled[1] if labelled else line
        if not _is_id(image_id):
            findings.error("lists with wrong lines", f"{name}: {line!r} is not an image id")
            continue
        if labelled:
            findings.warning("lists with a column of labels", f"{name} has labels behind the ids: they are not used")
        ids.append(image_id)
    if not lines:
        findings.error("empty splits", f"{name} lists no image: expected one image id a line, such as 2007_000032")
    return ids


def read_annotation(
    path: Path, findings: Findings, classes: Collection[str] = VOC_CLASSES, whose: str = "VOC's"
) -> Annotation | None:
    """What an XML file says; None, with the reason reported, if it cannot be used at all.

    Objects that cannot be used are reported and left out, as are those that are none of `whose` `classes`. Parts of
    objects (VOC's person layout) are not read.
    """
    name = findings.name(path)
    if not is_file(path):
        findings.error("missing annotations", f"{name} {why_missing(path)}")
        return None
    try:
        tree = ElementTree.fromstring(read_bounded(path, LONGEST_FILE))
    except (ElementTree.ParseError, DenseBenchError, OSError, ValueError, LookupError) as error:
        findings.error("damaged annotations", f"{name} is damaged: {_reason(error)}")
        return None
    width, height = (_number(tree.findtext(f"size/{side}")) for side in ("width", "height"))
    if not (width >= 1 and height >= 1 and width.is_integer() and height.is_integer()):
        findings.error("annotations without a size", f"{name} says no valid size (<size> with <width> and <height>)")
        return None
    objects = [
        _object(item, f"{name}: object {number}", findings, classes, whose)
        for number, item in enumerate(tree.findall("object"), start=1)
    ]
    return Annotation((int(width), int(height)), [found for found in objects if found is not None])


def report_boxes(annotation: Annotation, path: Path, findings: Findings) -> None:
    """Report boxes that extend beyond their image, and objects that are listed twice."""
    name, (width, height) = findings.name(path), annotation.size
    seen: set[tuple[str, tuple[float, ...]]] = set()
    for number, item in enumerate(annotation.objects, start=1):
        what = f"{name}: box of object {number} ({item.name}) is {_shown(item.box)}"
        left, top, right, bottom = item.box
        beyond = max(1 - left, 1 - top, right - width, bottom - height)
        if beyond > 1:
            findings.error("boxes outside their image", f"{what}, outside the image of {by(annotation.size)}")
        elif beyond > 0:
            findings.warning(
                "boxes a pixel outside", f"{what}, up to a pixel outside the image of {by(annotation.size)}"
            )
        if (item.name, item.box) in seen:
            findings.warning("objects that are there twice", f"{what}, as is an object before it: none can find both")
        seen.add((item.name, item.box))


def _object(
    item: ElementTree.Element, what: str, findings: Findings, classes: Collection[str], whose: str
) -> VOCObject | None:
    kind = (item.findtext("name") or "").strip()
    if kind not in classes:
        findings.error(
            "objects of unknown classes", f"{what} is a {kind!r}, which is none of {whose} {len(classes)} classes"
        )
        return None
    flag = (item.findtext("difficult") or "").strip()
    if flag.lower() not in _FLAGS:
        findings.error("wrong <difficult>", f"{what} ({kind}) has <difficult>{flag}</difficult>: it must be 0 or 1")
        return None
    box = [_number(item.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
    if any(map(math.isnan, box)):
        findings.error("damaged boxes", f"{what} ({kind}) has a box with missing or unreadable coordinates")
        return None
    left, top, right, bottom = box
    if left > right or top > bottom:
        findings.error("damaged boxes", f"{what} ({kind}) has the box {_shown(box)}: xmin or ymin exceeds xmax or ymax")
        return None
    truncated = (item.findtext("truncated") or "").strip() == "1"
    return VOCObject(kind, (left, top, right, bottom), _FLAGS[flag.lower()], truncated)


def _photos(folder: Path, findings: Findings) -> dict[str, list[str]]:
    """Names of the images in a folder, by id; hidden files, such as macOS's `._a.jpg`, do not count."""
    photos: defaultdict[str, list[str]] = defaultdict(list)
    try:
        names = sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return photos  # every image is then reported as missing
    except OSError as error:
        findings.error("unreadable folders", f"{findings.name(folder)} cannot be read: {_reason(error)}")
        return photos
    for name in names:
        stem, dot, end = name.rpartition(".")
        if f"{dot}{end.lower()}" in SUFFIXES and not name.startswith("."):
            photos[stem].append(name)
    return photos


def _is_id(text: str) -> bool:
    plain = not re.search(r"[\s/\\\x00-\x1f\x7f]", text) and text not in (".", "..")
    return plain and len(os.fsencode(text)) <= _LONGEST_ID


def _number(text: str | None) -> float:
    """The text as a finite number, or nan."""
    try:
        value = float(text or "nan")
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _shown(box: tuple[float, ...] | list[float]) -> str:
    return f"[{', '.join(f'{value:g}' for value in box)}]"


def _reason(error: Exception) -> str:
    return describe_os_error(error) if isinstance(error, OSError) else first_line(error)
