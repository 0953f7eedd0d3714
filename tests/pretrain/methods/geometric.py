"""Small networks and views that know their place, for the methods that compare views by geometry.

All numbers come from numpy generators, so that they do not change with the version of PyTorch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from contrastive import ToyBackbone, reset_momentum, sgd
from torch import Tensor, nn

from pretrain.data.views import View
from pretrain.method import Method
from pretrain.parts.geometry import align

SIDE = 4
"""Side of the toy backbone's map of a view."""
APART = ([0.0, 0.1, 0.4, 0.5], [0.6, 0.5, 1.0, 0.9])
"""Boxes of two views that share nothing."""


def build(config: Any, *, norm: bool = True, seed: int = 0) -> Any:
    """The method on a toy backbone, in float64, every number drawn from `seed`."""
    method = config.build(ToyBackbone(norm=norm)).double()
    draw(method, seed)
    reset_momentum(method)
    return method


def draw(method: nn.Module, seed: int) -> None:
    """Draw the trained weights: scales of batch norm near 1, biases near 0, the rest of unit gain."""
    trained = [(name, p) for name, p in method.named_parameters() if p.requires_grad]
    for i, (name, parameter) in enumerate(trained):
        values = torch.from_numpy(np.random.default_rng([seed, i]).standard_normal(tuple(parameter.shape)))
        if parameter.dim() == 1:
            parameter.data = float(name.endswith("weight")) + 0.1 * values
        else:
            parameter.data = values / parameter[0].numel() ** 0.5


def batch(n: int, seed: int, size: int = 4 * SIDE) -> list[View]:
    """Two flipped or unflipped crops of n smooth images with noise; those of the last image have nothing in common."""
    rng = np.random.default_rng([77, seed])
    images = torch.from_numpy(rng.standard_normal((n, 3, 6, 6)) + rng.standard_normal((n, 3, 1, 1)))
    whole = View(images, torch.tensor([[0.0, 0, 1, 1]] * n).double(), torch.zeros(n, dtype=torch.bool), torch.arange(n))
    views = []
    for apart in APART:
        low = rng.uniform(0, 0.4, (n, 2))
        box = torch.from_numpy(np.concatenate([low, low + rng.uniform(0.3, 0.6, (n, 2))], axis=1))
        box[-1] = torch.tensor(apart)
        flip = torch.from_numpy(rng.random(n) < 0.5)
        view = View(images, box, flip, torch.arange(n))
        pixels, _ = align(images, whole, view, size)
        view.pixels = pixels + 0.2 * torch.from_numpy(rng.standard_normal(tuple(pixels.shape)))
        views.append(view)
    return views


def train(method: Method, n: int, steps: int) -> list[float]:
    """Losses of training as any user of a method would write it."""
    optimizer = sgd([method])
    losses = []
    for step in range(1, 1 + steps):
        loss = method(batch(n, step % 8))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step, steps)
        losses.append(loss.item())
    return losses


def stopped_and_trained(method: nn.Module) -> tuple[set[str], set[str]]:
    """Names of the parameters without and with a gradient that is not zero."""
    named = dict(method.named_parameters())
    trained = {name for name, p in named.items() if p.grad is not None and bool(p.grad.any())}
    return set(named) - trained, trained


def original_centre(view: View, n: int, r: int, c: int, side: int = SIDE) -> tuple[float, float]:
    """Centre of cell (r, c) of image n in the original image, from the definition."""
    x1, y1, x2, y2 = view.box[n].tolist()
    u = (c + 0.5) / side
    if bool(view.flip[n]):
        u = 1 - u
    return x1 + u * (x2 - x1), y1 + (r + 0.5) / side * (y2 - y1)


def cell(maps: Tensor, n: int, index: int) -> Tensor:
    """Cell number `index`, row by row, of image n of maps (N, C, H, W)."""
    return maps[n, :, index // maps.shape[3], index % maps.shape[3]]
