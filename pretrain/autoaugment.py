"""Learned colour and shape operations on batches, and the choice between two ways of augmenting a sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import AutoAugment as _Policies
from torchvision.transforms.v2 import functional as tv

from pretrain.errors import PretrainError
from pretrain.views import ColourOp

Step = tuple[str, float, int | None]
"""An operation, the probability that it is applied, and its magnitude from 0 to 9."""

POLICIES: tuple[tuple[Step, Step], ...] = tuple(_Policies().policies)
"""The 25 pairs of operations that were learned on ImageNet (Cubuk et al., CVPR 2019, arXiv 1805.09501)."""

_OPERATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    # On uint8 (N, 3, H, W), with a magnitude in [-1, 1]; those that cannot be signed get it in [0, 1].
    "ShearX": lambda x, m: tv.affine(x, angle=0.0, translate=[0, 0], scale=1.0, shear=[math.degrees(0.3 * m), 0.0]),
    "Rotate": lambda x, m: tv.rotate(x, 30 * m),
    "Color": lambda x, m: tv.adjust_saturation(x, 1 + 0.9 * m),
    "Contrast": lambda x, m: tv.adjust_contrast(x, 1 + 0.9 * m),
    "Sharpness": lambda x, m: tv.adjust_sharpness(x, 1 + 0.9 * m),
    "Posterize": lambda x, m: tv.posterize(x, 8 - round(4 * m)),
    "Solarize": lambda x, m: tv.solarize(x, 256 * (1 - m)),
    "AutoContrast": lambda x, m: tv.autocontrast(x),
    "Equalize": lambda x, m: tv.equalize(x),
    "Invert": lambda x, m: tv.invert(x),
}
_SIGNED = ("ShearX", "Rotate", "Color", "Contrast", "Sharpness")


@dataclass(frozen=True)
class AutoAugment:
    """One of the 25 ImageNet policies of AutoAugment on every sample, as in torchvision.

    Works on whole grey levels, as the policies were learned. Rotation and shear take the nearest pixel and leave black
    corners, so a view's `box` says where it came from only roughly.
    """

    @property
    def parameters(self) -> int:
        """Which policy, and for each of its two operations the magnitude (not a number where it is not applied)."""
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
        for step, column in enumerate(drawn[:, 1:].T.tolist()):
            rows: dict[tuple[str, float], list[int]] = {}
            for row, (policy, m) in enumerate(zip(drawn[:, 0].tolist(), column, strict=True)):
                if not math.isnan(m):
                    rows.setdefault((POLICIES[int(policy)][step][0], m), []).append(row)
            for (name, m), chosen in rows.items():
                index = torch.tensor(chosen).to(x.device, non_blocking=True)
                x.index_copy_(0, index, _OPERATIONS[name](x.index_select(0, index), m))
        return pixels.copy_(x).div_(255)


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
        """First (1) or second (0), and the parameters of all operations side by side."""
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
