"""What the stages of a recipe compute, for tests of its last training alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from pretrain.data.batches import ImageSource
from pretrain.recipes import Recipe


@torch.no_grad()
def computed(
    recipe: Recipe, source: ImageSource, folder: Path, backbone: Callable[[], nn.Module | None] = lambda: None
) -> dict[str, Path]:
    """The products of the stages, by networks that are not trained, in `folder` unless they are there.

    Each method is built on what `backbone` returns; None stands for its own network.
    """
    products: dict[str, Path] = {}
    method = recipe.method.build(backbone()).eval()
    for stage in recipe.stages:
        if isinstance(stage, Recipe):
            torch.manual_seed(0)
            method = stage.method.build(backbone()).eval()
            continue
        path = folder / f"{recipe.name}-{stage.name}.npy"
        if not path.exists():
            method.products = dict(products)
            stage.compute(method, source, path)
        products[stage.name] = path
    return products
