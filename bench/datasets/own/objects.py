"""Reads objects of own data (COCO files, VOC's XML, YOLO's text) as the objects of a COCO file.

Categories are the description's, by the keys of its `classes`; boxes are x, y, width, height in pixels of the picture
as it is used. Objects that VOC marks difficult are crowds: they count neither as found nor as missed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from bench.datasets.coco import CocoFile, read_coco
from bench.datasets.coco_objects import SLACK, Box, CocoImage, CocoObject
from bench.datasets.coco_units import report_units
from bench.datasets.files import by, is_file
from bench.datasets.own.description import Own, PartName
from bench.datasets.own.pictures import Headers, Picture, list_all_names, list_names, of_part, read_header, resolve
from bench.datasets.pixels import first_line
from bench.datasets.report import Findings, Strict
from bench.datasets.voc import read_annotation, report_boxes
from leaderboard.base.errors import DenseBenchError
from leaderboard.base.lists import read_lines
from leaderboard.base.printable import printable_name

_LONGEST: Final = 2**24
"""Most bytes of an image's annotations."""


@dataclass(frozen=True)
class Objects:
    """The objects of a part."""

    content: CocoFile
    """Images (their file names are paths below the folder of images), objects, and the description's classes."""
    pictures: dict[int, Picture]
    """The images by their id."""
    left_out: list[CocoObject]
    """Objects of the classes that the description ignores, where their masks are known."""


@dataclass(frozen=True)
class Listed:
    """The images of a part and the files with their annotations; what these say comes later."""

    images: list[Path]
    annotations: list[Path]
    names: list[str]
    """Names of the images, below their folder."""
    coco: CocoFile | None = None
    """What the annotation file says of them, where it is one of COCO's."""


def list_objects(own: Own, name: PartName, findings: Findings) -> Listed:
    """The images of a part and the files with their annotations."""
    part = own.part(name)
    folder, annotations = own.folder / part.images, own.folder / part.annotations
    if own.said.format == "coco":
        content = _of_part(own, name, read_coco(annotations, findings, folders=True), findings)
        names = [image.file_name for image in content.images.values()]
        return Listed([folder / one for one in names], [annotations], names, content)
    names = list_names(own, name, findings)
    ending = ".xml" if own.said.format == "voc" else ".txt"
    files = [annotations / PurePosixPath(one).with_suffix(ending) for one in names]
    if own.said.format == "yolo":  # an image without a file has no object
        files = [file for file in files if is_file(file)]
    return Listed([folder / one for one in names], files, names)


def read_objects(own: Own, name: PartName, listed: Listed, headers: Headers, findings: Findings) -> Objects:
    """What the annotations of `listed` say. Whatever cannot be used is left out and reported as an error."""
    folder = own.folder / own.part(name).images
    if listed.coco is not None:
        return _coco(own, name, listed.coco, folder, headers, findings)
    read = _voc if own.said.format == "voc" else _yolo
    images: dict[int, CocoImage] = {}
    pictures: dict[int, Picture] = {}
    objects: list[CocoObject] = []
    for number, one in enumerate(listed.names, start=1):
        file = own.folder / own.part(name).annotations / PurePosixPath(one)
        picture, found = read(own, folder / one, file, headers, findings)
        if picture is None:
            continue
        images[number] = image = CocoImage(number, one, *picture.size)
        pictures[number] = picture
        for key, box, difficult in found:
            area = box[2] * box[3]
            objects.append(CocoObject(len(objects) + 1, image, key, box, area, difficult, False, None))
    return Objects(CocoFile(images, objects, dict(own.said.classes)), pictures, [])


def load_objects(own: Own, name: PartName) -> Objects:
    """The objects of a part, for training and evaluation.

    Raises:
        BenchError: something is wrong that the check reports as an error.
    """
    findings = Strict(own.folder)
    return read_objects(own, name, list_objects(own, name, findings), read_header, findings)


def has_masks(objects: Objects) -> bool:
    """Whether there are objects, and every one has a mask."""
    return bool(objects.content.objects) and all(item.mask is not None for item in objects.content.objects)


_Found = list[tuple[int, Box, bool]]
"""Objects of an image: key of the class, box, whether it is a crowd."""


def _of_part(own: Own, name: PartName, content: CocoFile, findings: Findings) -> CocoFile:
    """The images that belong to the part, with their objects; reports categories that nobody described."""
    where = findings.name(own.folder / own.part(name).annotations)
    used = {item.category_id for item in content.objects}
    for number in sorted(used - set(own.said.classes) - set(own.said.ignore)):
        findings.error(
            "objects of unknown classes",
            f"{where}: objects have the category {number}, {printable_name(content.categories[number])}, which "
            f"{own.file.name} does not know: add it to classes, or to ignore",
        )
    names = [image.file_name for image in content.images.values()]
    if own.part(name).listed:
        listed = set(list_all_names(own, name, findings))
        names = [one for one in names if one in listed]
    kept = set(of_part(own, name, names))
    images = {number: image for number, image in content.images.items() if image.file_name in kept}
    return CocoFile(images, [item for item in content.objects if item.image.id in images], content.categories)


def _coco(own: Own, name: PartName, content: CocoFile, folder: Path, headers: Headers, findings: Findings) -> Objects:
    pictures = {}
    for number, image in content.images.items():
        picture = resolve(folder / image.file_name, image.size, own, headers, findings)
        if picture is not None:
            pictures[number] = picture
    report_units(content.objects, findings.name(own.folder / own.part(name).annotations), findings)
    counted = [item for item in content.objects if item.category_id in own.said.classes]
    left_out = [item for item in content.objects if item.category_id in own.said.ignore]
    return Objects(CocoFile(content.images, counted, dict(own.said.classes)), pictures, left_out)


def _voc(own: Own, image: Path, file: Path, headers: Headers, findings: Findings) -> tuple[Picture | None, _Found]:
    file = file.with_suffix(".xml")
    ignored = {item: None for item in own.said.ignore if isinstance(item, str)}
    annotation = read_annotation(file, findings, (*own.names, *ignored), "the described")
    if annotation is None:
        return None, []
    picture = resolve(image, annotation.size, own, headers, findings)
    if picture is None:
        return None, []
    report_boxes(annotation, file, findings)
    key_of = {name: key for key, name in own.said.classes.items()}
    found = []
    for item in annotation.objects:
        left, top, right, bottom = item.box
        if item.name not in ignored:
            found.append((key_of[item.name], (left - 1, top - 1, right - left + 1, bottom - top + 1), item.difficult))
    return picture, found


def _yolo(own: Own, image: Path, file: Path, headers: Headers, findings: Findings) -> tuple[Picture | None, _Found]:
    picture = resolve(image, None, own, headers, findings)
    if picture is None:
        return None, []
    return picture, list(_lines(own, picture.size, file.with_suffix(".txt"), findings))


def is_polygon(values: Sized) -> bool:
    """Whether a line of YOLO's text has as many values as a class and the corners of a polygon."""
    return len(values) > 6 and len(values) % 2 == 1


def _lines(own: Own, size: tuple[int, int], file: Path, findings: Findings) -> Iterator[tuple[int, Box, bool]]:
    if not is_file(file):
        return
    where = findings.name(file)
    try:
        lines = read_lines(file, _LONGEST)
    except (DenseBenchError, OSError, ValueError) as error:
        findings.error("damaged annotations", f"{where} cannot be read: {first_line(error)}")
        return
    for number, line in enumerate(lines, start=1):
        try:
            found = _object(own, line, size)
        except ValueError as error:
            findings.error("damaged boxes", f"{where}: line {number}, {printable_name(repr(line))}, {error}")
            continue
        if found is not None:
            yield (*found, False)


def _object(own: Own, line: str, size: tuple[int, int]) -> tuple[int, Box] | None:
    """Class and box of a line `class x y width height`; None if the class is ignored. Raises ValueError."""
    words = line.split()
    if len(words) != 5:
        polygon = "; polygons are not read: convert them to boxes, or to COCO's JSON" if is_polygon(words) else ""
        raise ValueError(f"has {len(words)} values: it must be class, x and y of the center, width, height{polygon}")
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        raise ValueError("has values that are no numbers") from None
    key = numbers[0]
    if not all(map(math.isfinite, numbers)) or not key.is_integer():
        raise ValueError("has values that are no numbers, or a class that is no whole one")
    if int(key) in own.said.ignore:
        return None
    if int(key) not in own.said.classes:
        raise ValueError(f"has the class {key:g}, which {own.file.name} does not know: add it to classes, or to ignore")
    x, y, width, height = numbers[1:]
    if max(x, y, width, height) > 1 or min(x, y, width, height) < 0:
        raise ValueError("has values that are not 0 to 1: they must be divided by the image's width and height")
    box = ((x - width / 2) * size[0], (y - height / 2) * size[1], width * size[0], height * size[1])
    if max(-box[0], -box[1], box[0] + box[2] - size[0], box[1] + box[3] - size[1]) > SLACK:
        raise ValueError(f"is a box outside its image of {by(size)}")
    return int(key), box
