"""Augmented images for probes: jitter, a random crop, a flip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from bench.datasets.pairs import Pair
from pretrain.data.color import blend, shift_hue
from pretrain.data.crops import draw_box

RATIO = (3 / 4, 4 / 3)
"""Range of a crop's width / height."""


@dataclass(frozen=True)
class Augmentation:
    """Settings of an augmentation."""

    area: tuple[float, float]
    """Range of a crop's share of the image; too large crops are drawn again (`pretrain.data.crops.draw_box`)."""
    jitter: tuple[float, float, float, float]
    """Strength x of brightness, contrast, saturation (factors in 1 +- x) and hue (a shift in +- x of the circle)."""
    probability: float
    """Probability of each of these four, which are applied in this order."""
    flip: bool
    """Whether images are mirrored with probability 1/2."""


def augmented(
    pair: Pair, size: tuple[int, int], rule: Augmentation, device: torch.device, rng: np.random.Generator
) -> tuple[Tensor, NDArray[np.uint8]]:
    """An image, RGB in [0, 1] (3, H, W), and its label map (H, W), both cropped and scaled to `size`.

    Raises:
        BenchError: a file is missing or damaged.
    """
    pixels, labels = np.ascontiguousarray(pair.load_pixels()[:, :, ::-1]), pair.load_labels()
    left, top, width, height = draw_box(rng, pixels.shape[1], pixels.shape[0], rule.area, RATIO)
    image = jittered(torch.from_numpy(pixels).to(device).permute(2, 0, 1)[None].float() / 255, rule, rng)
    crop = image[:, :, top : top + height, left : left + width]
    crop = interpolate(crop, size, mode="bilinear", antialias=True)[0]
    labels = scaled_labels(labels[top : top + height, left : left + width], size)
    if rule.flip and rng.random() < 0.5:
        return crop.flip(2), np.ascontiguousarray(labels[:, ::-1])
    return crop, labels


def jittered(image: Tensor, rule: Augmentation, rng: np.random.Generator) -> Tensor:
    """The image (1, 3, H, W) with jitter, changed in place."""
    scratch = image[:, :1].clone()
    *strengths, hue = rule.jitter
    for strength, contrast, saturation in zip(strengths, (0, 1, 0), (0, 0, 1), strict=True):
        applied, factor = rng.random() < rule.probability, 1 + strength * (2 * rng.random() - 1)
        if applied:
            one = image.new_full((1, 1, 1, 1), factor)
            blend(image, one, contrast * (1 - one), saturation * (1 - one), scratch)
    applied, shift = rng.random() < rule.probability, hue * (2 * rng.random() - 1)
    if applied:
        shift_hue(image, image.new_full((1,), shift))
    return image


def scaled_labels(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The label map at another size: each pixel takes the nearest one, rounded to the upper left as torch does it."""
    return interpolate(torch.from_numpy(np.ascontiguousarray(labels))[None, None], size, mode="nearest")[0, 0].numpy()
