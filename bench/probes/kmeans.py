"""Principal components and k-means of cells. Random numbers come from a given generator; CPU results repeat exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.probes.classifiers import Scaling


@dataclass(frozen=True)
class Components:
    """The principal components of standardized cells."""

    scaling: Scaling
    directions: Tensor
    """Orthonormal directions (C, D), in descending order of variance."""

    @classmethod
    def of(cls, x: Tensor, most: int) -> Components:
        """The first components of cells (n, C), at most `most`; their signs are arbitrary."""
        scaling = Scaling.of(x)
        scaled = scaling(x)
        covariance = (scaled.T @ scaled).double() / len(x)
        return cls(scaling, torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :most].to(x.dtype))

    def __call__(self, x: Tensor) -> Tensor:
        """Cells (n, C) in these components (n, D)."""
        return self.scaling(x) @ self.directions


def fit_centers(x: Tensor, clusters: int, *, iterations: int, rng: np.random.Generator) -> Tensor:
    """The centers (K, D) of k-means from k-means++ seeds: Lloyd's algorithm until nothing moves, or `iterations`.

    A center without vectors stays where it is. For the seeds see Arthur and Vassilvitskii, SODA 2007.
    """
    centers = _seeds(x, clusters, rng)
    for _ in range(iterations):
        members = nearest(x, centers)
        sizes = members.bincount(minlength=clusters)[:, None]
        sums = torch.zeros_like(centers).index_add_(0, members, x)
        moved = torch.where(sizes > 0, sums / sizes.clamp(min=1), centers)
        if torch.equal(moved, centers):
            break
        centers = moved
    return centers


def nearest(x: Tensor, centers: Tensor) -> Tensor:
    """Index (n,) of the center (K, D) nearest to each vector (n, D); the first of equally near ones."""
    return torch.addmm(centers.square().sum(1), x, centers.T, alpha=-2).argmin(1)


def _seeds(x: Tensor, clusters: int, rng: np.random.Generator) -> Tensor:
    """Vectors, each drawn with a probability proportional to its squared distance from those drawn before."""
    chosen = [int(rng.integers(len(x)))]
    distance = (x - x[chosen[0]]).square().sum(1)
    while len(chosen) < clusters:
        total = distance.double().cumsum(0)
        drawn = int(torch.searchsorted(total, rng.random() * float(total[-1]), right=True))
        chosen.append(min(drawn, len(x) - 1))
        distance = torch.minimum(distance, (x - x[chosen[-1]]).square().sum(1))
    return x[chosen]
