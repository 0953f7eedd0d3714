"""Color operations of the code of SimCLR and of BYOL, with TensorFlow's arithmetic.

They differ from torchvision's: contrast scales the distance to the mean of each channel, not of the luma; saturation
scales the distance of a channel to the largest one (S of HSV), not to the luma; BYOL adds to the brightness where
others multiply; and an image is black beyond its border, so that a blur darkens the edges of a view.

Read in google-research/simclr (`data_util.py`) and google-deepmind/deepmind-research (`byol/utils/augmentations.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pretrain.data import color
from pretrain.data.augment import Grayscale, Solarize
from pretrain.data.views import ColourOp
from pretrain.errors import PretrainError

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)
_ORDERS = np.array(list(permutations(range(4))))


@dataclass(frozen=True)
class TensorFlowJitter:
    """Random brightness, contrast, saturation and hue in random order, on a sample with probability `p`.

    Factors are uniform in [max(0, 1 - x), 1 + x] and the hue shift in [-hue, hue] of the color circle; with `adds`, a
    value uniform in [-brightness, brightness] is added to the brightness, which is not multiplied. Each result is
    clamped to [0, 1].
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float
    p: float = 1.0
    adds: bool = False

    def __post_init__(self) -> None:
        if min(self.brightness, self.contrast, self.saturation) < 0 or not 0 <= self.hue <= 0.5:
            raise PretrainError(f"{self}: strengths must be at least 0 and hue in [0, 0.5].")
        _check_probability(self, self.p)

    @property
    def parameters(self) -> int:
        """Number of parameters: applied (0 or 1), brightness, contrast, saturation, hue, and one of the 24 orders."""
        return 6

    def draw(self, rng: np.random.Generator) -> tuple[float, ...]:
        """The parameters of one sample."""
        applied, *drawn, order = rng.random(6).tolist()
        ranges = [(max(0.0, 1 - x), 1 + x) for x in (self.brightness, self.contrast, self.saturation)]
        ranges.append((-self.hue, self.hue))
        if self.adds:
            ranges[_BRIGHTNESS] = (-self.brightness, self.brightness)
        values = [low + (high - low) * u for (low, high), u in zip(ranges, drawn, strict=True)]
        return float(applied < self.p), *values, float(int(24 * order))

    def apply(self, pixels: Tensor, drawn: Tensor) -> Tensor:
        """The jittered batch; shapes as in `ColourOp`."""
        table = drawn.cpu().numpy()
        chosen = np.flatnonzero(table[:, 0])
        if not len(chosen):
            return pixels
        index = _send(chosen, pixels.device)
        x = pixels.index_select(0, index)
        orders = _ORDERS[table[chosen, 5].astype(np.int64)]
        for slot in range(4):
            for kind in range(4):
                rows = np.flatnonzero(orders[:, slot] == kind)
                if len(rows):
                    at = _send(rows, pixels.device)
                    amount = _send(table[chosen[rows], 1 + kind], pixels.device).view(-1, 1, 1, 1)
                    x.index_copy_(0, at, self._changed(x.index_select(0, at), kind, amount).clamp_(0, 1))
        return pixels.index_copy_(0, index, x)

    def _changed(self, x: Tensor, kind: int, amount: Tensor) -> Tensor:
        if kind == _BRIGHTNESS:
            return x + amount if self.adds else x * amount
        if kind == _CONTRAST:
            mean = x.mean((2, 3), keepdim=True)
            return torch.addcmul(mean, x - mean, amount)
        if kind == _SATURATION:
            return saturated(x, amount)
        color.shift_hue(x, amount.flatten())
        return x


def saturated(x: Tensor, factor: Tensor) -> Tensor:
    """Images (N, 3, H, W) in [0, 1] with the S of HSV times `factor` (N, 1, 1, 1), at most 1.

    Hue and value stay, so each channel's distance to the largest channel v is multiplied by the factor or, where S
    reaches 1, by v / (v - smallest channel).
    """
    v, least = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    most = v / (v - least).clamp(min=torch.finfo(x.dtype).tiny)
    return v - (v - x) * torch.minimum(factor, most)


@dataclass(frozen=True)
class ZeroPaddedBlur:
    """Gaussian blur with a standard deviation uniform in `sigma` (pixels of the view), with probability `p`.

    The kernel has a twentieth of the view's height on each side of its center. Beyond the border there is black.
    """

    sigma: tuple[float, float]
    p: float

    def __post_init__(self) -> None:
        if not 0 < self.sigma[0] <= self.sigma[1]:
            raise PretrainError(f"{self}: sigma must satisfy 0 < low <= high.")
        _check_probability(self, self.p)

    @property
    def parameters(self) -> int:
        """Number of parameters: the standard deviation, which is 0 where the sample is not blurred."""
        return 1

    def draw(self, rng: np.random.Generator) -> tuple[float, ...]:
        """The parameter of one sample."""
        applied, u = rng.random(2).tolist()
        return (self.sigma[0] + (self.sigma[1] - self.sigma[0]) * u if applied < self.p else 0.0,)

    def apply(self, pixels: Tensor, drawn: Tensor) -> Tensor:
        """The batch with the chosen samples blurred; shapes as in `ColourOp`."""
        sigmas = drawn.cpu().numpy()[:, 0]
        chosen = np.flatnonzero(sigmas)
        if not len(chosen):
            return pixels
        index, sigma = _send(chosen, pixels.device), _send(sigmas[chosen], pixels.device)
        x = pixels.index_select(0, index)
        return pixels.index_copy_(0, index, color.gaussian_blur(x, sigma, pixels.shape[2] // 20, border="black"))


def simclr_code_color(blur_sigma: tuple[float, float], strength: float = 1.0) -> tuple[ColourOp, ...]:
    """SimCLR's operations as its code runs them by default: version 2, in which brightness is multiplied."""
    s = strength
    jitter = TensorFlowJitter(0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s, p=0.8)
    return jitter, Grayscale(0.2), ZeroPaddedBlur(blur_sigma, p=0.5)


def byol_code_color(blur_sigma: tuple[float, float], *, blur: float, solarize: float) -> tuple[ColourOp, ...]:
    """BYOL's operations as its code runs them, with the probabilities of blur and solarization."""
    jitter = TensorFlowJitter(0.4, 0.4, 0.2, 0.1, p=0.8, adds=True)
    return jitter, Grayscale(0.2), ZeroPaddedBlur(blur_sigma, p=blur), Solarize(threshold=0.5, p=solarize)


def _check_probability(op: TensorFlowJitter | ZeroPaddedBlur, p: float) -> None:
    if not 0 <= p <= 1:
        raise PretrainError(f"{op}: p must be a probability.")


def _send(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)
