"""SwAV: online clustering, where each view predicts the cluster assignment of another.

Caron et al., Unsupervised Learning of Visual Features by Contrasting Cluster Assignments, NeurIPS 2020,
arXiv 2006.09882.
"""

# ruff: noqa: N803, N806 - the paper's symbols

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from pretrain.data.augment import simclr_colour
from pretrain.data.views import IMAGENET_MEAN, View, ViewPlan, ViewSpec
from pretrain.method import Method, MethodInfo
from pretrain.nets.architectures import backbone_for, width_of
from pretrain.nets.batchnorm import synchronised
from pretrain.nets.heads import norm_head
from pretrain.parts.distributed import gather, rank, world_size
from pretrain.parts.losses import embedding_std, full_precision, unit
from pretrain.parts.multicrop import by_size
from pretrain.parts.queues import Queue
from pretrain.recipes import CosineSchedule, LARSConfig, Recipe, SGDConfig, small_recipe


@dataclass(frozen=True)
class SwAVConfig:
    """SwAV as published, with two large and six small crops, for batches of 4,096."""

    backbone: str = "resnet50"
    hidden: int = 2048
    """Width of the projection head's hidden layer."""
    dim: int = 128
    """Width D of an embedding."""
    prototypes: int = 3000
    """Number K of prototypes."""
    temperature: float = 0.1
    epsilon: float = 0.05
    """Entropy's weight in the assignment: the larger, the softer are the codes."""
    sinkhorn_iterations: int = 3
    freeze_prototypes: int = 313
    """Steps at the start during which the prototypes stay as they are: one epoch of ImageNet at batch 4,096."""
    queue: int = 0
    """Embeddings of earlier batches that take part in the assignment, for each of the two large crops; a multiple of
    the global batch, or 0. For small batches: 3,840 at batch 256."""
    queue_start: int = 0
    """Finished steps before the queue begins to fill; it is used once it is full."""
    view_size: int = 224
    crop_scale: tuple[float, float] = (0.14, 1.0)
    """Range of a large crop's share of the image area."""
    small_crops: int = 6
    small_size: int = 96
    small_scale: tuple[float, float] = (0.05, 0.14)
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Range of the blur's standard deviation in pixels of the view."""

    def build(self, backbone: nn.Module | None = None) -> SwAV:
        """The freshly initialized method, on `backbone` if one is given."""
        return SwAV(self, backbone)


def swav_views(config: SwAVConfig) -> ViewPlan:
    """Two large crops, then the small ones, all colored alike."""
    colour = simclr_colour(config.blur_sigma)
    large = ViewSpec("large", config.view_size, config.crop_scale, colour=colour)
    small = ViewSpec("small", config.small_size, config.small_scale, colour=colour)
    # 0.228 for red, where everybody else writes 0.229, is the published code's and that of its checkpoints.
    return ViewPlan((large,) * 2 + (small,) * config.small_crops, mean=IMAGENET_MEAN, std=(0.228, 0.224, 0.225))


class SwAV(Method):
    """Swapped prediction of cluster assignments.

    z_v = unit(head(mean(backbone(x_v)))) for each of V views; C holds K unit prototypes; scores S_v = z_v C^T. For each
    large crop i in {0, 1}, the codes q_i are the assignment of the batch's z_i to prototypes that uses all prototypes
    equally (`sinkhorn`), a constant. The other views predict them:

        L_i = 1/(V - 1) sum_{v != i} mean_n( - sum_k q_i[n, k] log softmax(S_v[n] / T)[k] ),   L = (L_0 + L_1) / 2.

    Prototypes are scaled to unit length after the optimizer's step, which the code does before the forward pass.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="swav",
        name="SwAV",
        unit="image",
        partner="the other views' cluster assignments",
        loss="cross-entropy with balanced codes",
        second_network="none",
        negatives="none",
        paper="arXiv 2006.09882",
        fidelity="code",
        gpu_memory="33 / 64",
        uncertain=(
            "the blur is a Gaussian, where the code calls Pillow, which approximates one by box filters",
            "batch norm is synchronised over all processes, where the code's large runs use groups of 8",
            "recipes compute in fp32, where the code trains in mixed precision (float16)",
        ),
    )

    def __init__(self, config: SwAVConfig, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.plan = swav_views(config)
        self.backbone = synchronised(backbone_for(config.backbone, backbone))
        self.head: nn.Module = synchronised(
            norm_head(width_of(self.backbone), config.hidden, config.dim, bias=True, last_bias=True)
        )
        self.prototypes = nn.Linear(config.dim, config.prototypes, bias=False)
        self._normalise_prototypes()
        self.queues = nn.ModuleList(Queue(config.queue, config.dim) for _ in range(2 if config.queue else 0))
        self.steps = 0
        """Number of finished steps."""
        self._embeddings: Tensor | None = None

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """`loss`, and for the log: `positive` and `negative`, mean cosines of large crops of one and of two images;
        `accuracy`, the share of large crops whose best prototype is that of the other's code; `usage`, how many
        prototypes are predicted (the perplexity of the mean prediction, as a share of K); `std`.
        """
        T, n, V = self.config.temperature, len(views[0].pixels), len(views)
        z = unit(self.head(by_size(self.embed, [view.pixels for view in views])))
        with torch.autocast(z.device.type, enabled=False):
            S = F.linear(z, self.prototypes.weight.to(z.dtype)).view(V, n, -1)
            log_p = F.log_softmax(S / T, dim=2)
            z_large = z.detach().view(V, n, -1)[:2]
            codes = [self.codes(S[i].detach(), i) for i in (0, 1)]
            all_views = log_p.sum(0)
            terms = [-(q * (all_views - log_p[i])).sum(1).mean() / (V - 1) for i, q in enumerate(codes)]
            negative = z_large[0].mean(0) @ z_large[1].mean(0)
        self._embeddings = z_large
        self.embeddings = z_large[0]
        best = S[:2].detach().argmax(2)
        agrees = torch.stack([best[0] == codes[1].argmax(1), best[1] == codes[0].argmax(1)])
        p = log_p.detach().exp().mean((0, 1))
        return {
            "loss": (terms[0] + terms[1]) / 2,
            "positive": (z_large[0] * z_large[1]).sum(1).mean(),
            "negative": negative,
            "accuracy": agrees.to(z.dtype).mean(),
            "usage": torch.special.entr(p).sum().exp() / len(p),
            "std": embedding_std(self.embeddings),
        }

    def embed(self, x: Tensor) -> Tensor:
        """Images (N, 3, S, S) -> pooled features (N, width)."""
        return self.backbone(x).mean((2, 3))

    @torch.no_grad()
    def codes(self, S: Tensor, crop: int) -> Tensor:
        """Codes (n, K) of this process's images from their scores (n, K), assigned along with those of all processes
        and, once it is full, with the queue of that crop (whose embeddings meet the prototypes of now).
        """
        enqueued = (self.steps - self.config.queue_start) * len(S) * world_size()
        if self.queues and enqueued >= self.config.queue:
            queue: Tensor = self.queues[crop].keys  # type: ignore[assignment]
            share = queue.chunk(world_size())[rank()]
            S = torch.cat([F.linear(share, self.prototypes.weight).to(S.dtype), S])
            return sinkhorn(S, self.config.epsilon, self.config.sinkhorn_iterations)[len(share) :]
        return sinkhorn(S, self.config.epsilon, self.config.sinkhorn_iterations)

    @override
    def before_update(self, step: int, total_steps: int) -> None:
        """Freeze the prototypes at the start: without a gradient the optimizer applies no decay or momentum either."""
        if step <= self.config.freeze_prototypes:
            self.prototypes.weight.grad = None

    @override
    def after_step(self, step: int, total_steps: int) -> None:
        """Scale prototypes back to unit length; enqueue the large crops' embeddings once the queues have started."""
        if step > self.config.freeze_prototypes:
            self._normalise_prototypes()
        if self._embeddings is not None and step > self.config.queue_start:
            for queue, z in zip(self.queues, self._embeddings, strict=False):
                queue.enqueue(gather(z))  # type: ignore[operator]
        self._embeddings = None
        self.steps = step

    @torch.no_grad()
    def _normalise_prototypes(self) -> None:
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))

    @override
    def get_extra_state(self) -> Tensor:
        """Finished steps, on which the queue's use depends, for the state dict."""
        return torch.tensor(self.steps)

    @override
    def set_extra_state(self, state: Tensor) -> None:
        self.steps = int(state)


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Soft assignment of samples to K prototypes that are used nearly equally (Sinkhorn-Knopp): rows sum to 1.

    `scores` (n, K) are this process's; the n, which may differ from call to call but not between processes, count
    together. Scaling exp(scores / epsilon) alternately to equal prototype sums and to equal sample sums maximizes
    sum(q * scores) + epsilon * entropy. In full precision; the largest score is taken off first and nothing is left at
    zero, so that no epsilon overflows or divides by nothing.
    """
    with torch.autocast(scores.device.type, enabled=False):
        logits = full_precision(scores) / epsilon
        Q = (logits - gather(logits.amax()[None]).amax()).exp().clamp_min(torch.finfo(logits.dtype).tiny)
        B, K = len(Q) * world_size(), Q.shape[1]
        for _ in range(iterations):
            Q /= gather(Q.sum(0)[None]).sum(0) * K
            Q /= Q.sum(1, keepdim=True) * B
        return Q * B


PAPER_LARC = LARSConfig(lr=4.8, momentum=0.9, weight_decay=1e-6, variant="larc", exclude_norm_bias=False)
SMALL_BATCH_LARC = LARSConfig(lr=0.6, momentum=0.9, weight_decay=1e-6, variant="larc", exclude_norm_bias=False)
PAPER_COSINE = CosineSchedule(per="step", warmup_epochs=10, warmup_start=0.0625, final=0.001, warmup_full=True)

METHODS = (SwAV,)

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="swav-imagenet-200ep",
        method=SwAVConfig(),
        epochs=200,
        batch_size=4096,
        optimizer=PAPER_LARC,
        schedule=PAPER_COSINE,
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2006.09882; code facebookresearch/swav",
        expected="ImageNet linear 73.9",
        cost="64 GPUs with 64 images each (code)",
    ),
    Recipe(
        name="swav-imagenet-800ep",
        method=SwAVConfig(),
        epochs=800,
        batch_size=4096,
        optimizer=PAPER_LARC,
        schedule=PAPER_COSINE,
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2006.09882; code facebookresearch/swav",
        expected="ImageNet linear 75.3",
        cost="64 GPUs with 64 images each (code)",
    ),
    Recipe(
        name="swav-imagenet-200ep-batch256",
        method=SwAVConfig(freeze_prototypes=5005, queue=3840, queue_start=15 * 5004),
        epochs=200,
        batch_size=256,
        optimizer=SMALL_BATCH_LARC,
        schedule=CosineSchedule(per="step", final=0.001),
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2006.09882; code facebookresearch/swav",
        expected="ImageNet linear 72.7; COCO Mask R-CNN FPN 1x box AP 40.2, mask AP 36.3 (mmselfsup)",
        cost="4 GPUs with 64 images each (code)",
    ),
    small_recipe(
        "swav-mini",
        SwAVConfig(
            backbone="resnet18",
            hidden=512,
            prototypes=32,
            # At the paper's 0.05 the codes of these few, similar images are uniform, and the loss stays at ln K.
            epsilon=0.01,
            freeze_prototypes=46,
            view_size=64,
            crop_scale=(0.2, 1.0),
            small_crops=2,
            small_size=32,
            blur_sigma=(0.1, 1.0),
        ),
        epochs=16,
        batch_size=32,
        optimizer=SGDConfig(lr=0.03, momentum=0.9, weight_decay=1e-4),
        paper="arXiv 2006.09882",
        images_per_second=59,
    ),
)
