"""Small networks and batches for the contrastive methods, and their training loop written out plainly.

All numbers come from numpy generators, so that they do not change with the version of PyTorch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.data.views import View
from pretrain.methods.densecl import DenseCL, DenseCLConfig
from pretrain.methods.moco import MoCo, MoCoConfig
from pretrain.parts.distributed import batch_permutation, inverse
from pretrain.parts.momentum import Momentum

SMALL: dict[str, Any] = {
    "backbone": "toy",
    "hidden": 10,
    "dim": 6,
    "queue": 32,
    "momentum": 0.9,
    "view_size": 16,
    "bn_splits": 1,
}
LR, SGD_MOMENTUM = 0.03, 0.9


class ToyBackbone(nn.Module):
    """Two convolutions: images (N, 3, 4 S, 4 S) -> maps (N, 8, S, S)."""

    width = 8

    def __init__(self, *, norm: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, 2, 1)
        self.norm: nn.Module = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.conv2 = nn.Conv2d(6, self.width, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.norm(self.conv1(x)))))


def reset_momentum(method: nn.Module) -> None:
    """Make every momentum copy equal to what it copies, after weights were drawn."""
    for module in method.modules():
        if isinstance(module, Momentum):
            module.reset()


def build(config: MoCoConfig, *, norm: bool = True, seed: int = 0) -> Any:
    """The method on a toy backbone, in float64, with every number drawn from `seed`."""

    method = config.build(ToyBackbone(norm=norm)).double()
    method.seed = 7
    fill(method, seed)
    return method


def fill(method: MoCo, seed: int) -> None:
    """Draw weights and queues; the momentum network starts as the copy that it is."""

    def draw(i: int, shape: torch.Size) -> Tensor:
        return torch.from_numpy(np.random.default_rng([seed, i]).standard_normal(tuple(shape)))

    sources = [method.backbone, method.head]
    queues = [method.queue]
    if isinstance(method, DenseCL):
        sources.append(method.dense_head)
        queues.append(method.dense_queue)
    for i, source in enumerate(sources):
        for j, parameter in enumerate(source.parameters()):
            parameter.data = draw(100 * i + j, parameter.shape) / max(1, parameter[0].numel()) ** 0.5
    reset_momentum(method)
    for i, queue in enumerate(queues):
        queue.keys = F.normalize(draw(1000 + i, queue.keys.shape), dim=1)


def batch(n: int, seed: int, size: int = 16) -> list[View]:
    """Two views of n images that differ by noise, in float64."""
    rng = np.random.default_rng([99, seed])
    patches = rng.standard_normal((n, 3, 4, 4)) + rng.standard_normal((n, 3, 1, 1))
    image = patches.repeat(-(-size // 4), axis=2).repeat(-(-size // 4), axis=3)[:, :, :size, :size]
    pixels = [torch.from_numpy(image + 0.3 * rng.standard_normal(image.shape)) for _ in range(2)]
    return [View(p, torch.zeros(n, 4), torch.zeros(n, dtype=torch.bool), torch.arange(n)) for p in pixels]


def batches(n: int, steps: int, size: int = 16) -> Iterator[list[View]]:
    """A batch a step; eight of them in turns, so that the queue has forgotten a batch when it comes again."""
    return (batch(n, step % 8, size) for step in range(steps))


def sgd(modules: list[nn.Module]) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for m in modules for p in m.parameters() if p.requires_grad], LR, SGD_MOMENTUM)


def curve(method: MoCo, n: int, steps: int, size: int = 16) -> list[float]:
    """Losses of training as any user of a method would write it."""
    optimizer = sgd([method])
    losses = []
    for step, views in enumerate(batches(n, steps, size), start=1):
        loss = method(views)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step, steps)
        losses.append(loss.item())
    return losses


def plain_curve(start: MoCo, n: int, steps: int, size: int = 16) -> list[float]:
    """The same training in the order of the papers' code, one thing after the other, with all logits at once.

    There, momentum moves before the key's forward pass, and queues are (C, K).
    """
    config = start.config
    dense = isinstance(start, DenseCL)
    f_q = nn.ModuleList([start.backbone, start.head] + ([start.dense_head] if dense else []))
    f_q = copy.deepcopy(f_q)
    f_k = copy.deepcopy(f_q)
    queues = [q.keys.T.clone() for q in ([start.queue, start.dense_queue] if dense else [start.queue])]
    pointer = 0
    optimizer = sgd([f_q])
    losses = []
    for step, (view_q, view_k) in enumerate(batches(n, steps, size)):
        b_q = f_q[0](view_q.pixels)
        q = F.normalize(f_q[1](b_q.mean((2, 3))), dim=1)
        with torch.no_grad():
            for p_q, p_k in zip(f_q.parameters(), f_k.parameters(), strict=True):
                p_k.data = p_k.data * config.momentum + p_q.data * (1 - config.momentum)
            order = batch_permutation(n, start.seed, step) if config.bn_splits > 1 else torch.arange(n)
            b_k = f_k[0](view_k.pixels[order])[inverse(order)]
            k = F.normalize(f_k[1](b_k.mean((2, 3))), dim=1)
        loss = cross_entropy(q, k, queues[0], config.temperature)
        new_keys = [k]
        if isinstance(config, DenseCLConfig):
            grid = config.grid
            if grid is not None:
                b_q, b_k = F.adaptive_avg_pool2d(b_q, grid), F.adaptive_avg_pool2d(b_k, grid)
            d_q, d_k = f_q[2](b_q), f_k[2](b_k)
            total = 0.0
            side = b_q.shape[2]
            cells = [(r, c) for r in range(side) for c in range(side)]
            for i in range(n):
                for r, c in cells:
                    cosines = [F.cosine_similarity(b_q[i, :, r, c], b_k[i, :, y, x], dim=0).item() for y, x in cells]
                    y, x = cells[int(np.argmax(cosines))]
                    total = total + cross_entropy(
                        F.normalize(d_q[i, :, r, c], dim=0)[None],
                        F.normalize(d_k[i, :, y, x], dim=0)[None].detach(),
                        queues[1],
                        config.temperature,
                    )
            loss = (1 - config.dense_weight) * loss + config.dense_weight * total / (n * len(cells))
            if config.dense_negatives == "mean":
                kept = d_k.mean((2, 3))
            else:
                turns = [cells[(i + step) % len(cells)] for i in range(n)]
                kept = torch.stack([d_k[i, :, y, x] for i, (y, x) in enumerate(turns)])
            new_keys.append(F.normalize(kept, dim=1).detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for queue, keys in zip(queues, new_keys, strict=True):
            queue[:, pointer : pointer + n] = keys.T
        pointer = (pointer + n) % config.queue
        losses.append(loss.item())
    return losses


def cross_entropy(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> Tensor:
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.clone()], 1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64))
