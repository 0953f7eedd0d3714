"""Batches of large and small views, and methods on a toy backbone, for the methods that take more than two views."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from contrastive import ToyBackbone
from geometric import draw
from torch import nn

from pretrain.views import View


def build(config: Any, module: ModuleType, pairs: tuple[tuple[str, str], ...] = (), seed: int = 0) -> Any:
    """The method on a toy backbone, in float64, every number drawn from `seed`.

    `module` is the method's, in which `build_backbone` is replaced; `pairs` names each momentum copy and its source.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "build_backbone", lambda name: ToyBackbone(nn.BatchNorm2d(6)))
        method = config.build().double()
    draw(method, seed)
    for target, source in pairs:
        method.get_submodule(target).load_state_dict(method.get_submodule(source).state_dict())
    return method


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
