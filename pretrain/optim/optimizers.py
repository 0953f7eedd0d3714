"""Optimizers as frozen configs: each builds its optimizer and sets what changes from step to step.

`lr` is the base rate at the recipe's batch size; it is never scaled silently.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.optim.lars import LARS, LARSVariant
from pretrain.settings import ADDED


@dataclass(frozen=True)
class OptimizerConfig:
    """Settings of all optimizers."""

    lr: float
    weight_decay: float = 0.0
    exclude_norm_bias: bool = field(default=False, metadata=ADDED)
    """Whether vectors and scalars (biases, scales of norms) have no weight decay, and in LARS no adaptation."""
    clip_norm: float | None = field(default=None, metadata=ADDED)
    """Largest Euclidean norm of a gradient; a longer one is shortened to it."""
    clip_each: bool = field(default=False, metadata=ADDED)
    """Clip the gradient of each tensor separately, as DINO does, instead of that of all tensors together."""
    fixed_lr: tuple[str, ...] = field(default=(), metadata=ADDED)
    """Beginnings of the names of parameters that keep the base rate, whatever the schedule (SimSiam's predictor)."""

    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """The optimizer over named `parameters`; `set_step` gives it its rate before every step."""
        raise NotImplementedError

    def set_step(self, optimizer: torch.optim.Optimizer, factor: float, progress: float) -> float:
        """Set the values for the next step and return its rate. `factor` is the schedule's; `progress` in [0, 1) is the
        share of all steps that are finished.
        """
        rate = self.lr * factor
        for group in optimizer.param_groups:
            group["lr"] = self.lr if group.get("fixed") else rate
            group["weight_decay"] = 0.0 if group.get("excluded") else self.weight_decay_at(progress)
        return rate

    def weight_decay_at(self, progress: float) -> float:
        """Weight decay after the share `progress` of all steps."""
        return self.weight_decay

    def clip(self, optimizer: torch.optim.Optimizer) -> None:
        """Shorten gradients to `clip_norm`, if there is one."""
        if self.clip_norm is None:
            return
        tensors = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if self.clip_each and tensors:
            _clip_each([p.grad for p in tensors], self.clip_norm)
        else:
            nn.utils.clip_grad_norm_(tensors, self.clip_norm)

    def groups(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> list[dict[str, Any]]:
        """Parameter groups by whether parameters are excluded and whether they keep the base rate; no empty groups."""
        groups: dict[tuple[bool, bool], list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in parameters:
            excluded = self.exclude_norm_bias and parameter.ndim <= 1
            fixed = bool(self.fixed_lr) and name.startswith(self.fixed_lr)
            groups.setdefault((excluded, fixed), []).append((name, parameter))
        return [
            {"params": params, "excluded": excluded, "fixed": fixed} for (excluded, fixed), params in groups.items()
        ]


def _clip_each(gradients: list[Tensor], longest: float) -> None:
    """Do `clip_grad_norm_` on every tensor separately, in place, with a few operations on all tensors."""
    norms = torch.stack(torch._foreach_norm(gradients))
    torch._foreach_mul_(gradients, (longest / (norms + 1e-6)).clamp(max=1).unbind())


@dataclass(frozen=True)
class SGDConfig(OptimizerConfig):
    """SGD with momentum. Weight decay acts on every trained tensor unless `exclude_norm_bias` is set."""

    weight_decay: float = 1e-4
    momentum: float = 0.9
    nesterov: bool = False

    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """The optimizer over named `parameters`."""
        return torch.optim.SGD(
            self.groups(parameters),
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
        )


@dataclass(frozen=True)
class LARSConfig(OptimizerConfig):
    """SGD with momentum and a rate for each tensor, in proportion to its length (see `pretrain.optim.lars`)."""

    weight_decay: float = 1e-6
    exclude_norm_bias: bool = True
    momentum: float = 0.9
    trust: float = 1e-3
    """eta, the length of a step relative to the length of the tensor."""
    variant: LARSVariant = "byol"

    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """The optimizer over named `parameters`."""
        return LARS(
            self.groups(parameters),
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            trust=self.trust,
            variant=self.variant,
        )


@dataclass(frozen=True)
class AdamWConfig(OptimizerConfig):
    """Adam with decoupled weight decay, which may follow half a cosine to another value (DINO: .04 to .4)."""

    weight_decay: float = 0.05
    exclude_norm_bias: bool = True
    final_weight_decay: float | None = None
    """Weight decay at the end; None keeps it."""
    betas: tuple[float, float] = (0.9, 0.999)

    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """The optimizer over named `parameters`."""
        return torch.optim.AdamW(self.groups(parameters), lr=self.lr, betas=self.betas, weight_decay=self.weight_decay)

    def weight_decay_at(self, progress: float) -> float:
        """Weight decay on half a cosine from `weight_decay` to `final_weight_decay`."""
        final = self.weight_decay if self.final_weight_decay is None else self.final_weight_decay
        return final + (self.weight_decay - final) * 0.5 * (1 + math.cos(math.pi * progress))
