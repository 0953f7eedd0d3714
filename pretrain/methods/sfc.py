"""SFC: each cell of a fine map predicts the other view's cell at the same place, for features of fine correspondence.

Hu et al., Semantic-Aware Fine-Grained Correspondence, ECCV 2022, arXiv 2207.10456.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from pretrain.data.views import View, ViewPlan, ViewSpec
from pretrain.method import Method, MethodInfo
from pretrain.methods.pixpro import cell_head, cosines, masked_mean, pair_statistics, positive_pairs
from pretrain.nets.architectures import backbone_for, width_of
from pretrain.nets.batchnorm import synchronised
from pretrain.nets.resnet import ResNet, keep_stride_8
from pretrain.parts.losses import embedding_std, unit
from pretrain.parts.momentum import Momentum, momentum_at
from pretrain.recipes import AdamWConfig, CosineSchedule, Recipe, small_recipe


@dataclass(frozen=True)
class SFCConfig:
    """The network of fine-grained correspondence as published."""

    backbone: str = "resnet18"
    hidden: int = 2048
    """Width of the heads' hidden layer."""
    dim: int = 256
    """Width C of a cell's embedding."""
    positive_distance: float = 0.5
    """Largest distance of two cells that are a positive pair, in diagonals of the larger cell."""
    momentum: float = 0.99
    """Momentum of the target network at the start; it rises to 1 along a cosine."""
    view_size: int = 256
    """Side of a view in pixels."""
    crop_scale: tuple[float, float] = (1e-9, 1.0)
    """Range of a crop's share of the image area; shares of less than a pixel are drawn again."""

    def build(self, backbone: nn.Module | None = None) -> SFC:
        """The freshly initialized method, on `backbone` if one is given."""
        return SFC(self, backbone)


class SFC(Method):
    """Semantic-aware fine-grained correspondence: the network that is trained on frames.

    The backbone's last two stages keep the resolution of the second, so that a view of 256 pixels has a map of 32 x 32
    cells; weights are those of an ordinary ResNet. p_i are the predictions from the cells of the trained network's
    projected map, z'_j the projected cells of its momentum copy for the other view, all of one image. (i, j) is a
    positive pair if the centers of the two cells in the original image are nearer than half the diagonal of the larger
    cell. With m(p, z') the mean of cos(p_i, z'_j) over an image's positive pairs, 0 without any,

        L = -2 mean_n m(p^1, z'^2) - 2 mean_n m(p^2, z'^1),   in [-4, 4].

    Views are only cropped, neither flipped nor changed in color, and there are no negatives. Momentum moves after the
    optimizer's step, by the amount with which the authors' code moves it before the next target: the targets are the
    same.

    At test time the paper takes layer3's features, at stride 8, and concatenates them with those of an image-level
    method: `densebench fuse` under the protocol `frozen_davis17_sfc`.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="sfc",
        name="SFC",
        unit="cell",
        partner="the other view's cells at the same place",
        loss="cosine",
        second_network="momentum",
        negatives="none",
        paper="arXiv 2207.10456",
        fidelity="code",
        uncertain=(
            "coordinates are shares of the image; in the code shares of its side less one pixel",
            "an epoch visits every image once; in the code at most 80 frames of each video, drawn anew",
            "the card states the normalization of training; the authors test with ImageNet's",
        ),
    )

    def __init__(self, config: SFCConfig, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.plan = ViewPlan(
            tuple(ViewSpec(name, config.view_size, config.crop_scale, flip=0.0) for name in ("first", "second")),
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2023, 0.1994, 0.2010),
        )
        self.backbone = synchronised(backbone_for(config.backbone, backbone))
        if isinstance(self.backbone, ResNet):
            keep_stride_8(self.backbone)
        self.projector = synchronised(cell_head(width_of(self.backbone), config.hidden, config.dim))
        self.predictor = synchronised(cell_head(config.dim, config.hidden, config.dim))
        self.momentum = Momentum(backbone=self.backbone, projector=self.projector)

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """`loss`; for the log, of the first view's cells against the second's, `positive`, `negative`, `accuracy` and
        `matched` as in PixPro, and `std`, the spread of the projected cells.
        """
        z = [self.projector(self.backbone(view.pixels)) for view in views]
        p = [self.predictor(z_v) for z_v in z]
        with torch.no_grad():
            targets = [self.momentum.projector(self.momentum.backbone(view.pixels)) for view in views]

        pairs = positive_pairs(views[0], views[1], z[0].shape[-1], self.config.positive_distance)
        first, second = cosines(p[0], targets[1]), cosines(p[1], targets[0])
        loss = -2 * masked_mean(first, pairs).mean() - 2 * masked_mean(second, pairs.transpose(1, 2)).mean()
        self.embeddings = unit(z[0].detach().transpose(0, 1).flatten(1).T)
        return {"loss": loss, **pair_statistics(first.detach(), pairs), "std": embedding_std(self.embeddings)}

    @override
    def after_step(self, step: int, total_steps: int) -> None:
        self.momentum.update(momentum_at(step + 1, total_steps, self.config.momentum, "cosine"))


METHODS = (SFC,)

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="sfc-youtubevos-20ep",
        method=SFCConfig(),
        epochs=20,
        batch_size=96,
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.0),  # without decay it is Adam
        schedule=CosineSchedule(final=1.0),
        data="YouTube-VOS train, all frames; 80 frames of each video make an epoch of the paper's",
        paper="arXiv 2207.10456; code Alxead/SFC",
        expected="DAVIS 2017 J&F 68.0 (frozen_davis17_crw), fused with MoCo v1 71.3 (frozen_davis17_sfc)",
        cost="one RTX 3090: about 25 hours",
    ),
    small_recipe(
        "sfc-mini",
        SFCConfig(hidden=512, dim=128, momentum=0.98, view_size=32, crop_scale=(0.2, 1.0)),
        epochs=6,
        batch_size=32,
        optimizer=AdamWConfig(lr=1e-3, weight_decay=0.0),
        paper="arXiv 2207.10456; views of 32 pixels, so that a map has 4 x 4 cells",
        expected="no better than random initialisation in most frozen probes (docs/benchmark.md)",
    ),
)
