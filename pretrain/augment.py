"""Colour operations on batches, on the device the batch is on, with one set of drawn parameters a sample."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor


class ColourOp(Protocol):
    """One colour operation: draws its parameters for one sample and applies them to a batch."""

    @property
    def parameters(self) -> int:
        """How many numbers `draw` returns."""
        ...

    def draw(self, rng: np.random.Generator) -> tuple[float, ...]:
        """Parameters for one sample."""
        ...

    def apply(self, pixels: Tensor, drawn: Tensor) -> Tensor:
        """Apply to float `pixels` (N, 3, H, W) in [0, 1] with `drawn` (N, parameters)."""
        ...
