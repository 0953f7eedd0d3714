"""VICRegL: VICReg on whole images and on cells, matched by what they look like and by where they are.

Bardes et al., VICRegL: Self-Supervised Learning of Local Visual Features, NeurIPS 2022, arXiv 2210.01571.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
from pretrain.parts.distributed import gather_with_grad
from pretrain.parts.geometry import Placed, cell_distances, upright
from pretrain.parts.losses import embedding_std, full_precision, unit
from pretrain.parts.upload import constant
from pretrain.recipes import CosineSchedule, Recipe, small_recipe
from pretrain.settings import ADDED

EPSILON = 1e-4
"""Value added to a variance under the square root."""


@dataclass(frozen=True)
class VICRegLConfig:
    """VICRegL as published for a ResNet-50: two large views."""

    backbone: str = "resnet50"
    alpha: float = 0.75
    """Weight of the global loss; 1 - alpha is that of the local one."""
    expander: int = 8192
    """Width of the three layers that expand the pooled map."""
    local_expander: int = 512
    """Width of the three layers that expand each cell."""
    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    matches: tuple[int, int] = (20, 4)
    """gamma, the numbers of cells nearest in place that are matched, for the one view and for the other; at most the
    number of cells of a map."""
    mirror_grid: bool = True
    """Whether the places of a flipped view's cells are mirrored with it. In the authors' code they are not unless
    asked for, which their commands do not do, so that half of the pairs of views match wrong places; their ImageNet
    recipes here do the same."""
    view_size: int = 224
    """Side of a view in pixels."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Range of a crop's share of the image area."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Range of the blur's standard deviation in pixels of the view."""
    zero_init_residual: bool = field(default=True, metadata=ADDED)
    """Start residual blocks as identities."""

    def build(self, backbone: nn.Module | None = None) -> VICRegL:
        """The freshly initialized method, on `backbone` if one is given."""
        return VICRegL(self, backbone)


class VICRegL(Method):
    """Embeddings of two views agree, each coordinate varies over the batch, and no two coordinates vary together.

    For embeddings z, z' (N, D), with the statistics taken over the N images of all processes,

        s(z, z') = mean (z - z')^2,
        v(z) = mean_d max(0, 1 - sqrt(Var z_d + eps)),   c(z) = sum_{d != e} Cov(z)_de^2 / D,
        VICReg(z, z') = 25 s(z, z') + 25 (v(z) + v(z')) / 2 + 1 (c(z) + c(z')) / 2.

    Globally it is taken of the expanded pooled maps. Locally, of expanded cells y (N, P, D) and y' with which they are
    matched: every cell with that of the other view nearest in embedding, and the gamma cells that are nearest to a
    cell of the other view in the original image with that cell. v and c are taken for each match by itself, the k-th
    of all images together, in reading order, and averaged. Both directions count, and both values of gamma in both:

        L_local = mean over directions of [ VICReg(y, NN(y)) + mean over gamma of VICReg(y_gamma, NN_place(y_gamma)) ],
        L = alpha L_global + (1 - alpha) L_local.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="vicregl",
        name="VICRegL",
        unit="image and cell",
        partner="the other view; its cells nearest in embedding and in place",
        loss="VICReg: invariance, variance, covariance",
        second_network="siamese",
        negatives="none",
        paper="arXiv 2210.01571",
        fidelity="code",
        gpu_memory="22 to 25 / 41 to 45",
        uncertain=(
            "distances of places are in shares of the image's sides, in the code in pixels: not the same if long",
            "one version of the code keeps the local loss of the last pair of views only, and halves it; another, as "
            "here, takes the mean of all",
            "recipes compute in fp32, where the code trains in mixed precision (float16)",
            "the blur is a Gaussian, where the code calls Pillow, which approximates one by box filters",
        ),
    )

    def __init__(self, config: VICRegLConfig, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        views = byol_views(config.view_size, config.crop_scale, config.blur_sigma)
        self.plan = replace(views, std=(0.228, 0.224, 0.225))
        self.backbone = synchronised(
            backbone_for(config.backbone, backbone, zero_init_residual=config.zero_init_residual)
        )
        width = width_of(self.backbone)
        self.expander = synchronised(norm_head(width, *3 * (config.expander,), bias=True))
        self.local_expander = synchronised(norm_head(width, *3 * (config.local_expander,), bias=True))

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """`loss`, its weighted parts, and for the log:

        `positive` and `negative`, the cosine of the two embeddings of an image and of different images; `accuracy`,
        the share of the cells matched by place whose match in embedding is the same; `std`, the spread of embeddings.
        """
        maps = [self.backbone(view.pixels) for view in views]
        z = [full_precision(self.expander(full_precision(B).mean((2, 3)))) for B in maps]
        cells = [B.flatten(2).transpose(1, 2) for B in maps]
        y = [full_precision(self.local_expander(B.flatten(0, 1))).view(*B.shape[:2], -1) for B in cells]

        with torch.autocast(z[0].device.type, enabled=False):
            global_loss = self.weighted(vicreg(z[0][:, None], z[1][:, None]))
            look = distances_between(y[0], y[1])
            place = self.place_distances(views, maps[0].shape[-1])
            there_and_back = (
                (y[0], y[1], look, place),
                (y[1], y[0], look.transpose(1, 2), place.transpose(1, 2)),
            )
            by_look = [self.weighted(vicreg(*matched(a, b, far))) for a, b, far, _ in there_and_back]
            by_place = [
                self.weighted(vicreg(*matched(a, b, far, gamma)))
                for a, b, _, far in there_and_back
                for gamma in self.config.matches
            ]
            self.embeddings, other = (unit(each.detach()) for each in z)
            cosines = similarities(self.embeddings, other)
        local = [torch.stack(terms).mean(0) for terms in (by_look, by_place)]
        alpha = self.config.alpha
        return {
            "loss": alpha * global_loss.sum() + (1 - alpha) * (local[0] + local[1]).sum(),
            **{
                f"loss_{where}_{name}": value.detach()
                for where, terms in (("global", global_loss), ("look", local[0]), ("place", local[1]))
                for name, value in zip(("invariance", "variance", "covariance"), terms, strict=True)
            },
            **cosines,
            "accuracy": agreement(look, place, max(self.config.matches)),
            "std": embedding_std(self.embeddings),
        }

    def weighted(self, terms: Tensor) -> Tensor:
        """Invariance, variance and covariance (3,), each times its weight."""
        return terms * constant((self.config.invariance, self.config.variance, self.config.covariance), terms)

    def place_distances(self, views: Sequence[Placed], size: int) -> Tensor:
        """Distances in the original image of all cells of one view and of the other: (N, P, P), P = size^2."""
        first, second = views if self.config.mirror_grid else (upright(view.box) for view in views)
        return cell_distances(first, second, size)


def vicreg(a: Tensor, b: Tensor) -> Tensor:
    """Invariance, variance and covariance of embeddings `a` and `b` (n, S, D), before their weights: (3,).

    S is the number of matches, each with statistics of its own over the images of all processes.
    """
    invariance = (a - b).square().mean()
    regularisers = [variance_and_covariance(gather_with_grad(x)) for x in (a, b)]
    return torch.stack([invariance, *(torch.stack(regularisers).mean(0))])


def variance_and_covariance(x: Tensor) -> Tensor:
    """The terms v and c of embeddings (N, S, D), means over S: (2,)."""
    centred = (x - x.mean(0)).transpose(0, 1)
    covariance = centred.mT @ centred / (len(x) - 1)
    variances = covariance.diagonal(dim1=1, dim2=2)
    v = (1 - (variances + EPSILON).sqrt()).clamp(min=0).mean()
    c = (covariance.square().sum((1, 2)) - variances.square().sum(1)).mean() / x.shape[2]
    return torch.stack([v, c])


@torch.no_grad()
def distances_between(a: Tensor, b: Tensor) -> Tensor:
    """Distances of the rows of `a` and `b` (N, P, D), image by image: (N, P, P)."""
    # A matrix product would lose half of the digits of small distances.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def nearest(distances: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` rows of `distances` (N, P, Q) with the smallest entries, in order, and their columns: (N, count).

    Raises `PretrainError` if there are fewer rows.
    """
    smallest, column = distances.min(2)
    if count > smallest.shape[1]:
        raise PretrainError(
            f"a map of {smallest.shape[1]} cells has no {count} to match; lower method.matches or use larger views"
        )
    row = smallest.sort(dim=1, stable=True).indices[:, :count].sort(1).values
    return row, column.gather(1, row)


def matched(a: Tensor, b: Tensor, distances: Tensor, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Cells of `a` (N, P, D), the `count` best matched or all, and for each that of `b` at the smallest distance."""
    row, column = nearest(distances, distances.shape[1] if count is None else count)
    first, second = (x.gather(1, index[..., None].expand(-1, -1, x.shape[2])) for x, index in ((a, row), (b, column)))
    return first, second


def agreement(look: Tensor, place: Tensor, count: int) -> Tensor:
    """Share of the `count` cells best matched by `place` that `look` matches alike; distances (N, P, P)."""
    row, column = nearest(place, count)
    return (look.argmin(2).gather(1, row) == column).float().mean()


@torch.no_grad()
def similarities(a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """Mean cosine of unit vectors `a` and `b` (N, D) of the same image, and of different images."""
    cosines = a @ b.T
    same = cosines.diagonal().sum()
    return {"positive": same / len(a), "negative": (cosines.sum() - same) / max(1, len(a) * (len(a) - 1))}


METHODS = (VICRegL,)

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="vicregl-imagenet-100ep",
        method=VICRegLConfig(mirror_grid=False),
        epochs=100,
        batch_size=512,
        optimizer=LARSConfig(lr=0.6, momentum=0.9, weight_decay=1e-6),
        schedule=CosineSchedule(per="step", warmup_epochs=10, final=1e-3),
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2210.01571; code facebookresearch/VICRegL",
        cost="8 GPUs with 64 images each, mixed precision; hours not published",
    ),
    Recipe(
        name="vicregl-imagenet-300ep",
        method=VICRegLConfig(mirror_grid=False),
        epochs=300,
        batch_size=2048,
        optimizer=LARSConfig(lr=1.6, momentum=0.9, weight_decay=1e-6),
        schedule=CosineSchedule(per="step", warmup_epochs=10, final=1e-3),
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2210.01571; code facebookresearch/VICRegL",
        expected="ImageNet linear 70.4; VOC12 frozen linear segmentation mIoU 55.9 (alpha 0.9: 71.2 and 54.0)",
        cost="32 GPUs with 64 images each, mixed precision; hours not published",
    ),
    small_recipe(
        "vicregl-mini",
        VICRegLConfig(
            backbone="resnet18",
            expander=512,
            local_expander=128,
            matches=(4, 1),
            view_size=96,
            crop_scale=(0.2, 1.0),
            blur_sigma=(0.1, 1.0),
            zero_init_residual=False,
        ),
        epochs=16,
        batch_size=32,
        paper="arXiv 2210.01571; views of 96 pixels, so that a map has 3 x 3 cells",
        images_per_second=40,
    ),
)
