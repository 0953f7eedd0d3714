"""Corrupted copies of images: small, deterministic, the same for every checkpoint.

Each takes a scaled picture, as it enters a probe, and a strength; the output is rounded to bytes again. With x in
[0, 1]:

    noise        x + strength * n, n standard normal, drawn anew for each image and strength
    blur         Gaussian of `strength` pixels, 3 strengths to either side, mirrored at the border
    brightness   x + strength
    contrast     m + strength * (x - m), m the mean of each channel
    jpeg         JPEG by Pillow of quality `strength`, with its usual subsampling of color
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pretrain.data.color import gaussian_blur
from pretrain.data.pictures import open_picture

Picture = NDArray[np.uint8]
"""RGB picture (H, W, 3)."""
Unit = NDArray[np.float64]
"""The same with values in [0, 1], or outside before clipping."""


def corrupt(picture: Picture, name: str, strength: float, number: int) -> Picture:
    """The corrupted copy; `number` is the number of the image and determines, with `strength`, its noise."""
    if name == "jpeg":
        return _jpeg(picture, round(strength))
    rng = np.random.default_rng([number, round(1000 * strength)])
    return np.rint(255 * np.clip(FORMULAS[name](picture / 255, strength, rng), 0, 1)).astype(np.uint8)


def _noise(x: Unit, strength: float, rng: np.random.Generator) -> Unit:
    return x + strength * rng.standard_normal(x.shape)


def _blur(x: Unit, strength: float, rng: np.random.Generator) -> Unit:
    image = torch.from_numpy(x).float().permute(2, 0, 1)[None]
    blurred = gaussian_blur(image, torch.tensor([strength]), round(3 * strength))
    return blurred[0].permute(1, 2, 0).double().numpy()


def _brightness(x: Unit, strength: float, rng: np.random.Generator) -> Unit:
    return x + strength


def _contrast(x: Unit, strength: float, rng: np.random.Generator) -> Unit:
    mean = x.mean((0, 1))
    return mean + strength * (x - mean)


FORMULAS: Mapping[str, Callable[[Unit, float, np.random.Generator], Unit]] = {
    "noise": _noise,
    "blur": _blur,
    "brightness": _brightness,
    "contrast": _contrast,
}


def _jpeg(picture: Picture, quality: int) -> Picture:
    packed = io.BytesIO()
    Image.fromarray(picture).save(packed, "JPEG", quality=quality)
    with open_picture(packed) as decoded:
        return np.asarray(decoded.convert("RGB"))
