"""Crops drawn and resized as in the code of SimCLR and of BYOL, with TensorFlow's rules.

Both differ from torchvision's in ways that change what a network sees. The sizes of crops have another distribution: in
a photo of 500 x 375 pixels a crop shows .44 of the area on average by torchvision's rule, .52 by BYOL's and .39 by
SimCLR's. The resize is not antialiased: a large crop that is made small has jagged edges and noise. And SimCLR's
resize, that of TensorFlow 1, takes the pixel of cell i at i times the scale, half a cell up and left of its center.

The rules were read in google-research/simclr (`data_util.py`), google-deepmind/deepmind-research
(`byol/utils/dataset.py`) and TensorFlow (`sample_distorted_bounding_box_op.cc`, `resize_bicubic_op.cc`).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Code = Literal["byol", "simclr"]
"""The code whose rules are used: google-deepmind/deepmind-research, or google-research/simclr."""

_COVERED = 0.1
"""Least share of the image that SimCLR's crop shows, whatever its range of areas."""
_ATTEMPTS = 100
_TABLE = 1024
"""Steps between two pixels at which TensorFlow tabulates the weights of cubic interpolation."""


def draw_box(
    code: Code,
    rng: np.random.Generator,
    width: int,
    height: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[int, int, int, int]:
    """Left, top, width and height in pixels of a random crop of a `width` x `height` image, by the rule of `code`.

    BYOL: torchvision's rule, but a side that is too long for the image is cut to the image's, without drawing again.
    SimCLR: see `_simclrs_box`.
    """
    if code == "simclr":
        return _simclrs_box(rng, width, height, scale, ratio)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    area = width * height * (scale[0] + (scale[1] - scale[0]) * rng.random())
    aspect = math.exp(low + (high - low) * rng.random())
    w = min(max(1, round(math.sqrt(area * aspect))), width)
    h = min(max(1, round(math.sqrt(area / aspect))), height)
    return int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h


def _simclrs_box(
    rng: np.random.Generator, width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """TensorFlow's `sample_distorted_bounding_box` with the whole image as the one object.

    The width / height is uniform in `ratio`; then the height is uniform between the heights that give the smallest and
    the largest area of `scale` (or the largest that fits). The last position of the corner is never drawn. Crops that
    show less than a tenth of the image are drawn again; after 100 of them, the crop is the whole image.
    """
    least, most = scale[0] * width * height, scale[1] * width * height
    for _ in range(_ATTEMPTS):
        aspect = ratio[0] + (ratio[1] - ratio[0]) * rng.random()
        low, high = round(math.sqrt(least / aspect)), round(math.sqrt(most / aspect))
        if round(high * aspect) > width:
            high = int((width + 0.5 - 1e-7) / aspect)
        high = min(high, height)
        h = high if low >= high else low + int(rng.integers(high - low + 1))
        w = round(h * aspect)
        if w * h < least:
            h += 1
            w = round(h * aspect)
        if w * h > most:
            h -= 1
            w = round(h * aspect)
        if not (least <= w * h <= most and 0 < w <= width and 0 < h <= height):
            continue
        top = int(rng.integers(height - h)) if h < height else 0
        left = int(rng.integers(width - w)) if w < width else 0
        if w * h >= _COVERED * width * height:
            return left, top, w, h
    return 0, 0, width, height


def resize(code: Code, image: Tensor, size: int) -> Tensor:
    """Resize uint8 `image` (3, H, W) to float32 (3, `size`, `size`), whose levels may lie below 0 and above 255.

    It interpolates 4 x 4 pixels cubically, however many pixels a cell covers.
    """
    height, width = image.shape[1:]
    rows = _combine(code, image.permute(1, 2, 0).reshape(height, -1).float(), size)
    columns = _combine(code, rows.view(size, width, 3).transpose(0, 1).reshape(width, -1), size)
    return columns.view(size, size, 3).permute(2, 1, 0)


def _combine(code: Code, rows: Tensor, size: int) -> Tensor:
    """Rows (size, M), each a weighted sum of four of `rows` (L, M)."""
    pixels, weights = _taps(code, len(rows), size)
    out = rows.index_select(0, pixels[0]).mul_(weights[0])
    for k in range(1, 4):
        out.addcmul_(rows.index_select(0, pixels[k]), weights[k])
    return out


@lru_cache(maxsize=512)
def _taps(code: Code, length: int, size: int) -> tuple[Tensor, Tensor]:
    """For `size` cells the indices (4, size) of their pixels, of `length` in a row, and the weights (4, size, 1).

    SimCLR (TensorFlow 1): Catmull's cubic with a = -.75 and a repeated border. BYOL (TensorFlow 2): Keys' cubic with
    a = -.5 at half-pixel centers, without pixels beyond the border.
    """
    cells, scale = np.arange(size, dtype=np.float32), np.float32(length / size)
    place = cells * scale if code == "simclr" else (cells + np.float32(0.5)) * scale - np.float32(0.5)
    first = np.floor(place)
    offset = np.rint((place - first) * _TABLE) / _TABLE
    a = -0.75 if code == "simclr" else -0.5
    distance = np.stack([1 + offset, offset, 1 - offset, 2 - offset], axis=1)
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    weights = np.where(distance <= 1, near, far)
    pixels = first[:, None].astype(np.int64) + np.arange(-1, 3)
    if code == "byol":
        weights = weights * ((pixels >= 0) & (pixels < length))
        weights /= weights.sum(1, keepdims=True)
    pixels = pixels.clip(0, length - 1).T.copy()
    return torch.from_numpy(pixels), torch.from_numpy(weights.astype(np.float32).T.copy())[:, :, None]
