"""Optimisers as frozen configs that build themselves; each is one dataclass of the union `OptimizerConfig`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class SGDConfig:
    """SGD with momentum. Weight decay acts on every trained tensor, biases and normalisation included.

    `lr` is the base rate at the recipe's batch size; it is never scaled behind the user's back.
    """

    lr: float
    momentum: float = 0.9
    weight_decay: float = 1e-4
    nesterov: bool = False

    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """The optimiser over named `parameters`; its rate is set by the loop before every step."""
        return torch.optim.SGD(
            list(parameters),
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
        )


OptimizerConfig = SGDConfig
