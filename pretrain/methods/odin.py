"""ODIN: a discovery network groups the cells of an image, and two others learn by telling the groups apart.

Hénaff et al., Object Discovery and Representation Networks, ECCV 2022, arXiv 2203.08777. There is no code of the
authors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from pretrain.data.views import View, ViewSpec, WholeImage
from pretrain.method import MethodInfo
from pretrain.methods.detcon import RegionContrast, RegionContrastConfig
from pretrain.parts.clusters import kmeans, start_draws
from pretrain.parts.geometry import warp_labels
from pretrain.parts.losses import unit
from pretrain.parts.masks import most_frequent
from pretrain.parts.momentum import Momentum
from pretrain.recipes import CosineSchedule, LARSConfig, Recipe, small_recipe

_SAMPLES = 8
"""Points across a cell of a view, at which the region is looked up."""


@dataclass(frozen=True)
class OdinConfig(RegionContrastConfig):
    """ODIN as far as it is known; views, networks, momentum and loss are DetCon-B's."""

    clusters: int = 16
    """Number K of regions of an image."""
    whole_size: int = 448
    """Side in pixels of the whole image, as the discovery network sees it."""
    discovery_momentum: float | None = None
    """Momentum of the discovery network's weights; None: the momentum network itself is the discovery network."""
    iterations: int = 50
    """Number of iterations of k-means; on a CPU it stops when nothing changes any more."""

    @override
    def build(self, backbone: nn.Module | None = None) -> Odin:
        return Odin(self, backbone)


class Odin(RegionContrast):
    """Object discovery and representation networks.

    The discovery network f_tau makes a map of the whole image, whose cells, scaled to length 1, k-means divides into K
    regions; of each image by itself. In a view, a cell of the backbone's last map has the region that covers most of
    it. Then DetCon-B's loss is taken of these regions (`RegionContrast`). tau is a moving average of the trained
    weights.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="odin",
        name="ODIN",
        unit="region, by clustering the discovery network's features of an image",
        partner="the same region in the other view",
        loss="InfoNCE",
        second_network="momentum",
        negatives="regions of the batch",
        paper="arXiv 2203.08777",
        fidelity="reconstruction",
        uncertain=(
            "there is no code, and only the paper's abstract could be read: all settings are DetCon-B's or assumed",
            "the number of regions K, the size of the image that is clustered, and that it is the whole image",
            "how tau follows the trained weights: by default it is the momentum network, as in SatelliteODIN, a "
            "third party's code; `discovery_momentum` gives it a rate of its own",
            "which map is clustered (here the last), and that a cell belongs to one region alone",
            "regions are drawn and weighted as in DetCon-B",
        ),
    )
    config: OdinConfig

    def __init__(self, config: OdinConfig, backbone: nn.Module | None = None) -> None:
        super().__init__(config, backbone)
        whole = ViewSpec("whole", config.whole_size, scale=(1.0, 1.0), interpolation="bicubic", flip=0.0, trained=False)
        self.plan = replace(self.plan, specs=(*self.plan.specs, whole), places=WholeImage(whole.name))
        self.discovery = None if config.discovery_momentum is None else Momentum(backbone=self.backbone)

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """`loss`, and what the log tells of it: see `RegionContrast.contrast`."""
        *crops, whole = views
        regions = self.regions(whole)

        def cells_of(view: View, size: int) -> Tensor:
            return most_frequent(warp_labels(regions, view, size * _SAMPLES), size, self.config.clusters)

        return self.contrast(crops, cells_of)

    @torch.no_grad()
    def regions(self, whole: View) -> Tensor:
        """The region below K of every cell of the discovery network's map of whole images, int64 (N, h, w)."""
        network: Momentum = self.momentum if self.discovery is None else self.discovery
        features = network.backbone(whole.pixels)
        draws = start_draws(len(features), self.config.clusters).to(features.device, non_blocking=True)
        return group_cells(features, draws, self.config.iterations)

    @override
    def found(self, wholes: View) -> Tensor:
        return self.regions(wholes)

    @override
    def after_step(self, step: int, total_steps: int) -> None:
        super().after_step(step, total_steps)
        if self.discovery is not None and self.config.discovery_momentum is not None:
            self.discovery.update(self.config.discovery_momentum)


@torch.no_grad()
def group_cells(features: Tensor, draws: Tensor, iterations: int) -> Tensor:
    """The cluster of every cell of maps (N, C, h, w), int64 (N, h, w), by k-means of the cells of each map by itself.

    `draws` (N, K) start k-means (see `kmeans`).
    """
    cells = unit(features).flatten(2).transpose(1, 2)
    return kmeans(cells, draws.to(cells.dtype), iterations=iterations).labels.view(-1, *features.shape[2:])


METHODS = (Odin,)

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="odin-imagenet-1000ep",
        method=OdinConfig(zero_init_residual=True, inputs="byol"),
        epochs=1000,
        batch_size=4096,
        optimizer=LARSConfig(lr=3.2, momentum=0.9, weight_decay=1.5e-6),
        schedule=CosineSchedule(per="step", warmup_epochs=10),
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2203.08777; optimizer and schedule are DetCon-B's",
        expected="COCO Mask R-CNN FPN box AP 42.9, mask AP 38.4; VOC12 FCN mIoU 78.6; Cityscapes FCN mIoU 77.1 (from "
        "memory, not verified)",
    ),
    small_recipe(
        "odin-mini",
        OdinConfig(
            backbone="resnet18",
            hidden=512,
            dim=128,
            momentum=0.99,
            regions=8,
            clusters=6,
            whole_size=192,
            view_size=96,
            blur_sigma=(0.1, 1.0),
        ),
        epochs=10,
        paper="arXiv 2203.08777; 96 pixels make a map of 3 x 3 cells",
        expected="with view_size=64, whole_size=128, batch_size=32 and precision=fp32, means of three runs: Cityscapes "
        "mIoU by linear probe 34.3 and by nearest cells 34.3, of random networks 28.0 and 28.5; VOC 5.8 and 5.0, of "
        "random networks 5.5 and 4.8 (3,000 photographs, 220 and 50 images for evaluation)",
    ),
)
