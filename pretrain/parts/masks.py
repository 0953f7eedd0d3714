"""Regions on the cells of a map: from labels to masks, means over masks, and draws of regions that a view shows."""

from __future__ import annotations

import torch
from torch import Tensor

from pretrain.parts.distributed import rank, world_size

LABELS = 256
"""Label maps hold labels from 0 to LABELS - 1, where nothing else is said."""


def one_hot(labels: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """Label maps (N, H, W) as masks (N, count, H, W), of 0 and 1; labels of `count` and more are in no mask."""
    return (labels[:, None] == torch.arange(count, device=labels.device).view(-1, 1, 1)).to(dtype)


def pool(features: Tensor, masks: Tensor, *, least_area: float = 0.0) -> tuple[Tensor, Tensor]:
    """Means of `features` (N, C, H, W) over each of `masks` (N, R, H, W), in [0, 1]: (N, R, C), and areas (N, R).

    The area is the sum of the mask, in cells. Where it is 0, so is the mean. Sums over an area below `least_area` are
    divided by that instead, so that what is hardly seen counts little.
    """
    weights = masks.to(features.dtype).flatten(2)
    area = weights.sum(2)
    summed = weights @ features.flatten(2).transpose(1, 2)
    divisor = area.masked_fill(area == 0, 1).clamp(min=least_area)
    return summed / divisor[:, :, None], area


def most_frequent(labels: Tensor, size: int, count: int = LABELS) -> Tensor:
    """The most frequent label, below `count`, in each cell of a `size` x `size` grid: int64 (N, size, size).

    `labels` (N, size * s, size * s) are those of s x s points per cell; of equally frequent ones the smallest is taken,
    so that a cell which has only labels of `count` and more gets 0.
    (DetCon's average pooling of one-hot maps, and argmax.)
    """
    n, samples = len(labels), labels.shape[-1] // size
    points = (
        labels.long().clamp(max=count).view(n, size, samples, size, samples).transpose(2, 3).reshape(n, size, size, -1)
    )
    counts = points.new_zeros(n, size, size, count + 1).scatter_add_(3, points, torch.ones_like(points))[..., :count]
    first = torch.arange(count, 0, -1, device=points.device)
    return (counts * (count + 1) + first).argmax(3)


@torch.no_grad()
def draw_regions(cells: Tensor, number: int, *, count: int = LABELS, replacement: bool = True) -> tuple[Tensor, Tensor]:
    """`number` labels of each map in `cells` (N, S, S), uniform over those below `count` that it holds.

    Without `replacement` a label is drawn once; after all that a map holds follow others, in no order, whose masks are
    empty. Returns the labels, int64 (N, number), and how many different ones each map holds (N,). The draws are those
    of the global batch from PyTorch's generator of the CPU, of which each process takes its part.
    """
    n, world = len(cells), world_size()
    present = torch.zeros(n, count, dtype=torch.bool, device=cells.device).scatter_(1, cells.flatten(1), True)
    held = present.sum(1)
    u = torch.rand(n * world, number if replacement else count).chunk(world)[rank()].to(cells.device, non_blocking=True)
    if not replacement:
        return (u + (~present).to(u.dtype)).argsort(dim=1)[:, :number], held
    listed = (~present).to(torch.uint8).argsort(dim=1, stable=True)
    place = (u * held[:, None]).long()
    return listed.gather(1, torch.minimum(place, held[:, None] - 1)), held
