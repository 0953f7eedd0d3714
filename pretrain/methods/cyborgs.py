"""CYBORGS: contrast between regions that the partly trained network itself finds, again and again.

Wang et al., CYBORGS: Contrastively Bootstrapping Object Representations by Grounding in Segmentation, ECCV 2022,
arXiv 2203.09343.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from typing_extensions import override

from pretrain.data.batches import ImageSource
from pretrain.data.regions import Masks
from pretrain.data.views import View
from pretrain.discovery.masks import Clusters, Segments
from pretrain.errors import PretrainError
from pretrain.method import MethodInfo
from pretrain.methods.byol import BYOL
from pretrain.methods.detcon import RegionContrast, RegionContrastConfig, region_loss
from pretrain.nets.architectures import stage_widths, stages_of
from pretrain.nets.batchnorm import synchronised
from pretrain.nets.heads import norm_head
from pretrain.parts.distributed import gather
from pretrain.parts.losses import embedding_std, unit
from pretrain.parts.masks import draw_regions, pool
from pretrain.parts.momentum import Momentum, MomentumSchedule
from pretrain.recipes import ComputeStage, LARSConfig, Recipe, StepSchedule, small_recipe


@dataclass(frozen=True)
class CYBORGSConfig(RegionContrastConfig):
    """CYBORGS as published; views as BYOL's."""

    last_bias: bool = True
    momentum: float = 0.996
    momentum_schedule: MomentumSchedule = "constant"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    labels: int = 81
    """Regions of larger labels are not seen: cells that show nothing else count as region 0."""
    masks: str = "masks-0"
    """Name of the stage before whose masks are used."""

    @override
    def build(self, backbone: nn.Module | None = None) -> CYBORGS:
        return CYBORGS(self, backbone)


class CYBORGS(RegionContrast):
    """Contrastive bootstrapping of objects: `RegionContrast` with regions that follow from the network.

    The masks of every image are made anew each 100 epochs by k-means of the network's features (`Clusters`); training
    goes on as if nothing had happened. Beside that it differs from DetCon in this:

    - a region's mean is taken of the last three stages' maps side by side, averaged to the cells of the last;
    - regions are drawn without replacement, all that a view shows first; further places are filled with regions that
      it does not show, whose mean is 0 and which count like all others;
    - the momentum network's regions are drawn anew;
    - projector and predictor see the r-th region of all images at once: each has its own statistics of batch norm.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="cyborgs",
        name="CYBORGS",
        unit="region, by clustering the network's own features of some images",
        partner="the same region in the other view",
        loss="InfoNCE",
        second_network="momentum",
        negatives="regions of the batch",
        paper="arXiv 2203.09343",
        fidelity="code",
        gpu_memory=BYOL.info.gpu_memory,
        uncertain=(
            "how the first masks were made is not in the code: here as DetCon's",
            "k-means starts by k-means++, where the code calls faiss, which starts with random points",
            "label maps are kept at 64 x 64, where the code keeps them at the image's size",
            "an image that is region 0 all over is trained on, where the code draws another one in its place",
            "the code jitters colors by an operation of its own, which adds 204 to 306 of 255 levels to the "
            "saturation, so that it is full in nearly every jittered view, and shifts hue by up to 25 of 180; here "
            "torchvision's",
            "the paper's scores could not be read; the code's README has none",
        ),
    )
    config: CYBORGSConfig

    def __init__(self, config: CYBORGSConfig, backbone: nn.Module | None = None) -> None:
        super().__init__(config, backbone)
        width = sum(stage_widths(self.backbone)[-3:])
        head = norm_head(width, config.hidden, config.dim, bias=True, last_bias=config.last_bias)
        self.projector = synchronised(head)
        self.momentum = Momentum(backbone=self.backbone, projector=self.projector)
        self.masks: Masks | None = None

    @override
    def prepare(self, source: ImageSource, folder: Path) -> None:
        """Open the masks that the stage before has left."""
        if self.config.masks not in self.products:
            raise PretrainError(
                f"CYBORGS trains with the masks of its stages, and {self.config.masks!r} is not there: "
                "run a recipe that lists the stages"
            )
        self.masks = Masks(self.products[self.config.masks])

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """`loss`, and what the log tells of it: see `RegionContrast.contrast`."""
        if self.masks is None:
            raise PretrainError("CYBORGS needs the images' masks: call prepare(source, folder) before training")
        predictions, targets, ids, target_ids, shown = [], [], [], [], []
        for view in views:
            features = stacked(self.backbone, view.pixels)
            cells = self.masks.cells(view, features.shape[-1], count=self.config.labels)
            drawn, means, count = self.regions(features, cells)
            predictions.append(by_place(nn.Sequential(self.projector, self.predictor), means))
            with torch.no_grad():
                target_drawn, means, _ = self.regions(stacked(self.momentum.backbone, view.pixels), cells)
                targets.append(gather(by_place(self.momentum.projector, means)))
            ids.append(drawn)
            target_ids.append(target_drawn)
            shown.append(count)
        tau = self.config.temperature
        first, second = (
            region_loss(predictions[v], targets[w], targets[v], ids[v], target_ids[w], tau, same_ids=target_ids[v])
            for v, w in ((0, 1), (1, 0))
        )
        self.embeddings = predictions[0].detach().flatten(0, 1)
        return {
            "loss": first["loss"] + second["loss"],
            **{key: (first[key] + second[key]) / 2 for key in first if key != "loss"},
            "shown": torch.stack(shown).to(self.embeddings.dtype).mean(),
            "std": embedding_std(self.embeddings),
        }

    def regions(self, features: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Labels (N, R) drawn from `cells`, the means (N, R, C) of `features` there, and how many are shown (N,)."""
        drawn, count = draw_regions(cells, self.config.regions, count=self.config.labels, replacement=False)
        return drawn, pool(features, cells[:, None] == drawn[:, :, None, None])[0], count


def stacked(backbone: nn.Module, pixels: Tensor) -> Tensor:
    """The maps of the last three stages side by side, the finest first, averaged to the cells of the last."""
    maps = stages_of(backbone, pixels)[-3:]
    height, width = maps[-1].shape[-2:]
    return torch.cat([adaptive_avg_pool2d(x, (height, width)) for x in maps], dim=1)


def by_place(head: nn.Module, means: Tensor) -> Tensor:
    """Unit embeddings (N, R, dim) of vectors (N, R, C), for r = 1 .. R one after the other."""
    return unit(torch.stack([head(vectors) for vectors in means.unbind(1)], dim=2)).transpose(1, 2)


METHODS = (CYBORGS,)

LARS = LARSConfig(lr=0.2, momentum=0.9, weight_decay=1.5e-6, variant="byol")


def _bootstrapped(recipe: Recipe, rounds: int, first: Segments, clusters: Clusters) -> Recipe:
    """One training of `rounds` times the epochs of `recipe`, whose masks are made anew before each but the first.

    The schedule counts the epochs of all rounds.
    """
    method = recipe.method
    assert isinstance(method, CYBORGSConfig)

    def round_after(done: int) -> Recipe:
        return replace(
            recipe,
            method=replace(method, masks=f"masks-{done}"),
            first_epoch=done * recipe.epochs,
            from_stage=done > 0,
        )

    stages: list[Recipe | ComputeStage] = [first]
    for number in range(1, rounds):
        stages.append(replace(round_after(number - 1), name=f"round-{number}", data="", expected="", cost=""))
        stages.append(replace(clusters, name=f"masks-{number}"))
    return replace(round_after(rounds - 1), stages=tuple(stages))


RECIPES: tuple[Recipe, ...] = (
    _bootstrapped(
        Recipe(
            name="cyborgs-coco-800ep",
            method=CYBORGSConfig(),
            epochs=100,
            batch_size=128,
            optimizer=LARS,
            schedule=StepSchedule(milestones=(768, 784), warmup_epochs=10, warmup_start=0.01),
            data="COCO train2017, 118 k images; 800 epochs in eight rounds of 100",
            paper="arXiv 2203.09343; code renwang435/CYBORGS",
            cost=(
                "masks at COCO's size, computed, for each of seven rounds: 480 MB, 118 k images of 640 x 480 forward "
                "(6e15 operations) and k-means of 7,400 groups of 77 k cells (1.5e15 operations)"
            ),
        ),
        rounds=8,
        first=Segments("masks-0"),
        clusters=Clusters("masks", block=2),
    ),
    _bootstrapped(
        replace(
            small_recipe(
                "cyborgs-mini",
                CYBORGSConfig(
                    backbone="resnet18",
                    hidden=512,
                    dim=128,
                    momentum=0.99,
                    regions=8,
                    view_size=96,
                    blur_sigma=(0.1, 1.0),
                ),
                epochs=3,
                paper="arXiv 2203.09343; three rounds, and 96 pixels make a map of 3 x 3 cells",
            ),
            schedule=StepSchedule(milestones=(7,), warmup_epochs=1),
        ),
        rounds=3,
        first=Segments("masks-0", scale=500.0, min_size=200),
        clusters=Clusters("masks", clusters=(4, 32), resize=96),
    ),
)
