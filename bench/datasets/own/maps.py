"""Label maps of own data: index masks in the description's classes, or maps that are drawn from masks of objects.

Drawn maps have the label 0 for all pixels outside the objects and 1, 2, ... for the classes. Where objects overlap, the
smaller one is on top. Crowds and objects of ignored classes are void, and the whole box of an ignored one without a
mask.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.datasets.coco_objects import CocoObject
from bench.datasets.masks import load_labels
from bench.datasets.names import VOID
from bench.datasets.own.description import DETECTION, INSTANCES, MOST_DRAWN, Own, PartName
from bench.datasets.own.objects import has_masks, load_objects
from bench.datasets.own.pictures import list_names, read_header, resolve
from bench.datasets.pairs import Pair
from bench.datasets.report import Findings, Strict
from bench.errors import BenchError

Labels = npt.NDArray[np.uint8]


def list_masks(own: Own, name: PartName, findings: Findings) -> list[tuple[Path, Path]]:
    """Image and mask of every image of a part of a data set with masks."""
    part = own.part(name)
    return [
        (own.folder / part.images / one, own.folder / part.annotations / mask_name(one, own.said.mask_ending))
        for one in list_names(own, name, findings)
    ]


def mask_name(image: str, ending: str) -> PurePosixPath:
    """Name of an image's mask, below the folder of the masks."""
    path = PurePosixPath(image)
    return path.with_name(f"{path.stem}{ending}")


def own_pairs(own: Own, name: PartName) -> list[Pair]:
    """Images and label maps of a part, for training and evaluation.

    Raises:
        BenchError: something is wrong that the check reports as an error, or there are boxes alone.
    """
    if own.said.format == "masks":
        return list(_mask_pairs(own, name))
    if problem := too_many_classes(own):
        raise BenchError(problem)
    found = load_objects(own, name)
    if not has_masks(found):
        raise BenchError(f"{own.said.name} has boxes and no masks: no label map can be made of them")
    objects = found.content.by_image()
    left_out: dict[int, list[CocoObject]] = {}
    for item in found.left_out:
        left_out.setdefault(item.image.id, []).append(item)
    annotations = own.folder / own.part(name).annotations
    return [
        Pair(
            picture.path,
            annotations,
            picture.turned,
            functools.partial(draw_map, picture.size, objects[number], left_out.get(number, ()), own.labels),
        )
        for number, picture in found.pictures.items()
    ]


def too_many_classes(own: Own) -> str:
    """Why no label maps can be drawn of objects, as a message; empty if their classes are not too many."""
    if len(own.names) <= MOST_DRAWN:
        return ""
    return (
        f"{own.said.name} has {len(own.names)} classes of objects, and a label map can hold {MOST_DRAWN}: use "
        f"{DETECTION} or {INSTANCES}, or move the rarest ones from classes to ignore in {own.file.name}"
    )


def _mask_pairs(own: Own, name: PartName) -> Iterator[Pair]:
    findings, values = Strict(own.folder), MaskValues.of(own)
    for image, mask in list_masks(own, name, findings):
        picture = resolve(image, read_header(mask).size, own, read_header, findings)
        assert picture is not None  # else an error was raised
        yield Pair(image, mask, picture.turned, functools.partial(read_map, mask, values))


class MaskValues(NamedTuple):
    """What the values of masks mean."""

    table: Labels
    """The label (256,) of each value: of the classes 0, 1, ..., void for what is ignored and what is unknown."""
    known: npt.NDArray[np.bool_]
    """Whether the description knows a value (256,)."""
    description: str
    """Name of the description's file."""

    @classmethod
    def of(cls, own: Own) -> MaskValues:
        """The values of a data set with masks."""
        table, known = np.full(256, VOID, np.uint8), np.zeros(256, np.bool_)
        table[list(own.labels)] = list(own.labels.values())
        known[list(own.labels)] = True
        known[[value for value in own.said.ignore if isinstance(value, int) and 0 <= value < 256]] = True
        return cls(table, known, own.file.name)


def read_map(mask: Path, values: MaskValues) -> Labels:
    """The label map (H, W) of an index mask.

    Raises:
        BenchError: it cannot be read, or has a value that the description does not know.
    """
    stored = load_labels(mask)
    if not values.known[stored].all():
        unknown = stored[~values.known[stored]][0]
        raise BenchError(f"{mask} has the value {unknown}, which {values.description} does not know")
    return values.table[stored]


def draw_map(
    size: tuple[int, int], objects: Sequence[CocoObject], left_out: Sequence[CocoObject], labels: Mapping[int, int]
) -> Labels:
    """The label map (H, W) of an image's objects with masks."""
    drawn = np.zeros(size[::-1], np.uint8)
    for item in sorted((*objects, *left_out), key=lambda item: -item.area):
        counts = not item.crowd and item.category_id in labels
        drawn[_pixels(item, size)] = labels[item.category_id] + 1 if counts else VOID
    return drawn


def _pixels(item: CocoObject, size: tuple[int, int]) -> Any:
    """An index of the pixels of an object: its mask, or its box."""
    if item.mask is not None:
        return item.mask.draw(size)
    x, y, width, height = item.box
    return slice(max(0, int(y)), math.ceil(y + height)), slice(max(0, int(x)), math.ceil(x + width))
