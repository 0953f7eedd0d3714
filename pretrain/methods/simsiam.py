"""SimSiam: one network on two views, a predictor on one side and a stopped gradient on the other.

Chen and He, Exploring Simple Siamese Representation Learning, CVPR 2021, arXiv 2011.10566.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from typing_extensions import override

from pretrain.data.augment import moco_v2_colour
from pretrain.data.views import View, ViewPlan, ViewSpec
from pretrain.method import EmbeddingMethod, MethodInfo
from pretrain.nets.architectures import backbone_for, width_of
from pretrain.nets.batchnorm import synchronised
from pretrain.nets.heads import norm_head
from pretrain.parts.losses import embedding_std, matching, unit
from pretrain.recipes import CosineSchedule, Recipe, SGDConfig, small_recipe


@dataclass(frozen=True)
class SimSiamConfig:
    """SimSiam as published."""

    backbone: str = "resnet50"
    dim: int = 2048
    """Width of all layers of the projector."""
    hidden: int = 512
    """Width of the predictor's hidden layer."""
    view_size: int = 224
    """Side of a view in pixels."""
    crop_scale: tuple[float, float] = (0.2, 1.0)
    """Range of a crop's share of the image area."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Range of the blur's standard deviation in pixels of the view."""
    zero_init_residual: bool = True
    """Start residual blocks as identities."""

    def build(self, backbone: nn.Module | None = None) -> SimSiam:
        """The freshly initialized method, on `backbone` if one is given."""
        return SimSiam(self, backbone)


def simsiam_views(config: SimSiamConfig) -> ViewPlan:
    """Two views with the same distribution, that of MoCo v2."""
    colour = moco_v2_colour(config.blur_sigma)
    return ViewPlan(
        tuple(
            ViewSpec(name=name, size=config.view_size, scale=config.crop_scale, colour=colour)
            for name in ("first", "second")
        )
    )


class SimSiam(EmbeddingMethod):
    """Simple siamese learning.

    z = projector(mean(backbone(x))) and p = predictor(z) of both views of an image:

        L = -(cos(p_1, sg z_2) + cos(p_2, sg z_1)) / 2,

    averaged over images, where sg stops the gradient; between -1 and 1. Without sg the network collapses. Batch norm
    takes its statistics from the whole batch, of one view at a time.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="simsiam",
        name="SimSiam",
        unit="image",
        partner="the other view",
        loss="cosine",
        second_network="siamese",
        negatives="none",
        paper="arXiv 2011.10566",
        fidelity="code",
        gpu_memory="22 to 25 / 41 to 45",
        uncertain=("the blur is a Gaussian, where the code calls Pillow, which approximates one by box filters",),
    )

    def __init__(self, config: SimSiamConfig, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.plan = simsiam_views(config)
        self.backbone = synchronised(
            backbone_for(config.backbone, backbone, zero_init_residual=config.zero_init_residual)
        )
        width, dim = width_of(self.backbone), config.dim
        self.projector = synchronised(norm_head(width, dim, dim, dim, last_norm="plain"))
        self.predictor = synchronised(norm_head(dim, config.hidden, dim, last_bias=True))

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """`loss`; for the log `positive`, `negative` and `accuracy` of matching predictions and projections, `std`."""
        z_1, z_2 = (self.projector(self.backbone(view.pixels).mean((2, 3))) for view in views)
        p_1, p_2 = self.predictor(z_1), self.predictor(z_2)
        self.targets, self.embeddings = z_2.detach(), unit(z_1.detach())
        return {
            "loss": (negative_cosine(p_1, z_2) + negative_cosine(p_2, z_1)) / 2,
            **matching(unit(p_1), unit(z_2)),
            "std": embedding_std(self.embeddings),
        }

    @override
    def embed(self, pooled: Tensor) -> Tensor:
        """Unit predictions of the features' projections."""
        return unit(self.predictor(self.projector(pooled)))

    @override
    def compare(self, embedded: Tensor, targets: Tensor, rivals: Tensor) -> dict[str, Tensor]:
        """The negative cosine with projections of any length; there are no negatives."""
        loss = -(embedded * unit(targets)).sum(1).mean()
        return {"loss": loss, "positive": -loss}


def negative_cosine(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean over rows of -cos(p, t) for vectors (R, C) of any length. Gradients reach the predictions alone.

    In full precision also under autocast.
    """
    return -(unit(predictions) * unit(targets.detach())).sum(1).mean()


METHODS = (SimSiam,)

MINI = SimSiamConfig(
    backbone="resnet18", dim=512, hidden=128, view_size=64, blur_sigma=(0.1, 1.0), zero_init_residual=False
)
"""Settings of the small recipe, from which the small recipes of methods that add to SimSiam start."""

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="simsiam-imagenet-100ep",
        method=SimSiamConfig(),
        epochs=100,
        batch_size=512,
        optimizer=SGDConfig(lr=0.1, momentum=0.9, weight_decay=1e-4, fixed_lr=("predictor.",)),
        schedule=CosineSchedule(per="epoch"),
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2011.10566; code facebookresearch/simsiam",
        expected="ImageNet linear 68.1 (code's README; 68.3 with 256 images a step)",
    ),
    small_recipe(
        "simsiam-mini",
        MINI,
        epochs=12,
        batch_size=32,
        warmup_epochs=2,
        optimizer=SGDConfig(lr=0.06, momentum=0.9, weight_decay=5e-4, fixed_lr=("predictor.",)),
        paper="arXiv 2011.10566",
        images_per_second=75,
    ),
)
