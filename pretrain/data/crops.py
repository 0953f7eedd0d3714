"""Draws and cuts crops of one image.

Randomness is a function, not a state: everything drawn for a view comes from a counter-based generator (Philox)
whose key is the seed and whose counter is (epoch, image id, view index). A sample therefore depends on nothing else:
not on the batch, the worker, the process or where a run was interrupted.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn.functional import interpolate

from pretrain.data import tensorflow_crops
from pretrain.data.views import ViewSpec

_VIEW_STREAM = 0
_ORDER_STREAM = 1


def view_generator(seed: int, epoch: int, image_id: int, view: int) -> np.random.Generator:
    """The generator of one view of one image in one epoch; each argument is in [0, 2**64)."""
    return _generator(seed, _VIEW_STREAM, epoch, image_id, view)


def epoch_order(seed: int, epoch: int, length: int) -> npt.NDArray[np.int64]:
    """The order in which an epoch visits the images: a permutation of `length` positions, int64."""
    return _generator(seed, _ORDER_STREAM, epoch, 0, 0).permutation(length)


def _generator(seed: int, stream: int, a: int, b: int, c: int) -> np.random.Generator:
    key = np.array([seed, stream], dtype=np.uint64)
    # The generator itself counts in word 0: two streams would only overlap after 2**64 blocks.
    counter = np.array([0, a, b, c], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def draw_box(
    rng: np.random.Generator, width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Left, top, width and height in pixels of a random crop of a `width` x `height` image.

    The rule of torchvision's `RandomResizedCrop`: the share of the area is uniform in `scale`, the width / height
    log-uniform in `ratio`, the corner uniform; after ten crops that do not fit, the largest centered crop whose ratio
    is within `ratio` (at least one pixel wide and high, where torchvision's may be empty).
    """
    for _ in range(10):
        _, w, h = _draw_size(rng, width * height, scale, ratio)
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h
    w, h = width, height
    if width / height < ratio[0]:
        h = max(1, round(width / ratio[0]))
    elif width / height > ratio[1]:
        w = max(1, round(height * ratio[1]))
    return (width - w) // 2, (height - h) // 2, w, h


def draw_overlapping_box(
    rng: np.random.Generator,
    width: int,
    height: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    other: tuple[int, int, int, int],
    share: float,
) -> tuple[int, int, int, int]:
    """Draw a box as `draw_box` does, but redraw it while less than `share` of its area lies in the crop `other`.

    The share is that of its area before rounding to pixels, as in the code of Van Gansbeke et al. (NeurIPS 2021, arXiv
    2106.05967). After ten crops that do not fit or do not overlap, one is drawn by `draw_box` without this condition.
    """
    for _ in range(10):
        target, w, h = _draw_size(rng, width * height, scale, ratio)
        if 0 < w <= width and 0 < h <= height:
            box = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h
            if common_area(box, other) >= share * target:
                return box
    return draw_box(rng, width, height, scale, ratio)


def common_area(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> int:
    """Number of pixels that lie in both boxes (left, top, width, height)."""
    across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(0, across) * max(0, down)


def _draw_size(
    rng: np.random.Generator, area: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[float, int, int]:
    """The drawn area, and the width and height that it gives after rounding."""
    low, high = math.log(ratio[0]), math.log(ratio[1])
    target = area * (scale[0] + (scale[1] - scale[0]) * rng.random())
    aspect = math.exp(low + (high - low) * rng.random())
    return target, round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))


def cut(image: Tensor, box: tuple[int, int, int, int], spec: ViewSpec, flip: bool) -> Tensor:
    """The pixels of `box` (left, top, width, height) of uint8 `image` (3, H, W), resized and flipped: (3, S, S)."""
    left, top, width, height = box
    crop = image[:, top : top + height, left : left + width]
    if spec.rules == "torchvision":
        resized = interpolate(
            crop[None], size=(spec.size, spec.size), mode=spec.interpolation, align_corners=False, antialias=True
        )[0]
    else:
        resized = tensorflow_crops.resize(spec.rules, crop, spec.size).round_().clamp_(0, 255).to(image.dtype)
    return resized.flip(-1) if flip else resized
