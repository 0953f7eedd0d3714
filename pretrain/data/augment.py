"""Color operations on batches, on the batch's device, with one set of drawn parameters per sample.

For each sample, an operation gives the same result as torchvision's function on float images (which the tests check). A
sample to which an operation is not applied stays as it was, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pretrain.data import color as colour
from pretrain.data.views import ColourOp, Crop, View, ViewPlan, ViewSpec
from pretrain.errors import PretrainError

__all__ = [
    "BYOL_COLOUR_1",
    "BYOL_COLOUR_2",
    "MOCO_V1_COLOUR",
    "MOCO_V2_COLOUR",
    "SIMCLR_COLOUR",
    "ColorJitter",
    "ColourOp",
    "GaussianBlur",
    "Grayscale",
    "Solarize",
    "byol_colour",
    "byol_colours",
    "finish_views",
    "moco_v2_colour",
    "simclr_colour",
]

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)
_ORDERS = np.array(list(permutations(range(4))))
_HUE_SLOT = np.argmax(_ORDERS == _HUE, axis=1)
_BLENDS = np.array([[op for op in order if op != _HUE] for order in _ORDERS])


@dataclass(frozen=True)
class ColorJitter:
    """Random brightness, contrast, saturation and hue in random order, with probability `p` per sample.

    As torchvision's `ColorJitter`: factors are uniform in [max(0, 1 - x), 1 + x], the hue shift uniform in
    [-hue, hue] of the color circle, and each result is clamped to [0, 1].
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float
    p: float = 1.0

    def __post_init__(self) -> None:
        _check_probability(self)
        if min(self.brightness, self.contrast, self.saturation) < 0 or not 0 <= self.hue <= 0.5:
            raise PretrainError(f"{self}: strengths must be at least 0 and hue in [0, 0.5].")

    @property
    def parameters(self) -> int:
        """Number of parameters: applied (0 or 1), three factors, hue shift, and the number of one of the 24 orders."""
        return 6

    def draw(self, rng: np.random.Generator) -> tuple[float, ...]:
        """The parameters of one sample."""
        applied, *factors, shift, order = rng.random(6).tolist()
        strengths = (self.brightness, self.contrast, self.saturation)
        factors = [_uniform(max(0.0, 1 - x), 1 + x, u) for x, u in zip(strengths, factors, strict=True)]
        return float(applied < self.p), *factors, _uniform(-self.hue, self.hue, shift), float(int(24 * order))

    def apply(self, pixels: Tensor, drawn: Tensor) -> Tensor:
        """The jittered batch; for the shapes see `ColourOp`."""
        table = drawn.cpu().numpy()
        chosen = np.flatnonzero(table[:, 0])
        if not len(chosen):
            return pixels
        order = table[chosen, 5].astype(np.int64)
        # Samples are sorted so that those with a late hue come first. Then each of the up to three operations before
        # the hue works on a leading slice, the hue on all samples, and each operation after it on a trailing slice.
        late_first = np.argsort(-_HUE_SLOT[order], kind="stable")
        chosen, order = chosen[late_first], order[late_first]
        slot, kinds = _HUE_SLOT[order], _BLENDS[order]
        factors = np.take_along_axis(table[chosen, 1:4], kinds, axis=1)
        index = _send(chosen, pixels.device)
        x = pixels.index_select(0, index)
        scratch = x.new_empty(len(x), 1, *x.shape[2:])
        before_hue = [int((slot > k).sum()) for k in range(3)]
        for k, n in enumerate(before_hue):
            _blend(x[:n], kinds[:n, k], factors[:n, k], scratch)
        if self.hue:
            colour.shift_hue(x, _send(table[chosen, 4], pixels.device))
        for k, n in enumerate(before_hue):
            _blend(x[n:], kinds[n:, k], factors[n:, k], scratch)
        return pixels.index_copy_(0, index, x)


@dataclass(frozen=True)
class Grayscale:
    """Replaces a sample by its luma (ITU-R 601) in all three channels with probability `p`."""

    p: float

    def __post_init__(self) -> None:
        _check_probability(self)

    @property
    def parameters(self) -> int:
        """Applied (0 or 1)."""
        return 1

    def draw(self, rng: np.random.Generator) -> tuple[float, ...]:
        """The parameter of one sample."""
        return (float(rng.random() < self.p),)

    def apply(self, pixels: Tensor, drawn: Tensor) -> Tensor:
        """The batch with the chosen samples in gray; for the shapes see `ColourOp`."""
        index = _chosen(drawn, pixels.device)
        if not len(index):
            return pixels
        luma = colour.luma(pixels.index_select(0, index))
        return pixels.index_copy_(0, index, luma.expand(-1, 3, -1, -1))


@dataclass(frozen=True)
class GaussianBlur:
    """Gaussian blur with a standard deviation uniform in `sigma` (pixels of the view), with probability `p`.

    The kernel is cut at 4 `sigma[1]` and the image mirrored at its border without repeating the border pixel
    (torchvision's rule). MoCo blurs 224-pixel crops with Pillow, which approximates the Gaussian by box filters and
    repeats the border pixel.
    """

    sigma: tuple[float, float]
    p: float

    def __post_init__(self) -> None:
        _check_probability(self)
        if not 0 < self.sigma[0] <= self.sigma[1]:
            raise PretrainError(f"{self}: sigma must satisfy 0 < low <= high.")

    @property
    def parameters(self) -> int:
        """Number of parameters: the standard deviation, which is 0 where the sample is not blurred."""
        return 1

    @property
    def radius(self) -> int:
        """Pixels on each side of the center of the kernel."""
        return int(np.ceil(4 * self.sigma[1]))

    def draw(self, rng: np.random.Generator) -> tuple[float, ...]:
        """The parameter of one sample."""
        applied, u = rng.random(2).tolist()
        return (_uniform(*self.sigma, u) if applied < self.p else 0.0,)

    def apply(self, pixels: Tensor, drawn: Tensor) -> Tensor:
        """The batch with the chosen samples blurred; shapes as in `ColourOp`."""
        index = _chosen(drawn, pixels.device)
        if not len(index):
            return pixels
        sigma = drawn[drawn != 0].to(pixels.device, pixels.dtype, non_blocking=True)
        x = pixels.index_select(0, index)
        return pixels.index_copy_(0, index, colour.gaussian_blur(x, sigma, self.radius))


@dataclass(frozen=True)
class Solarize:
    """Inverts the values at or above `threshold` (of 1) with probability `p`."""

    threshold: float
    p: float

    def __post_init__(self) -> None:
        _check_probability(self)

    @property
    def parameters(self) -> int:
        """Applied (0 or 1)."""
        return 1

    def draw(self, rng: np.random.Generator) -> tuple[float, ...]:
        """The parameter of one sample."""
        return (float(rng.random() < self.p),)

    def apply(self, pixels: Tensor, drawn: Tensor) -> Tensor:
        """The batch with the chosen samples solarized; shapes as in `ColourOp`."""
        index = _chosen(drawn, pixels.device)
        if not len(index):
            return pixels
        x = pixels.index_select(0, index)
        return pixels.index_copy_(0, index, torch.where(x >= self.threshold, 1 - x, x))


def _check_probability(op: ColorJitter | Grayscale | GaussianBlur | Solarize) -> None:
    if not 0 <= op.p <= 1:
        raise PretrainError(f"{op}: p must be a probability.")


def _uniform(low: float, high: float, u: float) -> float:
    return low + (high - low) * u


def _blend(x: Tensor, kind: npt.NDArray[np.int64], factor: npt.NDArray[np.floating[Any]], scratch: Tensor) -> None:
    """Brightness, contrast or saturation on each sample of `x`, by `kind` (N,), in place."""
    if not len(x):
        return
    rest = (1 - factor) * np.stack([kind == _CONTRAST, kind == _SATURATION])
    weights = _send(np.stack([factor, *rest]).astype(np.float32), x.device).view(3, -1, 1, 1, 1)
    colour.blend(x, weights[0], weights[1], weights[2], scratch)


def _send(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)


def _chosen(drawn: Tensor, device: torch.device) -> Tensor:
    return drawn.cpu()[:, 0].nonzero().flatten().to(device, non_blocking=True)


# MoCo v1, facebookresearch/moco `main_moco.py` (without --aug-plus).
MOCO_V1_COLOUR: tuple[ColourOp, ...] = (Grayscale(0.2), ColorJitter(0.4, 0.4, 0.4, 0.4))


def moco_v2_colour(blur_sigma: tuple[float, float]) -> tuple[ColourOp, ...]:
    """MoCo v2, facebookresearch/moco `main_moco.py` (with --aug-plus), with a blur of this range of deviations."""
    return ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8), Grayscale(0.2), GaussianBlur(blur_sigma, p=0.5)


def simclr_colour(blur_sigma: tuple[float, float], strength: float = 1.0) -> tuple[ColourOp, ...]:
    """SimCLR, google-research/simclr (version 2: multiplicative brightness); its inputs are not normalized."""
    s = strength
    return ColorJitter(0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s, p=0.8), Grayscale(0.2), GaussianBlur(blur_sigma, p=0.5)


def byol_colour(blur_sigma: tuple[float, float], *, blur: float, solarize: float | None = None) -> tuple[ColourOp, ...]:
    """BYOL's operations, and DINO's, with the probabilities of blur and solarization; None leaves the last one out."""
    ops = (ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.8), Grayscale(p=0.2), GaussianBlur(blur_sigma, p=blur))
    return ops if solarize is None else (*ops, Solarize(threshold=0.5, p=solarize))


def byol_colours(blur_sigma: tuple[float, float]) -> tuple[tuple[ColourOp, ...], tuple[ColourOp, ...]]:
    """BYOL, views 1 and 2, deepmind-research/byol.

    Its brightness is additive, here multiplicative as in PixPro's and every other PyTorch version.
    """
    return byol_colour(blur_sigma, blur=1.0), byol_colour(blur_sigma, blur=0.1, solarize=0.2)


# As published, for views of 224 pixels.
MOCO_V2_COLOUR = moco_v2_colour((0.1, 2.0))
SIMCLR_COLOUR = simclr_colour((0.1, 2.0))
BYOL_COLOUR_1, BYOL_COLOUR_2 = byol_colours((0.1, 2.0))

_CPU_PIXELS = 524288
"""Pixels that `finish_views` processes at a time on a CPU, so that they stay in its cache during all operations."""


def finish_views(crop: Crop, spec: ViewSpec, plan: ViewPlan) -> View:
    """The finished view on the crop's device: float32 in [0, 1], color operations of `spec`, normalized by `plan`.

    Runs in float32 and without gradients whatever autocast or gradient mode the caller is in.
    """
    device = crop.pixels.device
    mean, std = (torch.tensor(values).view(3, 1, 1).to(device, non_blocking=True) for values in (plan.mean, plan.std))
    n, _, height, width = crop.pixels.shape
    part = max(1, _CPU_PIXELS // (height * width) if device.type == "cpu" else n)
    out = torch.empty(crop.pixels.shape, dtype=torch.float32, device=device)
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        for start in range(0, n, part):
            rows = slice(start, start + part)
            x = out[rows].copy_(crop.pixels[rows]).div_(255)
            first = 0
            for op in spec.colour:
                x = op.apply(x, crop.colour[rows, first : first + op.parameters])
                first += op.parameters
            torch.sub(x, mean, out=out[rows]).div_(std)
    return View(pixels=out, box=crop.box, flip=crop.flip, image_id=crop.image_id)
