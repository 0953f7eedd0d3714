"""The arithmetic of the color operations: batches of RGB images (N, 3, H, W), float in [0, 1]."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor


def luma(x: Tensor, out: Tensor | None = None) -> Tensor:
    """The luma (N, 1, H, W) of ITU-R 601, with torchvision's coefficients."""
    r, g, b = x[:, 0:1], x[:, 1:2], x[:, 2:3]
    return torch.mul(r, 0.2989, out=out).add_(g, alpha=0.587).add_(b, alpha=0.114)


def blend(x: Tensor, factor: Tensor, contrast: Tensor, saturation: Tensor, scratch: Tensor) -> None:
    """Replace x by factor * x + contrast * mean luma + saturation * luma, clamped to [0, 1], in place.

    With weights (N, 1, 1, 1): contrast = 1 - factor changes the contrast, saturation = 1 - factor the saturation, and
    with both 0 the brightness changes. `scratch` (at least N, 1, H, W) is overwritten.
    """
    grey = luma(x, out=scratch[: len(x)])
    mean = grey.mean(dim=(2, 3), keepdim=True)
    y = torch.addcmul(mean.mul_(contrast), grey, saturation, out=grey)
    torch.addcmul(y, x, factor, out=x).clamp_(0, 1)


def shift_hue(x: Tensor, shift: Tensor) -> None:
    """Turn the hue of each sample of `x` by `shift` (N,) of the color circle, in place.

    With the hue h in [0, 6) and chroma = high - low, a color in HSV is red = low + chroma * t(h - 3),
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


Border = Literal["mirrored", "black"]
"""Content beyond the border of an image: its mirror image, without repeating the border pixel, or black."""


def gaussian_blur(x: Tensor, sigma: Tensor, radius: int, border: Border = "mirrored") -> Tensor:
    """Each sample blurred by its own `sigma` (N,), in pixels, with 2 * radius + 1 taps in each direction.

    Each direction is a product with one banded matrix per sample, which at the sizes of views is at least as fast as a
    grouped convolution. Where the user lets matrix products run in reduced precision (TF32), the error grows to 5e-4.
    """
    n, c, height, width = x.shape
    taps = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    kernel = torch.softmax(-0.5 * (taps / sigma[:, None]) ** 2, dim=1)
    across = (kernel @ _taps_to_matrix(width, radius, x.device, border)).view(n, width, width)
    down = across
    if height != width:
        down = (kernel @ _taps_to_matrix(height, radius, x.device, border)).view(n, height, height)
    rows = torch.bmm(x.reshape(n, c * height, width), across.transpose(1, 2)).view(n, c, height, width)
    return torch.stack([torch.bmm(down, rows[:, channel]) for channel in range(c)], dim=1)


@lru_cache(maxsize=32)
def _taps_to_matrix(size: int, radius: int, device: torch.device, border: Border) -> Tensor:
    """Matrix (2 radius + 1, size * size) whose product with a kernel is the kernel's banded matrix."""
    taps = torch.zeros(2 * radius + 1, size, size)
    centre = torch.arange(size)
    for tap in range(2 * radius + 1):
        if border == "black":
            source = centre + tap - radius
            within = (source >= 0) & (source < size)
            taps[tap, centre[within], source[within]] = 1
            continue
        # An image may be smaller than the kernel and is then mirrored twice or more.
        period = max(1, 2 * (size - 1))
        source = (centre + tap - radius).remainder(period)
        source = torch.minimum(source, period - source) if size > 1 else torch.zeros_like(source)
        taps[tap, centre, source] += 1
    return taps.view(2 * radius + 1, size * size).to(device)
