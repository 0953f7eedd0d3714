"""Momentum networks: copies whose weights follow the trained ones as an exponential moving average."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

MomentumSchedule = Literal["constant", "cosine"]


class Momentum(nn.Module):
    """Copies of trained modules that follow them as moving averages, all at once, and take no gradient.

    Each is an attribute under the name that it was given: `Momentum(backbone=b, head=h)` has `backbone` and `head`. The
    trained modules are remembered, not registered: they belong to the method alone, and are to stay the same objects.
    """

    def __init__(self, **sources: nn.Module) -> None:
        super().__init__()
        self._sources: dict[str, nn.Module] = {}
        self.add(**sources)

    if TYPE_CHECKING:  # of a module PyTorch says `Tensor | Module`

        def __getattr__(self, name: str) -> Any: ...

    def add(self, **sources: nn.Module) -> None:
        """Copy more modules, with their weights and buffers."""
        for name, source in sources.items():
            self.add_module(name, copy.deepcopy(source).requires_grad_(False))
            self._sources[name] = source

    @torch.no_grad()
    def update(self, m: float) -> None:
        """Move parameters: copy <- m copy + (1 - m) source, with m in [0, 1].

        Buffers are left alone: batch norm of a copy keeps the running statistics of its own inputs, as in the code of
        MoCo and BYOL.
        """
        copies: list[Tensor] = list(self.parameters())
        sources: list[Tensor] = [p for source in self._sources.values() for p in source.parameters()]
        torch._foreach_lerp_(copies, sources, 1 - m)

    def reset(self) -> None:
        """Make the copies equal to their sources again, buffers included: after these got other weights."""
        for name, source in self._sources.items():
            self.get_submodule(name).load_state_dict(source.state_dict())


def take_older_names(method: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Of a state dict whose copies stand beside their sources (`momentum_head.*`), as checkpoints held them before
    `Momentum` did: give them their names of today (`momentum.head.*`). A hook to run before a method loads its state.

    A copy that is exported stays under `backbone.*`, too.
    """
    for path, module in method.named_modules():
        if not isinstance(module, Momentum):
            continue
        for name, copied in module.named_children():
            exported = copied is getattr(method, "backbone", None)
            old, new = f"{prefix}backbone." if exported else f"{prefix}{path}_{name}.", f"{prefix}{path}.{name}."
            for key in [key for key in state if key.startswith(old)]:
                state.setdefault(new + key.removeprefix(old), state[key] if exported else state.pop(key))


def momentum_at(step: int, total_steps: int, base: float, schedule: MomentumSchedule) -> float:
    """The momentum of the update after optimiser step `step` (from 1 to `total_steps`).

    `constant`: always `base` (MoCo). `cosine`: from `base` towards 1, that is 1 - (1 - base) (cos(pi t / T) + 1) / 2
    with t = step - 1 finished updates (BYOL, arXiv 2006.07733).

    >>> [round(momentum_at(step, 100, 0.99, "cosine"), 4) for step in (1, 51, 100)]
    [0.99, 0.995, 1.0]
    """
    if schedule == "constant":
        return base
    return 1 - (1 - base) * (math.cos(math.pi * (step - 1) / total_steps) + 1) / 2
