"""DenseCL: MoCo v2 plus the same contrast at every cell of the last feature map.

Wang et al., Dense Contrastive Learning for Self-Supervised Visual Pre-Training, CVPR 2021, arXiv 2011.09157.
"""

# ruff: noqa: N803, N806 - the paper's symbols

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from typing_extensions import override

from pretrain.data.views import View
from pretrain.errors import PretrainError
from pretrain.method import MethodInfo
from pretrain.methods.moco import (
    COCO_SGD,
    PAPER_COSINE,
    PAPER_SGD,
    MoCo,
    MoCoConfig,
)
from pretrain.nets.architectures import width_of
from pretrain.nets.heads import dense_head
from pretrain.parts.distributed import gather, rank
from pretrain.parts.losses import embedding_std, full_precision, info_nce, unit
from pretrain.parts.queues import Queue
from pretrain.recipes import Recipe, small_recipe


@dataclass(frozen=True)
class DenseCLConfig(MoCoConfig):
    """DenseCL as published; everything else as in MoCo v2."""

    dense_weight: float = 0.5
    """lambda in [0, 1], the weight of the dense loss; 0 is MoCo v2."""
    dense_warmup: int = 0
    """Steps at the start with lambda = 0; the code offers it (1,000 to 10,000) for lambda near 1."""
    grid: int | None = None
    """Side S of the grid of cells, by average pooling of the backbone's map; None keeps the map (7 x 7 at 224)."""
    dense_negatives: Literal["mean", "cell"] = "mean"
    """What Q2 receives from a key: the mean over its cells, or one cell, each in its turn. With only a few cells, a
    mean can be distinguished from a single cell by its averaged noise, so that the dense task becomes trivial."""

    @override
    def build(self, backbone: nn.Module | None = None) -> DenseCL:
        return DenseCL(self, backbone)


class DenseCL(MoCo):
    """Dense contrast between the cells of two views that the backbone finds most alike.

    For query and key view: backbone maps B_q, B_k (N, width, P), dense projections D_q, D_k (N, C, P), global
    projections g_q, g_k (N, C), P = S^2 cells, all normalized over channels; Q1, Q2 are the two queues.

        c(s) = argmax_t B_q[:, s] . B_k[:, t]
        l_dense = mean over n, s of InfoNCE(D_q[n, :, s]; D_k[n, :, c(s)], Q2)
        l_global = mean over n of InfoNCE(g_q; g_k, Q1)
        L = (1 - lambda) l_global + lambda l_dense

    Q2 receives the mean over cells of the dense key, taken before normalization and normalized then (or one cell, see
    `dense_negatives`). Nothing geometric enters: the crops may overlap or not.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="densecl",
        name="DenseCL",
        unit="image and cell",
        partner="the other view; the most similar cell of it",
        loss="InfoNCE",
        second_network="momentum",
        negatives="queue",
        paper="arXiv 2011.09157",
        fidelity="code",
        gpu_memory="13 / 25",
        uncertain=(
            *MoCo.info.uncertain,
            "the code's grid option matches on the unpooled map, so its indices miss; here both maps are pooled",
            "no official config enables the warm-up of lambda (1,000 steps by default, 10,000 in the usage line)",
        ),
    )
    config: DenseCLConfig

    def __init__(self, config: DenseCLConfig, backbone: nn.Module | None = None) -> None:
        super().__init__(config, backbone)
        if config.grid is not None and config.grid < 1:
            raise PretrainError(f"a grid of {config.grid} x {config.grid} cells has no cell; change method.grid")
        self.dense_head: nn.Module = dense_head(width_of(self.backbone), config.hidden, config.dim)
        self.momentum.add(dense_head=self.dense_head)
        self.dense_queue = Queue(config.queue, config.dim)
        self._dense_keys: Tensor | None = None

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """`loss`, its parts `loss_global` and `loss_dense`, and for each part the scalars that MoCo v2 logs."""
        x_q, x_k = (view.pixels for view in views)

        B_q = self.backbone(x_q)
        g_q = unit(self.head(B_q.mean((2, 3))))
        B_q = self.cells(B_q)
        D_q = unit(self.dense_head(B_q).flatten(2))

        with torch.no_grad():
            shuffle = self.shuffle(len(x_k))
            B_k = self.momentum.backbone(shuffle(x_k))
            g_k = unit(self.momentum.head(B_k.mean((2, 3))))
            B_k = self.cells(B_k)
            D_k = full_precision(self.momentum.dense_head(B_k).flatten(2))
            d_k = unit(D_k.mean(2))
            D_k = unit(D_k)
            B_k, g_k, D_k, d_k = (shuffle.undo(x) for x in (B_k, g_k, D_k, d_k))
            if self.config.dense_negatives == "cell":
                d_k = one_cell(D_k, self.steps)

            c = correspondence(B_q.flatten(2), B_k.flatten(2))
            D_k = D_k.gather(2, c[:, None].expand_as(D_q))

        tau = self.config.temperature
        l_global = info_nce(g_q, g_k, self.queue.keys, tau)
        l_dense = info_nce(rows(D_q), rows(D_k), self.dense_queue.keys, tau)
        lam = self.config.dense_weight if self.steps >= self.config.dense_warmup else 0.0
        self.targets, self._dense_keys, self.embeddings = g_k, d_k, g_q.detach()
        return {
            "loss": (1 - lam) * l_global.loss + lam * l_dense.loss,
            "loss_global": l_global.loss.detach(),
            "loss_dense": l_dense.loss.detach(),
            "positive": l_global.positive,
            "negative": l_global.negative,
            "accuracy": l_global.accuracy,
            "std": embedding_std(g_q),
            "dense_positive": l_dense.positive,
            "dense_negative": l_dense.negative,
            "dense_accuracy": l_dense.accuracy,
            "dense_std": embedding_std(rows(D_q)),
        }

    @override
    def after_step(self, step: int, total_steps: int) -> None:
        """Update what MoCo v2 updates, and also the dense head and the dense queue."""
        super().after_step(step, total_steps)
        if self._dense_keys is not None:
            self.dense_queue.enqueue(gather(self._dense_keys))
            self._dense_keys = None

    def cells(self, B: Tensor) -> Tensor:
        """The map (N, width, H, W) on the grid of the config, (N, width, S, S)."""
        grid = self.config.grid
        return B if grid is None else adaptive_avg_pool2d(B, grid)


@torch.no_grad()
def correspondence(B_q: Tensor, B_k: Tensor) -> Tensor:
    """c(s), the key cell of largest cosine for every query cell: int64 (N, P) from maps (N, width, P).

    In full precision also under autocast, since cells of one image differ by little. The length of B_q[:, s] does not
    change the argmax, so only the key is normalized.
    """
    with torch.autocast(B_q.device.type, enabled=False):
        similarity = full_precision(B_q).transpose(1, 2) @ unit(B_k)
    return similarity.argmax(2)


def one_cell(D: Tensor, step: int) -> Tensor:
    """One cell of each image, (N, C, P) -> (N, C): cell (n + step) mod P of image n of the global batch.

    So all cells are used in turn, whichever process holds the image.
    """
    row = torch.arange(len(D), device=D.device)
    return D[row, :, (rank() * len(D) + row + step) % D.shape[2]]


def rows(D: Tensor) -> Tensor:
    """Cells as rows: (N, C, P) -> (N P, C)."""
    return D.transpose(1, 2).flatten(0, 1)


METHODS = (DenseCL,)

MINI = DenseCLConfig(
    backbone="resnet18",
    hidden=512,
    queue=256,
    momentum=0.99,
    view_size=64,
    blur_sigma=(0.1, 1.0),
    bn_splits=2,
    dense_negatives="cell",
)
"""Settings of the small recipe, from which the small recipes of methods that add to DenseCL start."""

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="densecl-imagenet-200ep",
        method=DenseCLConfig(init="openselfsup"),
        epochs=200,
        batch_size=256,
        optimizer=PAPER_SGD,
        schedule=PAPER_COSINE,
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2011.09157; code WXinlong/DenseCL",
        expected="VOC07+12 Faster R-CNN C4 AP 58.7; VOC12 FCN mIoU 69.4; COCO FCOS AP 40.9 (all code's README)",
        cost="8 V100: 2.3 days (code's README)",
    ),
    Recipe(
        name="densecl-coco-800ep",
        method=DenseCLConfig(init="openselfsup"),
        epochs=800,
        batch_size=256,
        optimizer=COCO_SGD,
        schedule=PAPER_COSINE,
        data="COCO train2017, 118 k images",
        paper="arXiv 2011.09157; code WXinlong/DenseCL",
        expected="VOC07+12 Faster R-CNN C4 AP 56.7; VOC12 FCN mIoU 67.5",
        cost="8 V100: 1.0 day (code's README)",
    ),
    small_recipe(
        "densecl-mini",
        MINI,
        epochs=20,
        warmup_epochs=2,
        paper="arXiv 2011.09157, with single cells as dense negatives, not their means",
        images_per_second=111,
    ),
)
