"""R2O: what the network sees as one becomes a region, and regions grow into objects as training goes on.

Gokul et al., Refine and Represent: Region-to-Object Representation Learning, 2022, arXiv 2208.11821.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from typing_extensions import override

from pretrain.data.batches import ImageSource
from pretrain.data.regions import Masks, Superpixels, prepare_masks
from pretrain.data.views import View, ViewSpec, WholeImage
from pretrain.errors import PretrainError
from pretrain.method import MethodInfo
from pretrain.methods.byol import BYOL, BYOLConfig
from pretrain.nets.architectures import stages_of
from pretrain.optim.schedules import CurriculumSchedule, curriculum
from pretrain.parts.clusters import kmeans, start_draws
from pretrain.parts.distributed import mean_where
from pretrain.parts.geometry import warp_soft
from pretrain.parts.losses import embedding_std, full_precision, matching, unit
from pretrain.parts.masks import one_hot, pool
from pretrain.parts.momentum import momentum_at
from pretrain.recipes import LARSConfig, Recipe, SGDConfig, small_recipe


@dataclass(frozen=True)
class R2OConfig(BYOLConfig):
    """R2O as published for ImageNet; the views of its objects are BYOL's."""

    last_bias: bool = True
    momentum: float = 0.99
    superpixels: int = 100
    """Approximate number of superpixels that an image is divided into."""
    superpixel_side: int = 224
    """Side in pixels of the resized image in which superpixels are found."""
    mask_side: int = 56
    """Side of a stored map of superpixels, and of the maps of clusters."""
    whole_size: int = 224
    """Side in pixels of the whole image, as the network sees it whose features are clustered."""
    stage: int = 3
    """Stage of the network, of four, whose features are clustered: `layer3`."""
    clusters: tuple[int, int] = (128, 4)
    """Number of clusters K at the start and at the end."""
    images_together: int = 32
    """Number of images that share their clusters; the batch of a process is a multiple of it, or smaller."""
    iterations: int = 50
    """Number of iterations of k-means; on a CPU it stops when nothing changes any more."""

    @override
    def build(self, backbone: nn.Module | None = None) -> R2O:
        return R2O(self, backbone)


class R2O(BYOL):
    """Region-to-object representation learning.

    Every step groups the superpixels of whole images and then learns from the groups.

    Refinement: the momentum network's features of the whole image are averaged over each superpixel and scaled to
    length 1; k-means divides the superpixels of several images into K clusters. Region k of an image is the union of
    its superpixels in cluster k. K falls from 128 to 4 along a quarter cosine.

    Representation: in the two views, region k is the soft mask m_k on the cells of the backbone's last map. With h_k,
    the sum of the map weighted by m_k over the larger of 1 and the area of m_k, p = predictor(projector(h_k)) of the
    trained and t = projector(h_k) of the momentum network,

        L = mean of |p_k^ - t_k'^|^2

    over both directions and all regions that both views show, with ^ for vectors of length 1; between 0 and 4. The
    heads' batch norm is over all K regions of all images, zeros where a view does not show one, as in the code.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="r2o",
        name="R2O",
        unit="region, by clustering the momentum network's features of superpixels",
        partner="the same region in the other view",
        loss="squared distance of unit vectors",
        second_network="momentum",
        negatives="none",
        paper="arXiv 2208.11821",
        fidelity="code",
        uncertain=(
            "superpixels are kept at 56 x 56 (nearest neighbour) and made once; the code makes them at 224 x 224 for "
            "every view, with the version of scikit-image of its time",
            "all pixels of a superpixel have its cluster; the code mixes the numbers of clusters at borders",
            "superpixels that an image does not have are left out; the code clusters a zero vector for each",
            "regions are aligned with the views exactly; the code is half a pixel of 56 off",
            "views are flipped independently; the code flips both always (a wrong argument)",
            "K and the rate move at every step, where the code's move with epochs",
            "features are clustered after the momentum update of the step before, in the code before it",
            "the mean is over the regions of all processes; in the code over each process's own first",
            "the blur is a Gaussian of any size, where the code cuts it to 23 x 23 pixels",
            "k-means makes 50 iterations; the code's up to 200, until the distances stop falling",
        ),
    )
    config: R2OConfig

    def __init__(self, config: R2OConfig, backbone: nn.Module | None = None) -> None:
        super().__init__(config, backbone)
        whole = ViewSpec("whole", config.whole_size, scale=(1.0, 1.0), interpolation="bicubic", flip=0.0, trained=False)
        self.plan = replace(self.plan, specs=(*self.plan.specs, whole), places=WholeImage(whole.name))
        self.superpixels: Masks | None = None
        self.progress = 0.0
        """Share of all steps that are finished."""

    @override
    def prepare(self, source: ImageSource, folder: Path) -> None:
        """Find the superpixels of every image, or those of an earlier start in `folder`."""
        segmenter = Superpixels(self.config.superpixels, side=self.config.superpixel_side)
        self.superpixels = prepare_masks(source, folder, segmenter, side=self.config.mask_side)

    @property
    def clusters(self) -> int:
        """Number of clusters K of the present step."""
        return curriculum(self.progress, *self.config.clusters)

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """`loss`; for the log `clusters`, K; `shared`, the mean number of regions that both views of an image show.

        Of each image's largest region `positive`, `negative` and `accuracy` of matching predictions with targets, and
        `std`.
        """
        *crops, whole = views
        regions = one_hot(self.regions(whole), self.clusters, whole.box.dtype)
        x = torch.cat([view.pixels for view in crops])
        features = self.backbone(x)
        masks = torch.cat([warp_soft(regions, view, features.shape[-1]) for view in crops])
        h, area = pool(features, masks, least_area=1.0)
        p = unit(self.predictor(self.projector(h.flatten(0, 1))))
        with torch.no_grad():
            h = pool(self.momentum.backbone(x), masks, least_area=1.0)[0]
            t = unit(self.momentum.projector(h.flatten(0, 1)))
        n = len(whole.box)
        p, t, area = p.view(2, n, self.clusters, -1), t.view(2, n, self.clusters, -1).flip(0), area.view(2, n, -1)
        shared = (area > 1e-3).all(0)
        distance = (p - t).square().sum(3).mean(0)
        largest = area.amin(0).argmax(1)[:, None, None].expand(-1, 1, p.shape[3])
        p_1, t_2 = p[0].detach().gather(1, largest)[:, 0], t[0].gather(1, largest)[:, 0]
        self.embeddings = p_1
        return {
            "loss": mean_where(distance.flatten(), shared.flatten()),
            "clusters": distance.detach().new_full((), self.clusters),
            "shared": shared.sum(1).to(distance.dtype).mean(),
            **matching(p_1, t_2),
            "std": embedding_std(p_1),
        }

    @torch.no_grad()
    def regions(self, whole: View) -> Tensor:
        """The region below K of every pixel of the whole images, int64 (N, mask_side, mask_side)."""
        if self.superpixels is None:
            raise PretrainError("R2O needs the images' superpixels: call prepare(source, folder) before training")
        config, n = self.config, len(whole.image_id)
        together = min(n, config.images_together)
        if n % together:
            raise PretrainError(f"{n} images of a process cannot share clusters by {together}: see images_together")
        superpixels = self.superpixels.of(whole.image_id, whole.box.device).long()
        features = stages_of(self.momentum.backbone, whole.pixels)[: config.stage][-1]
        draws = start_draws(n // together, self.clusters).to(whole.box.device, non_blocking=True)
        return refine(superpixels, features, config.superpixels, draws, config.iterations)

    @override
    def found(self, wholes: View) -> Tensor:
        few = range(0, len(wholes.image_id), self.config.images_together)
        parts = [slice(first, first + self.config.images_together) for first in few]
        return torch.cat([self.regions(View(*(part[of] for part in vars(wholes).values()))) for of in parts])

    @override
    def after_step(self, step: int, total_steps: int) -> None:
        super().after_step(step, total_steps)
        self.progress = step / total_steps

    @override
    def momentum_after(self, step: int, total_steps: int) -> float:
        """m of the update after step `step`, which reaches 1 at the last."""
        return momentum_at(step + 1, total_steps, self.config.momentum, self.config.momentum_schedule)

    @override
    def get_extra_state(self) -> Tensor:
        """The share of finished steps, on which K depends, for the state dict."""
        return torch.tensor(self.progress, dtype=torch.float64)

    @override
    def set_extra_state(self, state: Tensor) -> None:
        """Take up the share of finished steps."""
        self.progress = float(state)


@torch.no_grad()
def refine(superpixels: Tensor, features: Tensor, count: int, draws: Tensor, iterations: int) -> Tensor:
    """The cluster of every pixel, int64 (N, S, S), by k-means of the mean features of superpixels.

    `superpixels` int64 (N, S, S) are below `count`, `features` (N, C, h, w) those of the same images; `draws` (G, K)
    start k-means on G times N / G images (see `kmeans`). A cell of `features` belongs to the superpixels of the pixels
    around its center, where masks are sampled bilinearly.
    """
    with torch.autocast(features.device.type, enabled=False):
        x = full_precision(features)
        masks = one_hot(superpixels, count, x.dtype)
        means, _ = pool(x, interpolate(masks, size=x.shape[-2:], mode="bilinear"))
        sets = len(draws)
        there = masks.flatten(2).amax(2).view(sets, -1)
        points = unit(means.flatten(0, 1)).view(sets, -1, x.shape[1])
        labels = kmeans(points, draws.to(x.dtype), valid=there, iterations=iterations).labels
    return labels.view(len(masks), count).gather(1, superpixels.flatten(1)).view_as(superpixels)


METHODS = (R2O,)

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="r2o-imagenet-300ep",
        method=R2OConfig(),
        epochs=300,
        batch_size=4096,
        optimizer=LARSConfig(lr=4.8, momentum=0.9, weight_decay=1e-6, variant="airl"),
        schedule=CurriculumSchedule(per="step", warmup_epochs=3, clusters=R2OConfig().clusters, clusters_of_lr=16.0),
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2208.11821; code KKallidromitis/r2o",
        expected="VOC12 FCN mIoU 77.3; Cityscapes FCN mIoU 76.6; COCO Mask R-CNN FPN box AP 41.7, mask AP 38.3 "
        "(code's README)",
        cost="128 GPUs of 32 images each; superpixels, made once, take 39 core hours (0.11 s per image) and 4.0 GB",
    ),
    small_recipe(
        "r2o-mini",
        R2OConfig(
            backbone="resnet18",
            hidden=512,
            dim=128,
            momentum=0.98,
            superpixels=50,
            superpixel_side=128,
            mask_side=32,
            whole_size=85,
            clusters=(8, 4),
            images_together=16,
            view_size=64,
            crop_scale=(0.2, 1.0),
            blur_sigma=(0.1, 1.0),
        ),
        epochs=30,
        batch_size=32,
        warmup_epochs=2,
        optimizer=SGDConfig(lr=0.12, momentum=0.9, weight_decay=1e-4),
        paper="arXiv 2208.11821; 64 pixels make a map of 2 x 2 cells",
        expected="Cityscapes mIoU by linear probe 31.8 and by nearest cells 34.7, of a random network 28.0 and 28.1; "
        "VOC 6.2 and 5.6, of a random network 5.3 and 4.9 (fp32, 3,000 photographs, 220 and 50 images for evaluation)",
    ),
)
