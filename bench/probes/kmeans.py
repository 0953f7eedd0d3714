"""Principal components and k-means of cells. Every draw comes from a generator; on a CPU the same gives the same."""

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
    """(C, D), orthonormal, that of the largest variance first."""

    @classmethod
    def of(cls, x: Tensor, most: int) -> Components:
        """The first of cells (n, C), `most` of them at most; their signs are arbitrary."""
        scaling = Scaling.of(x)
        scaled = scaling(x)
        covariance = (scaled.T @ scaled).double() / len(x)
        return cls(scaling, torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :most].to(x.dtype))

    def __call__(self, x: Tensor) -> Tensor:
        """Cells (n, C) in these components (n, D)."""
        return self.scaling(x) @ self.directions


def fit_centers(x: Tensor, clusters: int, *, iterations: int, rng: np.random.Generator) -> Tensor:
    """The centers (K, D) of k-means from k-means++ seeds: Lloyd's algorithm until nothing moves, or `iterations`.

    A center that no vector is nearest to stays where it is. Seeds: Arthur and Vassilvitskii, SODA 2007.
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
    """The index (n,) of the center (K, D) that is nearest to each vector (n, D); of equally near ones the first."""
    return torch.addmm(centers.square().sum(1), x, centers.T, alpha=-2).argmin(1)


def _seeds(x: Tensor, clusters: int, rng: np.random.Generator) -> Tensor:
    """Vectors, each drawn with a probability in proportion to its squared distance from those before."""
    chosen = [int(rng.integers(len(x)))]
    distance = (x - x[chosen[0]]).square().sum(1)
    while len(chosen) < clusters:
        total = distance.double().cumsum(0)
        drawn = int(torch.searchsorted(total, rng.random() * float(total[-1]), right=True))
        chosen.append(min(drawn, len(x) - 1))
        distance = torch.minimum(distance, (x - x[chosen[-1]]).square().sum(1))
    return x[chosen]
