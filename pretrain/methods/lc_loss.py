"""LC-loss: a contrastive loss between corresponding cells of two views, added to an image-level method.

Islam et al., Self-supervised Learning with Local Contrastive Loss for Detection and Semantic Segmentation, WACV 2023,
arXiv 2207.04398. No code was published; details that the paper's first pages do not give are our reading.
"""

# ruff: noqa: N803, N806 - the paper's symbols

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from pretrain.data.views import View
from pretrain.errors import PretrainError
from pretrain.method import Addition, MapMethod, MethodInfo
from pretrain.methods.byol import MINI as BYOL_MINI
from pretrain.methods.byol import BYOLConfig
from pretrain.methods.moco import MINI as MOCO_MINI
from pretrain.methods.moco import PAPER_COSINE, PAPER_SGD, MoCoConfig
from pretrain.nets.architectures import width_of
from pretrain.nets.batchnorm import synchronised
from pretrain.nets.heads import norm_head
from pretrain.parts.distributed import mean_where
from pretrain.parts.geometry import Placed, align, between, inside, view_centres
from pretrain.parts.losses import full_precision, unit
from pretrain.parts.momentum import Momentum
from pretrain.recipes import CosineSchedule, LARSConfig, Recipe, SGDConfig, small_recipe


@dataclass(frozen=True)
class LCLossConfig:
    """The local loss on BYOL, as in the paper, or on MoCo v2; everything but the base is our reading."""

    base: BYOLConfig | MoCoConfig = field(default_factory=BYOLConfig)
    """The method to which the local loss is added."""
    local_weight: float = 0.1
    """alpha, the weight of the local loss; the published value is unknown."""
    local_hidden: int = 2048
    local_dim: int = 256
    """Width C of a cell's embedding."""
    local_temperature: float = 0.1
    local_predictor: bool = False
    """Whether the trained side has a predictor of the same form."""
    match: Literal["bilinear", "nearest"] = "bilinear"
    """The positive: the target map interpolated at the mapped point, or its cell there."""

    @property
    def backbone(self) -> str:
        """Architecture of the base's backbone."""
        return self.base.backbone

    def build(self, backbone: nn.Module | None = None) -> LCLoss:
        """The freshly initialized method, on `backbone` if one is given."""
        return LCLoss(self, backbone)


class LCLoss(Addition[MapMethod]):
    """Every cell must find the place of the other view that shows the same pixels, among the other cells there.

    F is the local projection of a view's last map by the trained network, T that of the other view by the momentum
    network; cells of both have length 1. A cell s whose center lies in the other view, at the point x(s) of it, is in
    V; y(s) is T there. Omega(s) are the cells of the same image's T, less those whose center is within one cell's
    width of x(s).

        L_LC = -1/|V| sum over s in V of log( e^{F_s.y(s)/T} / (e^{F_s.y(s)/T} + sum over t in Omega(s) e^{F_s.T_t/T}) )
        L = L_base + alpha L_LC

    averaged over the images with cells in V. On BYOL it is the mean over both directions, beside L_BYOL, which is their
    sum; on MoCo v2, from query to key. Targets carry no gradient.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="lc-loss",
        name="LC-loss",
        unit="image and cell",
        partner="the other view; the same place in it",
        loss="the base's; InfoNCE over the cells of an image",
        second_network="momentum",
        negatives="the base's; other cells of the image",
        paper="arXiv 2207.04398",
        fidelity="reconstruction",
        gpu_memory="22 to 25 / 41 to 45",
        uncertain=(
            "known from the paper: a local contrast between corresponding pixels of two views, added to BYOL",
            "weight, temperature, head, negatives and the rule that leaves out near cells are our reading",
            "whether the local branch has a predictor: `local_predictor`",
            "the positive is interpolated before it is normalised",
            "on BYOL, whose own loss adds both directions, the local loss is their mean",
            "the form on MoCo v2 is ours",
        ),
    )

    def __init__(self, config: LCLossConfig, backbone: nn.Module | None = None) -> None:
        base = config.base.build(backbone)
        if type(base).forward is not MapMethod.forward:
            raise PretrainError(
                f"the local loss cannot be added to {base.info.name}, whose loss needs more than two maps"
            )
        super().__init__(base)
        self.config = config
        self.info = replace(type(self).info, name=f"{base.info.name} + LC-loss")  # type: ignore[misc]
        width = width_of(base.backbone)
        self.local_head = synchronised(
            norm_head(width, config.local_hidden, config.local_dim, last_bias=True, dense=True)
        )
        self.momentum = Momentum(local_head=self.local_head)
        predictor = norm_head(config.local_dim, config.local_hidden, config.local_dim, last_bias=True, dense=True)
        self.local_predictor: nn.Module = synchronised(predictor) if config.local_predictor else nn.Identity()

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """The base's result with `loss_base`, `loss_local` and the local `positive` and `accuracy`.

        `local_valid` is the share of cells with a partner.
        """
        maps = self.base.maps(views)
        out = self.base.image_loss(maps)
        local = [
            self.local_loss(online, target, views[i], views[1 - i])
            for i, (online, target) in enumerate(zip(maps.online, reversed(maps.target), strict=True))
            if online is not None and target is not None
        ]
        self.embeddings = self.base.embeddings
        loss_local = torch.stack([part.loss for part in local]).mean()
        return {
            **out,
            "loss": out["loss"] + self.config.local_weight * loss_local,
            "loss_base": out["loss"].detach(),
            "loss_local": loss_local.detach(),
            "local_positive": torch.stack([part.positive for part in local]).mean(),
            "local_accuracy": torch.stack([part.accuracy for part in local]).mean(),
            "local_valid": torch.stack([part.valid for part in local]).mean(),
        }

    def local_loss(self, online: Tensor, target: Tensor, view: View, other: View) -> Local:
        """L_LC from the maps (N, width, S, S) of `view` by the backbone and of `other` by the momentum backbone."""
        F = unit(self.local_predictor(self.local_head(online)))
        with torch.no_grad():
            T = full_precision(self.momentum.local_head(target))
            x = mapped_centres(view, other, F.shape[2])
            if self.config.match == "bilinear":
                y, _ = align(T, other, view, F.shape[2])
            else:
                y = at_cells(T, x)
        return local_contrast(F, unit(T), unit(y), x.to(F.dtype), self.config.local_temperature)

    @override
    def after_step(self, step: int, total_steps: int) -> None:
        """Update what the base updates, and the momentum local head with the same momentum."""
        super().after_step(step, total_steps)
        self.momentum.update(self.base.momentum_after(step, total_steps))


class Local(NamedTuple):
    """L_LC, and for the log the mean similarity of positives, their top-1 and the share of cells with a partner."""

    loss: Tensor
    positive: Tensor
    accuracy: Tensor
    valid: Tensor


def mapped_centres(view: Placed, other: Placed, size: int) -> Tensor:
    """The points x(s): centers of the cells of `view` in coordinates of `other`, (N, size, size, 2)."""
    return between(view_centres(size, view.box).expand(len(view.box), -1, -1, -1), view, other)


def at_cells(T: Tensor, x: Tensor) -> Tensor:
    """The cells of maps (N, C, S, S) in which points (N, R, R, 2) fall, the nearest outside: (N, C, R, R)."""
    size = T.shape[2]
    column, row = (x * size).long().clamp_(0, size - 1).unbind(-1)
    index = (row * size + column).flatten(1)
    return T.flatten(2).gather(2, index[:, None].expand(-1, T.shape[1], -1)).view(*T.shape[:2], *x.shape[1:3])


def local_contrast(F: Tensor, T: Tensor, y: Tensor, x: Tensor, temperature: float) -> Local:
    """L_LC of unit maps F, T and y (N, C, S, S) and mapped centers x (N, S, S, 2) in view coordinates.

    In full precision also under autocast. Without any valid cell the loss is 0. Over several processes the mean is
    that over all their images, once gradients and losses are averaged over processes.
    """
    size = F.shape[2]
    valid = inside(x).flatten(1)
    centres = view_centres(size, x).flatten(0, 1)
    near = torch.cdist(x.flatten(1, 2), centres.expand(len(x), -1, -1), compute_mode="donot_use_mm_for_euclid_dist")
    with torch.autocast(F.device.type, enabled=False):
        F, T, y = (full_precision(maps).flatten(2) for maps in (F, T, y))
        positive = (F * y).sum(1)
        negatives = (F.transpose(1, 2) @ T).masked_fill(near * size < 1, -torch.inf)
        logits = torch.cat((positive[:, :, None], negatives), dim=2) / temperature
        loss = torch.where(valid, logits.logsumexp(2) - logits[:, :, 0], 0.0).sum(1)
        cells = valid.sum(1)
        loss = mean_where(loss / cells.clamp(min=1), cells > 0)
        found = valid & (positive.detach() > negatives.detach().amax(2))
    return Local(
        loss=loss,
        positive=(positive.detach() * valid).sum() / cells.sum().clamp(min=1),
        accuracy=found.sum() / cells.sum().clamp(min=1),
        valid=valid.to(F.dtype).mean(),
    )


METHODS = (LCLoss,)

_MINI_PAPER = "arXiv 2207.04398; views of 96 pixels, so that a map has cells to tell apart"

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="lc-loss-imagenet-200ep",
        method=LCLossConfig(),
        epochs=200,
        batch_size=4096,
        optimizer=LARSConfig(lr=3.2, momentum=0.9, weight_decay=1.5e-6, variant="byol"),
        schedule=CosineSchedule(per="step", warmup_epochs=10),
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2207.04398; the optimiser is that of BYOL with 200 epochs in the DenseCL code",
        expected="COCO box AP 40.6, VOC box AP 60.1, VOC mIoU 72.1, Cityscapes mIoU 77.8 (paper; settings unknown)",
        cost="not published",
    ),
    Recipe(
        name="lc-loss-moco-v2-imagenet-200ep",
        method=LCLossConfig(base=MoCoConfig()),
        epochs=200,
        batch_size=256,
        optimizer=PAPER_SGD,
        schedule=PAPER_COSINE,
        data="ImageNet-1k train, 1.28 M images",
        paper="the loss of arXiv 2207.04398 on MoCo v2, arXiv 2003.04297",
        cost="not published",
    ),
    small_recipe(
        "lc-loss-mini",
        LCLossConfig(
            base=replace(BYOL_MINI, view_size=96, crop_scale=(0.2, 1.0)),
            local_hidden=512,
            local_dim=128,
        ),
        epochs=10,
        batch_size=32,
        optimizer=SGDConfig(lr=0.03, momentum=0.9, weight_decay=5e-4),
        paper=_MINI_PAPER,
        images_per_second=30,
    ),
    small_recipe(
        "lc-loss-moco-v2-mini",
        LCLossConfig(
            base=replace(MOCO_MINI, view_size=96),
            local_hidden=512,
            local_dim=128,
        ),
        epochs=6,
        paper=_MINI_PAPER,
        images_per_second=49,
    ),
)
