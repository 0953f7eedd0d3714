"""DenseSiam: SimSiam at every cell of what two views share, and between soft regions of it.

Zhang et al., Dense Siamese Network for Dense Unsupervised Learning, ECCV 2022, arXiv 2203.11075; code
ZwwWayne/DenseSiam. The code is that of unsupervised segmentation. Pretraining on ImageNet, for which there is none, is
our reading of the paper: the code's dense losses and heads on SimSiam's views, beside SimSiam's loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from pretrain.data.augment import ColorJitter, ColourOp, GaussianBlur, Grayscale, moco_v2_colour
from pretrain.data.views import View, ViewPlan, ViewSpec
from pretrain.method import Method, MethodInfo
from pretrain.nets.architectures import backbone_for, stage_widths, stages_of, width_of
from pretrain.nets.batchnorm import synchronised
from pretrain.nets.heads import norm_head
from pretrain.parts.distributed import gather, mean_where
from pretrain.parts.geometry import align, overlap, upright
from pretrain.parts.losses import embedding_std, full_precision, matching, own_is_largest, unit
from pretrain.recipes import CosineSchedule, Recipe, SGDConfig, small_recipe


@dataclass(frozen=True)
class DenseSiamConfig:
    """Our reading of DenseSiam for pretraining: the image branch is SimSiam's, numbers of channels are the code's."""

    backbone: str = "resnet50"
    decoder: int = 0
    """Channels of a decoder of all four stages, whose map the dense losses use; with 0 they use the backbone's map."""
    dim: int = 2048
    """Width of an image's projection, and of the hidden layers of all projectors except the regions'."""
    predictor_hidden: int = 512
    grid: int = 7
    """Side K of the grid of points in the overlap."""
    regions: int = 27
    """Number M of soft regions of an image, which are the channels of a point's projection."""
    extra: int = 128
    """Channels of a second projection of points, whose pixel loss is added to that of the first; 0 for none."""
    region_dim: int = 512
    """Width of a region's embedding and of its heads."""
    region_temperature: float = 0.1
    region_stop_gradient: bool = False
    """Stop the gradient at the region loss's targets; the code does not."""
    similarity: Literal["cosine", "cross entropy"] = "cosine"
    """Similarity of a point's prediction and projection; the code uses cross entropy."""
    global_weight: float = 1.0
    """Weight of SimSiam's loss of whole images; 0 leaves out its heads."""
    pixel_weight: float = 1.0
    label_weight: float = 0.0
    """Weight of the loss that sharpens a point's projection toward its largest channel, as in the code for
    segmentation."""
    region_weight: float = 0.1
    region_start: float = 0.8
    """Share of all steps after which the region loss begins; until then its heads keep their first weights."""
    zero_init_residual: bool = True
    """Start residual blocks as identities."""
    views: Literal["crops", "crop and whole"] = "crops"
    """The two views: crops with the same distribution or, as in the code, a square crop and the largest centered square
    of the image."""
    view_size: int = 224
    crop_scale: tuple[float, float] = (0.2, 1.0)
    blur_sigma: tuple[float, float] = (0.1, 2.0)

    def build(self, backbone: nn.Module | None = None) -> DenseSiam:
        """The freshly initialized method, on `backbone` if one is given."""
        return DenseSiam(self, backbone)


def densesiam_views(config: DenseSiamConfig) -> ViewPlan:
    """Two views with the colors of MoCo v2 and SimSiam; a crop and the whole image with those of the code."""
    size = config.view_size
    if config.views == "crops":
        colour = moco_v2_colour(config.blur_sigma)
        return ViewPlan(
            tuple(ViewSpec(name, size, scale=config.crop_scale, colour=colour) for name in ("first", "second"))
        )
    colour = segmentation_colour(config.blur_sigma)
    square = (1.0, 1.0)
    return ViewPlan(
        (
            ViewSpec("crop", size, scale=config.crop_scale, ratio=square, colour=colour),
            ViewSpec("whole", size, scale=square, ratio=square, flip=0.0, colour=colour),
        )
    )


def segmentation_colour(blur_sigma: tuple[float, float]) -> tuple[ColourOp, ...]:
    """The code's colors, which are PiCIE's: each change by itself, always in this order."""
    strengths = ((0.3, 0.0, 0.0, 0.0), (0.0, 0.3, 0.0, 0.0), (0.0, 0.0, 0.3, 0.0), (0.0, 0.0, 0.0, 0.1))
    return *(ColorJitter(*strength, p=0.8) for strength in strengths), Grayscale(0.2), GaussianBlur(blur_sigma, p=0.5)


class DenseSiam(Method):
    """Siamese similarity of images, of corresponding points, and contrast of regions, without momentum or queue.

    B_v is the map of view v, f_v that map sampled bilinearly at the K x K points of a grid in the overlap of the two
    views, where a flip is undone. At every point z_v = projector(f_v) has M channels and p_v = predictor(z_v) too, as
    1x1 convolutions. With D(p, z) = -cos(p, sg z), or the cross entropy -sum_c softmax(sg z)_c log softmax(p)_c,

        L_pix = 1/2 mean over points of D(p_1, z_2) + D(p_2, z_1).

    A second pair of heads with M' channels has the same loss; the two are added with weights log M' and log M, scaled
    to sum to 1. The soft regions of view v are m_v = softmax over channels of z_v. Region r is the sum over points of
    m_v[r] f_v; b_v[r] is its projection, a_v[r] the prediction, both of length 1, and

        L_reg = -1/2 mean over r of log softmax_r'( a_1[r].b_2[r'] / T )[r] + the same with views exchanged.

    L = L_SimSiam + L_pix + 0.1 L_reg, where the first is SimSiam's loss of the averaged maps, and the last begins after
    four fifths of all steps. Images whose views do not overlap count in the first alone. Batch norm takes its
    statistics from the whole batch, of one view at a time.

    For unsupervised segmentation L_SimSiam is left out, f_v is the map of a decoder, D is cross entropy, and

        L_seg = 1/2 sum over v of the mean over points of w[y] (-log softmax(z_v)_y),  y = argmax z_v,

    is added, with w[y] the share of label y among the points of the batch. `dense_projector`'s largest channel is a
    point's cluster. The exported backbone is without it and the decoder, which are in the run's checkpoint.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="densesiam",
        name="DenseSiam",
        unit="image, cell and region",
        partner="the other view; the same point of it; the same region of it",
        loss="negative cosine or cross entropy; InfoNCE over the regions of an image",
        second_network="siamese",
        negatives="other regions of the image",
        paper="arXiv 2203.11075",
        fidelity="reconstruction",
        gpu_memory="22 to 25 / 41 to 45",
        uncertain=(
            "the released code is that of unsupervised segmentation: pretraining on ImageNet is our reading",
            "in pretraining: the similarity of points (`similarity`), weights of the three losses, size of the grid, "
            "numbers of channels, widths of the heads, and that the region loss begins late as in segmentation",
            "the paper stops the gradient at its targets; the code's region loss does not: `region_stop_gradient`",
            "optimiser and schedule are SimSiam's; that the paper trains for 200 epochs is from memory, not verified",
            "in segmentation the code crops within the largest centered square, with a uniform side; here crops lie "
            "anywhere, with a uniform area, and what is outside of that square is left out",
            "in segmentation the code crops the second view's features at whole cells; here they are sampled exactly",
            "in segmentation the code blurs before it crops, with deviations that a wrong sign changes to 0 to 1.8 "
            "pixels of an image of 640; here the view is blurred, with the deviations that this is for a whole one",
            "in segmentation the code weighs labels by the batch of one GPU; here by that of all",
        ),
    )

    def __init__(self, config: DenseSiamConfig, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.plan = densesiam_views(config)
        self.progress = 0.0
        """Share of all steps that are finished."""
        dim, hidden, regions = config.dim, config.predictor_hidden, config.region_dim
        self.backbone = synchronised(
            backbone_for(config.backbone, backbone, zero_init_residual=config.zero_init_residual)
        )
        width = width_of(self.backbone)
        if config.global_weight:
            self.projector = synchronised(norm_head(width, dim, dim, dim, last_norm="plain"))
            self.predictor = synchronised(norm_head(dim, hidden, dim, last_bias=True))
        if config.decoder:
            self.decoder = TopDown(stage_widths(self.backbone), config.decoder)
            width = config.decoder

        def heads(channels: int) -> tuple[nn.Sequential, nn.Sequential]:
            projector = norm_head(width, dim, dim, channels, last_bias=True, last_norm="plain", dense=True)
            predictor = norm_head(channels, hidden, channels, last_bias=True, dense=True)
            return synchronised(projector), synchronised(predictor)

        self.dense_projector, self.dense_predictor = heads(config.regions)
        if config.extra:
            self.extra_projector, self.extra_predictor = heads(config.extra)
        self.region_projector = synchronised(norm_head(width, regions, regions, regions, last_norm="plain"))
        self.region_predictor = synchronised(norm_head(regions, regions, regions, last_bias=True))

    @property
    def trains_regions(self) -> bool:
        """Whether the region loss has begun."""
        return self.progress >= self.config.region_start

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """`loss` and its parts; `positive`, `negative`, `accuracy` of matching images, `std` of their projections.

        These four are of averaged maps where there are no heads for images. `pixel_std` is the spread of projections of
        points, `regions_used` the effective number of regions (exp of the entropy of the mean mask), `region_accuracy`
        the share of regions that find their own, and `overlap` the share of images whose views overlap.
        """
        config = self.config
        box, exists = overlap(*views)
        (map_1, f_1), (map_2, f_2) = (self.encode(view, box, exists) for view in views)
        loss_global, log = self.image_loss(map_1.mean((2, 3)), map_2.mean((2, 3)))
        z_1, z_2 = self.dense_projector(f_1), self.dense_projector(f_2)
        pixel = self.similarity(self.dense_predictor, z_1, z_2)
        if config.extra:
            share = math.log(config.extra) / math.log(config.extra * config.regions)
            extra = self.similarity(self.extra_predictor, self.extra_projector(f_1), self.extra_projector(f_2))
            pixel = share * pixel + (1 - share) * extra
        masks = full_precision(z_1).softmax(1), full_precision(z_2).softmax(1)
        (a_1, b_1), (a_2, b_2) = self.regions(f_1, masks[0]), self.regions(f_2, masks[1])
        forth, found = region_contrast(a_1, self.target(b_2), config.region_temperature)
        back, _ = region_contrast(a_2, self.target(b_1), config.region_temperature)
        losses = {
            "global": (config.global_weight, loss_global),
            "pixel": (config.pixel_weight, mean_where(pixel, exists)),
            "region": (config.region_weight * self.trains_regions, mean_where((forth + back) / 2, exists)),
        }
        if config.label_weight:
            label = (label_loss(z_1, exists) + label_loss(z_2, exists)) / 2
            losses["label"] = config.label_weight, mean_where(label, exists)
        return {
            "loss": torch.stack([weight * loss for weight, loss in losses.values()]).sum(),
            **{f"loss_{name}": loss.detach() for name, (_, loss) in losses.items()},
            **log,
            "pixel_std": embedding_std(unit(z_1.detach()).flatten(2).transpose(1, 2).flatten(0, 1)),
            "regions_used": torch.special.entr(masks[0].detach().mean((0, 2, 3))).sum().exp(),
            "region_accuracy": mean_where(found, exists),
            "overlap": exists.to(box.dtype).mean(),
        }

    def encode(self, view: View, box: Tensor, exists: Tensor) -> tuple[Tensor, Tensor]:
        """The backbone's map of a view, and the features of the points of `box` (N, 4) in it, (N, width, K, K).

        Where that box does not exist, the points are those of the whole view, to keep batch norm's statistics.
        """
        stages = stages_of(self.backbone, view.pixels) if self.config.decoder else [self.backbone(view.pixels)]
        cells = self.decoder(stages) if self.config.decoder else stages[-1]
        shared = upright(torch.where(exists[:, None], box, view.box))
        return stages[-1], align(full_precision(cells), view, shared, self.config.grid)[0]

    def image_loss(self, one: Tensor, two: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """SimSiam's loss of averaged maps (N, width) of the two views, and the log's numbers of images."""
        if self.config.global_weight:
            z_1, z_2 = self.projector(one), self.projector(two)
            p_1, p_2 = self.predictor(z_1), self.predictor(z_2)
        else:
            p_1, p_2 = z_1, z_2 = one.detach(), two.detach()
        self.embeddings = unit(z_1.detach())
        log = {**matching(unit(p_1.detach()), unit(z_2.detach())), "std": embedding_std(self.embeddings)}
        return (cosine_distance(p_1, z_2).mean() + cosine_distance(p_2, z_1).mean()) / 2, log

    def similarity(self, predictor: nn.Module, z_1: Tensor, z_2: Tensor) -> Tensor:
        """1/2 mean over points of D(p_1, z_2) + D(p_2, z_1), (N,), from projections (N, C, K, K) of both views."""
        distance = cosine_distance if self.config.similarity == "cosine" else cross_entropy
        return (distance(predictor(z_1), z_2) + distance(predictor(z_2), z_1)).mean((1, 2)) / 2

    def regions(self, f: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """a and b (N, M, region_dim) of regions, from features (N, width, K, K) and masks (N, M, K, K) of a view."""
        with torch.autocast(f.device.type, enabled=False):
            sums = masks.flatten(2) @ f.to(masks.dtype).flatten(2).transpose(1, 2)
        b = self.region_projector(sums.flatten(0, 1))
        a = self.region_predictor(b)
        return unit(a).view(*sums.shape[:2], -1), unit(b).view(*sums.shape[:2], -1)

    def target(self, b: Tensor) -> Tensor:
        """The targets of the region loss."""
        return b.detach() if self.config.region_stop_gradient else b

    @override
    def before_update(self, step: int, total_steps: int) -> None:
        """Let the heads of regions wait for their loss: with gradients of zero the optimizer would decay them."""
        if not self.trains_regions:
            for head in (self.region_projector, self.region_predictor):
                head.zero_grad(set_to_none=True)

    @override
    def after_step(self, step: int, total_steps: int) -> None:
        self.progress = step / total_steps

    @override
    def get_extra_state(self) -> Tensor:
        """The share of finished steps, on which the region loss depends, for the state dict."""
        return torch.tensor(self.progress, dtype=torch.float64)

    @override
    def set_extra_state(self, state: Tensor) -> None:
        """Take up the share of finished steps."""
        self.progress = float(state)


class TopDown(nn.Module):
    """The code's decoder, which is PiCIE's: maps of all stages -> one map (N, channels, H, W) of the first's size.

    A 1x1 convolution of every stage, each added to what is below it, enlarged bilinearly; nothing smooths the sum.
    """

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """The map, from those of the stages (N, widths[i], H_i, W_i), the finest first."""
        *finer, x = (lateral(maps) for lateral, maps in zip(self.laterals, stages, strict=True))
        for lateral in reversed(finer):
            x = F.interpolate(x, size=lateral.shape[2:], mode="bilinear", align_corners=False) + lateral
        return x


def cosine_distance(p: Tensor, z: Tensor) -> Tensor:
    """D(p, z) = -cos(p, sg z) of tensors (N, C, ...) along C: (N, ...), in full precision."""
    return -(unit(p) * unit(z.detach())).sum(1)


def cross_entropy(p: Tensor, z: Tensor) -> Tensor:
    """D(p, z) = -sum_c softmax(sg z)_c log softmax(p)_c of tensors (N, C, ...): (N, ...), in full precision."""
    return -(full_precision(z.detach()).softmax(1) * full_precision(p).log_softmax(1)).sum(1)


def label_loss(z: Tensor, exists: Tensor) -> Tensor:
    """Means (N,) over points of w[y] (-log softmax(z)_y), y the largest channel of projections z (N, C, K, K).

    w[y] is the share of label y among the points of the images of all processes that `exists` (N,) names: a frequent
    label weighs more. In full precision.
    """
    z = full_precision(z)
    labels = z.argmax(1)
    ones = exists.to(z.dtype)[:, None].expand(-1, labels[0].numel())
    counts = gather(z.new_zeros(len(z), z.shape[1]).scatter_add_(1, labels.flatten(1), ones).sum(0)[None]).sum(0)
    return F.cross_entropy(z, labels, counts / counts.sum().clamp(min=1), reduction="none").mean((1, 2))


def region_contrast(a: Tensor, b: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Cross entropy of regions a (N, M, C) that look for their own among b (N, M, C), and the share that finds it.

    Both (N,), means over the M regions of an image, in full precision. A tie finds nothing (see `losses.matching`).
    """
    with torch.autocast(a.device.type, enabled=False):
        logits = full_precision(a) @ full_precision(b).transpose(1, 2) / temperature
        loss = -logits.log_softmax(2).diagonal(dim1=1, dim2=2).mean(1)
    return loss, own_is_largest(logits.detach()).to(logits.dtype).mean(1)


METHODS = (DenseSiam,)

FIXED = ("predictor.", "dense_predictor.", "extra_predictor.", "region_predictor.")
"""Predictors, whose learning rate stays at the base rate, as in SimSiam."""

SEGMENTATION = DenseSiamConfig(
    backbone="resnet18",
    decoder=128,
    dim=128,
    predictor_hidden=128,
    grid=80,
    region_dim=128,
    similarity="cross entropy",
    global_weight=0.0,
    label_weight=1.0,
    views="crop and whole",
    view_size=320,
    crop_scale=(0.25, 1.0),
    blur_sigma=(0.05, 0.9),
)
"""Settings of the code's unsupervised segmentation."""

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
    Recipe(
        name="densesiam-segmentation-coco-10ep",
        method=SEGMENTATION,
        epochs=10,
        batch_size=256,
        optimizer=SGDConfig(lr=0.05, momentum=0.9, weight_decay=1e-4),
        schedule=CosineSchedule(final=1.0),
        needs_init=True,
        data="COCO train2017, the curated part of PiCIE; from a ResNet-18 supervised on ImageNet (`--init`)",
        paper="arXiv 2203.11075; code ZwwWayne/DenseSiam",
        expected="COCO-Stuff-27 mIoU 16.4 by the clusters of `dense_projector` (code's README)",
        cost="not published",
    ),
    small_recipe(
        "densesiam-mini",
        DenseSiamConfig(
            backbone="resnet18",
            dim=512,
            predictor_hidden=128,
            grid=3,
            region_dim=128,
            zero_init_residual=False,
            view_size=64,
            blur_sigma=(0.1, 1.0),
        ),
        epochs=20,
        batch_size=32,
        warmup_epochs=2,
        optimizer=SGDConfig(lr=0.12, momentum=0.9, weight_decay=5e-4, fixed_lr=FIXED),
        paper="arXiv 2203.11075",
        expected="with precision=fp32, means of three runs: Cityscapes mIoU by linear probe 35.9 and by nearest cells "
        "32.7, of random networks 28.0 and 28.5; VOC 5.7 and 4.8, of random networks 5.5 and 4.8 (3,000 photographs, "
        "220 and 50 images for evaluation); after 558 steps at .06 below random features",
        images_per_second=67,  # those of simsiam-mini by the ratio of their seconds a step, 1.12 in fp32 elsewhere
    ),
    small_recipe(
        "densesiam-segmentation-mini",
        replace(SEGMENTATION, grid=24, view_size=96, zero_init_residual=False),
        epochs=6,
        paper="arXiv 2203.11075, its unsupervised segmentation; without supervised starting weights",
    ),
)
