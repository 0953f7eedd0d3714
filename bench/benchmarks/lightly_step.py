"""MoCo v2 and DenseCL built with the library lightly: its transform, heads and loss, in the loop of its examples."""

from __future__ import annotations

import copy
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from pretrain.data.views import ViewPlan
from pretrain.methods.densecl import DenseCLConfig
from pretrain.methods.moco import MoCoConfig
from pretrain.recipes import Recipe, SGDConfig


def unavailable(recipe: Recipe) -> str | None:
    """Why lightly has nothing to compare `recipe` with; None where it has."""
    if find_spec("lightly") is None:
        return "lightly is not installed"
    try:
        for module in ("lightly.loss", "lightly.models.modules.heads", "lightly.models.utils", "lightly.transforms"):
            import_module(module)
    except ImportError as error:
        return f"lightly is installed, but cannot be imported: {error}"
    if type(recipe.method) not in (MoCoConfig, DenseCLConfig):
        return "lightly is compared on MoCo v2 and DenseCL only"
    if not recipe.backbone.startswith("resnet") or not isinstance(recipe.optimizer, SGDConfig):
        return "lightly is compared on ResNets trained with SGD only"
    return None


def transform(plan: ViewPlan, config: Any) -> Any:
    """lightly's transform with the recipe's settings; it returns a list of two views."""
    from lightly.transforms import MoCoV2Transform

    spec = plan.specs[0]
    return MoCoV2Transform(input_size=spec.size, min_scale=spec.scale[0], sigmas=config.blur_sigma)


class LightlyStep(nn.Module):
    """One training step of MoCo v2, or of DenseCL where the recipe is DenseCL's, at the recipe's settings.

    Batch norm sees the whole batch, as in lightly's examples: no splits and no shuffling, which the recipe may have.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        super().__init__()
        from lightly.loss import NTXentLoss
        from lightly.models.modules import MoCoProjectionHead
        from lightly.models.modules.heads import DenseCLProjectionHead

        config: Any = recipe.method
        self.dense_weight = config.dense_weight if isinstance(config, DenseCLConfig) else 0.0
        self.momentum, self.autocast = config.momentum, recipe.precision == "bf16"
        resnet = getattr(models, config.backbone)()
        width = resnet.fc.in_features
        head = DenseCLProjectionHead if self.dense_weight else MoCoProjectionHead
        self.query = nn.ModuleList([nn.Sequential(*list(resnet.children())[:-2])])
        self.query.extend(head(width, config.hidden, config.dim) for _ in range(2 if self.dense_weight else 1))
        self.key = copy.deepcopy(self.query).requires_grad_(False)
        self.losses = nn.ModuleList(
            NTXentLoss(temperature=config.temperature, memory_bank_size=(config.queue, config.dim))
            for _ in self.query[1:]
        )
        self.to(device)
        rates: Any = recipe.optimizer
        self.optimizer = torch.optim.SGD(
            self.query.parameters(), lr=rates.lr, momentum=rates.momentum, weight_decay=rates.weight_decay
        )

    def take(self, views: list[Tensor]) -> None:
        """One step on two views (B, 3, S, S)."""
        from lightly.models.utils import select_most_similar, update_momentum

        for mine, other in zip(self.query, self.key, strict=True):
            update_momentum(mine, other, m=self.momentum)
        with torch.autocast(views[0].device.type, torch.bfloat16, enabled=self.autocast):
            maps, *queries = _embed(self.query, views[0])
            with torch.no_grad():
                key_maps, *keys = _embed(self.key, views[1])
            loss = self.losses[0](queries[0], keys[0])
            if self.dense_weight:
                matched = select_most_similar(maps, key_maps, keys[1])
                dense = self.losses[1](queries[1].flatten(end_dim=1), matched.flatten(end_dim=1))
                loss = (1 - self.dense_weight) * loss + self.dense_weight * dense
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def _embed(network: nn.ModuleList, pixels: Tensor) -> list[Tensor]:
    """Features of cells (B, P, width), the embedding of the image (B, C) and, with a dense head, of cells (B, P, C)."""
    backbone, head, *dense = network
    maps = backbone(pixels)
    cells = maps.flatten(2).transpose(1, 2)
    return [cells, head(maps.mean((2, 3))), *[module(cells) for module in dense]]
