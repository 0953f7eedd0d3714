"""Training loops as the user of a method writes them, for methods that draw from PyTorch's generators."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.data.views import View
from pretrain.parts.distributed import gather

LR, SGD_MOMENTUM = 0.03, 0.9
Batch = Callable[[int], list[View]]


def sgd(modules: Sequence[nn.Module]) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for m in modules for p in m.parameters() if p.requires_grad], LR, SGD_MOMENTUM)


def train(
    method: Any,
    batch: Batch,
    steps: int,
    *,
    first: int = 0,
    total: int = 0,
    optimizer: torch.optim.Optimizer | None = None,
    rank: int = 0,
    world: int = 1,
) -> list[float]:
    """Losses of steps `first` to `steps`, generators seeded by the step; loss and gradients averaged over processes."""
    optimizer = optimizer or sgd([method])
    losses = []
    for step in range(first, steps):
        torch.manual_seed(step)
        loss = method([part(view, rank, world) for view in batch(step)])["loss"]
        losses.append(gather(loss.detach()[None]).mean().item())
        optimizer.zero_grad()
        loss.backward()
        if world > 1:
            for p in method.parameters():
                if p.grad is not None:
                    p.grad = gather(p.grad[None]).mean(0)
        method.before_update(step + 1, total or steps)
        optimizer.step()
        method.after_step(step + 1, total or steps)
    return losses


def part(view: View, rank: int, world: int) -> View:
    return View(*(t.chunk(world)[rank] for t in (view.pixels, view.box, view.flip, view.image_id)))


def check_resume(build: Callable[[int], Any], batch: Batch, steps: int = 6, stop: int = 3) -> None:
    """Uninterrupted training and one taken up from state dicts in a method of another seed: equal bit by bit."""
    straight = build(0)
    expected = train(straight, batch, steps)
    stopped = build(0)
    optimizer = sgd([stopped])
    losses = train(stopped, batch, stop, total=steps, optimizer=optimizer)
    state = copy.deepcopy((stopped.state_dict(), optimizer.state_dict()))
    resumed = build(1)
    optimizer = sgd([resumed])
    resumed.load_state_dict(state[0])
    optimizer.load_state_dict(state[1])
    losses += train(resumed, batch, steps, first=stop, optimizer=optimizer)
    assert losses == expected
    a, b = straight.state_dict(), resumed.state_dict()
    assert a.keys() == b.keys()
    for key, value in a.items():
        assert torch.equal(value, b[key]), key


def result(method: Any, batch: Batch, rank: int, world: int, steps: int = 5) -> tuple[list[float], dict[str, Tensor]]:
    losses = train(method, batch, steps, rank=rank, world=world)
    return losses, method.state_dict()
