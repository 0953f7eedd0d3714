"""MoCo v1 and v2: momentum contrast with a queue.

He et al., Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020, arXiv 1911.05722.
Chen et al., Improved Baselines with Momentum Contrastive Learning, 2020, arXiv 2003.04297.
"""

# ruff: noqa: N806 - the paper's symbols

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from pretrain.data.augment import MOCO_V1_COLOUR, moco_v2_colour
from pretrain.data.views import View, ViewPlan, ViewSpec
from pretrain.errors import PretrainError
from pretrain.method import EmbeddingMethod, MapMethod, Maps, MethodInfo
from pretrain.nets.architectures import backbone_for, width_of
from pretrain.nets.heads import init_openselfsup, mlp_head
from pretrain.parts.distributed import gather, world_size
from pretrain.parts.losses import InfoNCE, embedding_std, info_nce, unit
from pretrain.parts.momentum import Momentum, MomentumSchedule, momentum_at
from pretrain.parts.queues import Queue
from pretrain.parts.shuffling import Shuffle
from pretrain.recipes import CosineSchedule, Recipe, SGDConfig, StepSchedule, small_recipe


@dataclass(frozen=True)
class MoCoConfig:
    """MoCo v2 as published."""

    backbone: str = "resnet50"
    head: Literal["mlp", "linear"] = "mlp"
    hidden: int = 2048
    """Width of the MLP's hidden layer."""
    dim: int = 128
    """Width C of an embedding."""
    queue: int = 65536
    """Number K of negatives; a multiple of the global batch."""
    temperature: float = 0.2
    momentum: float = 0.999
    momentum_schedule: MomentumSchedule = "constant"
    augmentation: Literal["v1", "v2"] = "v2"
    view_size: int = 224
    """Side of a view in pixels."""
    crop_scale: tuple[float, float] = (0.2, 1.0)
    """Range of a crop's share of the image area."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Range of the blur's standard deviation in pixels of the view."""
    bn_splits: int = 8
    """Number of parts of the global batch with separate batch norm, like the paper's devices; at least one per
    process."""
    init: Literal["torchvision", "openselfsup"] = "torchvision"

    def build(self, backbone: nn.Module | None = None) -> MoCo:
        """The freshly initialized method, on `backbone` if one is given."""
        return MoCo(self, backbone)


@dataclass(frozen=True)
class MoCoV1Config(MoCoConfig):
    """MoCo v1 as published: a linear head (`hidden` is not used), a lower temperature, and no blur."""

    head: Literal["mlp", "linear"] = "linear"
    temperature: float = 0.07
    augmentation: Literal["v1", "v2"] = "v1"

    @override
    def build(self, backbone: nn.Module | None = None) -> MoCoV1:
        return MoCoV1(self, backbone)


def moco_views(config: MoCoConfig) -> ViewPlan:
    """Two views drawn alike: the query's and the key's."""
    colour = MOCO_V1_COLOUR if config.augmentation == "v1" else moco_v2_colour(config.blur_sigma)
    return ViewPlan(
        tuple(
            ViewSpec(name=name, size=config.view_size, scale=config.crop_scale, flip=0.5, colour=colour)
            for name in ("query", "key")
        )
    )


class MoCo(MapMethod, EmbeddingMethod):
    """Momentum contrast: a query must pick its own key among those of earlier images.

    f_q = head(mean(backbone(x))) is trained; f_k is its momentum copy. For two views of an image
    q = f_q(x_q) / |f_q(x_q)|, k = f_k(x_k) / |f_k(x_k)|, and with the queue's keys n_1 .. n_K

        L = -log( exp(q.k / T) / (exp(q.k / T) + sum_j exp(q.n_j / T)) ),

    averaged over images. Momentum moves after the optimizer's step rather than before the key's forward pass: with the
    constant momentum of the paper the keys are the same at every step, since f_k starts as f_q.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="moco-v2",
        name="MoCo v2",
        unit="image",
        partner="the other view",
        loss="InfoNCE",
        second_network="momentum",
        negatives="queue",
        paper="arXiv 1911.05722, 2003.04297",
        fidelity="code",
        gpu_memory="13 / 25",
        uncertain=("the blur is a Gaussian, where the code calls Pillow, which approximates one by box filters",),
    )

    def __init__(self, config: MoCoConfig, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.plan = moco_views(config)
        self.bn_splits = splits_per_process(config.bn_splits)
        self.backbone = backbone_for(config.backbone, backbone, bn_splits=self.bn_splits)
        width = width_of(self.backbone)
        self.head: nn.Module = (
            nn.Linear(width, config.dim) if config.head == "linear" else mlp_head(width, config.hidden, config.dim)
        )
        if config.init == "openselfsup":
            init_openselfsup(self.backbone if backbone is None else None, self.head)
        self.momentum = Momentum(backbone=self.backbone, head=self.head)
        self.queue = Queue(config.queue, config.dim)
        self.seed = int(torch.randint(2**31, ()))
        """Key of the shuffles: drawn like the weights, so that it follows the run's seed."""
        self.steps = 0
        """Number of finished steps."""

    @override
    def maps(self, views: Sequence[View], *, cells: bool = True) -> Maps:
        """The map of the query and, unless `cells` is false, that of the key; and the unit keys."""
        x_q, x_k = (view.pixels for view in views)
        B_q = self.backbone(x_q)
        with torch.no_grad():
            shuffle = self.shuffle(len(x_k))
            B_k = self.momentum.backbone(shuffle(x_k))
            k = shuffle.undo(unit(self.momentum.head(B_k.mean((2, 3)))))
            return Maps((B_q, None), (None, shuffle.undo(B_k) if cells else None), k)

    @override
    def image_loss(self, maps: Maps) -> dict[str, Tensor]:
        """`loss`, and for the log `positive`, `negative`, `accuracy` (see `InfoNCE`) and `std` of the queries."""
        B_q, k = maps.online[0], maps.keys
        assert B_q is not None and k is not None  # `maps` makes them
        q = self.embed(B_q.mean((2, 3)))
        nce = self.contrast(q, k)
        self.targets, self.embeddings = k, q.detach()
        return {
            "loss": nce.loss,
            "positive": nce.positive,
            "negative": nce.negative,
            "accuracy": nce.accuracy,
            "std": embedding_std(q),
        }

    @override
    def embed(self, pooled: Tensor) -> Tensor:
        return unit(self.head(pooled))

    @override
    def compare(self, embedded: Tensor, targets: Tensor, rivals: Tensor) -> dict[str, Tensor]:
        """MoCo v2's loss with the rivals among the negatives, and its scalars."""
        nce = info_nce(embedded, targets, self.queue.keys, self.config.temperature, own_negatives=rivals)
        return nce._asdict()

    def contrast(self, q: Tensor, k: Tensor) -> InfoNCE:
        """The loss of unit queries (N, C) and their keys (N, C), with the present queue as negatives."""
        return info_nce(q, k, self.queue.keys, self.config.temperature)

    @override
    def after_step(self, step: int, total_steps: int) -> None:
        """Update the momentum network, then replace the oldest keys by those of this step from all processes."""
        self.momentum.update(self.momentum_after(step, total_steps))
        if self.targets is not None:
            self.queue.enqueue(gather(self.targets))
            self.targets = None
        self.steps = step

    @override
    def momentum_after(self, step: int, total_steps: int) -> float:
        return momentum_at(step, total_steps, self.config.momentum, self.config.momentum_schedule)

    def shuffle(self, n: int) -> Shuffle:
        """The shuffle of the keys in this step, for n images per process."""
        return Shuffle.keyed(n, self.bn_splits, self.seed, self.steps)

    @override
    def get_extra_state(self) -> Tensor:
        """The values on which the shuffles depend, for the state dict."""
        return torch.tensor([self.seed, self.steps])

    @override
    def set_extra_state(self, state: Tensor) -> None:
        self.seed, self.steps = (int(value) for value in state)


class MoCoV1(MoCo):
    """MoCo's first version: the same loss on a linear projection, with less augmentation and rates in steps."""

    info: ClassVar[MethodInfo] = replace(
        MoCo.info, id="moco-v1", name="MoCo v1", paper="arXiv 1911.05722", uncertain=()
    )


def splits_per_process(splits: int) -> int:
    """Number of parts of a process's share of a batch for batch norm, so that all processes have `splits` in total.

    A run thus has the same statistics on any number of processes up to `splits`; beyond, each process is one part.
    Raises `PretrainError` if the processes cannot share the parts equally.
    """
    world = world_size()
    if world < splits and splits % world:
        raise PretrainError(
            f"{world} processes cannot share {splits} parts of batch norm equally; "
            f"set method.bn_splits to a multiple of {world} or change the number of processes"
        )
    return max(1, splits // world)


PAPER_SGD = SGDConfig(lr=0.03, momentum=0.9, weight_decay=1e-4)
COCO_SGD = SGDConfig(lr=0.3, momentum=0.9, weight_decay=1e-4)
PAPER_COSINE = CosineSchedule(per="epoch")

METHODS = (MoCoV1, MoCo)

MINI = MoCoConfig(
    backbone="resnet18", hidden=512, queue=256, momentum=0.99, view_size=64, blur_sigma=(0.1, 1.0), bn_splits=2
)
"""Settings of the small recipe, from which the small recipes of methods that add to MoCo v2 start."""

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="moco-v1-imagenet-200ep",
        method=MoCoV1Config(),
        epochs=200,
        batch_size=256,
        optimizer=PAPER_SGD,
        schedule=StepSchedule(milestones=(120, 160)),
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 1911.05722; code facebookresearch/moco",
        expected="ImageNet linear 60.6; VOC07+12 Faster R-CNN C4 AP 55.9, AP50 81.5, AP75 62.6",
        cost="8 V100: 53 hours (paper)",
    ),
    replace(
        small_recipe(
            "moco-v1-mini",
            MoCoV1Config(backbone="resnet18", queue=256, momentum=0.99, view_size=64, bn_splits=2),
            epochs=14,
            paper="arXiv 1911.05722",
        ),
        schedule=StepSchedule(milestones=(9, 12), warmup_epochs=1),
    ),
    Recipe(
        name="moco-v2-imagenet-200ep",
        method=MoCoConfig(),
        epochs=200,
        batch_size=256,
        optimizer=PAPER_SGD,
        schedule=PAPER_COSINE,
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2003.04297; code facebookresearch/moco",
        expected="ImageNet linear 67.7 (5 runs: 67.5 +- 0.1); VOC07+12 Faster R-CNN C4 AP 57.0, AP50 82.4, AP75 63.6",
        cost="8 V100: 53 hours (code's README)",
    ),
    Recipe(
        name="moco-v2-imagenet-800ep",
        method=MoCoConfig(),
        epochs=800,
        batch_size=256,
        optimizer=PAPER_SGD,
        schedule=PAPER_COSINE,
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2003.04297; code facebookresearch/moco",
        expected="ImageNet linear 71.1; VOC07+12 Faster R-CNN C4 AP 57.4, AP50 82.5, AP75 64.0",
        cost="8 V100: about 9 days (4 times the 200 epochs)",
    ),
    Recipe(
        name="moco-v2-coco-800ep",
        method=MoCoConfig(init="openselfsup"),
        epochs=800,
        batch_size=256,
        optimizer=COCO_SGD,
        schedule=PAPER_COSINE,
        data="COCO train2017, 118 k images",
        paper="the baseline of DenseCL, CVPR 2021, arXiv 2011.09157",
        expected="VOC07+12 Faster R-CNN C4 AP 54.7; VOC12 FCN mIoU 64.5 (DenseCL README, 5 runs)",
        cost="8 V100: 1.0 day (DenseCL README)",
    ),
    small_recipe(
        "moco-v2-mini",
        MINI,
        epochs=20,
        warmup_epochs=2,
        paper="arXiv 2003.04297",
        images_per_second=112,
    ),
)
