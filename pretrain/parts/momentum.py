"""Momentum networks: copies whose weights follow the trained ones as an exponential moving average."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

MomentumSchedule = Literal["constant", "cosine"]


class Momentum(nn.Module):
    """Copies of trained modules that follow them as moving averages, without gradient.

    Each copy is an attribute with the given name: `Momentum(backbone=b, head=h)` has `backbone` and `head`. The trained
    modules are referenced, not registered: they belong to the method alone and must stay the same objects.
    """

    def __init__(self, **sources: nn.Module) -> None:
        super().__init__()
        self._sources: dict[str, nn.Module] = {}
        self.add(**sources)

    if TYPE_CHECKING:  # PyTorch's annotation of a module's attributes is `Tensor | Module`

        def __getattr__(self, name: str) -> Any: ...

    def add(self, **sources: nn.Module) -> None:
        """Copy more modules, with their weights and buffers."""
        for name, source in sources.items():
            self.add_module(name, copy.deepcopy(source).requires_grad_(False))
            self._sources[name] = source

    @torch.no_grad()
    def update(self, m: float) -> None:
        """Update the parameters: copy <- m copy + (1 - m) source, with m in [0, 1].

        Buffers are not changed: batch norm of a copy keeps the running statistics of its own inputs, as in the code of
        MoCo and BYOL.
        """
        copies: list[Tensor] = list(self.parameters())
        sources: list[Tensor] = [p for source in self._sources.values() for p in source.parameters()]
        torch._foreach_lerp_(copies, sources, 1 - m)

    def reset(self) -> None:
        """Make the copies equal to their sources again, including buffers, after these got other weights."""
        for name, source in self._sources.items():
            self.get_submodule(name).load_state_dict(source.state_dict())


def take_older_names(method: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Rename copies in a state dict of an earlier version, where they are next to their sources (`momentum_head.*`), to
    their present names (`momentum.head.*`). A hook that runs before a method loads its state.

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
    """The momentum of the update after optimizer step `step` (from 1 to `total_steps`).

    `constant`: always `base` (MoCo). `cosine`: from `base` towards 1, that is 1 - (1 - base) (cos(pi t / T) + 1) / 2
    with t = step - 1 finished updates (BYOL, arXiv 2006.07733).

    >>> [round(momentum_at(step, 100, 0.99, "cosine"), 4) for step in (1, 51, 100)]
    [0.99, 0.995, 1.0]
    """
    if schedule == "constant":
        return base
    return 1 - (1 - base) * (math.cos(math.pi * (step - 1) / total_steps) + 1) / 2
