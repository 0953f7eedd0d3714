"""Shuffles key images between the parts of a batch with separate batch norm, and restores their order.

Without it, query and positive key share their part's statistics, which reveal the answer (MoCo, arXiv 1911.05722).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pretrain.parts.distributed import batch_permutation, inverse, reorder, world_size


@dataclass(frozen=True)
class Shuffle:
    """Where each image of the global batch goes in one step."""

    permutation: Tensor | None
    """int64 (global batch,) on the CPU, the same on every process; None where batch norm sees the whole batch."""

    @classmethod
    def keyed(cls, n: int, splits: int, seed: int, step: int) -> Shuffle:
        """The shuffle for `seed` and `step`, of n images per process, each divided into `splits` parts."""
        world = world_size()
        return cls(batch_permutation(n * world, seed, step) if world * splits > 1 else None)

    @classmethod
    def drawn(cls, n: int, splits: int) -> Shuffle:
        """A shuffle of n images per process, divided into `splits` parts each, drawn from the CPU's generator."""
        world = world_size()
        return cls(torch.randperm(n * world) if world * splits > 1 else None)

    def __call__(self, x: Tensor) -> Tensor:
        """This process's part (n, ...) of the shuffled global batch."""
        return x if self.permutation is None else reorder(x, self.permutation)

    def undo(self, x: Tensor) -> Tensor:
        """This process's rows (n, ...) back in the order of the images."""
        return x if self.permutation is None else reorder(x, inverse(self.permutation))
