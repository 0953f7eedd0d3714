"""Finds boxes and masks that do not fit each other: other units or another order of the numbers than COCO's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from bench.datasets.coco_masks import Bounds, Size
from bench.datasets.coco_objects import Box, CocoObject
from bench.datasets.report import Findings

_ALIKE: Final = 0.5
"""Least overlap (IoU) of a box and its mask's extent that fit each other; in COCO it is .98."""
_APART: Final = 0.1
"""Overlap (IoU) of a box and its mask that is too small to be explained by imprecise drawing."""
_LARGE: Final = 8
"""In images whose shorter side has at least this many pixels, no real object lies within the first pixel."""

_BOXES: Final[dict[str, Callable[[float, float, float, float, Size], Bounds]]] = {
    "boxes look like [x1, y1, x2, y2]": lambda a, b, c, d, size: (a, b, c, d),
    "boxes look like [y, x, height, width]": lambda a, b, c, d, size: (b, a, b + d, a + c),
    "boxes look like [y1, x1, y2, x2]": lambda a, b, c, d, size: (b, a, d, c),
    "boxes look like [center x, center y, width, height]": lambda a, b, c, d, size: (
        *(a - c / 2, b - d / 2),
        *(a + c / 2, b + d / 2),
    ),
    "boxes look divided by the image's size": lambda a, b, c, d, size: _scaled((a, b, a + c, b + d), size),
    "boxes look like [x1, y1, x2, y2] divided by the image's size": lambda a, b, c, d, size: _scaled(
        (a, b, c, d), size
    ),
    "boxes look like [center x, center y, width, height] divided by the image's size": lambda a, b, c, d, size: _scaled(
        (a - c / 2, b - d / 2, a + c / 2, b + d / 2), size
    ),
}
"""Other meanings that a box may have, as functions that return its bounds."""
_MASKS: Final[dict[str, Callable[[Bounds, Size], Bounds]]] = {
    "polygons look like [y0, x0, y1, ...]": lambda bounds, size: (bounds[1], bounds[0], bounds[3], bounds[2]),
    "polygons look divided by the image's size": lambda bounds, size: _scaled(bounds, size),
}
"""Other meanings that a mask may have, as functions that return its bounds."""
_MEANT: Final = "COCO's boxes are [x, y, width, height] and its polygons [x0, y0, x1, y1, ...], both in pixels"


def report_units(objects: Sequence[CocoObject], where: str, findings: Findings) -> None:
    """Report boxes and masks that do not overlap: an error if most do not, else a warning with their number."""
    unit = [item for item in objects if _within_the_first_pixel(item)]
    if 2 * len(unit) > len(objects):
        findings.error(
            "boxes in other units",
            f"{where}: {len(unit):,} of {len(objects):,} boxes lie within their image's first pixel, such as "
            f"annotation {unit[0].id}: they look divided by the image's size; {_MEANT}",
        )
        return
    measured = [
        (item, _overlap(_corners(item.box), item.mask.bounds)) for item in objects if item.mask and _is_solid(item)
    ]
    unlike = [item for item, overlap in measured if overlap < _ALIKE]
    if not unlike:
        return
    apart = [item for item, overlap in measured if overlap < _APART]
    what = f"{where}: {len(unlike):,} of {len(measured):,} masks lie elsewhere than their boxes, such as annotation "
    meanings = Counter(meaning for item in unlike for meaning in _other_meanings(item))
    times = max(meanings.values(), default=0)
    if 2 * len(unlike) > len(measured) and 2 * times > len(unlike):
        likely = " or ".join(meaning for meaning, number in meanings.items() if number == times)
        findings.error("boxes or masks in other units", f"{what}{unlike[0].id}: {likely}; {_MEANT}")
    elif 2 * len(apart) > len(measured):
        findings.error("boxes or masks in other units", f"{what}{apart[0].id}: they are not of the same objects")
    else:
        findings.warning("masks elsewhere than their boxes", f"{what}{unlike[0].id}: look at them")


def _within_the_first_pixel(item: CocoObject) -> bool:
    left, top, right, bottom = _corners(item.box)
    return min(left, top) >= 0 and max(right, bottom) <= 1 and min(item.image.size) >= _LARGE


def _is_solid(item: CocoObject) -> bool:
    """Whether box and mask both have an extent; those without are reported elsewhere."""
    assert item.mask is not None
    left, top, right, bottom = item.mask.bounds
    return right > left and bottom > top and item.box[2] > 0 and item.box[3] > 0


def _other_meanings(item: CocoObject) -> Iterator[str]:
    assert item.mask is not None
    size = item.image.size
    for meaning, box in _BOXES.items():
        if _overlap(box(*item.box, size), item.mask.bounds) >= _ALIKE:
            yield meaning
    for meaning, mask in _MASKS.items():
        if _overlap(_corners(item.box), mask(item.mask.bounds, size)) >= _ALIKE:
            yield meaning


def _corners(box: Box) -> Bounds:
    x, y, width, height = box
    return x, y, x + width, y + height


def _scaled(bounds: Bounds, size: Size) -> Bounds:
    return bounds[0] * size[0], bounds[1] * size[1], bounds[2] * size[0], bounds[3] * size[1]


def _overlap(first: Bounds, second: Bounds) -> float:
    """Intersection over union; 0 if one is empty or inside out."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((right - left) * (bottom - top) for left, top, right, bottom in (first, second))
    return width * height / (areas - width * height)
