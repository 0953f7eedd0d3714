"""Colour operations on batches, on the device the batch is on, with one set of drawn parameters a sample.

Each operation gives, sample by sample, what torchvision's functions give on float images (the tests hold them to
it). A sample that an operation does not touch stays as it was, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pretrain.errors import PretrainError
from pretrain.views import ColourOp, Crop, View, ViewPlan, ViewSpec

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
    "finish",
]

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)
_ORDERS = np.array(list(permutations(range(4))))
_HUE_SLOT = np.argmax(_ORDERS == _HUE, axis=1)
_BLENDS = np.array([[op for op in order if op != _HUE] for order in _ORDERS])


@dataclass(frozen=True)
class ColorJitter:
    """Random brightness, contrast, saturation and hue in random order, on a sample with probability `p`.

    As torchvision's `ColorJitter`: factors are uniform in [max(0, 1 - x), 1 + x], the hue shift uniform in
    [-hue, hue] of the colour circle, and each result is clamped to [0, 1].
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
        """Applied (0 or 1), three factors, hue shift, and which of the 24 orders."""
        return 6

    def draw(self, rng: np.random.Generator) -> tuple[float, ...]:
        """The parameters of one sample."""
        u = rng.random(6)
        factors = (
            (low := max(0.0, 1 - x)) + (1 + x - low) * v
            for x, v in zip((self.brightness, self.contrast, self.saturation), u[1:4], strict=True)
        )
        return float(u[0] < self.p), *factors, self.hue * (2 * u[4] - 1), float(int(24 * u[5]))

    def apply(self, pixels: Tensor, drawn: Tensor) -> Tensor:
        """The jittered batch; shapes as in `ColourOp`."""
        table = drawn.cpu().numpy()
        chosen = np.flatnonzero(table[:, 0])
        if not len(chosen):
            return pixels
        order = table[chosen, 5].astype(np.int64)
        # Sorted so that those with a late hue come first. Then each of the up to three other operations before the
        # hue works on a leading slice, the hue on all at once, and each operation after it on a trailing slice.
        late_first = np.argsort(-_HUE_SLOT[order], kind="stable")
        chosen, order = chosen[late_first], order[late_first]
        slot, kinds = _HUE_SLOT[order], _BLENDS[order]
        factors = np.take_along_axis(table[chosen, 1:4], kinds, axis=1)
        index = _send(chosen, pixels.device)
        x = pixels.index_select(0, index)
        scratch = x.new_empty(len(x), 1, *x.shape[2:])
        befores = [int((slot > k).sum()) for k in range(3)]
        for k, n in enumerate(befores):
            _blend(x[:n], kinds[:n, k], factors[:n, k], scratch)
        if self.hue:
            _shift_hue(x, _send(table[chosen, 4], pixels.device))
        for k, n in enumerate(befores):
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
        """The batch with the chosen samples grey; shapes as in `ColourOp`."""
        index = _chosen(drawn, pixels.device)
        if not len(index):
            return pixels
        luma = _luma(pixels.index_select(0, index))
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
        """The standard deviation, 0 where the sample is not blurred."""
        return 1

    @property
    def radius(self) -> int:
        """Pixels on each side of the centre of the kernel."""
        return int(np.ceil(4 * self.sigma[1]))

    def draw(self, rng: np.random.Generator) -> tuple[float, ...]:
        """The parameter of one sample."""
        u, v = rng.random(2)
        return (self.sigma[0] + (self.sigma[1] - self.sigma[0]) * v if u < self.p else 0.0,)

    def apply(self, pixels: Tensor, drawn: Tensor) -> Tensor:
        """The batch with the chosen samples blurred; shapes as in `ColourOp`.

        The blur is a product with one banded matrix a sample and direction; where the user lets matrix products run
        in a reduced precision (TF32), its error grows to 5e-4.
        """
        index = _chosen(drawn, pixels.device)
        if not len(index):
            return pixels
        sigma = drawn[drawn != 0].to(pixels.device, pixels.dtype, non_blocking=True)
        x = pixels.index_select(0, index)
        n, c, height, width = x.shape
        taps = torch.arange(-self.radius, self.radius + 1, device=x.device, dtype=x.dtype)
        kernel = torch.softmax(-0.5 * (taps / sigma[:, None]) ** 2, dim=1)
        across = (kernel @ _taps_to_matrix(width, self.radius, x.device)).view(n, width, width)
        down = across
        if height != width:
            down = (kernel @ _taps_to_matrix(height, self.radius, x.device)).view(n, height, height)
        rows = torch.bmm(x.view(n, c * height, width), across.transpose(1, 2)).view(n, c, height, width)
        for channel in range(c):
            x[:, channel] = torch.bmm(down, rows[:, channel])
        return pixels.index_copy_(0, index, x)


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


def finish(crop: Crop, spec: ViewSpec, plan: ViewPlan) -> View:
    """The finished view on the crop's device: float32 in [0, 1], colour operations of `spec`, normalised by `plan`.

    Runs in float32 and without gradients whatever autocast or gradient mode the caller is in.
    """
    device = crop.pixels.device
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (plan.mean, plan.std))
    n, _, height, width = crop.pixels.shape
    # On a CPU a few samples at a time, so that they stay in its cache from the first operation to the last.
    part = max(1, _CPU_PIXELS // (height * width)) if device.type == "cpu" else max(1, n)
    out = torch.empty(crop.pixels.shape, device=device)
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        for start in range(0, n, part):
            rows = slice(start, start + part)
            x = out[rows].copy_(crop.pixels[rows]).div_(255)
            x = apply_all(x, spec.colour, crop.colour[rows])
            torch.sub(x, mean, out=out[rows]).div_(std)
    return View(pixels=out, box=crop.box, flip=crop.flip, image_id=crop.image_id)


_CPU_PIXELS = 524288


def apply_all(pixels: Tensor, ops: Sequence[ColourOp], drawn: Tensor) -> Tensor:
    """All of `ops` in order, with their drawn parameters side by side in `drawn` (N, sum of parameters)."""
    first = 0
    for op in ops:
        pixels = op.apply(pixels, drawn[:, first : first + op.parameters])
        first += op.parameters
    return pixels


def _check_probability(op: ColorJitter | Grayscale | GaussianBlur | Solarize) -> None:
    if not 0 <= op.p <= 1:
        raise PretrainError(f"{op}: p must be a probability.")


def _send(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)


def _chosen(drawn: Tensor, device: torch.device) -> Tensor:
    return drawn.cpu()[:, 0].nonzero().flatten().to(device, non_blocking=True)


def _luma(x: Tensor, out: Tensor | None = None) -> Tensor:
    """(N, 1, H, W): the luma of ITU-R 601, with torchvision's digits."""
    r, g, b = x[:, 0:1], x[:, 1:2], x[:, 2:3]
    return torch.mul(r, 0.2989, out=out).add_(g, alpha=0.587).add_(b, alpha=0.114)


def _blend(x: Tensor, kind: npt.NDArray[np.int64], factor: npt.NDArray[np.float32], scratch: Tensor) -> None:
    """Brightness, contrast or saturation on each sample of `x`, in place; `scratch` is at least (N, 1, H, W).

    All three are factor * x + (1 - factor) * y, clamped: y is black, the mean luma or the luma of each pixel.
    """
    if not len(x):
        return
    rest = (1 - factor) * np.stack([kind == _CONTRAST, kind == _SATURATION])
    f, contrast, saturation = _send(np.stack([factor, *rest]).astype(np.float32), x.device).view(3, -1, 1, 1, 1)
    luma = _luma(x, out=scratch[: len(x)])
    mean = luma.mean(dim=(2, 3), keepdim=True)
    y = torch.addcmul(mean.mul_(contrast), luma, saturation, out=luma)
    torch.addcmul(y, x, f, out=x).clamp_(0, 1)


def _shift_hue(x: Tensor, shift: Tensor) -> None:
    """Turn the hue of each sample of `x` by `shift` (N,) of the colour circle, in place.

    With the hue h in [0, 6) and chroma = high - low, a colour in HSV is red = low + chroma * t(h - 3),
    green = high - chroma * t(h - 2), blue = high - chroma * t(h - 4), where t(d) = |d| - 1 clamped to [0, 1].
    Solved for h, each of the six sectors gives |h| = 2 + (green + blue - red - high) / chroma for h in [-3, 3), with
    the sign of green - blue.
    """
    n, _, height, width = x.shape
    r, g, b = x.unbind(1)
    high, low, chroma, h, t = x.new_empty(5, n, height, width)
    torch.maximum(torch.maximum(r, g, out=high), b, out=high)
    torch.minimum(torch.minimum(r, g, out=low), b, out=low)
    torch.sub(high, low, out=chroma)
    torch.sub(g, r, out=h).add_(torch.sub(b, high, out=t))
    # Where chroma is 0 the numerator is 0 and the hue does not matter; the division must only stay finite.
    h.div_(torch.clamp(chroma, min=torch.finfo(x.dtype).tiny, out=t)).add_(2)
    h.copysign_(torch.sub(g, b, out=t))
    h.add_(6 * shift.view(-1, 1, 1))
    h.sub_(torch.mul(h, 1 / 6, out=t).floor_(), alpha=6)
    for channel, (base, centre, sign) in enumerate(((low, 3, 1), (high, 2, -1), (high, 4, -1))):
        torch.sub(h, centre, out=t).abs_().sub_(1).clamp_(0, 1)
        torch.addcmul(base, chroma, t, value=sign, out=x[:, channel])


@lru_cache(maxsize=32)
def _taps_to_matrix(size: int, radius: int, device: torch.device) -> Tensor:
    """(2 radius + 1, size * size): the banded matrix of a kernel is the kernel times this. Borders are mirrored."""
    taps = torch.zeros(2 * radius + 1, size, size)
    centre = torch.arange(size)
    for tap in range(2 * radius + 1):
        # Mirroring twice and more, too: an image may be smaller than the kernel.
        period = max(1, 2 * (size - 1))
        source = (centre + tap - radius).remainder(period)
        source = torch.minimum(source, period - source) if size > 1 else torch.zeros_like(source)
        taps[tap, centre, source] += 1
    return taps.view(2 * radius + 1, size * size).to(device)


# MoCo v1 and v2, facebookresearch/moco `main_moco.py` (without and with --aug-plus).
MOCO_V1_COLOUR: tuple[ColourOp, ...] = (Grayscale(0.2), ColorJitter(0.4, 0.4, 0.4, 0.4))
MOCO_V2_COLOUR: tuple[ColourOp, ...] = (
    ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
    Grayscale(0.2),
    GaussianBlur((0.1, 2.0), p=0.5),
)
# SimCLR, google-research/simclr (version 2: multiplicative brightness), strength 1; its inputs are not normalised.
SIMCLR_COLOUR: tuple[ColourOp, ...] = (
    ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
    Grayscale(0.2),
    GaussianBlur((0.1, 2.0), p=0.5),
)
# BYOL, views 1 and 2, deepmind-research/byol; its brightness is additive, here multiplicative as in PixPro's and
# every other PyTorch version.
BYOL_COLOUR_1: tuple[ColourOp, ...] = (
    ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.8),
    Grayscale(0.2),
    GaussianBlur((0.1, 2.0), p=1.0),
)
BYOL_COLOUR_2: tuple[ColourOp, ...] = (
    ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.8),
    Grayscale(0.2),
    GaussianBlur((0.1, 2.0), p=0.1),
    Solarize(0.5, p=0.2),
)
