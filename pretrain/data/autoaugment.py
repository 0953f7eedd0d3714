"""Learned color and shape operations on batches, and the choice between two ways of augmenting a sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, grid_sample
from torchvision.transforms import AutoAugment as _Policies
from torchvision.transforms.v2 import functional as tv

from pretrain.data.views import ColourOp
from pretrain.errors import PretrainError
from pretrain.parts.upload import upload

Step = tuple[str, float, int | None]
"""An operation, the probability that it is applied, and its magnitude from 0 to 9."""

POLICIES: tuple[tuple[Step, Step], ...] = tuple(_Policies().policies)
"""The 25 pairs of operations that were learned on ImageNet (Cubuk et al., CVPR 2019, arXiv 1805.09501)."""

Applied = list[tuple[str, float]]
"""An operation and its magnitude for each sample: in [-1, 1], or in [0, 1] for operations without a sign."""


def _warp(x: Tensor, applied: Applied) -> Tensor:
    """Shear and rotation: each pixel takes the nearest one at its origin, or black where there is none."""
    n, _, height, width = x.shape
    inverse = torch.zeros(n, 3, 2)
    for matrix, (name, m) in zip(inverse, applied, strict=True):
        if name == "ShearX":
            matrix[:2] = torch.tensor([[1, 0], [math.tan(0.3 * m), 1]])
        else:
            cos, sin = math.cos(math.radians(30 * m)), math.sin(math.radians(30 * m))
            matrix[:2] = torch.tensor([[cos, sin], [-sin, cos]])
    row = torch.arange(height, device=x.device) - (height - 1) / 2
    column = torch.arange(width, device=x.device) - (width - 1) / 2
    # The third term of the product is 0, but with it sums are rounded like torchvision's.
    centres = torch.stack([*torch.meshgrid(column, row, indexing="xy"), torch.ones(height, width, device=x.device)], -1)
    scaled = upload(inverse / torch.tensor([width / 2, height / 2]), x.device)
    grid = centres.view(1, -1, 3).expand(n, -1, -1).bmm(scaled).view(n, height, width, 2)
    return grid_sample(x.float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)


def _color(x: Tensor, applied: Applied) -> Tensor:
    return _blended(x, tv.rgb_to_grayscale(x), applied)


def _contrast(x: Tensor, applied: Applied) -> Tensor:
    return _blended(x, tv.rgb_to_grayscale(x).float().mean((1, 2, 3), keepdim=True), applied)


def _blended(x: Tensor, other: Tensor, applied: Applied) -> Tensor:
    """The blend f x + (1 - f) other, with f = 1 + 0.9 m."""
    y = torch.empty(x.shape, device=x.device)
    for rows, m in _runs(applied):
        # alpha is a number, not a tensor: then multiplication and addition are rounded once.
        torch.mul(x[rows], 1 + 0.9 * m, out=y[rows]).add_(other[rows], alpha=1.0 - (1 + 0.9 * m))
    return y.clamp_(0, 255)


def _sharpness(x: Tensor, applied: Applied) -> Tensor:
    """Move pixels away from the mean of 3 x 3 pixels (the center counts five times), or toward it; not the border."""
    if min(x.shape[2:]) <= 2:
        return x
    kernel = torch.full((3, 1, 3, 3), 1 / 13)
    kernel[:, :, 1, 1] = 5 / 13
    y = x.float()
    inner = y[:, :, 1:-1, 1:-1]
    change = conv2d(y, upload(kernel, x.device), groups=3).round_().sub_(inner)
    for rows, m in _runs(applied):
        inner[rows].add_(change[rows], alpha=1.0 - (1 + 0.9 * m))
    return y.clamp_(0, 255)


def _posterize(x: Tensor, applied: Applied) -> Tensor:
    dropped = (round(4 * m) for _, m in applied)
    masks = torch.tensor([0xFF >> bits << bits for bits in dropped], dtype=torch.uint8)
    return x & upload(masks, x.device).view(-1, 1, 1, 1)


def _solarize(x: Tensor, applied: Applied) -> Tensor:
    thresholds = torch.tensor([256 * (1 - m) for _, m in applied])
    return torch.where(x >= upload(thresholds, x.device).view(-1, 1, 1, 1), tv.invert(x), x)


def _runs(applied: Applied) -> list[tuple[slice, float]]:
    """Slices of adjacent rows with equal magnitudes, each with its magnitude."""
    found, first = [], 0
    for m, same in groupby(magnitude for _, magnitude in applied):
        count = len(list(same))
        found.append((slice(first, first + count), m))
        first += count
    return found


_OPERATIONS: dict[str, Callable[[Tensor, Applied], Tensor]] = {
    # On uint8 (N, 3, H, W), sorted by magnitude. The result holds whole numbers once its fractions are cut off.
    "ShearX": _warp,
    "Rotate": _warp,
    "Color": _color,
    "Contrast": _contrast,
    "Sharpness": _sharpness,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "AutoContrast": lambda x, applied: tv.autocontrast(x),
    "Equalize": lambda x, applied: tv.equalize(x),
    "Invert": lambda x, applied: tv.invert(x),
}
_KINDS = {operation: kind for kind, operation in enumerate(dict.fromkeys(_OPERATIONS.values()))}
_SIGNED = ("ShearX", "Rotate", "Color", "Contrast", "Sharpness")


@dataclass(frozen=True)
class AutoAugment:
    """One of the 25 ImageNet policies of AutoAugment on every sample, as in torchvision.

    It works on integer gray levels, with which the policies were learned. Rotation and shear take the nearest pixel and
    leave black corners, so a view's `box` only approximates its origin.
    """

    @property
    def parameters(self) -> int:
        """Number of parameters: the policy, and the magnitude of each of its two operations (NaN if not applied)."""
        return 3

    def draw(self, rng: np.random.Generator) -> tuple[float, ...]:
        """The parameters of one sample."""
        which, *numbers = rng.random(5).tolist()
        policy = int(len(POLICIES) * which)
        drawn = [float(policy)]
        for (name, p, magnitude), applied, sign in zip(POLICIES[policy], numbers[:2], numbers[2:], strict=True):
            m = (magnitude or 0) / 9 * (-1 if name in _SIGNED and sign < 0.5 else 1)
            drawn.append(m if applied < p else math.nan)
        return tuple(drawn)

    def apply(self, pixels: Tensor, drawn: Tensor) -> Tensor:
        """The augmented batch; shapes as in `ColourOp`."""
        x = (255 * pixels).round_().to(torch.uint8)
        policies = [POLICIES[int(policy)] for policy in drawn[:, 0].tolist()]
        for step, column in enumerate(drawn[:, 1:].T.tolist()):
            tasks = [(policy[step][0], m, row) for row, (policy, m) in enumerate(zip(policies, column, strict=True))]
            tasks = sorted((task for task in tasks if not math.isnan(task[1])), key=_by_operation_and_magnitude)
            if not tasks:
                continue
            index = upload(torch.tensor([row for _, _, row in tasks]), x.device)
            chosen, first = x.index_select(0, index), 0
            for operation, group in groupby(tasks, key=lambda task: _OPERATIONS[task[0]]):
                applied = [(name, m) for name, m, _ in group]
                part = chosen[first : first + len(applied)]
                part.copy_(operation(part, applied))
                first += len(applied)
            x.index_copy_(0, index, chosen)
        return pixels.copy_(x).div_(255)


def _by_operation_and_magnitude(task: tuple[str, float, int]) -> tuple[int, float]:
    return _KINDS[_OPERATIONS[task[0]]], task[1]


@dataclass(frozen=True)
class Either:
    """The operations `first` on a sample with probability `p`, else the operations `second`."""

    first: tuple[ColourOp, ...]
    second: tuple[ColourOp, ...]
    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise PretrainError(f"{self}: p must be a probability.")

    @property
    def parameters(self) -> int:
        """Number of parameters: first (1) or second (0), then the parameters of all operations."""
        return 1 + sum(op.parameters for op in (*self.first, *self.second))

    def draw(self, rng: np.random.Generator) -> tuple[float, ...]:
        """The parameters of one sample."""
        chosen = float(rng.random() < self.p)
        return chosen, *(number for op in (*self.first, *self.second) for number in op.draw(rng))

    def apply(self, pixels: Tensor, drawn: Tensor) -> Tensor:
        """The batch, each sample with the operations chosen for it; shapes as in `ColourOp`."""
        drawn = drawn.cpu()
        column = 1
        for ops, rows in ((self.first, drawn[:, 0] == 1), (self.second, drawn[:, 0] == 0)):
            index = rows.nonzero().flatten().to(pixels.device, non_blocking=True)
            x = pixels.index_select(0, index)
            for op in ops:
                if len(index):
                    x = op.apply(x, drawn[rows, column : column + op.parameters])
                column += op.parameters
            pixels = pixels.index_copy_(0, index, x)
        return pixels
