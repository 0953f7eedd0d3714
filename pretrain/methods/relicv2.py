"""ReLICv2: contrast and invariance over many views, some of them without their background.

Tomasev et al., Pushing the Limits of Self-Supervised ResNets: Can We Outperform Supervised Learning without Labels on
ImageNet?, 2022, arXiv 2201.05119.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from pretrain.data.augment import byol_colours
from pretrain.data.batches import ImageSource
from pretrain.data.regions import Masks, Saliency, prepare_masks
from pretrain.data.views import View, ViewPlan, ViewSpec
from pretrain.errors import PretrainError
from pretrain.method import Method, MethodInfo
from pretrain.nets.architectures import backbone_for, width_of
from pretrain.nets.batchnorm import synchronised
from pretrain.nets.heads import norm_head
from pretrain.parts.distributed import gather, rank, world_size
from pretrain.parts.losses import embedding_std, unit
from pretrain.parts.momentum import Momentum, momentum_at
from pretrain.parts.upload import constant, upload
from pretrain.recipes import CosineSchedule, LARSConfig, Recipe, small_recipe


@dataclass(frozen=True)
class ReLICv2Config:
    """ReLICv2 with the most plausible settings: its pretraining code was not released."""

    backbone: str = "resnet50"
    hidden: int = 4096
    """Width of the hidden layer of projector and predictor."""
    dim: int = 256
    """Width C of a projection."""
    temperature: float = 0.2
    contrastive_weight: float = 1.0
    """alpha, the weight of the contrastive loss."""
    invariance_weight: float = 1.0
    """beta, the weight of the invariance loss."""
    negatives: int = 10
    """Number n_e of other images that are an image's negatives, drawn with replacement."""
    same_crop: bool = True
    """Compare a large crop with its own target, too, as the paper's listing does."""
    momentum: float = 0.996
    large_crops: int = 4
    small_crops: int = 2
    view_size: int = 224
    crop_scale: tuple[float, float] = (0.14, 1.0)
    """Range of a large crop's share of the image area."""
    small_size: int = 96
    small_scale: tuple[float, float] = (0.05, 0.14)
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Range of the blur's standard deviation in pixels of the view."""
    background_removal: float = 0.1
    """Probability p_m that a large crop shows the foreground alone."""
    background_fill: Literal["black", "grey", "mean"] = "grey"
    """Color that replaces the background; `mean` is the plan's mean color."""
    background_sticky: bool = False
    """Follow the paper's listing literally: once an image has lost its background, all its later crops have, too."""

    def build(self, backbone: nn.Module | None = None) -> ReLICv2:
        """The freshly initialized method, on `backbone` if one is given."""
        return ReLICv2(self, backbone)


def relicv2_views(config: ReLICv2Config) -> ViewPlan:
    """Large crops, then small ones, with BYOL's two kinds of color operations in turn."""
    colours = byol_colours(config.blur_sigma)
    crops = [("large", config.view_size, config.crop_scale)] * config.large_crops
    crops += [("small", config.small_size, config.small_scale)] * config.small_crops
    return ViewPlan(
        tuple(
            ViewSpec(name, size, scale, interpolation="bicubic", colour=colours[i % 2])
            for i, (name, size, scale) in enumerate(crops)
        )
    )


class ReLICv2(Method):
    """Representation learning by invariant causal mechanisms, second version.

    o_i = predictor(projector(backbone(x_i))) of every view i, t_j the momentum network's projection of every large
    view j, both of length 1. For an image n, N(n) are n_e other images. Among n and N(n), by the view j,

        P_ij(m) = exp(o_i[n].t_j[m] / T) / sum over m' in {n} and N(n) of exp(o_i[n].t_j[m'] / T).

    The loss is the mean over images, over all views i and large views j, of

        - alpha log P_ij(n) + beta KL(sg P' || P_ij),

    where P' is what another pair of views says of the same images, and should be the same: P_ji where i is large, and
    P_jj where i is small, for which there is no target.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="relicv2",
        name="ReLICv2",
        unit="image",
        partner="the other views",
        loss="InfoNCE and KL between views",
        second_network="momentum",
        negatives="a few of the batch",
        paper="arXiv 2201.05119",
        fidelity="reconstruction",
        gpu_memory="49 / 93",
        uncertain=(
            "the pretraining code was not released; the structure follows the paper's published listing",
            "temperature, both weights, the numbers of crops and negatives, crop areas, heads and optimiser are not "
            "those of the paper as far as can be told",
            "the direction of the KL divergence, and what a small crop is compared with in it",
            "saliency is the geodesic distance to the image's border, where the paper trains a network without labels",
            "the background is replaced after the colour operations, not before cropping, by a colour of our choice",
            "which of BYOL's two kinds of colour a crop gets",
        ),
    )

    def __init__(self, config: ReLICv2Config, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.plan = relicv2_views(config)
        self.backbone = synchronised(backbone_for(config.backbone, backbone))
        width, hidden, dim = width_of(self.backbone), config.hidden, config.dim
        self.projector: nn.Module = synchronised(norm_head(width, hidden, dim, bias=True))
        self.predictor: nn.Module = synchronised(norm_head(dim, hidden, dim, bias=True))
        self.momentum = Momentum(backbone=self.backbone, projector=self.projector)
        self.masks: Masks | None = None

    @override
    def prepare(self, source: ImageSource, folder: Path) -> None:
        """Estimate the foreground of every image, or find what an earlier start estimated in `folder`."""
        if self.config.background_removal:
            self.masks = prepare_masks(source, folder, Saliency())

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """`loss`, its parts `loss_contrastive` and `loss_invariance` without their weights, and for the log, of the
        first large crop with the second's targets: `positive` and `negative`, mean similarities with the image's own
        target and with those of N(n); `accuracy`, the share of images whose own is the most similar; `std`.
        """
        large, tau = self.config.large_crops, self.config.temperature
        x = self.without_background(views[:large]) + [view.pixels for view in views[large:]]
        o = [unit(self.predictor(self.projector(self.backbone(pixels).mean((2, 3))))) for pixels in x]
        with torch.no_grad():
            t = [
                gather(unit(self.momentum.projector(self.momentum.backbone(pixels).mean((2, 3)))))
                for pixels in x[:large]
            ]
            candidates = upload(draw_candidates(len(o[0]), self.config.negatives), o[0].device)

        with torch.autocast(o[0].device.type, enabled=False):

            def log_p(i: int, j: int) -> Tensor:
                return ((o[i][:, None] @ t[j][candidates].transpose(1, 2))[:, 0] / tau).log_softmax(1)

            log_ps = {(i, j): log_p(i, j) for i in range(len(o)) for j in range(large)}
            contrastive, invariance = [], []
            for (i, j), p in log_ps.items():
                if i == j and not self.config.same_crop:
                    continue
                contrastive.append(-p[:, 0].mean())
                reference = log_ps[(j, i) if i < large else (j, j)].detach()
                invariance.append((reference.exp() * (reference - p)).sum(1).mean())
            loss_contrastive, loss_invariance = torch.stack(contrastive).mean(), torch.stack(invariance).mean()
            self.embeddings = o[0].detach()
            similarity = (self.embeddings[:, None] @ t[min(1, large - 1)][candidates].transpose(1, 2))[:, 0]

        own, others = similarity[:, 0], similarity[:, 1:]
        return {
            "loss": self.config.contrastive_weight * loss_contrastive + self.config.invariance_weight * loss_invariance,
            "loss_contrastive": loss_contrastive.detach(),
            "loss_invariance": loss_invariance.detach(),
            "positive": own.mean(),
            "negative": others.mean(),
            "accuracy": (own[:, None] > others).all(1).to(own.dtype).mean(),
            "std": embedding_std(self.embeddings),
        }

    @torch.no_grad()
    def without_background(self, views: Sequence[View]) -> list[Tensor]:
        """Pixels of the large views, some without their background: each by itself with probability p_m."""
        if not self.config.background_removal:
            return [view.pixels for view in views]
        if self.masks is None:
            raise PretrainError("ReLICv2 needs the images' saliency: call prepare(source, folder) before training")
        n = len(views[0].pixels)
        draws = torch.rand(n * world_size(), len(views)).chunk(world_size())[rank()]
        chosen = draws < self.config.background_removal
        if self.config.background_sticky:
            chosen = chosen.cumsum(1) > 0
        fill = self._fill(views[0].pixels)
        found = []
        for view, rows in zip(views, chosen.T, strict=True):
            on_host = rows.nonzero().flatten()
            index = upload(on_host, view.pixels.device)
            pixels = view.pixels.clone()
            part = View(pixels[index], view.box[index], view.flip[index], view.image_id[on_host])
            foreground = self.masks.crop(part, pixels.shape[-1])[:, None] > 0
            pixels[index] = torch.where(foreground, part.pixels, fill)
            found.append(pixels)
        return found

    def _fill(self, like: Tensor) -> Tensor:
        """The color (3, 1, 1) of a removed background as the network sees it."""
        mean, std = (constant(values, like).view(3, 1, 1) for values in (self.plan.mean, self.plan.std))
        colour = {"black": torch.zeros_like(mean), "grey": torch.full_like(mean, 0.5), "mean": mean}
        return (colour[self.config.background_fill] - mean) / std

    @override
    def after_step(self, step: int, total_steps: int) -> None:
        m = momentum_at(step, total_steps, self.config.momentum, "cosine")
        self.momentum.update(m)


def draw_candidates(n: int, negatives: int) -> Tensor:
    """Rows of the global batch among which each image must be found, int64 (n, 1 + negatives): first the image's own
    row, then uniform draws from the others, with replacement. They are drawn for the global batch from PyTorch's CPU
    generator, and each process takes its part.

    Raises:
        PretrainError: there are no other images.
    """
    total = n * world_size()
    if negatives and total < 2:
        raise PretrainError("a batch of one image holds no negatives; choose a larger batch")
    own = torch.arange(total)[:, None]
    others = (own + 1 + torch.randint(total - 1 or 1, (total, negatives))) % total
    return torch.cat([own, others], dim=1).chunk(world_size())[rank()]


METHODS = (ReLICv2,)

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="relicv2-imagenet-1000ep",
        method=ReLICv2Config(),
        epochs=1000,
        batch_size=4096,
        optimizer=LARSConfig(lr=4.8, momentum=0.9, weight_decay=1e-6),
        schedule=CosineSchedule(per="step", warmup_epochs=10),
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2201.05119; a reconstruction",
        expected="the paper's own: ImageNet linear 77.1",
        cost="",
    ),
    small_recipe(
        "relicv2-mini",
        ReLICv2Config(
            backbone="resnet18",
            hidden=512,
            dim=128,
            momentum=0.99,
            large_crops=2,
            view_size=64,
            small_size=32,
            blur_sigma=(0.1, 1.0),
        ),
        epochs=8,
        paper="arXiv 2201.05119",
        images_per_second=49,
    ),
)
