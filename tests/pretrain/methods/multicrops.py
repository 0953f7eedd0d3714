"""Batches of large and small views, for the methods that take more than two views."""

from __future__ import annotations

import numpy as np
import torch

from pretrain.data.views import View


def batch(n: int, seed: int, large: int = 2, small: int = 3) -> list[View]:
    """Views of n images that differ by noise, in float64: `large` of 16 x 16 pixels, then `small` of 8 x 8."""
    rng = np.random.default_rng([55, seed])
    image = rng.standard_normal((n, 3, 4, 4)) + rng.standard_normal((n, 3, 1, 1))
    views = []
    for side in (4,) * large + (2,) * small:
        pixels = image.repeat(side, axis=2).repeat(side, axis=3)
        noise = 0.3 * rng.standard_normal(pixels.shape)
        box = torch.tensor([[0.0, 0.0, 1.0, 1.0]] * n)
        views.append(View(torch.from_numpy(pixels + noise), box, torch.zeros(n, dtype=torch.bool), torch.arange(n)))
    return views
