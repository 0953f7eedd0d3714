"""k-means++ and Lloyd's algorithm, point by point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def plain_kmeans(x: Sequence[Tensor], draws: Sequence[float]) -> tuple[list[int], Tensor]:
    """Labels and centers of points (C,), with a draw in [0, 1) for each center to start from."""
    chosen = [int(draws[0] * len(x))]
    for draw in draws[1:]:
        below = np.cumsum([min(_squared(p, x[c]) for c in chosen) for p in x])
        chosen.append(next(i for i in range(len(x)) if below[i] > draw * below[-1]) if below[-1] > 0 else chosen[0])
    centers = torch.stack([x[c] for c in chosen])
    labels: list[int] = []
    while True:
        nearest = [int(np.argmin([_squared(p, center) for center in centers])) for p in x]
        if nearest == labels:
            return labels, centers
        labels = nearest
        for k in range(len(centers)):
            own = [p for p, label in zip(x, labels, strict=True) if label == k]
            if own:
                centers[k] = torch.stack(own).mean(0)


def _squared(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().sum())
