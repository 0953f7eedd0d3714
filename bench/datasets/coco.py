"""Reads COCO's annotation files, in the same way for the check, the list of images, training and evaluation.

An error that :func:`read_coco` reports stops training and evaluation, whose findings are `Strict`, and a file without
errors can be trained on and evaluated. So a file that the check calls usable is also usable for training. PyTorch is
not imported.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.datasets.coco_objects import NOTES, CocoImage, CocoObject, DamagedError, read_object, whole
from bench.datasets.files import by, what_is_in
from bench.datasets.pixels import first_line
from bench.datasets.report import Findings, Strict
from leaderboard.base.errors import FileError
from leaderboard.base.files import describe_os_error, read_bounded
from leaderboard.base.printable import printable_name
from pretrain.data.pictures import check_pixels

LONGEST_FILE: Final = 2**30
"""Most bytes of an annotation file, more than twice COCO's own; in memory it takes about ten times as much."""
_LONGEST_SIDE: Final = 2**16
"""Most pixels of a side, more than a JPEG file can have."""
_LONGEST_NAME: Final = 255
"""Most bytes of a file's name on usual file systems."""
_MASK_BYTES: Final = 2**32
"""Most bytes of an image's masks, which training draws together with one byte per pixel and object."""
_WHOLE: Final = {
    "images": ("id", "width", "height"),
    "annotations": ("id", "image_id", "category_id"),
    "categories": ("id",),
}
"""Keys whose values must be whole numbers in the entries of each list."""
_TEXT: Final = {"images": "file_name", "categories": "name"}
_LISTED: Final = {"images": "id, file_name, width, height", "categories": "id, name"} | {
    "annotations": "id, image_id, category_id, bbox"
}


@dataclass(frozen=True)
class CocoFile:
    """Content of an annotation file, in the file's order."""

    images: dict[int, CocoImage]
    """Images by their id."""
    objects: list[CocoObject]
    categories: dict[int, str]
    """Names of the categories by their id."""

    def of_images(self, ids: Collection[int]) -> CocoFile:
        """The content of the images with these ids alone."""
        images = {number: image for number, image in self.images.items() if number in ids}
        return CocoFile(images, [item for item in self.objects if item.image.id in ids], self.categories)

    def by_image(self) -> dict[int, list[CocoObject]]:
        """The objects of each image, by its id."""
        found: dict[int, list[CocoObject]] = {image_id: [] for image_id in self.images}
        for item in self.objects:
            found[item.image.id].append(item)
        return found


def annotation_file(root: Path, split: str) -> Path:
    """Path of the annotations of `train` or `val` in a data root."""
    return root / "coco" / "annotations" / f"instances_{split}2017.json"


def image_folder(root: Path, split: str) -> Path:
    """Folder of the images of `train` or `val` in a data root; only those in the annotation file are used."""
    return root / "coco" / f"{split}2017"


def load_coco(path: Path) -> CocoFile:
    """Read an annotation file; raises `BenchError` for what the check would report as an error."""
    return read_coco(path, Strict())


def read_coco(path: Path, findings: Findings, *, folders: bool = False) -> CocoFile:
    """Read an annotation file. Entries that cannot be used are left out and reported as errors.

    With `folders`, file names may be paths below the folder of the images, such as `day1/0001.jpg`.

    Absent `area` and `iscrowd` are computed, polygons of fewer than 3 points are left out, and other unusual but usable
    things (`coco_objects.NOTES`) are counted in a warning.
    """
    where = findings.name(path)
    return parse_coco(read_lists(path, where, findings), where, findings, folders=folders)


def parse_coco(content: Mapping[str, Any], where: str, findings: Findings, *, folders: bool = False) -> CocoFile:
    """What the lists of an annotation file mean, which messages call `where`; see :func:`read_coco`."""
    refused: set[int] = set()
    images: dict[int, CocoImage] = {}
    names: set[str] = set()
    for entry in _entries(content, "images", where, findings):
        image = CocoImage(entry["id"], entry["file_name"], entry["width"], entry["height"])
        what = f"{where}: image {image.id}"
        if problem := _problem(image, folders):
            findings.error("damaged entries in images", f"{what} {problem}")
            refused.add(image.id)
        elif image.id in images:
            findings.error("duplicated ids", f"{what} is listed twice")
        elif image.file_name in names:
            findings.error("duplicated image files", f"{what} has the file of another one, {_name(image.file_name)}")
            refused.add(image.id)
        else:
            images[image.id] = image
            names.add(image.file_name)
    categories: dict[int, str] = {}
    kinds: set[str] = set()
    for entry in _entries(content, "categories", where, findings):
        if entry["id"] in categories or entry["name"] in kinds:
            findings.error("duplicated categories", f"{where}: category {_name(entry['name'])} is listed twice")
        categories.setdefault(entry["id"], entry["name"])
        kinds.add(entry["name"])
    entries = (entry for entry in _entries(content, "annotations", where, findings) if entry["image_id"] not in refused)
    return CocoFile(images, _objects(entries, images, categories, where, findings), categories)


def read_lists(path: Path, where: str, findings: Findings, longest: int | None = None) -> dict[str, Any]:
    """The file's JSON object with its three lists; empty, with the problem reported, if it cannot be read.

    A file of more than `longest` bytes (default: `LONGEST_FILE`) cannot.
    """
    longest = longest or LONGEST_FILE
    try:
        content = json.loads(read_bounded(path, longest))
    except FileNotFoundError:
        folder = findings.name(path.parent)
        findings.error("missing annotations", f"{where} is missing; {folder} {what_is_in(path.parent)}")
        return {}
    except FileError as error:
        reason = str(error).removeprefix(f"{path}: ")
    except OSError as error:
        reason = describe_os_error(error)
    except UnicodeDecodeError as error:
        reason = f"it is no UTF-8, UTF-16 or UTF-32 text ({first_line(error)}); save it as UTF-8"
    except RecursionError:
        reason = "it is damaged: lists in lists, too deep to be annotations"
    except MemoryError:
        reason = "there is not enough memory for it"
    except ValueError as error:
        reason = f"it is damaged: {first_line(error)}"
    else:
        if isinstance(content, dict) and all(isinstance(content.get(key), list) for key in _WHOLE):
            return content
        reason = f"it must hold the lists {', '.join(_WHOLE)}"
    findings.error("damaged annotations", f"{where} cannot be read as COCO annotations: {reason}")
    return {}


def _entries(content: Mapping[str, Any], key: str, where: str, findings: Findings) -> Iterator[dict[str, Any]]:
    """The entries of a list that have all required keys, with their whole numbers as `int`."""
    for position, entry in enumerate(content.get(key, ())):
        if isinstance(entry, dict):
            numbers = {field: whole(entry.get(field)) for field in _WHOLE[key]}
            if None not in numbers.values() and (key not in _TEXT or isinstance(entry.get(_TEXT[key]), str)):
                yield entry | numbers
                continue
        findings.error(
            f"damaged entries in {key}", f"{where}: {key}[{position}] needs {_LISTED[key]} of the usual types"
        )


def _problem(image: CocoImage, folders: bool) -> str | None:
    parts = image.file_name.split("/") if folders else [image.file_name]
    if not all(map(_is_plain, parts)):
        wanted = "a path below the folder of the images" if folders else "a plain file name"
        return f"has file_name {_name(image.file_name)}, which must be {wanted}"
    if not (0 < image.width <= _LONGEST_SIDE and 0 < image.height <= _LONGEST_SIDE):
        return f"is given as {by(image.size)}: no side can have so many pixels"
    try:
        check_pixels(*image.size)
    except ValueError as error:
        return f"is too large: {error}"
    return None


def _is_plain(name: str) -> bool:
    """Whether it can be a file's name and nothing else; half a surrogate pair cannot."""
    plain = name.isprintable() and not {"/", "\\"} & set(name) and name not in ("", ".", "..")
    return plain and len(name.encode()) <= _LONGEST_NAME


def _objects(
    entries: Iterator[dict[str, Any]],
    images: Mapping[int, CocoImage],
    categories: Mapping[int, str],
    where: str,
    findings: Findings,
) -> list[CocoObject]:
    objects: dict[int, CocoObject] = {}
    notes: defaultdict[str, list[int]] = defaultdict(list)
    bytes_drawn: Counter[CocoImage] = Counter()
    for entry in entries:
        try:
            found, peculiar = read_object(entry, images, categories)
        except DamagedError as error:
            findings.error(error.sort, f"{where}: {error}")
            continue
        if found.id in objects:
            findings.error("duplicated ids", f"{where}: annotation id {found.id} is listed twice")
            continue
        objects[found.id] = found
        for note in peculiar:
            notes[note].append(found.id)
        if found.mask is not None:
            bytes_drawn[found.image] += found.image.width * found.image.height
    for image, drawn in bytes_drawn.items():
        if drawn > _MASK_BYTES:
            findings.error(
                "images with too many masks",
                f"{where}: the masks of image {image.id} take {drawn / 2**30:.1f} GiB when it is loaded, more than "
                f"{_MASK_BYTES / 2**30:.0f}: scale it down or cut it into pieces",
            )
    for note, ids in notes.items():
        what, consequence = NOTES[note]
        findings.warning(
            f"annotations that {what}",
            f"{where}: {len(ids):,} of {len(objects):,} annotations {what}, such as annotation {ids[0]}: {consequence}",
        )
    return list(objects.values())


def _name(name: str) -> str:
    return printable_name(repr(name))
