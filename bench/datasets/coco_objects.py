"""One annotation of a COCO file: an object that can be trained on and evaluated, or the reason why it cannot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from bench.datasets.coco_masks import Mask, Size, read_mask
from leaderboard.base.printable import printable_name

Box = tuple[float, float, float, float]
"""Box as x, y, width, height in pixels; x and y count from the image's upper left corner."""

SLACK: Final = 1.0
"""Pixels by which COCO's own boxes may exceed an image, from rounding."""
_LARGEST_ID: Final = 2**53
"""Largest whole number that every JSON reader keeps exactly."""


class CocoImage(NamedTuple):
    """An image of an annotation file."""

    id: int
    file_name: str
    """File name without a folder."""
    width: int
    height: int

    @property
    def size(self) -> Size:
        """Width and height."""
        return self.width, self.height


@dataclass(frozen=True, slots=True)
class CocoObject:
    """An object, or (crowd) a region of objects that count neither as found nor as missed."""

    id: int
    """Id of the annotation in the file."""
    image: CocoImage
    category_id: int
    box: Box
    """Box, at most `SLACK` outside its image."""
    area: float
    """Area in pixels, by which an object is small, medium or large; at most little more than the image's."""
    crowd: bool
    ignored: bool
    """Whether training leaves the object out; the evaluation counts it, because COCO's does not know the mark."""
    mask: Mask | None

    @property
    def trained_on(self) -> bool:
        """Whether training uses the object: mmdet's and detectron2's data sets leave out those of less than a pixel."""
        x, y, width, height = self.box
        inside = min(x + width, self.image.width) > max(x, 0) and min(y + height, self.image.height) > max(y, 0)
        return inside and not self.ignored and self.area > 0 and width >= 1 and height >= 1


class DamagedError(ValueError):
    """An annotation that cannot be used; `sort` names the sort of problem in the plural."""

    def __init__(self, sort: str, message: str) -> None:
        super().__init__(message)
        self.sort = sort


def read_object(
    entry: Mapping[str, Any], images: Mapping[int, CocoImage], categories: Mapping[int, str]
) -> tuple[CocoObject, list[str]]:
    """The object that an entry of `annotations` describes, and the keys of `NOTES` for what is unusual about it.

    The entry has whole numbers as `id`, `image_id` and `category_id`; `images` and `categories` (names) are the file's,
    by id. Raises DamagedError.
    """
    number, image_id, category_id = entry["id"], entry["image_id"], entry["category_id"]
    what = f"annotation {number}"
    image = images.get(image_id)
    if image is None:
        raise DamagedError("annotations of unknown images", f"{what} is of image {image_id}, not listed")
    if category_id not in categories:
        raise DamagedError("wrong category ids", f"{what} has category {category_id}, which `categories` lacks")
    box = _box(entry.get("bbox"), image.size, what)
    try:
        mask = read_mask(entry.get("segmentation"), image.size)
    except ValueError as error:
        raise DamagedError("damaged masks", f"{what}: {error}") from error
    area = _area(entry.get("area"), image.size, what)
    crowd = entry.get("iscrowd")
    if crowd not in (None, 0, 1):
        raise DamagedError("wrong iscrowd", f"{what} has iscrowd {printable_name(crowd)}: it must be 0 or 1")
    notes = {
        "no area": area is None,
        "no iscrowd": crowd is None,
        "short polygons": mask is not None and mask.short > 0,
        "polygons outside": mask is not None and mask.outside(image.size) > SLACK,
        "ignored": bool(entry.get("ignore")),
    }
    if area is None:
        area = float(mask.pixels(image.size)) if mask is not None else float(box[2] * box[3])
    found = CocoObject(number, image, category_id, box, area, crowd == 1, bool(entry.get("ignore")), mask)
    notes |= {
        "empty boxes": box[2] == 0 or box[3] == 0,
        "less than a pixel": not found.trained_on and not found.ignored and box[2] > 0 and box[3] > 0,
        "masks without a pixel": mask is not None and _slight(mask, area) and mask.pixels(image.size) == 0,
    }
    return found, [note for note, holds in notes.items() if holds]


NOTES: Final = {
    "no area": ("have no area", "it is computed from their masks"),
    "no iscrowd": ("have no iscrowd", "it is taken for 0"),
    "short polygons": ("have polygons of fewer than 3 points", "these are left out"),
    "polygons outside": ("have polygons outside their image", "they are cut at its edge"),
    "ignored": ("are marked `ignore`", "they are not trained on, but evaluated"),
    "empty boxes": ("have boxes without area", "they are not trained on, and the evaluation counts them as missed"),
    "less than a pixel": ("are of less than a pixel", "they are not trained on, but evaluated"),
    "masks without a pixel": ("have masks without a pixel", "no predicted mask can match them"),
}
"""Unusual properties of usable annotations, by key: what is unusual, and how it is treated."""


def whole(value: Any) -> int | None:
    """A whole number (1 or 1.0, as some tools write ids) of a size that JSON keeps; None for anything else."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and abs(value) <= _LARGEST_ID else None


def is_number(value: Any) -> bool:
    """Whether it is a finite number that a float can be."""
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def _box(box: Any, size: Size, what: str) -> Box:
    """The box as a tuple; COCO's boxes are [x, y, width, height], 0-based."""
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        raise DamagedError(
            "damaged boxes", f"{what} has box {printable_name(box)}: it must be 4 numbers [x, y, width, height]"
        )
    x, y, width, height = box
    if width < 0 or height < 0:
        raise DamagedError("damaged boxes", f"{what} has box {printable_name(box)}, of negative size")
    if max(-x, -y, x + width - size[0], y + height - size[1]) > SLACK:
        corners = x < width <= size[0] and y < height <= size[1]
        hint = "; read as [x1, y1, x2, y2] it is inside: COCO's boxes are [x, y, width, height]" if corners else ""
        raise DamagedError(
            "boxes outside their image",
            f"{what} has box {printable_name(box)}, outside its image of {size[0]}x{size[1]} pixels{hint}",
        )
    return x, y, width, height


def _area(area: Any, size: Size, what: str) -> float | None:
    if area is None:
        return None
    # a polygon's area can be slightly larger than that of its pixels, where it runs along the image's edge
    if not is_number(area) or not 0 <= area <= (size[0] + SLACK) * (size[1] + SLACK):
        raise DamagedError(
            "wrong areas",
            f"{what} has area {printable_name(area)}: it must be the pixels of its mask, in an image of "
            f"{size[0]}x{size[1]} (leave it out, and it is computed)",
        )
    return float(area)


def _slight(mask: Mask, area: float) -> bool:
    """Whether the mask may be without a pixel, so that it is drawn to find out."""
    left, top, right, bottom = mask.bounds
    return right - left < 2 or bottom - top < 2 or area < 2
