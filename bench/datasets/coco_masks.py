"""Checks COCO's masks (polygons or run lengths) before pycocotools gets them.

pycocotools checks nothing: it reads past the end of truncated run lengths, and it draws polygons of any extent in
32-bit integers, which crashes the process. So everything is compared with the image's size here first.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as run_length

from leaderboard.base.printable import printable_name

Size = tuple[int, int]
"""Width and height in pixels."""
Bounds = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

_NOT_PAIRS: Final = "a polygon is not a list of x, y pairs"
_FEWEST: Final = 3
"""Fewest points of a polygon that encloses an area."""
_MOST: Final = 10_000
"""Most polygons of one object, far more than real ones have: pycocotools joins them in quadratic time."""
_LONGEST: Final = 2**20
"""Most pixels along an object's polygons, more than any drawn outline has: drawing takes 120 bytes per pixel."""


class Mask(NamedTuple):
    """A mask that pycocotools can draw."""

    segmentation: list[list[float]] | dict[str, Any]
    """Polygons `[x0, y0, x1, ...]` of 3 or more points, or `{"size": [height, width], "counts": ...}`."""
    bounds: Bounds
    """Bounds of the polygons' points, or of the pixels of the run lengths (all 0 if there are none)."""
    short: int = 0
    """Number of polygons of fewer than 3 points, which were left out."""

    def outside(self, size: Size) -> float:
        """By how many pixels the mask exceeds its image."""
        left, top, right, bottom = self.bounds
        return max(0.0, -left, -top, right - size[0], bottom - size[1])

    def pixels(self, size: Size) -> int:
        """How many pixels of the image are in the mask."""
        return int(run_length.area(_encoded(self.segmentation, size)))

    def draw(self, size: Size) -> npt.NDArray[np.bool_]:
        """The pixels (H, W) of an image of `size` that are in the mask."""
        return np.asarray(run_length.decode(_encoded(self.segmentation, size)), np.bool_)


def read_mask(segmentation: Any, size: Size) -> Mask | None:
    """The mask that an annotation's `segmentation` describes in an image of `size`; None if it is absent or empty.

    Polygons may extend beyond the image by up to its own size; the parts outside are cut off when they are drawn.
    Raises ValueError, with the reason, for a segmentation that cannot be valid.
    """
    if segmentation is None:
        return None
    if isinstance(segmentation, dict):
        return _runs(segmentation, size)
    if not isinstance(segmentation, list):
        raise ValueError("its segmentation is neither a list of polygons nor run lengths")
    if segmentation and type(segmentation[0]) in (int, float):
        raise ValueError("its segmentation is a list of numbers: it must be a list of polygons [[x0, y0, ...], ...]")
    if len(segmentation) > _MOST:
        raise ValueError(f"it has {len(segmentation):,} polygons: at most {_MOST:,} are joined")
    kept, bounds = [], []
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) % 2 or not set(map(type, polygon)) <= {int, float}:
            raise ValueError(_NOT_PAIRS)
        if len(polygon) >= 2 * _FEWEST:
            bounds.append(_bounds(polygon, size))
            kept.append(polygon)
    if not kept:
        return None
    at_most = sum(len(polygon) * max(b[2] - b[0], b[3] - b[1]) for polygon, b in zip(kept, bounds, strict=True)) / 2
    if at_most > _LONGEST and (length := sum(map(_length, kept))) > _LONGEST:
        raise ValueError(f"its polygons are {length:,.0f} pixels long: at most {_LONGEST:,} are drawn")
    left, top, right, bottom = zip(*bounds, strict=True)
    return Mask(kept, (min(left), min(top), max(right), max(bottom)), len(segmentation) - len(kept))


def _bounds(polygon: list[float], size: Size) -> Bounds:
    # plain Python is faster than NumPy for the few points of most polygons; COCO has a million polygons
    xs, ys = polygon[0::2], polygon[1::2]
    left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
    width, height = size
    try:
        finite = math.isfinite(sum(polygon))
    except OverflowError:  # an integer beyond all floats
        finite = False
    if not finite or left < -width or top < -height or right > 2 * width or bottom > 2 * height:
        raise ValueError(f"a polygon lies farther outside its image of {width}x{height} pixels than the image is large")
    return left, top, right, bottom


def _length(polygon: list[float]) -> float:
    """Pixels along a polygon as pycocotools counts them: an edge has as many as its larger extent in x or y."""
    points = np.array(polygon, np.float64).reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(1).sum())


def _runs(segmentation: dict[str, Any], size: Size) -> Mask:
    width, height = size
    counts = segmentation.get("counts")
    if segmentation.get("size") != [height, width]:
        found = printable_name(segmentation.get("size"))
        raise ValueError(f"its run lengths are for size {found}, not its image's [height, width] [{height}, {width}]")
    if isinstance(counts, str):
        lengths = _decoded(counts)
        fits = not len(lengths) or bool((lengths >= 0).all() and (lengths <= width * height).all())
        fits = fits and int(lengths.sum()) == width * height
    elif isinstance(counts, list):
        fits = set(map(type, counts)) == {int} and min(counts) >= 0 and sum(counts) == width * height
    else:
        raise ValueError("its run lengths are neither a list nor a string")
    if not fits:
        raise ValueError("its run lengths do not add up to the image's pixels")
    runs = {"size": [height, width], "counts": counts}
    left, top, wide, high = run_length.toBbox(_encoded(runs, size)).tolist()
    return Mask(runs, (left, top, left + wide, top + high))


def _decoded(counts: str) -> npt.NDArray[np.int64]:
    """Decode COCO's compressed run lengths: 5 bits per character, low bits first, plus 32 if another one follows.

    The top bit of the last character is the sign. From the fourth number on, each is the difference from the number two
    places before.
    """
    if not counts.isascii():
        raise ValueError("its run lengths are not in COCO's compressed form")
    digits = np.frombuffer(counts.encode(), np.uint8).astype(np.int64) - 48
    if not len(digits) or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        raise ValueError("its run lengths are not in COCO's compressed form")
    ends = np.flatnonzero(digits & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    places = np.arange(len(digits)) - np.repeat(starts, ends - starts + 1)
    if places.max() > 6:  # 35 bits: more than any picture has pixels
        raise ValueError("its run lengths are not in COCO's compressed form")
    numbers = np.add.reduceat((digits & 31) << 5 * places, starts)
    numbers = np.where(digits[ends] & 16, numbers - (1 << 5 * (places[ends] + 1)), numbers)
    for first in (1, 2):
        numbers[first::2] = np.cumsum(numbers[first::2])
    return numbers


def _encoded(segmentation: list[list[float]] | dict[str, Any], size: Size) -> Any:
    """The segmentation as compressed run lengths."""
    width, height = size
    if isinstance(segmentation, list):
        return run_length.merge(run_length.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return run_length.frPyObjects(segmentation, height, width)
    return segmentation
