"""A method in a file of its own, as a user writes it: two views of an image should have the same mean feature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from pretrain.data.views import View, ViewPlan, ViewSpec
from pretrain.method import Method, MethodInfo
from pretrain.nets.architectures import build_backbone
from pretrain.recipes import CosineSchedule, Recipe, SGDConfig


@dataclass(frozen=True)
class MyConfig:
    """Settings of `MyMethod`."""

    backbone: str = "resnet18"
    view_size: int = 32
    scale: tuple[float, float] = (0.2, 1.0)

    def build(self) -> MyMethod:
        """The freshly initialised method."""
        return MyMethod(self)


class MyMethod(Method):
    """Mean features of two crops are pulled together."""

    info = MethodInfo("mine", "My method", "image", "other view", "MSE", "none", "none", "none", "reconstruction")

    def __init__(self, config: MyConfig) -> None:
        super().__init__()
        spec = ViewSpec("crop", config.view_size, config.scale)
        self.plan = ViewPlan((spec, spec))
        self.backbone = build_backbone(config.backbone)

    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """`loss`."""
        first, second = (self.backbone(view.pixels).mean((2, 3)).float() for view in views)
        return {"loss": F.mse_loss(first, second)}


METHODS = (MyMethod,)
RECIPES = (
    Recipe("mine-mini", MyConfig(), 1, 4, SGDConfig(lr=0.01), CosineSchedule()),
    Recipe("mine-large", MyConfig(view_size=64), 2, 4, SGDConfig(lr=0.01), CosineSchedule()),
)
