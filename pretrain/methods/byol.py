"""BYOL: a trained network predicts its own moving average's output for another view; there are no negatives.

Grill et al., Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning, NeurIPS 2020, arXiv 2006.07733.
The variant trained by SGD: Huang et al., Revisiting the Critical Factors of Augmentation-Invariant Representation
Learning, ECCV 2022, arXiv 2208.00275.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from pretrain.data.augment import byol_colour
from pretrain.data.tensorflow_color import byol_code_color
from pretrain.data.views import View, ViewPlan, ViewSpec
from pretrain.method import MapMethod, Maps, MethodInfo
from pretrain.nets.architectures import backbone_for, width_of
from pretrain.nets.batchnorm import synchronised
from pretrain.nets.heads import norm_head
from pretrain.parts.losses import embedding_std, matching, unit
from pretrain.parts.momentum import Momentum, MomentumSchedule, momentum_at
from pretrain.recipes import CosineSchedule, LARSConfig, Recipe, SGDConfig, small_recipe
from pretrain.settings import ADDED


@dataclass(frozen=True)
class BYOLConfig:
    """BYOL as published, for 1,000 epochs on ImageNet."""

    backbone: str = "resnet50"
    hidden: int = 4096
    """Width of the hidden layer of projector and predictor."""
    dim: int = 256
    """Width C of a projection."""
    last_bias: bool = False
    """Whether the last layer of projector and predictor has a bias."""
    momentum: float = 0.996
    momentum_schedule: MomentumSchedule = "cosine"
    view_size: int = 224
    """Side of a view in pixels."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Range of a crop's share of the image area."""
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Range of the blur's standard deviation in pixels of the view."""
    blur: tuple[float, float] = (1.0, 0.1)
    """Probability of the blur in the first and in the second view."""
    solarize: tuple[float, float] = (0.0, 0.2)
    """Probability of solarization in the first and in the second view."""
    zero_init_residual: bool = False
    """Start residual blocks as identities; the code's README calls it more stable and neutral for a ResNet-50."""
    inputs: Literal["torchvision", "byol"] = field(default="torchvision", metadata=ADDED)
    """Arithmetic of crops, resizing, colors and blur: torchvision's, or that of BYOL's code, always bicubic."""

    def build(self, backbone: nn.Module | None = None) -> BYOL:
        """The freshly initialized method, on `backbone` if one is given."""
        return BYOL(self, backbone)


def byol_views(
    view_size: int,
    crop_scale: tuple[float, float],
    blur_sigma: tuple[float, float],
    *,
    interpolation: Literal["bilinear", "bicubic"] = "bicubic",
    blur: tuple[float, float] = (1.0, 0.1),
    solarize: tuple[float, float] = (0.0, 0.2),
    inputs: Literal["torchvision", "byol"] = "torchvision",
) -> ViewPlan:
    """Two views that differ in how often they are blurred and solarized."""
    of_code = inputs == "byol"
    color = byol_code_color if of_code else byol_colour
    return ViewPlan(
        tuple(
            ViewSpec(
                name=name,
                size=view_size,
                scale=crop_scale,
                interpolation="bicubic" if of_code else interpolation,
                colour=color(blur_sigma, blur=blurred, solarize=solarized),
                rules=inputs,
            )
            for name, blurred, solarized in zip(("first", "second"), blur, solarize, strict=True)
        )
    )


class BYOL(MapMethod):
    """Bootstrap your own latent.

    g is the projector on the averaged map of the backbone f, q the predictor, theta the trained weights and xi their
    moving average. For two views v, v' of an image

        L = |q(g_theta(f_theta(v)))^ - g_xi(f_xi(v'))^|^2 + |q(g_theta(f_theta(v')))^ - g_xi(f_xi(v))^|^2,

    averaged over images, with ^ for vectors of length 1; between 0 and 8. After the optimizer's step xi becomes
    m xi + (1 - m) theta. Batch norm takes its statistics from the whole batch, of one view at a time; that of the
    momentum network works in training mode on its own inputs.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="byol",
        name="BYOL",
        unit="image",
        partner="the other view",
        loss="squared distance of unit vectors",
        second_network="momentum",
        negatives="none",
        paper="arXiv 2006.07733",
        fidelity="code",
        gpu_memory="22 to 25 / 41 to 45",
        uncertain=(
            "crops are rounded to 8 bits before the color operations, where the code keeps floats",
            "weights start as PyTorch's, and the momentum network as a copy, where the code draws it anew (Haiku)",
            "strided convolutions and pooling pad evenly, where the code pads as TensorFlow does",
        ),
    )

    def __init__(self, config: BYOLConfig, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.plan = byol_views(
            config.view_size,
            config.crop_scale,
            config.blur_sigma,
            interpolation=config.interpolation,
            blur=config.blur,
            solarize=config.solarize,
            inputs=config.inputs,
        )
        self.backbone = synchronised(
            backbone_for(config.backbone, backbone, zero_init_residual=config.zero_init_residual)
        )
        width, hidden, dim = width_of(self.backbone), config.hidden, config.dim
        self.projector = synchronised(norm_head(width, hidden, dim, bias=True, last_bias=config.last_bias))
        self.predictor = synchronised(norm_head(dim, hidden, dim, bias=True, last_bias=config.last_bias))
        self.momentum = Momentum(backbone=self.backbone, projector=self.projector)

    @override
    def maps(self, views: Sequence[View], *, cells: bool = True) -> Maps:
        x_1, x_2 = (view.pixels for view in views)
        online = self.backbone(x_1), self.backbone(x_2)
        with torch.no_grad():
            return Maps(online, (self.momentum.backbone(x_1), self.momentum.backbone(x_2)))

    @override
    def image_loss(self, maps: Maps) -> dict[str, Tensor]:
        """`loss`; for the log `positive`, `negative` and `accuracy` of matching predictions with targets, and `std`."""
        z_1, z_2 = (self.projector(B.mean((2, 3))) for B in maps.online if B is not None)
        p_1, p_2 = self.predictor(z_1), self.predictor(z_2)
        with torch.no_grad():
            t_1, t_2 = (self.momentum.projector(B.mean((2, 3))) for B in maps.target if B is not None)
        self.embeddings = unit(z_1.detach())
        return {
            "loss": regression_loss(p_1, t_2) + regression_loss(p_2, t_1),
            **matching(unit(p_1), unit(t_2)),
            "std": embedding_std(self.embeddings),
        }

    @override
    def after_step(self, step: int, total_steps: int) -> None:
        self.momentum.update(self.momentum_after(step, total_steps))

    @override
    def momentum_after(self, step: int, total_steps: int) -> float:
        return momentum_at(step, total_steps, self.config.momentum, self.config.momentum_schedule)


def regression_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean over rows of |p^ - t^|^2 = 2 - 2 cos(p, t), between 0 and 4, for vectors (R, C) of any length.

    Gradients only reach the predictions. It is computed in full precision also under autocast.
    """
    return (unit(predictions) - unit(targets.detach())).square().sum(1).mean()


@dataclass(frozen=True)
class BYOLSGDConfig(BYOLConfig):
    """BYOL on the same footing as MoCo v2+: its heads, optimizer and momentum, for 200 epochs."""

    last_bias: bool = True
    momentum: float = 0.99
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    @override
    def build(self, backbone: nn.Module | None = None) -> BYOLSGD:
        return BYOLSGD(self, backbone)


class BYOLSGD(BYOL):
    """BYOL trained by SGD, so that its weights are as long as those of networks that are fine-tuned by SGD.

    Everything is BYOL's, except that all layers of the heads have biases and momentum counts steps from 1.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="byol-sgd",
        name="BYOL-SGD",
        unit="image",
        partner="the other view",
        loss="squared distance of unit vectors",
        second_network="momentum",
        negatives="none",
        paper="arXiv 2208.00275",
        fidelity="code",
        gpu_memory="22 to 25 / 41 to 45",
        uncertain=(
            "the grey conversion comes before the blur, which differs from the code's order by rounding alone",
            "the blur is a Gaussian, where the code calls Pillow, which approximates one by box filters",
        ),
    )

    def momentum_after(self, step: int, total_steps: int) -> float:
        """Momentum m of the update after step `step`, which is 1 after the last step."""
        return momentum_at(step + 1, total_steps, self.config.momentum, self.config.momentum_schedule)


def _imagenet(epochs: int, lr: float, weight_decay: float, momentum: float, *, expected: str, cost: str) -> Recipe:
    """The paper's recipe; `lr` is its base rate, for 256 images per step."""
    return Recipe(
        name=f"byol-imagenet-{epochs}ep",
        method=BYOLConfig(momentum=momentum, inputs="byol"),
        epochs=epochs,
        batch_size=4096,
        optimizer=LARSConfig(lr=lr * 16, momentum=0.9, weight_decay=weight_decay, variant="byol"),
        schedule=CosineSchedule(per="step", warmup_epochs=10),
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2006.07733; code google-deepmind/deepmind-research",
        expected=expected,
        cost=cost,
    )


METHODS = (BYOL, BYOLSGD)

MINI = BYOLConfig(backbone="resnet18", hidden=512, dim=128, momentum=0.98, view_size=64, blur_sigma=(0.1, 1.0))
"""Settings of the small recipe, from which the small recipes of methods that add to BYOL start."""

RECIPES: tuple[Recipe, ...] = (
    _imagenet(
        300,
        0.3,
        1e-6,
        0.99,
        expected="ImageNet linear 72.5",
        cost="512 TPU v3: about 2.5 hours (the paper's 8 hours for 1,000 epochs, in proportion)",
    ),
    _imagenet(
        1000,
        0.2,
        1.5e-6,
        0.996,
        expected="ImageNet linear 74.3; VOC07 Faster R-CNN C4 AP50 77.5; VOC12 FCN mIoU 76.3",
        cost="512 TPU v3: about 8 hours",
    ),
    Recipe(
        name="byol-sgd-imagenet-200ep",
        method=BYOLSGDConfig(),
        epochs=200,
        batch_size=256,
        optimizer=SGDConfig(lr=0.03, momentum=0.9, weight_decay=1e-4),
        schedule=CosineSchedule(per="step", warmup_epochs=10, warmup_start=1e-6 / 0.03),
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2208.00275; code megvii-research/revisitAIRL",
        expected="ImageNet linear 72.1 (code's README)",
    ),
    small_recipe(
        "byol-mini",
        MINI,
        epochs=14,
        warmup_epochs=2,
        optimizer=SGDConfig(lr=0.03, momentum=0.9, weight_decay=1e-4),
        paper="arXiv 2006.07733; for its small batches trained by SGD",
        images_per_second=65,
    ),
    small_recipe(
        "byol-sgd-mini",
        BYOLSGDConfig(
            backbone="resnet18",
            hidden=512,
            dim=128,
            momentum=0.98,
            view_size=64,
            crop_scale=(0.2, 1.0),
            blur_sigma=(0.1, 1.0),
        ),
        epochs=20,
        batch_size=32,
        warmup_epochs=2,
        optimizer=SGDConfig(lr=0.03, momentum=0.9, weight_decay=1e-4),
        paper="arXiv 2208.00275",
        images_per_second=58,
    ),
)
