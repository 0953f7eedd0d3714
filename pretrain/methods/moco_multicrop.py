"""MoCo with constrained multi-crop, stronger augmentation and nearest neighbors, for uncurated images.

Van Gansbeke, Vandenhende, Georgoulis and Van Gool, Revisiting Contrastive Methods for Unsupervised Learning of Visual
Representations, NeurIPS 2021, arXiv 2106.05967.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from pretrain.data.augment import ColourOp, moco_v2_colour
from pretrain.data.views import View, ViewPlan, ViewSpec
from pretrain.errors import PretrainError
from pretrain.method import MethodInfo
from pretrain.methods.moco import COCO_SGD, PAPER_COSINE, MoCo, MoCoConfig
from pretrain.nets.architectures import width_of
from pretrain.parts.distributed import gather
from pretrain.parts.losses import embedding_std, info_nce, unit
from pretrain.parts.queues import Queue, nearest
from pretrain.recipes import Recipe, small_recipe


@dataclass(frozen=True)
class MoCoMultiCropConfig(MoCoConfig):
    """Settings as published for COCO. Each of the three additions has a switch; without them and with `view_size=224`,
    it is MoCo v2."""

    momentum: float = 0.995
    view_size: int = 160
    small_crops: int = 4
    """Number of small crops of an image, which are queries like its large one; 0 switches multi-crop off."""
    small_size: int = 96
    """Side of a small crop in pixels."""
    small_scale: tuple[float, float] = (0.05, 0.14)
    """Range of a small crop's share of the image area."""
    overlap: float = 0.1
    """Smallest share of a small crop's area that lies in the key's crop; with 0 it may lie anywhere."""
    autoaugment: float = 0.5
    """Probability that AutoAugment replaces MoCo v2's color operations, in all crops except the key's; 0 switches it
    off."""
    neighbour_weight: float = 0.4
    """Weight of the loss that pulls a query to its nearest neighbors; 0 switches it and the second queue off."""
    neighbours: int = 20
    """Number of nearest neighbors of a query."""
    neighbour_warmup: float = 0.025
    """Share of all steps before that loss counts: 5 of 200 epochs. The second queue starts with random vectors."""

    @override
    def build(self, backbone: nn.Module | None = None) -> MoCoMultiCrop:
        return MoCoMultiCrop(self, backbone)


def multi_crop_views(config: MoCoMultiCropConfig) -> ViewPlan:
    """The large query, the key, then the small queries."""
    mild = moco_v2_colour(config.blur_sigma)
    strong: tuple[ColourOp, ...] = mild
    if config.autoaugment:
        from pretrain.data.autoaugment import AutoAugment, Either  # needs torchvision, which takes seconds to import

        strong = (Either((AutoAugment(),), mild, config.autoaugment),)
    large = ViewSpec("query", size=config.view_size, scale=config.crop_scale, flip=0.5, colour=strong)
    small = ViewSpec(
        "small",
        size=config.small_size,
        scale=config.small_scale,
        flip=0.5,
        colour=strong,
        overlap=("key", config.overlap) if config.overlap else None,
    )
    smalls = (replace(small, name=f"small {i + 1}") for i in range(config.small_crops))
    return ViewPlan((large, replace(large, name="key", colour=mild), *smalls))


class MoCoMultiCrop(MoCo):
    """Momentum contrast of several crops with one key, and with the nearest neighbors of each.

    The queries u of an image are its large crop and its V small ones; k is the key of the other large crop. With the
    queue n_1 .. n_K and, kept in step with it, the queue m_1 .. m_K of the momentum backbone's pooled features,

        l_con = mean over u of InfoNCE(u; k, n)
        J(u)  = the 20 largest of unit(h_u).m_j,   h_u the pooled features of the backbone for the crop of u
        l_nn  = -mean over u and j in J(u) of log( exp(u.n_j / T) / sum_l exp(u.n_l / T) )
        L     = l_con + 0.4 l_nn

    Both queues are as they stood before the step. Small crops go through the backbone by themselves, all those of an
    image side by side.
    """

    info: ClassVar[MethodInfo] = replace(
        MoCo.info,
        id="moco-multicrop",
        name="MoCo with constrained multi-crop and nearest neighbours",
        unit="image and small crop",
        partner="the key's crop, which overlaps; the nearest neighbours in the queue",
        gpu_memory="",
        paper="arXiv 2106.05967",
        uncertain=(
            *MoCo.info.uncertain,
            "the code without warm-up enqueues before it looks for neighbours, so its two queues are out of step by a "
            "batch; here, as in its code with warm-up, both are read first",
            "the warm-up of the neighbours' loss is a share of all steps: 5 of 200 and 20 of 800 epochs in the scripts",
            "AutoAugment runs on tensors, where the code uses Pillow images",
        ),
    )
    config: MoCoMultiCropConfig

    def __init__(self, config: MoCoMultiCropConfig, backbone: nn.Module | None = None) -> None:
        super().__init__(config, backbone)
        if config.neighbour_weight and not 1 <= config.neighbours <= config.queue:
            raise PretrainError(
                f"the {config.neighbours} nearest neighbors must be at least 1 and at most the queue of "
                f"{config.queue}; change method.neighbours"
            )
        self.plan = multi_crop_views(config)
        self.feature_queue = Queue(config.queue, width_of(self.backbone)) if config.neighbour_weight else None
        self.pulling = config.neighbour_warmup == 0
        """Whether the neighbors' loss counts in the next step."""
        self._key_features: Tensor | None = None

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """`loss`, its parts, and the scalars that MoCo v2 logs, over all queries."""
        x_q, x_k, *x_small = (view.pixels for view in views)
        h = self.backbone(x_q).mean((2, 3))
        if x_small:
            crops = torch.stack(x_small, dim=1).flatten(0, 1)
            h = torch.cat([h, self.backbone(crops).mean((2, 3))])
        u = unit(self.head(h))
        with torch.no_grad():
            shuffle = self.shuffle(len(x_k))
            h_k = self.momentum.backbone(shuffle(x_k)).mean((2, 3))
            k, m = (shuffle.undo(unit(x)) for x in (self.momentum.head(h_k), h_k))
            keys = torch.cat([k, k.repeat_interleave(len(x_small), dim=0)])
        l_con = self.contrast(u, keys)
        loss, scalars = l_con.loss, {}
        if self.feature_queue is not None:
            near = nearest(unit(h.detach()), self.feature_queue.keys, self.config.neighbours)
            # The mean over J(u) of u.n_j is u times the mean of n_j.
            pulled = info_nce(
                u, self.queue.keys[near].mean(1), self.queue.keys, self.config.temperature, decoupled=True
            )
            if self.pulling:
                loss = loss + self.config.neighbour_weight * pulled.loss
            scalars = {"loss_neighbours": pulled.loss.detach(), "neighbour_positive": pulled.positive}
        self.targets, self._key_features, self.embeddings = k, m, u.detach()
        return {
            "loss": loss,
            "loss_contrast": l_con.loss.detach(),
            **scalars,
            "positive": l_con.positive,
            "negative": l_con.negative,
            "accuracy": l_con.accuracy,
            "std": embedding_std(u),
        }

    @override
    def after_step(self, step: int, total_steps: int) -> None:
        """Update what MoCo updates, and the queue of features; end the warm-up."""
        super().after_step(step, total_steps)
        if self.feature_queue is not None and self._key_features is not None:
            self.feature_queue.enqueue(gather(self._key_features))
        self._key_features = None
        self.pulling = step >= self.config.neighbour_warmup * total_steps

    @override
    def get_extra_state(self) -> Tensor:
        """MoCo's extra state, and whether the warm-up is over."""
        return torch.cat([super().get_extra_state(), torch.tensor([self.pulling])])

    @override
    def set_extra_state(self, state: Tensor) -> None:
        super().set_extra_state(state[:-1])
        self.pulling = bool(state[-1])


METHODS = (MoCoMultiCrop,)

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="moco-multicrop-coco-200ep",
        method=MoCoMultiCropConfig(bn_splits=2),
        epochs=200,
        batch_size=256,
        optimizer=COCO_SGD,
        schedule=PAPER_COSINE,
        data="COCO train2017, 118 k images",
        paper="arXiv 2106.05967; code wvangansbeke/Revisiting-Contrastive-SSL",
        expected="VOC07 SVM 85.1; VOC12 FCN mIoU 71.9; Cityscapes FCN mIoU 72.2 (code's README; MoCo v2: 76.1, 66.2, "
        "70.3)",
        cost="2 V100",
    ),
    Recipe(
        name="moco-multicrop-coco-800ep",
        method=MoCoMultiCropConfig(bn_splits=2),
        epochs=800,
        batch_size=256,
        optimizer=COCO_SGD,
        schedule=PAPER_COSINE,
        data="COCO train2017, 118 k images",
        paper="arXiv 2106.05967; code wvangansbeke/Revisiting-Contrastive-SSL",
        expected="VOC07 SVM 85.9; VOC12 FCN mIoU 73.5; Cityscapes FCN mIoU 72.3; DAVIS-2017 J&F 66.2 (code's README; "
        "MoCo v2: 81.0, 71.1, 71.3, 63.2)",
        cost="2 V100, 4 times the 200 epochs",
    ),
    small_recipe(
        "moco-multicrop-mini",
        MoCoMultiCropConfig(
            backbone="resnet18",
            hidden=512,
            queue=256,
            momentum=0.99,
            view_size=64,
            small_size=32,
            blur_sigma=(0.1, 1.0),
            bn_splits=2,
        ),
        epochs=10,
        paper="arXiv 2106.05967",
        images_per_second=58.7,
    ),
)
