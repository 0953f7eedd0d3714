"""MoCo v2+ and S-MoCo v2+: MoCo v2 with BYOL's heads, symmetric loss and moving momentum.

Huang et al., Revisiting the Critical Factors of Augmentation-Invariant Representation Learning, ECCV 2022, arXiv
2208.00275.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from pretrain.data.augment import moco_v2_colour
from pretrain.data.views import View, ViewPlan, ViewSpec
from pretrain.method import Method, MethodInfo
from pretrain.methods.moco import MoCo
from pretrain.nets.architectures import backbone_for, width_of
from pretrain.nets.batchnorm import synchronised
from pretrain.nets.heads import norm_head
from pretrain.parts.distributed import gather
from pretrain.parts.losses import embedding_std, info_nce, unit
from pretrain.parts.momentum import Momentum, MomentumSchedule, momentum_at
from pretrain.parts.queues import Queue
from pretrain.recipes import CosineSchedule, Recipe, SGDConfig, small_recipe


@dataclass(frozen=True)
class MoCoPlusConfig:
    """MoCo v2+ as published."""

    backbone: str = "resnet50"
    hidden: int = 4096
    """Width of the hidden layers of projector and predictor."""
    dim: int = 256
    """Width C of an embedding."""
    queue: int = 65536
    """Number K of negatives; a multiple of the global batch."""
    temperature: float = 0.2
    momentum: float = 0.99
    momentum_schedule: MomentumSchedule = "cosine"
    view_size: int = 224
    """Side of a view in pixels."""
    crop_scale: tuple[float, float] = (0.2, 1.0)
    """Range of a crop's share of the image area."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Range of the blur's standard deviation in pixels of the view."""

    def build(self, backbone: nn.Module | None = None) -> MoCoPlus:
        """The freshly initialized method, on `backbone` if one is given."""
        return MoCoPlus(self, backbone)


@dataclass(frozen=True)
class SMoCoPlusConfig(MoCoPlusConfig):
    """S-MoCo v2+ as published: the settings of MoCo v2+."""

    @override
    def build(self, backbone: nn.Module | None = None) -> SMoCoPlus:
        return SMoCoPlus(self, backbone)


class MoCoPlus(Method):
    """Momentum contrast with a predictor on the trained side, in both directions.

    o_v = unit(predictor(head(mean(backbone(x_v))))) for the two views v; t_v = unit(momentum_head(...)) likewise,
    without predictor. With the queue n_1 .. n_K,

        L = InfoNCE(o_1; t_2, n) + InfoNCE(o_2; t_1, n).

    After the optimizer's step the momentum moves from 0.99 to 1 along a cosine, and the queue receives t_1 or t_2 by
    the toss of a coin. Batch norm is over the images of all processes, and nothing is shuffled.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="moco-v2-plus",
        name="MoCo v2+",
        unit="image",
        partner="the other view, in both directions",
        loss="InfoNCE",
        second_network="momentum",
        negatives="queue",
        paper="arXiv 2208.00275",
        fidelity="code",
        gpu_memory="22 to 25 / 41 to 45",
        uncertain=(
            *MoCo.info.uncertain,
            "one coin a step decides for all processes which view's keys are enqueued; in the code each process "
            "tosses its own",
        ),
    )

    def __init__(self, config: MoCoPlusConfig, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        query = ViewSpec(
            "first", size=config.view_size, scale=config.crop_scale, flip=0.5, colour=moco_v2_colour(config.blur_sigma)
        )
        self.plan = ViewPlan((query, replace(query, name="second")))
        self.backbone = synchronised(backbone_for(config.backbone, backbone))
        self.head, self.predictor = (synchronised(part) for part in self.heads(width_of(self.backbone)))
        self.momentum = Momentum(backbone=self.backbone, head=self.head)
        self.queue = Queue(config.queue, config.dim)
        self._keys: tuple[Tensor, Tensor] | None = None

    def heads(self, width: int) -> tuple[nn.Module, nn.Module]:
        """Projector of features (N, width) and predictor; every linear layer has a bias."""
        c = self.config
        return (
            norm_head(width, c.hidden, c.dim, bias=True, last_bias=True),
            norm_head(c.dim, c.hidden, c.dim, bias=True, last_bias=True),
        )

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """`loss`, and over both directions the scalars that MoCo v2 logs."""
        x_1, x_2 = (view.pixels for view in views)
        o_1, o_2 = (unit(self.predictor(self.head(self.backbone(x).mean((2, 3))))) for x in (x_1, x_2))
        with torch.no_grad():
            t_1, t_2 = (unit(self.momentum.head(self.momentum.backbone(x).mean((2, 3)))) for x in (x_1, x_2))
        first, second = (info_nce(o, t, self.queue.keys, self.config.temperature) for o, t in ((o_1, t_2), (o_2, t_1)))
        self._keys, self.embeddings = (t_1, t_2), o_1.detach()
        return {
            "loss": first.loss + second.loss,
            "positive": (first.positive + second.positive) / 2,
            "negative": (first.negative + second.negative) / 2,
            "accuracy": (first.accuracy + second.accuracy) / 2,
            "std": embedding_std(o_1),
        }

    @override
    def after_step(self, step: int, total_steps: int) -> None:
        """Update the momentum network, then enqueue one view's keys of all processes."""
        # The code counts t of the cosine from 1: after the last step the momentum is 1.
        m = momentum_at(step + 1, total_steps, self.config.momentum, self.config.momentum_schedule)
        self.momentum.update(m)
        if self._keys is not None:
            # From the host's generator, which the loop seeds at every step, equally on all processes.
            self.queue.enqueue(gather(self._keys[int(torch.randint(2, ()))]))
            self._keys = None


class SMoCoPlus(MoCoPlus):
    """MoCo v2+ with equal networks on both sides: projector and predictor of MoCo v2+ are the head of either.

    The last linear layer of each half has no bias here.
    """

    info: ClassVar[MethodInfo] = replace(MoCoPlus.info, id="s-moco-v2-plus", name="S-MoCo v2+")

    @override
    def heads(self, width: int) -> tuple[nn.Module, nn.Module]:
        """The head of four linear layers, and no predictor."""
        c = self.config
        halves = (norm_head(inputs, c.hidden, c.dim, bias=True) for inputs in (width, c.dim))
        return nn.Sequential(*(layer for half in halves for layer in half)), nn.Identity()


METHODS = (MoCoPlus, SMoCoPlus)

PAPER_SGD = SGDConfig(lr=0.03, momentum=0.9, weight_decay=1e-4)
PAPER_COSINE = CosineSchedule(per="step", warmup_epochs=10, warmup_start=1e-6 / 0.03)
MINI = MoCoPlusConfig(
    backbone="resnet18", hidden=512, dim=128, queue=256, momentum=0.99, view_size=64, blur_sigma=(0.1, 1.0)
)

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="moco-v2-plus-imagenet-200ep",
        method=MoCoPlusConfig(),
        epochs=200,
        batch_size=256,
        optimizer=PAPER_SGD,
        schedule=PAPER_COSINE,
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2208.00275; code megvii-research/revisitAIRL",
        expected="ImageNet linear 72.4 (code's README; MoCo v2 67.2)",
    ),
    Recipe(
        name="s-moco-v2-plus-imagenet-200ep",
        method=SMoCoPlusConfig(),
        epochs=200,
        batch_size=256,
        optimizer=PAPER_SGD,
        schedule=PAPER_COSINE,
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2208.00275; code megvii-research/revisitAIRL",
        expected="ImageNet linear 71.2 (code's README; MoCo v2 67.2)",
    ),
    small_recipe(
        "moco-v2-plus-mini",
        MINI,
        epochs=10,
        paper="arXiv 2208.00275",
        images_per_second=62,
    ),
    small_recipe(
        "s-moco-v2-plus-mini",
        SMoCoPlusConfig(**vars(MINI)),
        epochs=10,
        paper="arXiv 2208.00275",
        images_per_second=64,
    ),
)
