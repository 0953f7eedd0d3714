"""Optimisers against their equations in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pretrain.optimizers import SGDConfig


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_follows_its_equation(nesterov: bool) -> None:
    config = SGDConfig(lr=0.5, momentum=0.8, weight_decay=0.03, nesterov=nesterov)
    module = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)).double()
    optimizer = config.build(module.named_parameters())
    weights = {name: p.detach().clone() for name, p in module.named_parameters()}
    velocity = {name: torch.zeros_like(p) for name, p in weights.items()}
    for step in range(4):
        rate = config.lr / (step + 1)
        optimizer.param_groups[0]["lr"] = rate
        for name, p in module.named_parameters():
            p.grad = torch.randn(p.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
            decayed = p.grad + 0.03 * weights[name]
            velocity[name] = 0.8 * velocity[name] + decayed if step else decayed
            moved = decayed + 0.8 * velocity[name] if nesterov else velocity[name]
            weights[name] = weights[name] - rate * moved
        optimizer.step()
    for name, p in module.named_parameters():
        torch.testing.assert_close(p.detach(), weights[name])
