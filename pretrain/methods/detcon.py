"""DetCon: contrast between regions that a heuristic segmentation of the image follows through two views.

Hénaff et al., Efficient Visual Pretraining with Contrastive Detection, ICCV 2021, arXiv 2103.10957.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from pretrain.data.batches import ImageSource
from pretrain.data.regions import Felzenszwalb, Masks, prepare_masks
from pretrain.data.views import View
from pretrain.errors import PretrainError
from pretrain.method import MethodInfo
from pretrain.methods.byol import BYOL, BYOLConfig
from pretrain.parts.distributed import gather, rank
from pretrain.parts.losses import embedding_std, unit
from pretrain.parts.masks import draw_regions, pool
from pretrain.parts.turns import in_turns, rows_at_once
from pretrain.recipes import CosineSchedule, LARSConfig, Recipe, small_recipe


@dataclass(frozen=True)
class RegionContrastConfig(BYOLConfig):
    """What methods that contrast regions as DetCon does share; views, networks and momentum are BYOL's."""

    temperature: float = 0.1
    regions: int = 16
    """Number R of regions drawn from each view, with replacement."""


@dataclass(frozen=True)
class DetConConfig(RegionContrastConfig):
    """DetCon-B as published."""

    mask_scale: float = 1000.0
    """Scale of the segmentation (Felzenszwalb and Huttenlocher)."""
    mask_min_size: int = 1000
    """Smallest region in pixels of the image."""
    mask_side: int = 64
    """Side of a stored label map in pixels."""

    @override
    def build(self, backbone: nn.Module | None = None) -> DetCon:
        return DetCon(self, backbone)


class RegionContrast(BYOL):
    """A region's embedding must find those of the same region in the other view.

    A region is a label m of a segmentation of the image, seen on the cells of the backbone's last map. From each view R
    regions are drawn among those that it shows; h_m is the mean of the map over region m, p = predictor(projector(h_m))
    the trained network's and t = projector(h_m) the momentum network's embedding of it, both of length 1. For a
    region m of view 1 of image a,

        l(a, m) = - mean over t+ of log( exp(p.t+ / T) / sum_t exp(p.t / T) ),

    where t+ are those of the same region in view 2 of image a, and t runs over all regions of both views of all images
    but region m itself in view 1. L is the mean over regions drawn, each weighted by one over how often it was drawn
    and 0 where view 2 does not show it, plus the same with the views exchanged.
    """

    config: RegionContrastConfig

    def __init__(self, config: RegionContrastConfig, backbone: nn.Module | None = None) -> None:
        super().__init__(config, backbone)
        if config.regions < 1:
            raise PretrainError(f"{config.regions} regions of each view cannot be drawn; change method.regions")

    def contrast(self, views: Sequence[View], cells_of: Callable[[View, int], Tensor]) -> dict[str, Tensor]:
        """The `loss` of two views, where `cells_of`(view, size) gives the label of each cell, int64 (N, size, size).

        For the log `positive` and `negative`, mean similarities of predictions with their region's and with all
        targets; `accuracy`, the share of regions in both views whose nearest target is their own; `shared`, the share
        of drawn regions that are in both views; `shown`, the mean number of regions in a view; `std`.
        """
        predictions, targets, ids, shown = [], [], [], []
        for view in views:
            features = self.backbone(view.pixels)
            cells = cells_of(view, features.shape[-1])
            drawn, count = draw_regions(cells, self.config.regions)
            masks = cells[:, None] == drawn[:, :, None, None]
            predictions.append(unit(self.predictor(self.projector(pool(features, masks)[0].flatten(0, 1)))))
            with torch.no_grad():
                h = pool(self.momentum.backbone(view.pixels), masks)[0]
                targets.append(gather(unit(self.momentum.projector(h.flatten(0, 1))).view(*drawn.shape, -1)))
            ids.append(drawn)
            shown.append(count)
        p_1, p_2 = (p.view(*ids[0].shape, -1) for p in predictions)
        tau = self.config.temperature
        first = region_loss(p_1, targets[1], targets[0], ids[0], ids[1], tau)
        second = region_loss(p_2, targets[0], targets[1], ids[1], ids[0], tau)
        self.embeddings = p_1.detach().flatten(0, 1)
        return {
            "loss": first["loss"] + second["loss"],
            **{key: (first[key] + second[key]) / 2 for key in first if key != "loss"},
            "shown": torch.stack(shown).to(p_1.dtype).mean(),
            "std": embedding_std(self.embeddings),
        }


class DetCon(RegionContrast):
    """DetCon-B: the regions are those of Felzenszwalb and Huttenlocher's segmentation, made once for every image."""

    info: ClassVar[MethodInfo] = MethodInfo(
        id="detcon",
        name="DetCon-B",
        unit="region",
        partner="the same region in the other view",
        loss="InfoNCE",
        second_network="momentum",
        negatives="regions of the batch",
        paper="arXiv 2103.10957",
        fidelity="code",
        gpu_memory="22 to 25 / 41 to 45",
        uncertain=(
            *BYOL.info.uncertain,
            "label maps are kept at 64 x 64, where the code keeps them at the image's size",
            "the code's configuration names 10 epochs of warm-up, but it uses 1 % of all, as the recipes here",
        ),
    )
    config: DetConConfig

    def __init__(self, config: DetConConfig, backbone: nn.Module | None = None) -> None:
        super().__init__(config, backbone)
        self.masks: Masks | None = None

    @override
    def prepare(self, source: ImageSource, folder: Path) -> None:
        """Segment every image, or find the segmentations of an earlier start in `folder`."""
        segmenter = Felzenszwalb(scale=self.config.mask_scale, min_size=self.config.mask_min_size)
        self.masks = prepare_masks(source, folder, segmenter, side=self.config.mask_side)

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """`loss`, and what the log tells of it: see `RegionContrast.contrast`."""
        if self.masks is None:
            raise PretrainError("DetCon needs the images' segmentations: call prepare(source, folder) before training")
        return self.contrast(views, self.masks.cells)


def region_loss(
    p: Tensor,
    other: Tensor,
    same: Tensor,
    ids: Tensor,
    other_ids: Tensor,
    tau: float,
    same_ids: Tensor | None = None,
) -> dict[str, Tensor]:
    """One direction of the loss, and its scalars for the log (see `DetCon`).

    `p` (n, R, C) are this process's predictions of one view, `ids` and `other_ids` (n, R) the labels of its regions
    and of the other view's; `other` and `same` (B, R, C) the targets of the other and of the same view, of all
    processes; `same_ids` (n, R) the labels of the latter of these images, if they are not `ids`. The n R x 2 B R logits
    are held for a part of the images at a time.
    """
    n, regions = ids.shape
    start = rank() * n
    with torch.autocast(p.device.type, enabled=False):
        match = ids[:, :, None] == other_ids[:, None]
        itself = ids[:, :, None] == (ids if same_ids is None else same_ids)[:, None]
        own = torch.arange(start, start + n, device=p.device)
        images = rows_at_once(regions * 2 * other.shape[0] * regions)
        parts = in_turns(partial(_log_sums, other, same, tau), images, p, itself, match, own)
        sums, largest = zip(*parts, strict=True)
        similarity = p @ other[start : start + n].transpose(1, 2)
        positive = (similarity * match).sum(2) / match.sum(2).clamp(min=1)
        shared = match.any(2)
        weight = shared.to(p.dtype) / (ids[:, :, None] == ids[:, None]).sum(2)
        loss = (weight * (torch.cat(sums) - positive / tau)).mean()
        with torch.no_grad():
            nearest = similarity.masked_fill(~match, -torch.inf).amax(2) / tau > torch.cat(largest)
            total = weight.sum().clamp(min=1e-9)
            return {
                "loss": loss,
                "positive": (weight * positive).sum() / total,
                "negative": p.mean((0, 1)) @ (other.mean((0, 1)) + same.mean((0, 1))) / 2,
                "accuracy": (weight * nearest).sum() / total,
                "shared": shared.to(p.dtype).mean(),
            }


def _log_sums(
    other: Tensor, same: Tensor, tau: float, p: Tensor, itself: Tensor, match: Tensor, own: Tensor
) -> tuple[Tensor, Tensor]:
    """For the images at places `own` (n,) in the batch: log sum exp of each prediction's logits (n, R), and the largest
    logit (n, R) of a region other than its own. `itself` and `match` (n, R, R) mark its own region among those of its
    image in the same and in the other view.
    """
    n, regions, _ = p.shape
    rows = p.flatten(0, 1) / tau
    others = (rows @ other.flatten(0, 1).T).view(n, regions, -1)
    sames = (rows @ same.flatten(0, 1).T).view(n, regions, -1, regions)
    i = torch.arange(n, device=p.device)
    sames[i, :, own] = sames[i, :, own].masked_fill(itself, -torch.inf)
    logits = torch.cat([others, sames.flatten(2)], dim=2)
    rivals = others.detach().view(n, regions, -1, regions).clone()
    rivals[i, :, own] = rivals[i, :, own].masked_fill(match, -torch.inf)
    return logits.logsumexp(2), torch.maximum(rivals.flatten(2).amax(2), sames.detach().flatten(2).amax(2))


METHODS = (DetCon,)


def _imagenet(epochs: int, expected: str) -> Recipe:
    """The code's recipe: BYOL's inputs, blocks that start as identities, a warm-up of 1 % of the epochs."""
    return Recipe(
        name=f"detcon-imagenet-{epochs}ep",
        method=DetConConfig(zero_init_residual=True, inputs="byol"),
        epochs=epochs,
        batch_size=4096,
        optimizer=LARSConfig(lr=3.2, momentum=0.9, weight_decay=1.5e-6),
        schedule=CosineSchedule(per="step", warmup_epochs=epochs // 100),
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2103.10957; code deepmind/detcon",
        expected=expected,
    )


RECIPES: tuple[Recipe, ...] = (
    _imagenet(
        300,
        "COCO Mask R-CNN FPN 12 epochs box AP 42.0, mask AP 37.8 (from memory, not verified); 41.5, 38.3 and "
        "Cityscapes 76.2 with the PyTorch version of Kallidromitis et al. (lr 4.8, weight decay 1e-6, momentum .99)",
    ),
    _imagenet(1000, "COCO Mask R-CNN box AP 42.7, mask AP 38.2 (from memory, not verified)"),
    small_recipe(
        "detcon-mini",
        DetConConfig(
            backbone="resnet18",
            hidden=512,
            dim=128,
            momentum=0.99,
            regions=8,
            mask_scale=500.0,
            mask_min_size=200,
            view_size=96,
            blur_sigma=(0.1, 1.0),
        ),
        epochs=6,
        paper="arXiv 2103.10957; 96 pixels make a map of 3 x 3 cells",
        images_per_second=31,
    ),
)
