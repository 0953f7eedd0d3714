"""Small networks and views that know their place, for the methods that compare views by geometry.

All numbers come from numpy generators, so that they do not change with the version of PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gloo
import numpy as np
import pytest
import torch
from contrastive import ToyBackbone, reset_momentum, sgd
from looping import part
from torch import Tensor, nn

from pretrain.data.views import View
from pretrain.method import Method
from pretrain.parts.distributed import gather
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


def train(
    method: Method, n: int, steps: int, *, first: int = 1, total: int | None = None, optimizer: Any = None
) -> list[float]:
    """Losses, averaged over processes, of training as any user of a method would write it; gradients likewise."""
    world, rank = (torch.distributed.get_world_size(), torch.distributed.get_rank()) if is_parallel() else (1, 0)
    optimizer = optimizer or sgd([method])
    losses = []
    for step in range(first, first + steps):
        loss = method([part(view, rank, world) for view in batch(n, step % 8)])["loss"]
        losses.append(gather(loss.detach()[None]).mean().item())
        optimizer.zero_grad()
        loss.backward()
        for p in method.parameters():
            if p.grad is not None:
                p.grad = gather(p.grad[None]).mean(0)
        optimizer.step()
        method.after_step(step, total or steps)
    return losses


def is_parallel() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def assert_resumes(make: Callable[[int], Any], n: int = 4) -> None:
    """A run whose states are saved and loaded into another method in the middle ends with the same bits."""
    straight, stopped, resumed = make(0), make(0), make(5)
    expected = train(straight, n, 8, total=8)
    optimizer = sgd([stopped])
    got = train(stopped, n, 4, total=8, optimizer=optimizer)
    resumed.load_state_dict(stopped.state_dict())
    continued = sgd([resumed])
    continued.load_state_dict(optimizer.state_dict())
    got += train(resumed, n, 4, first=5, total=8, optimizer=continued)
    assert got == expected
    theirs = straight.state_dict()
    assert theirs.keys() == resumed.state_dict().keys()
    assert all(torch.equal(value, theirs[key]) for key, value in resumed.state_dict().items())


def assert_two_processes_are_one(
    check: Callable[[int, int, Path], None], make: Callable[[], Any], folder: Path, *, n: int, steps: int
) -> None:
    """Two Gloo processes that run `check` (which must call `save_run`) train as one process with the whole batch."""
    gloo.run(check, 2, folder)
    method = make()
    losses = train(method, n, steps)
    for rank in range(2):
        their_losses, theirs = torch.load(folder / f"{rank}.pt", weights_only=True)
        assert their_losses == pytest.approx(losses, rel=1e-10)
        for key, value in method.state_dict().items():
            torch.testing.assert_close(theirs[key], value, rtol=1e-8, atol=1e-10, msg=key)


def save_run(method: Any, rank: int, folder: Path, *, n: int, steps: int) -> None:
    """Train this process's part and leave losses and state for `assert_two_processes_are_one`."""
    torch.save((train(method, n, steps), method.state_dict()), folder / f"{rank}.pt")


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
