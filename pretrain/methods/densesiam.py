"""DenseSiam: SimSiam at every cell of what two views share, and between regions of it.

Zhang et al., Dense Siamese Network for Dense Unsupervised Learning, ECCV 2022, arXiv 2203.11075. The released code is
that of unsupervised segmentation; pretraining on ImageNet, which is what this file is for, is our reading of the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from pretrain.data.augment import moco_v2_colour
from pretrain.data.views import View, ViewPlan, ViewSpec
from pretrain.method import Method, MethodInfo
from pretrain.nets.architectures import backbone_for, width_of
from pretrain.nets.batchnorm import synchronised
from pretrain.nets.heads import norm_head
from pretrain.parts.distributed import mean_where
from pretrain.parts.geometry import Frame, align, overlap, upright
from pretrain.parts.losses import embedding_std, full_precision, matching, own_is_largest, unit
from pretrain.recipes import CosineSchedule, Recipe, SGDConfig, small_recipe


@dataclass(frozen=True)
class DenseSiamConfig:
    """Our reading of DenseSiam for pretraining; sizes of the image branch are SimSiam's."""

    backbone: str = "resnet50"
    dim: int = 2048
    """Width of the projections of images and cells, and of their projectors' hidden layers."""
    predictor_hidden: int = 512
    grid: int = 7
    """Side K of the grid of points in the overlap."""
    regions: int = 27
    """Number M of soft regions of an image; that of the released segmentation."""
    region_dim: int = 512
    """Width of a region's embedding and of its heads."""
    region_temperature: float = 0.1
    region_stop_gradient: bool = True
    """Stop the gradient at the region loss's targets; the released code does not."""
    global_weight: float = 1.0
    pixel_weight: float = 1.0
    region_weight: float = 0.1
    view_size: int = 224
    crop_scale: tuple[float, float] = (0.2, 1.0)
    blur_sigma: tuple[float, float] = (0.1, 2.0)

    def build(self, backbone: nn.Module | None = None) -> DenseSiam:
        """The freshly initialised method, on `backbone` if one is given."""
        return DenseSiam(self, backbone)


def densesiam_views(config: DenseSiamConfig) -> ViewPlan:
    """Two views drawn alike, with the augmentation of MoCo v2 and SimSiam."""
    return ViewPlan(
        tuple(
            ViewSpec(
                name, config.view_size, scale=config.crop_scale, flip=0.5, colour=moco_v2_colour(config.blur_sigma)
            )
            for name in ("first", "second")
        )
    )


class DenseSiam(Method):
    """Siamese similarity of images, of corresponding cells, and contrast of regions, without momentum or queue.

    B_v is the map of view v; z_v = projector(B_v) and p_v = predictor(z_v) are its projection and prediction at every
    cell (1x1 convolutions), sampled bilinearly at the K x K points of a grid in the overlap of the two views, where a
    flip is undone. With D(p, z) = -cos(p, sg z),

        L_pix = 1/2 mean over points of D(p_1, z_2) + D(p_2, z_1).

    A 1x1 convolution with batch norm makes M soft regions of z_v: m_v = softmax over M. Region r is the sum over
    points of m_v[r] B_v; b_v[r] is its projection, a_v[r] the prediction, both of length 1, and

        L_reg = -1/2 mean over r of log softmax_r'( a_1[r].b_2[r'] / T )[r] + the same with views exchanged.

    L = L_SimSiam + L_pix + 0.1 L_reg, where the first is SimSiam's loss of the averaged maps. Images whose views do
    not overlap count in the first alone. Batch norm takes its statistics from the whole batch.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="densesiam",
        name="DenseSiam",
        unit="image, cell and region",
        partner="the other view; the same point of it; the same region of it",
        loss="negative cosine; InfoNCE over the regions of an image",
        second_network="siamese",
        negatives="other regions of the image",
        paper="arXiv 2203.11075",
        fidelity="reconstruction",
        gpu_memory="22 to 25 / 41 to 45",
        uncertain=(
            "the released code is that of unsupervised segmentation: pretraining on ImageNet is our reading",
            "weights of the three losses, size of the grid, number and origin of the regions, widths of their heads",
            "the released region loss does not stop the gradient at its targets: `region_stop_gradient`",
            "optimiser and schedule are SimSiam's; that the paper trains for 200 epochs is from memory, not verified",
        ),
    )

    def __init__(self, config: DenseSiamConfig, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.plan = densesiam_views(config)
        dim, hidden, regions = config.dim, config.predictor_hidden, config.region_dim
        self.backbone = synchronised(backbone_for(config.backbone, backbone))
        width = width_of(self.backbone)
        self.projector = synchronised(norm_head(width, dim, dim, dim, last_norm="plain"))
        self.predictor = synchronised(norm_head(dim, hidden, dim, last_bias=True))
        self.dense_projector = synchronised(norm_head(width, dim, dim, dim, last_norm="plain", dense=True))
        self.dense_predictor = synchronised(norm_head(dim, hidden, dim, last_bias=True, dense=True))
        self.masks = synchronised(norm_head(dim, config.regions, last_norm="plain", dense=True))
        self.region_projector = synchronised(norm_head(width, regions, regions, regions, last_norm="plain"))
        self.region_predictor = synchronised(norm_head(regions, regions, regions, last_bias=True))

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """`loss` and its parts; `positive`, `negative`, `accuracy` of matching images, `std` of their projections.

        `pixel_positive` is the mean cosine of predictions and projections of corresponding points, `pixel_std` the
        spread of projections of cells, `region_accuracy` the share of regions that find their own, and `overlap` the
        share of images whose views overlap.
        """
        config = self.config
        box, exists = overlap(*views)
        shared = upright(box)
        images = [self.image(view) for view in views]
        parts = [self.points(maps, view, shared) for (maps, _, _), view in zip(images, views, strict=True)]
        (_, z_1, p_1), (_, z_2, p_2) = images
        one, two = parts

        loss_global = (cosine_distance(p_1, z_2).mean() + cosine_distance(p_2, z_1).mean()) / 2
        pixel = (cosine_distance(one.p, two.z) + cosine_distance(two.p, one.z)).mean((1, 2)) / 2
        loss_pixel = mean_where(pixel, exists)
        forth, found = region_contrast(one.a, self.target(two.b), config.region_temperature)
        back, _ = region_contrast(two.a, self.target(one.b), config.region_temperature)
        loss_region = mean_where((forth + back) / 2, exists)
        self.embeddings = unit(z_1.detach())
        return {
            "loss": config.global_weight * loss_global
            + config.pixel_weight * loss_pixel
            + config.region_weight * loss_region,
            "loss_global": loss_global.detach(),
            "loss_pixel": loss_pixel.detach(),
            "loss_region": loss_region.detach(),
            **matching(unit(p_1.detach()), unit(z_2.detach())),
            "std": embedding_std(self.embeddings),
            "pixel_positive": -loss_pixel.detach(),
            "pixel_std": embedding_std(unit(one.z.detach()).flatten(2).transpose(1, 2).flatten(0, 1)),
            "region_accuracy": mean_where(found, exists),
            "overlap": exists.to(box.dtype).mean(),
        }

    def image(self, view: View) -> tuple[Tensor, Tensor, Tensor]:
        """Map (N, width, S, S) of a view, and SimSiam's projection and prediction (N, dim) of its average."""
        maps = self.backbone(view.pixels)
        z = self.projector(maps.mean((2, 3)))
        return maps, z, self.predictor(z)

    def points(self, maps: Tensor, view: View, shared: Frame) -> Points:
        """What the dense branches make of the overlap as `view` shows it."""

        def sampled(x: Tensor) -> Tensor:
            return align(full_precision(x), view, shared, self.config.grid)[0]

        z_map = self.dense_projector(maps)
        z, p, features = sampled(z_map), sampled(self.dense_predictor(z_map)), sampled(maps)
        masks = full_precision(self.masks(z)).softmax(1)
        with torch.autocast(maps.device.type, enabled=False):
            regions = masks.flatten(2) @ features.flatten(2).transpose(1, 2)
        b = self.region_projector(regions.flatten(0, 1))
        a = self.region_predictor(b)
        shape = (*regions.shape[:2], -1)
        return Points(z, p, unit(a).view(shape), unit(b).view(shape))

    def target(self, b: Tensor) -> Tensor:
        """What the region loss compares with."""
        return b.detach() if self.config.region_stop_gradient else b


class Points(NamedTuple):
    """Projections and predictions of points (N, dim, K, K), and unit a and b of regions (N, M, region_dim)."""

    z: Tensor
    p: Tensor
    a: Tensor
    b: Tensor


def cosine_distance(p: Tensor, z: Tensor) -> Tensor:
    """D(p, z) = -cos(p, sg z) of tensors (N, C, ...) along C: (N, ...), in full precision."""
    return -(unit(p) * unit(z.detach())).sum(1)


def region_contrast(a: Tensor, b: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Cross entropy of regions a (N, M, C) that look for their own among b (N, M, C), and the share that finds it.

    Both (N,), means over the M regions of an image, in full precision. A tie finds nothing (see `losses.matching`).
    """
    with torch.autocast(a.device.type, enabled=False):
        logits = full_precision(a) @ full_precision(b).transpose(1, 2) / temperature
        loss = -logits.log_softmax(2).diagonal(dim1=1, dim2=2).mean(1)
    return loss, own_is_largest(logits.detach()).to(logits.dtype).mean(1)


METHODS = (DenseSiam,)

FIXED = ("predictor.", "dense_predictor.", "region_predictor.")
"""SimSiam's rule: predictors keep the base rate."""

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="densesiam-imagenet-200ep",
        method=DenseSiamConfig(),
        epochs=200,
        batch_size=512,
        optimizer=SGDConfig(lr=0.1, momentum=0.9, weight_decay=1e-4, fixed_lr=FIXED),
        schedule=CosineSchedule(per="epoch"),
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2203.11075; our reading, with the optimiser of SimSiam",
        expected="COCO Mask R-CNN 1x mask AP 36.8 (code's README); box AP 40.8, Cityscapes mIoU 77.0 (third parties); "
        "for how many epochs is not verified",
        cost="not published",
    ),
    small_recipe(
        "densesiam-mini",
        DenseSiamConfig(
            backbone="resnet18",
            dim=512,
            predictor_hidden=128,
            grid=3,
            regions=8,
            region_dim=128,
            view_size=96,
            blur_sigma=(0.1, 1.0),
        ),
        epochs=6,
        optimizer=SGDConfig(lr=0.03, momentum=0.9, weight_decay=5e-4, fixed_lr=FIXED),
        paper="arXiv 2203.11075; views of 96 pixels, so that a map has cells to tell apart",
        expected="frozen features worse than random ones, also after 14 epochs in batches of 32 and 22 of 64 pixels",
        images_per_second=39,
    ),
)
