"""PixPro: each cell, smoothed with the cells that are like it, predicts the other view's cell at the same place.

Xie et al., Propagate Yourself: Exploring Pixel-Level Consistency for Unsupervised Visual Representation Learning,
CVPR 2021, arXiv 2011.10043.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from pretrain.data.views import View
from pretrain.errors import PretrainError
from pretrain.method import Method, MethodInfo
from pretrain.methods.byol import byol_views
from pretrain.nets.architectures import backbone_for, width_of
from pretrain.nets.batchnorm import synchronised
from pretrain.nets.heads import norm_head
from pretrain.optim.optimizers import LARSConfig
from pretrain.parts.geometry import Placed, cell_diagonals, cell_distances
from pretrain.parts.losses import embedding_std, full_precision, unit
from pretrain.parts.momentum import Momentum, momentum_at
from pretrain.recipes import CosineSchedule, Recipe, small_recipe
from pretrain.settings import ADDED


@dataclass(frozen=True)
class PixProConfig:
    """PixPro as published, without the instance branch (`instance_weight=1` adds it)."""

    backbone: str = "resnet50"
    hidden: int = 4096
    """Width of the heads' hidden layer."""
    dim: int = 256
    """Width C of a cell's embedding."""
    sharpness: float = 2.0
    """gamma, the exponent of the similarities by which cells are averaged; at least 1."""
    positive_distance: float = 0.7
    """T, the largest distance of two cells that are a positive pair, in diagonals of the larger cell."""
    instance_weight: float = 0.0
    """Weight of BYOL's loss on the pooled maps, with a separate projection and prediction; 1 in the paper."""
    momentum: float = 0.99
    """Momentum of the target network at the start; it rises to 1 along a cosine."""
    view_size: int = 224
    """Side of a view in pixels."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Range of a crop's share of the image area."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Range of the blur's standard deviation in pixels of the view."""
    zero_init_residual: bool = field(default=True, metadata=ADDED)
    """Start residual blocks as identities."""

    def __post_init__(self) -> None:
        if self.sharpness < 1:
            raise PretrainError(f"sharpness {self.sharpness} must be at least 1: below, its gradient is infinite at 0")

    def build(self, backbone: nn.Module | None = None) -> PixPro:
        """The freshly initialized method, on `backbone` if one is given."""
        return PixPro(self, backbone)


class PixPro(Method):
    """The two views of an image are compared cell by cell where they show the same place.

    x_i are the cells of the trained network's projected map, x'_j those of its momentum copy for the other view, all
    of one image. The pixel propagation module averages the cells of a map by their likeness,

        y_i = unit( sum_j max(cos(x_i, x_j), 0)^gamma unit(g(x_j)) ),   g a 1 x 1 convolution,

    and (i, j) is a positive pair if the centers of the two cells in the original image are nearer than T times the
    diagonal of the larger cell. With m(y, x') the mean of cos(y_i, x'_j) over an image's positive pairs, 0 without any,

        L = -2 mean_n m(y^1, x'^2) - 2 mean_n m(y^2, x'^1),   in [-4, 4].

    There are no negatives. Momentum moves after the optimizer's step, by the amount with which the authors' code moves
    it before the next forward pass: the targets are the same.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="pixpro",
        name="PixPro",
        unit="cell",
        partner="the other view's cells at the same place",
        loss="cosine to smoothed cells",
        second_network="momentum",
        negatives="none",
        paper="arXiv 2011.10043",
        fidelity="code",
        gpu_memory="22 to 25 / 41 to 45",
        uncertain=(
            "coordinates are shares of the image; in the code shares of its side less one pixel",
            "the weight 1 of the instance branch is remembered from the paper; the authors' scripts leave it out",
            "recipes compute in fp32, where the code trains in mixed precision (float16)",
            "the blur is a Gaussian, where the code calls Pillow, which approximates one by box filters",
        ),
    )

    def __init__(self, config: PixProConfig, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.plan = byol_views(config.view_size, config.crop_scale, config.blur_sigma, interpolation="bilinear")
        self.backbone = synchronised(
            backbone_for(config.backbone, backbone, zero_init_residual=config.zero_init_residual)
        )
        width = width_of(self.backbone)
        self.projector = synchronised(cell_head(width, config.hidden, config.dim))
        self.value = nn.Conv2d(config.dim, config.dim, 1)
        self.momentum = Momentum(backbone=self.backbone, projector=self.projector)
        self.instance = InstanceBranch(width, config.hidden, config.dim) if config.instance_weight > 0 else None

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """`loss`, with an instance branch its parts, and for the log, of the first view's cells against the second's:

        `positive` and `negative`, the mean similarity over positive and over all other pairs; `accuracy`, the share of
        the cells with a positive pair whose most similar cell is positive; `matched`, the share of images with any
        positive pair; and `std`, the spread of the projected cells.
        """
        maps = [self.backbone(view.pixels) for view in views]
        x = [self.projector(B) for B in maps]
        y = [propagate(x_v, self.value(x_v), self.config.sharpness) for x_v in x]
        with torch.no_grad():
            target_maps = [self.momentum.backbone(view.pixels) for view in views]
            targets = [self.momentum.projector(B) for B in target_maps]

        pairs = positive_pairs(views[0], views[1], maps[0].shape[-1], self.config.positive_distance)
        first, second = cosines(y[0], targets[1]), cosines(y[1], targets[0])
        loss = -2 * masked_mean(first, pairs).mean() - 2 * masked_mean(second, pairs.transpose(1, 2)).mean()
        self.embeddings = unit(x[0].detach().transpose(0, 1).flatten(1).T)
        log = {**pair_statistics(first.detach(), pairs), "std": embedding_std(self.embeddings)}
        if self.instance is None:
            return {"loss": loss, **log}
        loss_instance = self.instance(maps, target_maps)
        total = loss + self.config.instance_weight * loss_instance
        return {"loss": total, "loss_pixel": loss.detach(), "loss_instance": loss_instance.detach(), **log}

    @override
    def after_step(self, step: int, total_steps: int) -> None:
        m = momentum_at(step + 1, total_steps, self.config.momentum, "cosine")
        self.momentum.update(m)
        if self.instance is not None:
            self.instance.momentum.update(m)


class InstanceBranch(nn.Module):
    """BYOL on the same maps: its own projection of every cell, a prediction, and only then the mean over the cells."""

    def __init__(self, width: int, hidden: int, dim: int) -> None:
        super().__init__()
        self.projector = synchronised(cell_head(width, hidden, dim))
        self.predictor = synchronised(cell_head(dim, hidden, dim))
        self.momentum = Momentum(projector=self.projector)

    def forward(self, maps: Sequence[Tensor], target_maps: Sequence[Tensor]) -> Tensor:
        """-2 times the mean cosine of prediction and target in both directions, in [-4, 4]."""
        predictions = [unit(full_precision(self.predictor(self.projector(B))).mean((2, 3))) for B in maps]
        with torch.no_grad():
            targets = [unit(full_precision(self.momentum.projector(B)).mean((2, 3))) for B in target_maps]
        both = [(p * t).sum(1).mean() for p, t in zip(predictions, reversed(targets), strict=True)]
        return -2 * both[0] - 2 * both[1]


def propagate(x: Tensor, value: Tensor, sharpness: float) -> Tensor:
    """The pixel propagation module: y (N, C, H, W) before its normalization, from x and g(x), both (N, C, H, W)."""
    with torch.autocast(x.device.type, enabled=False):
        cells, values = unit(x.flatten(2)), unit(value.flatten(2))
        likeness = (cells.transpose(1, 2) @ cells).clamp(min=0) ** sharpness
        return (values @ likeness).view_as(x)  # `likeness` is symmetric


def positive_pairs(a: Placed, b: Placed, size: int, threshold: float) -> Tensor:
    """Which cells of `a` and of `b`, on maps of `size` x `size`, show the same place: bool (N, size^2, size^2)."""
    diagonal = torch.maximum(cell_diagonals(a, size), cell_diagonals(b, size))
    return cell_distances(a, b, size) < threshold * diagonal[:, None, None]


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of each cell of `a` with each of `b` of the same image: maps (N, C, H, W) -> (N, HW, HW)."""
    with torch.autocast(a.device.type, enabled=False):
        return unit(a.flatten(2)).transpose(1, 2) @ unit(b.flatten(2))


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` (N, P, Q) where `mask` holds, image by image, and 0 for an image where it nowhere does: (N,)."""
    return (values * mask).sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)


def pair_statistics(similarity: Tensor, pairs: Tensor) -> dict[str, Tensor]:
    """Scalars for the log from similarities and positive pairs, both (N, P, Q)."""
    found = pairs.gather(2, similarity.argmax(2, keepdim=True))[..., 0]
    possible = pairs.any(2)
    return {
        "positive": (similarity * pairs).sum() / pairs.sum().clamp(min=1),
        "negative": (similarity * ~pairs).sum() / (~pairs).sum().clamp(min=1),
        "accuracy": (found & possible).sum() / possible.sum().clamp(min=1),
        "matched": possible.any(1).float().mean(),
    }


def cell_head(width: int, hidden: int, dim: int) -> nn.Sequential:
    """Maps (N, width, H, W) -> (N, dim, H, W): BYOL's perceptron at every cell, with all biases."""
    return norm_head(width, hidden, dim, bias=True, last_bias=True, dense=True)


PAPER_LARS = LARSConfig(lr=4.0, momentum=0.9, weight_decay=1e-5)
"""LARS with a base rate of 1 per batch of 256; vectors are neither decayed nor adapted."""
PAPER_COSINE = CosineSchedule(per="step", warmup_epochs=5, warmup_start=0.01, final=2.5e-7)
"""Schedule that rises from a hundredth of the rate and then falls to 1e-6."""

METHODS = (PixPro,)

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="pixpro-imagenet-100ep",
        method=PixProConfig(),
        epochs=100,
        batch_size=1024,
        optimizer=PAPER_LARS,
        schedule=PAPER_COSINE,
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2011.10043; code zdaxie/PixPro",
        expected="VOC07+12 Faster R-CNN C4 AP 58.8; COCO 1x FPN (4conv-1fc) 40.8 / 36.8, C4 40.0 / 34.8 box / mask",
        cost="8 GPUs with 128 images each, mixed precision; hours not published",
    ),
    Recipe(
        name="pixpro-imagenet-400ep",
        method=PixProConfig(),
        epochs=400,
        batch_size=1024,
        optimizer=PAPER_LARS,
        schedule=PAPER_COSINE,
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2011.10043; code zdaxie/PixPro",
        expected="VOC07+12 Faster R-CNN C4 AP 60.2, AP50 83.8, AP75 67.7; COCO Mask R-CNN 1x C4 40.5 / 35.3 box / mask",
        cost="8 GPUs with 128 images each, mixed precision; hours not published",
    ),
    Recipe(
        name="pixpro-imagenet-400ep-instance",
        method=PixProConfig(instance_weight=1.0),
        epochs=400,
        batch_size=1024,
        optimizer=PAPER_LARS,
        schedule=PAPER_COSINE,
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2011.10043; code zdaxie/PixPro",
        expected="COCO Mask R-CNN 1x FPN (4conv-1fc) 41.4 / 37.4 box / mask (41.3 / 37.1 after 100 epochs)",
        cost="8 GPUs with 128 images each, mixed precision; hours not published",
    ),
    small_recipe(
        "pixpro-mini",
        PixProConfig(
            backbone="resnet18",
            hidden=512,
            momentum=0.98,
            view_size=96,
            crop_scale=(0.2, 1.0),
            blur_sigma=(0.1, 1.0),
            zero_init_residual=False,
        ),
        epochs=16,
        batch_size=32,
        # By SGD all cells became one vector within a hundred steps.
        optimizer=LARSConfig(lr=0.7, momentum=0.9, weight_decay=1e-5),
        paper="arXiv 2011.10043; views of 96 pixels, so that a map has 3 x 3 cells",
        images_per_second=30,
    ),
)
