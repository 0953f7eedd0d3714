"""CP2: copy-paste contrastive pretraining of a whole segmentation network.

Wang et al., CP2: Copy-Paste Contrastive Pretraining for Semantic Segmentation, ECCV 2022, arXiv 2203.11709.
"""

# ruff: noqa: N803, N806 - the paper's symbols

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from pretrain.data.augment import moco_v2_colour
from pretrain.data.views import View, ViewPlan, ViewSpec
from pretrain.errors import PretrainError
from pretrain.method import Method, MethodInfo
from pretrain.methods.moco import PAPER_COSINE, splits_per_process
from pretrain.nets.architectures import backbone_for, width_of
from pretrain.nets.heads import dense_head
from pretrain.nets.resnet import ResNet
from pretrain.nets.segmentation_heads import ASPPHead, FCNHead
from pretrain.parts.distributed import gather, rank, reorder, world_size
from pretrain.parts.losses import embedding_std, full_precision, info_nce, unit
from pretrain.parts.momentum import Momentum
from pretrain.parts.queues import Queue
from pretrain.parts.shuffling import Shuffle
from pretrain.parts.upload import upload
from pretrain.recipes import Recipe, SGDConfig, small_recipe
from pretrain.settings import ADDED


@dataclass(frozen=True)
class CP2Config:
    """CP2 as published, with the ASPP head."""

    backbone: str = "resnet50"
    head: Literal["aspp", "fcn"] = "aspp"
    channels: int = 512
    """Width of the segmentation head."""
    dilations: tuple[int, ...] = (1, 6, 12, 18)
    """Dilations of the ASPP head's parallel convolutions."""
    dim: int = 128
    """Width C of an embedding."""
    queue: int = 65536
    temperature: float = 0.2
    """Temperature of the instance loss."""
    momentum: float = 0.999
    dense_weight: float = 0.2
    dense_temperature: float = 1.0
    dense_softmax_axis: Literal["query", "key"] = "query"
    """Axis of cells over which the softmax of the dense loss is taken; the released code takes the query's."""
    erased_area: tuple[float, float] = (0.5, 0.8)
    """Range of the foreground's share of a view."""
    erased_aspect: tuple[float, float] = (0.8, 1.25)
    """Range of the foreground's height / width."""
    view_size: int = 224
    crop_scale: tuple[float, float] = (0.2, 1.0)
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    bn_splits: int = 8
    """Number of parts of the global batch with separate batch norm, like the paper's devices; at least one per
    process."""
    zero_init_residual: bool = field(default=False, metadata=ADDED)
    """Start residual blocks as identities, as the code's ResNet does when it loads no weights."""

    def build(self, backbone: nn.Module | None = None) -> CP2:
        """The freshly initialized method, on `backbone` if one is given."""
        return CP2(self, backbone)


def cp2_views(config: CP2Config) -> ViewPlan:
    """Two views of an image as foregrounds, and two as backgrounds for other images."""
    names = ("query", "key", "query background", "key background")
    return ViewPlan(
        tuple(
            ViewSpec(
                name, config.view_size, scale=config.crop_scale, flip=0.5, colour=moco_v2_colour(config.blur_sigma)
            )
            for name in names
        )
    )


class CP2(Method):
    """Paste one image onto two others; distinguish its cells from the backgrounds, and the image from other images.

    A composite is a view of the image inside a random rectangle and of another image around it. The network is a
    backbone of stride 16, a segmentation head and two 1x1 convolutions; F_q, F_k (N, C, P) are its outputs for the
    two composites, by trained and momentum weights, every cell of length 1; M_q, M_k are the cells whose center lies
    in the rectangle.

        q = normalized sum of F_q over M_q, k likewise;     L_ins = InfoNCE(q; k, queue)
        S[x, y] = F_q[:, x] . F_k[:, y]
        L_den = mean over x in M_q, y in M_k of -log( exp S[x, y] / sum_x' exp S[x', y] )
        L = L_ins + 0.2 L_den

    Keys have no gradient. The backgrounds come from other images of the batch, different ones for query and key. Export
    writes the segmentation head next to the backbone.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="cp2",
        name="CP2",
        unit="image and cell",
        partner="the other composite; its foreground cells",
        loss="InfoNCE; cross entropy over cells",
        second_network="momentum",
        negatives="queue; background cells",
        paper="arXiv 2203.11709",
        fidelity="code",
        gpu_memory="16 / 30",
        uncertain=(
            "the released softmax runs over query cells, the paper's may run over key cells: `dense_softmax_axis`",
            "backgrounds are other images of the batch, where the code reads two more streams of images",
        ),
    )

    def __init__(self, config: CP2Config, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.plan = cp2_views(config)
        self.bn_splits = splits = splits_per_process(config.bn_splits)
        self.backbone = backbone_for(
            config.backbone, backbone, bn_splits=splits, zero_init_residual=config.zero_init_residual
        )
        if isinstance(self.backbone, ResNet):
            output_stride_16(self.backbone)  # a ViT has it already
        width, channels = width_of(self.backbone), config.channels
        self.decode_head: nn.Module = (
            ASPPHead(width, channels, config.dilations, bn_splits=splits)
            if config.head == "aspp"
            else FCNHead(width, channels, bn_splits=splits)
        )
        self.contrast_conv: nn.Module = dense_head(channels, channels, config.dim)
        self.momentum = Momentum(backbone=self.backbone, decode_head=self.decode_head, contrast_conv=self.contrast_conv)
        self.queue = Queue(config.queue, config.dim)
        self._keys: Tensor | None = None

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """`loss`, its parts, and for both the similarities of positives and negatives; see `InfoNCE`.

        `dense_positive` is the mean of S over pairs of foreground cells, `dense_negative` that over background query
        cells and foreground key cells. An image without foreground cells (which no setting in use can give)
        contributes 0 to the dense loss.
        """
        config = self.config
        front_q, front_k, back_q, back_k = (view.pixels for view in views)
        n, size = len(front_q), front_q.shape[2]
        # Drawn in this order for the global batch, so that every process draws the same.
        mask_q, mask_k = (self.foreground(n, size, front_q.device) for _ in range(2))
        lenders = background_of(n * world_size())
        x_q = torch.where(mask_q[:, None], front_q, reorder(back_q, lenders[0]))
        x_k = torch.where(mask_k[:, None], front_k, reorder(back_k, lenders[1]))

        F_q = unit(self.contrast_conv(self.decode_head(self.backbone(x_q))))
        with torch.no_grad():
            shuffle = Shuffle.drawn(n, self.bn_splits)
            F_k = self.momentum.decode_head(self.momentum.backbone(shuffle(x_k)))
            F_k = shuffle.undo(unit(self.momentum.contrast_conv(F_k)))
        M_q, M_k = (at_centres(mask, F_q.shape[2]).flatten(1).to(F_q.dtype) for mask in (mask_q, mask_k))
        F_q, F_k = F_q.flatten(2), F_k.flatten(2)

        with torch.autocast(F_q.device.type, enabled=False):
            q = unit((F_q * M_q[:, None]).sum(2))
            k = unit((F_k * M_k[:, None]).sum(2))
            S = F_q.transpose(1, 2) @ F_k
            dense = dense_loss(S / config.dense_temperature, M_q, M_k, config.dense_softmax_axis)
            dense_positive = pair_mean(S.detach(), M_q, M_k).mean()
            dense_negative = pair_mean(S.detach(), 1 - M_q, M_k).mean()
        instance = info_nce(q, k, self.queue.keys, config.temperature)
        self._keys, self.embeddings = k, q.detach()
        return {
            "loss": instance.loss + config.dense_weight * dense,
            "loss_instance": instance.loss.detach(),
            "loss_dense": dense.detach(),
            "positive": instance.positive,
            "negative": instance.negative,
            "accuracy": instance.accuracy,
            "std": embedding_std(q),
            "dense_positive": dense_positive,
            "dense_negative": dense_negative,
            "dense_std": embedding_std(F_q.detach().transpose(1, 2).flatten(0, 1)),
        }

    @override
    def after_step(self, step: int, total_steps: int) -> None:
        """Update the momentum network, then replace the oldest keys by those of this step from all processes."""
        self.momentum.update(self.config.momentum)
        if self._keys is not None:
            self.queue.enqueue(gather(self._keys))
            self._keys = None

    def foreground(self, n: int, size: int, device: torch.device) -> Tensor:
        """This process's n foreground masks, bool (n, size, size), from those drawn for the global batch."""
        boxes = draw_rectangles(n * world_size(), size, self.config.erased_area, self.config.erased_aspect)
        top, left, bottom, right = upload(boxes[rank() * n : (rank() + 1) * n], device).T[:, :, None]
        at = torch.arange(size, device=device)
        return ((at >= top) & (at < bottom))[:, :, None] & ((at >= left) & (at < right))[:, None, :]


def output_stride_16(backbone: ResNet) -> None:
    """Keep the last stage at the resolution of the one before: stride 1, and dilation 2 after its first block.

    Weights and their names stay, so the same tensors also fill the plain network.
    """
    for index, block in enumerate(backbone.layer4.children()):
        for module in block.modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
                if index > 0 and module.kernel_size == (3, 3):
                    module.dilation, module.padding = (2, 2), (2, 2)


def draw_rectangles(n: int, size: int, area: tuple[float, float], aspect: tuple[float, float]) -> Tensor:
    """Rectangles in views of `size` pixels, int64 (n, 4) as top, left, bottom, right, from the CPU's generator.

    The rule of torchvision's `RandomErasing`: share of the area uniform in `area`, height / width log-uniform in
    `aspect`, up to ten attempts to fit into the view, corner uniform. After ten, where nothing would be erased, the
    rectangle is a square of the mean area.
    """
    share = area[0] + (area[1] - area[0]) * torch.rand(n, 10, dtype=torch.float64)
    low, high = torch.tensor(aspect, dtype=torch.float64).log()
    root = (low + (high - low) * torch.rand(n, 10, dtype=torch.float64)).exp().sqrt()
    corner = torch.rand(n, 2, dtype=torch.float64)
    sides = size * share.sqrt()[:, :, None] * torch.stack((root, 1 / root), dim=2)
    square = torch.full((n, 1, 2), size * (sum(area) / 2) ** 0.5, dtype=torch.float64)
    sides = torch.cat((sides, square), dim=1).round().long()
    fits = ((sides < size) & (sides > 0)).all(2)
    fits[:, -1] = True
    sides = sides[torch.arange(n), fits.int().argmax(1)]
    start = (corner * (size - sides + 1)).long()
    return torch.cat((start, start + sides), dim=1)


def background_of(n: int) -> tuple[Tensor, Tensor]:
    """For query and key, the image whose background each of n composites shows: never its own, and not the same twice.

    These are two permutations, int64 (n,), drawn from the CPU's generator. With two images, each gets the background of
    the other; a single image gets its own.
    """
    shifts = torch.randperm(n - 1)[:2] + 1 if n > 1 else torch.zeros(1, dtype=torch.int64)
    at = torch.arange(n)
    return (at + shifts[0]) % n, (at + shifts[-1]) % n


def at_centres(mask: Tensor, side: int) -> Tensor:
    """The pixel masks (N, S, S) at the centers of side x side cells: (N, side, side)."""
    stride, rest = divmod(mask.shape[1], side)
    if rest:
        raise PretrainError(
            f"views of {mask.shape[1]} pixels are no whole number of {side} cells; set method.view_size"
        )
    return mask[:, stride // 2 :: stride, stride // 2 :: stride]


def dense_loss(S: Tensor, M_q: Tensor, M_k: Tensor, axis: Literal["query", "key"]) -> Tensor:
    """L_den from similarities (N, P, P), query by key, and masks (N, P) of zeros and ones; a scalar."""
    log_p = full_precision(S).log_softmax(1 if axis == "query" else 2)
    return -pair_mean(log_p, M_q, M_k).mean()


def pair_mean(values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Mean of (N, P, P) `values` over masked `rows` and `columns` (N, P), for each of N; 0 where there are none."""
    total = torch.einsum("nxy,nx,ny->n", values, rows, columns)
    return total / (rows.sum(1) * columns.sum(1)).clamp(min=1)


METHODS = (CP2,)

PAPER_SGD = SGDConfig(lr=0.015, momentum=0.9, weight_decay=1e-4)
MINI = CP2Config(
    backbone="resnet18",
    channels=128,
    dilations=(1, 2, 3),
    queue=256,
    momentum=0.99,
    view_size=64,
    blur_sigma=(0.1, 1.0),
    bn_splits=2,
)


def _imagenet(name: str, config: CP2Config, epochs: int, expected: str = "") -> Recipe:
    return Recipe(
        name=name,
        method=config,
        epochs=epochs,
        batch_size=256,
        optimizer=PAPER_SGD,
        schedule=PAPER_COSINE,
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2203.11709; code wangf3014/CP2",
        expected=expected,
        cost="not published",
    )


RECIPES: tuple[Recipe, ...] = (
    _imagenet("cp2-imagenet-200ep", CP2Config(zero_init_residual=True), 200),
    _imagenet("cp2-imagenet-600ep", CP2Config(zero_init_residual=True), 600),
    replace(
        _imagenet(
            "cp2-quick-imagenet-20ep",
            CP2Config(),
            20,
            "VOC12 mIoU 78.6 from MoCo v2 of 800 epochs (abstract; taken to be this recipe)",
        ),
        needs_init=True,
    ),
    small_recipe(
        "cp2-mini",
        MINI,
        epochs=10,
        paper="arXiv 2203.11709",
        images_per_second=69,
    ),
    replace(
        small_recipe(
            "cp2-quick-mini",
            MINI,
            epochs=5,
            paper="arXiv 2203.11709, its quick tuning",
            images_per_second=70,
        ),
        needs_init=True,
    ),
)
