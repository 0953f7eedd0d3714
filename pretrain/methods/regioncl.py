"""RegionCL: the parts of a swapped composite, each pulled to the image that it comes from.

Xu et al., RegionCL: Exploring Contrastive Region Pairs for Self-Supervised Representation Learning, ECCV 2022,
arXiv 2111.12309.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from pretrain.data.views import View
from pretrain.errors import PretrainError
from pretrain.method import Addition, EmbeddingMethod, MethodInfo
from pretrain.methods.densecl import MINI as DENSECL_MINI
from pretrain.methods.densecl import DenseCLConfig
from pretrain.methods.moco import MINI as MOCO_MINI
from pretrain.methods.moco import PAPER_COSINE, MoCoConfig, splits_per_process
from pretrain.methods.simsiam import MINI as SIMSIAM_MINI
from pretrain.methods.simsiam import SimSiamConfig
from pretrain.parts.losses import full_precision
from pretrain.parts.upload import upload
from pretrain.recipes import Recipe, SGDConfig, small_recipe


@dataclass(frozen=True)
class RegionCLConfig:
    """RegionCL as published, on MoCo v2 (RegionCL-M) unless `base` says otherwise."""

    base: MoCoConfig | DenseCLConfig | SimSiamConfig = field(default_factory=lambda: MoCoConfig(init="openselfsup"))
    """The method to which the region term is added; DenseCL gives RegionCL-D, SimSiam RegionCL-S."""
    region_cells: tuple[int, int] = (3, 5)
    """Smallest and largest side of the swapped region in cells of the last map (7 x 7 at 224)."""
    region_weight: float = 1.0
    """Weight of the region term; that of the base's loss is 1."""
    stride: int = 32
    """Pixels per cell in each direction."""
    swap_parts: int = 8
    """Number of parts of the global batch within which images swap, like the paper's devices; at least one per
    process."""
    legacy_offset: bool = False
    """Place regions as the released code does, which clamps their corner: depending on the size, 64 to 92 % of them
    begin at the last possible cell, and the pixels of clamped regions are one cell less one pixel off their cells."""

    @property
    def backbone(self) -> str:
        """Architecture of the base's backbone."""
        return self.base.backbone

    def build(self, backbone: nn.Module | None = None) -> RegionCL:
        """The freshly initialized method, on `backbone` if one is given."""
        return RegionCL(self, backbone)


class RegionCL(Addition[EmbeddingMethod]):
    """Swap one region between the images of a batch; canvas and paste are each told from everything else.

    The composite of image b is its query view with the region replaced by that of its partner b', who receives b's in
    turn. Of its map, the mean over the cells outside the region is the canvas embedding c_b, which belongs to image b;
    the mean inside is the paste p_b, which belongs to b'. Both go through the base's head and are normalized. With the
    base's keys k (of the other view, never swapped) and queue Q,

        L_region = 1/2B sum_b InfoNCE(c_b; k_b, Q + {sg p_b}) + InfoNCE(p_b; k_b', Q + {sg c_b}),
        L = L_base + L_region.

    Nothing of the composites is queued. On SimSiam, c and p are predictions of the averaged cells, z the projections
    of the other view, and L_region = -1/2B sum_b cos(c_b, sg z_b) + cos(p_b, sg z_b').

    One region is drawn a step, and a partner is the image's mirror in its part of the batch. The composites are a
    forward pass of their own, so the batch norm of the query network sees one batch more a step.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="regioncl",
        name="RegionCL",
        unit="image and region",
        partner="the other view of the region's own image",
        loss="the base's; InfoNCE of regions",
        second_network="momentum",
        negatives="queue; the other part of the composite",
        paper="arXiv 2111.12309",
        fidelity="code",
        gpu_memory="up to 32 / 62, on SimSiam",
        uncertain=(
            "only the form on MoCo v2 was released; those on DenseCL and SimSiam follow the paper's description",
            "the released code names a second loss head but never builds it: here InfoNCE with the same temperature",
            "released regions are clamped: 64 to 92 % begin at the last cell left, and in 87 % of steps they miss "
            "their cells; here they fit and begin anywhere alike, unless `legacy_offset` is set",
            "the published runs draw one region a device and step, here all devices share one",
        ),
    )

    def __init__(self, config: RegionCLConfig, backbone: nn.Module | None = None) -> None:
        base = config.base.build(backbone)
        super().__init__(base)
        self.config = config
        self.parts = splits_per_process(config.swap_parts)
        """Number of parts of this process's batch within which images swap."""
        letter = {"simsiam": "S", "densecl": "D"}.get(base.info.id, "M")
        self.info = replace(type(self).info, name=f"RegionCL-{letter}")  # type: ignore[misc]
        side, rest = divmod(self.plan.specs[0].size, config.stride)
        low, high = config.region_cells
        if rest or not 1 <= low <= high < side:
            raise PretrainError(
                f"regions of {low} to {high} cells of {config.stride} pixels do not fit into views of "
                f"{self.plan.specs[0].size} pixels, which must be whole cells and larger than any region; "
                "set method.region_cells or method.base.view_size"
            )
        self.side = side
        """Number of cells along a side of a view."""

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """The base's result with `loss_base`, `loss_region` and the region term's similarities and accuracy.

        `loss` is the weighted sum; `region_other` is the mean cosine of the two parts of a composite.
        """
        config = self.config
        region = draw_region(self.side, config.region_cells, config.stride, legacy=config.legacy_offset)
        x = views[0].pixels
        partner = partners(len(x), self.parts).to(x.device, non_blocking=True)
        out = self.base(views)
        terms = self.region_terms(self.base.embed(self.regions(x, partner, region)), partner)
        self.embeddings = self.base.embeddings
        return {
            **out,
            "loss": out["loss"] + config.region_weight * terms["loss_region"],
            "loss_base": out["loss"].detach(),
            **{name: value.detach() for name, value in terms.items()},
        }

    def region_terms(self, embedded: Tensor, partner: Tensor) -> dict[str, Tensor]:
        """L_region of the embeddings (2 N, C) of canvases and pastes, and scalars for the log."""
        k = self.base.targets
        if k is None:
            raise RuntimeError("the base left no targets of this step")
        c, p = embedded.chunk(2)
        terms = self.base.compare(embedded, torch.cat((k, k[partner])), torch.cat((p, c)).detach()[:, None])
        loss = terms.pop("loss")
        return {
            "loss_region": loss,
            **{f"region_{name}": value for name, value in terms.items()},
            "region_other": (c * p).sum(1).mean(),
        }

    def regions(self, x: Tensor, partner: Tensor, region: Region) -> Tensor:
        """Averages of the composites' maps: (2 N, width), first of the canvases, then of the pastes."""
        maps = self.backbone(composite(x, partner, region))
        if maps.shape[2:] != (self.side, self.side):
            raise PretrainError(
                f"the backbone gives maps of {tuple(maps.shape[2:])} cells for views of {self.side} cells of "
                f"{self.config.stride} pixels; set method.stride to the backbone's"
            )
        return torch.cat(canvas_and_paste(maps, region))


class Region(NamedTuple):
    """A rectangle in cells and in pixels, each as left, top, right, bottom; right and bottom are past its end."""

    cells: tuple[int, int, int, int]
    pixels: tuple[int, int, int, int]


def draw_region(side: int, sizes: tuple[int, int], stride: int, *, legacy: bool = False) -> Region:
    """A region of a view of `side` x `side` cells, from PyTorch's global generator on the CPU.

    Width and height are uniform in `sizes` (inclusive), independent. The start cell is uniform where the region fits.
    With `legacy`, the start pixel is a uniform pixel rounded to a cell's border and clamped to one less than fits, so
    that the last cell at which a region would fit is never a start, and the one before it is most often.
    """
    starts, ends, first, last = [], [], [], []
    for _ in range(2):
        size = int(torch.randint(sizes[0], sizes[1] + 1, ()))
        if legacy:
            pixel = round(int(torch.randint(side * stride, ())) / stride) * stride
            pixel = min(pixel, (side - size) * stride - 1)
        else:
            pixel = int(torch.randint(side - size + 1, ())) * stride
        starts.append(pixel // stride)
        ends.append(pixel // stride + size)
        first.append(pixel)
        last.append(pixel + size * stride)
    return Region(cells=(*starts, *ends), pixels=(*first, *last))  # type: ignore[arg-type]  # two values each


def partners(n: int, parts: int) -> Tensor:
    """Each image's partner, int64 (n,): each of `parts` equal parts of a batch of n in reverse order, its own inverse.

    In a part of odd length the middle image is its own partner, as in the released code.
    Raises `PretrainError` if the batch cannot be divided into such parts.
    """
    if n % parts:
        raise PretrainError(
            f"a batch of {n} images cannot be cut into {parts} equal parts that swap regions; "
            "choose a batch size per process that is a multiple, or another method.swap_parts"
        )
    return torch.arange(n).view(parts, -1).flip(1).flatten()


def composite(x: Tensor, partner: Tensor, region: Region) -> Tensor:
    """Views (N, 3, S, S) with the region's pixels taken from each one's partner."""
    left, top, right, bottom = region.pixels
    mixed = x.clone()
    mixed[:, :, top:bottom, left:right] = x[partner, :, top:bottom, left:right]
    return mixed


def canvas_and_paste(B: Tensor, region: Region) -> tuple[Tensor, Tensor]:  # noqa: N803 - a map
    """Means of maps (N, C, S, S) over the cells outside the region and inside it, in full precision: (N, C) each."""
    left, top, right, bottom = region.cells
    outside = torch.ones(B.shape[2:], dtype=torch.bool)
    outside[top:bottom, left:right] = False
    # By indices, which the host knows: with a mask on the device, the host would have to wait for their number.
    rows, columns = (upload(places, B.device) for places in outside.nonzero(as_tuple=True))
    cells = full_precision(B)
    return cells[:, :, rows, columns].mean(2), cells[:, :, top:bottom, left:right].mean((2, 3))


METHODS = (RegionCL,)

PAPER_SGD = SGDConfig(lr=0.15, momentum=0.9, weight_decay=1e-4)
FIXED = ("base.predictor.",)
"""The predictor, whose learning rate stays at the base rate, as in SimSiam."""
_MINI_PAPER = "arXiv 2111.12309; views of 96 pixels, so that a region has a surrounding"


def _mini(base: MoCoConfig | DenseCLConfig | SimSiamConfig) -> RegionCLConfig:
    return RegionCLConfig(base=replace(base, view_size=96), region_cells=(1, 2), swap_parts=2)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="regioncl-m-imagenet-200ep",
        method=RegionCLConfig(),
        epochs=200,
        batch_size=1024,
        optimizer=PAPER_SGD,
        schedule=PAPER_COSINE,
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2111.12309; code Annbless/RegionCL, settings from its training log",
        expected="ImageNet linear 69.4; COCO Mask R-CNN FPN 1x 40.1 box, 36.3 mask; C4 1x 39.8, 34.8 (code's README)",
        cost="8 A100-40G: about 31 hours (code's log)",
    ),
    Recipe(
        name="regioncl-d-imagenet-200ep",
        method=RegionCLConfig(base=DenseCLConfig(init="openselfsup")),
        epochs=200,
        batch_size=1024,
        optimizer=PAPER_SGD,
        schedule=PAPER_COSINE,
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2111.12309; the optimiser is that of the form on MoCo v2",
        expected="ImageNet linear 68.5; COCO Mask R-CNN FPN 1x 40.4 box, 36.7 mask; C4 1x 40.3, 35.2 (code's README)",
        cost="not published",
    ),
    Recipe(
        name="regioncl-s-imagenet-200ep",
        method=RegionCLConfig(base=SimSiamConfig()),
        epochs=200,
        batch_size=512,
        optimizer=SGDConfig(lr=0.1, momentum=0.9, weight_decay=1e-4, fixed_lr=FIXED),
        schedule=PAPER_COSINE,
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2111.12309; the optimiser is SimSiam's, the number of epochs that of the form on MoCo v2",
        expected="ImageNet linear 71.3; COCO Mask R-CNN FPN 1x 38.8 box, 35.2 mask; C4 1x 38.7, 33.7 (code's README)",
        cost="not published",
    ),
    small_recipe("regioncl-mini", _mini(MOCO_MINI), epochs=6, paper=_MINI_PAPER, images_per_second=36),
    small_recipe(
        "regioncl-d-mini",
        _mini(DENSECL_MINI),
        epochs=6,
        paper=f"{_MINI_PAPER}; single cells as dense negatives, not their means",
        images_per_second=36,
    ),
    small_recipe(
        "regioncl-s-mini",
        _mini(SIMSIAM_MINI),
        epochs=10,
        batch_size=32,
        optimizer=SGDConfig(lr=0.03, momentum=0.9, weight_decay=5e-4, fixed_lr=FIXED),
        paper=_MINI_PAPER,
        images_per_second=27,
    ),
)
