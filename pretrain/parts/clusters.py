"""k-means of many sets of points at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pretrain.parts.distributed import rank, world_size
from pretrain.parts.losses import full_precision


class Clusters(NamedTuple):
    """Result of `kmeans` for G sets of M points."""

    labels: Tensor
    """The nearest center of each point, int64 (G, M), also of points that are left out."""
    centers: Tensor
    """The centers (G, K, C)."""


@torch.no_grad()
def kmeans(points: Tensor, draws: Tensor, *, valid: Tensor | None = None, iterations: int = 100) -> Clusters:
    """Lloyd's algorithm on each of G sets of `points` (G, M, C), with Euclidean distances, started by k-means++.

    `draws` (G, K), uniform in [0, 1), select the K initial centers (Arthur and Vassilvitskii, SODA 2007), so that they
    determine the result. Points for which `valid` (G, M) is false do not move centers. A center without points stays
    where it is; if several centers are equally near, a point takes the first. A set of fewer than K different points
    has as many clusters as points, and the others are empty.

    It stops after `iterations`, on a CPU also when nothing changes any more; on a GPU the host does not wait for this.

    Two pairs of points on a line:

    >>> line = torch.tensor([[[0.0], [1.0], [10.0], [11.0]]])
    >>> kmeans(line, torch.tensor([[0.0, 0.5]]))
    Clusters(labels=tensor([[0, 0, 1, 1]]), centers=tensor([[[ 0.5000],
             [10.5000]]]))
    """
    with torch.autocast(points.device.type, enabled=False):
        x = full_precision(points)
        weights = x.new_ones(x.shape[:2]) if valid is None else valid.to(x.dtype)
        centers = _spread(x, weights, draws.to(x))
        labels = _nearest(x, centers)
        for _ in range(iterations):
            member = torch.zeros(*labels.shape, draws.shape[1], dtype=x.dtype, device=x.device)
            member = member.scatter_(2, labels[:, :, None], weights[:, :, None]).transpose(1, 2)
            count = member.sum(2, keepdim=True)
            centers = torch.where(count > 0, member @ x / count.clamp(min=1), centers)
            before, labels = labels, _nearest(x, centers)
            if x.device.type == "cpu" and torch.equal(before, labels):
                break
    return Clusters(labels, centers)


def start_draws(sets: int, clusters: int) -> Tensor:
    """Uniform numbers (sets, clusters) in [0, 1) for `kmeans` of this process's sets.

    They are its part of the numbers for the global batch, from PyTorch's CPU generator, which is the same everywhere.
    """
    return torch.rand(sets * world_size(), clusters).chunk(world_size())[rank()]


def _spread(x: Tensor, weights: Tensor, draws: Tensor) -> Tensor:
    """Initial centers (G, K, C): points, each drawn with a probability proportional to its squared distance to those
    drawn before."""
    distance = weights  # the first is drawn uniformly
    chosen: list[Tensor] = []
    for draw in draws.unbind(1):
        total = distance.double().cumsum(1)
        index = torch.searchsorted(total, draw[:, None].double() * total[:, -1:], right=True)
        if chosen:  # where all points are centers already, the first is repeated: no point takes the copy
            index = torch.where(total[:, -1:] > 0, index, chosen[0])
        chosen.append(index.clamp(max=x.shape[1] - 1))
        center = x.gather(1, chosen[-1][:, :, None].expand(-1, -1, x.shape[2]))
        new = (x - center).square().sum(2) * weights
        distance = new if len(chosen) == 1 else torch.minimum(distance, new)
    return x.gather(1, torch.cat(chosen, 1)[:, :, None].expand(-1, -1, x.shape[2]))


def _nearest(x: Tensor, centers: Tensor) -> Tensor:
    """Index (G, M) of the center nearest to each point; |x|^2 is the same for all centers."""
    return (centers.square().sum(2)[:, None] - 2 * x @ centers.transpose(1, 2)).argmin(2)
