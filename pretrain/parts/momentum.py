"""The momentum network: a copy whose weights follow the trained ones as an exponential moving average."""

from __future__ import annotations

import copy
import math
from typing import Literal, TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)
MomentumSchedule = Literal["constant", "cosine"]


def momentum_copy(module: Module) -> Module:
    """A copy with the same weights that takes no gradient."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def momentum_update(target: nn.Module, source: nn.Module, m: float) -> None:
    """Move parameters: target <- m target + (1 - m) source, with m in [0, 1].

    Buffers are left alone: batch norm of the momentum network keeps the running statistics of its own inputs, as in
    the code of MoCo and BYOL.
    """
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), 1 - m)


def momentum_at(step: int, total_steps: int, base: float, schedule: MomentumSchedule) -> float:
    """The momentum of the update after optimiser step `step` (from 1 to `total_steps`).

    `constant`: always `base` (MoCo). `cosine`: from `base` towards 1, that is 1 - (1 - base) (cos(pi t / T) + 1) / 2
    with t = step - 1 finished updates (BYOL, arXiv 2006.07733).
    """
    if schedule == "constant":
        return base
    return 1 - (1 - base) * (math.cos(math.pi * (step - 1) / total_steps) + 1) / 2
