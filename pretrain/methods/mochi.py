"""MoCHi: MoCo v2 with harder negatives, mixed in the space of embeddings.

Kalantidis et al., Hard Negative Mixing for Contrastive Learning, NeurIPS 2020, arXiv 2010.01028.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from pretrain.errors import PretrainError
from pretrain.method import MethodInfo
from pretrain.methods.moco import PAPER_COSINE, PAPER_SGD, MoCo, MoCoConfig
from pretrain.parts.distributed import rank, world_size
from pretrain.parts.losses import InfoNCE, info_nce
from pretrain.parts.queues import nearest
from pretrain.recipes import Recipe, small_recipe


@dataclass(frozen=True)
class MoCHiConfig(MoCoConfig):
    """MoCHi(N, s, s') with N = `hardest`, s = `mixed`, s' = `mixed_with_query`; everything else as in MoCo v2."""

    hardest: int = 1024
    """N, the number of negatives nearest to a query, from which its own are mixed; at most the queue's size."""
    mixed: int = 512
    """s, the number of mixtures of two hard negatives for each query."""
    mixed_with_query: int = 256
    """s', the number of mixtures of a hard negative with the query itself."""
    warmup: float = 0.05
    """Share of all steps before mixing starts: 10 of 200 epochs."""

    @override
    def build(self, backbone: nn.Module | None = None) -> MoCHi:
        return MoCHi(self, backbone)


class MoCHi(MoCo):
    """Momentum contrast in which each query also has negatives that are mixed for it alone.

    Of the queue's keys, P_N(q) are the N with the largest q.n. From these, with replacement,

        h_k  = unit(a n_i + (1 - a) n_j),  a ~ U(0, 1),    n_i, n_j in P_N,  k = 1 .. s
        h'_k = unit(b q + (1 - b) n_j),    b ~ U(0, 0.5),  n_j in P_N,       k = 1 .. s'

    join the logits of q: L = -log(exp(q.k / T) / (exp(q.k / T) + sum over n, h and h' of exp(q.n / T))). Mixtures are
    constants, also the query inside them; only the query outside receives a gradient. They are never enqueued. Memory:
    (s + s') C numbers a query. A mixture with another view of the same image in it is not left out.
    """

    info: ClassVar[MethodInfo] = replace(
        MoCo.info,
        id="mochi",
        name="MoCHi",
        negatives="queue; mixtures of its hardest with each other and with the query",
        paper="arXiv 2010.01028",
        fidelity="reconstruction",
        uncertain=(
            *MoCo.info.uncertain,
            "written from three independent ports, which agree on the loss; neither the paper's text nor its code "
            "could be read",
            "mixing starts after 10 epochs in the ports; stated here as a share of all steps, so that it follows "
            "the length of a run",
            "N, s and s' of the released models are quoted from memory",
            "on how many devices, and so with how many parts of batch norm, the authors trained is not known: here "
            "MoCo v2's 8",
        ),
    )
    config: MoCHiConfig

    def __init__(self, config: MoCHiConfig, backbone: nn.Module | None = None) -> None:
        super().__init__(config, backbone)
        if not 1 <= config.hardest <= config.queue:
            raise PretrainError(
                f"the {config.hardest} hardest negatives must be at least 1 and at most the queue of {config.queue}; "
                "change method.hardest"
            )
        self.mixing = config.warmup == 0
        """Whether the next step mixes."""

    @override
    def contrast(self, q: Tensor, k: Tensor) -> InfoNCE:
        """MoCo's loss, with the mixtures of each query among its negatives once the warm-up is over."""
        if not self.mixing:
            return super().contrast(q, k)
        return info_nce(q, k, self.queue.keys, self.config.temperature, own_negatives=self.mixtures(q))

    @override
    def after_step(self, step: int, total_steps: int) -> None:
        """Update what MoCo updates, and end the warm-up."""
        super().after_step(step, total_steps)
        self.mixing = step >= self.config.warmup * total_steps

    @torch.no_grad()
    def mixtures(self, q: Tensor) -> Tensor:
        """The mixtures h, then h', of unit queries (N, C): unit vectors (N, s + s', C)."""
        n = self.queue.keys
        hard = nearest(q, n, self.config.hardest)
        share, i, j = self.draw(q)
        partner = q[:, None].expand(-1, self.config.mixed_with_query, -1)
        first, second = torch.cat([n[hard.gather(1, i)], partner], dim=1), n[hard.gather(1, j)]
        h = torch.lerp(second, first, share[:, :, None], out=first)
        return h.div_(h.norm(dim=2, keepdim=True).clamp_min_(torch.finfo(h.dtype).tiny))

    def draw(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Random numbers for the mixtures of this process's queries (N, C), drawn for all processes alike.

        Returns the shares, a then b (N, s + s'), and ranks in P_N: of n_i (N, s) and of n_j (N, s + s').
        """
        s, s_prime, among = self.config.mixed, self.config.mixed_with_query, self.config.hardest
        n = len(q) * world_size()
        share = torch.rand(n, s + s_prime, dtype=q.dtype, device=q.device)
        share[:, s:] *= 0.5
        i = torch.randint(among, (n, s), device=q.device)
        j = torch.randint(among, (n, s + s_prime), device=q.device)
        part = slice(rank() * len(q), (rank() + 1) * len(q))
        return share[part], i[part], j[part]

    @override
    def get_extra_state(self) -> Tensor:
        """MoCo's extra state, and whether the warm-up is over."""
        return torch.cat([super().get_extra_state(), torch.tensor([self.mixing])])

    @override
    def set_extra_state(self, state: Tensor) -> None:
        super().set_extra_state(state[:-1])
        self.mixing = bool(state[-1])


METHODS = (MoCHi,)

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="mochi-imagenet-200ep",
        method=MoCHiConfig(),
        epochs=200,
        batch_size=256,
        optimizer=PAPER_SGD,
        schedule=PAPER_COSINE,
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2010.01028",
        expected="no value verified; from memory: ImageNet linear 68.0, VOC07+12 Faster R-CNN C4 AP 56.7 (MoCo v2 of "
        "the same authors 67.9 and 56.8)",
        cost="as moco-v2-imagenet-200ep",
    ),
    Recipe(
        name="mochi-imagenet-200ep-128-1024-512",
        method=MoCHiConfig(hardest=128, mixed=1024, mixed_with_query=512),
        epochs=200,
        batch_size=256,
        optimizer=PAPER_SGD,
        schedule=PAPER_COSINE,
        data="ImageNet-1k train, 1.28 M images",
        paper="arXiv 2010.01028",
        expected="no value verified; from memory: ImageNet linear 66.9, VOC07+12 Faster R-CNN C4 AP 57.5",
        cost="as moco-v2-imagenet-200ep",
    ),
    Recipe(
        name="mochi-imagenet100-200ep",
        method=MoCHiConfig(mixed=1024, mixed_with_query=128, queue=16384),
        epochs=200,
        batch_size=128,
        optimizer=PAPER_SGD,
        schedule=PAPER_COSINE,
        data="ImageNet-100 train, 127 k images",
        paper="arXiv 2010.01028",
        expected="no value verified; from memory: ImageNet-100 linear 79.0 (MoCo v2 78.0)",
        cost="about 5 % of moco-v2-imagenet-200ep",
    ),
    small_recipe(
        "mochi-mini",
        MoCHiConfig(
            backbone="resnet18",
            hidden=512,
            queue=256,
            momentum=0.99,
            view_size=64,
            blur_sigma=(0.1, 1.0),
            bn_splits=2,
            hardest=128,
            mixed=64,
            mixed_with_query=32,
        ),
        epochs=20,
        warmup_epochs=2,
        paper="arXiv 2010.01028",
        images_per_second=115,
    ),
)
