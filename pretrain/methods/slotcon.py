"""SlotCon: cells are grouped by prototypes into slots, and each slot is told from all others of the batch.

Wen et al., Self-Supervised Visual Representation Learning with Semantic Grouping, NeurIPS 2022, arXiv 2205.15288.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from pretrain.data.views import View, ViewPlan
from pretrain.method import Method, MethodInfo
from pretrain.methods.byol import byol_views
from pretrain.nets.architectures import backbone_for, width_of
from pretrain.nets.batchnorm import synchronised
from pretrain.optim.optimizers import LARSConfig
from pretrain.parts.distributed import gather, mean_where, rank, world_size
from pretrain.parts.geometry import align, overlap, upright
from pretrain.parts.losses import embedding_std, full_precision, unit
from pretrain.parts.momentum import Momentum, momentum_at
from pretrain.parts.turns import in_turns, rows_at_once
from pretrain.recipes import CosineSchedule, Recipe, small_recipe
from pretrain.settings import ADDED


@dataclass(frozen=True)
class SlotConConfig:
    """SlotCon as published for COCO; on ImageNet it has 2048 prototypes."""

    backbone: str = "resnet50"
    hidden: int = 4096
    """Width of the heads' two hidden layers."""
    dim: int = 256
    """Width D of a projected cell, a prototype and a slot."""
    prototypes: int = 256
    """Number K of prototypes."""
    student_temperature: float = 0.1
    teacher_temperature: float = 0.07
    """Temperature of the teacher's assignments, and of both networks' assignments of cells to slots."""
    contrast_temperature: float = 0.2
    """tau, the temperature of the contrast between slots."""
    grouping_weight: float = 0.5
    """Weight of the grouping loss in [0, 1]; the slots' contrast has the rest."""
    centre_momentum: float = 0.9
    momentum: float = 0.99
    """Momentum of the teacher at the start; it rises to 1 along a cosine."""
    view_size: int = 224
    """Side of a view in pixels."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Range of a crop's share of the image area."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Range of the blur's standard deviation in pixels of the view."""
    zero_init_residual: bool = field(default=True, metadata=ADDED)
    """Start residual blocks as identities."""

    def build(self, backbone: nn.Module | None = None) -> SlotCon:
        """The freshly initialized method, on `backbone` if one is given."""
        return SlotCon(self, backbone)


def overlapping_views(config: SlotConConfig) -> ViewPlan:
    """BYOL's two views, the second drawn so that at least a hundredth of it lies in the first (if ten draws allow)."""
    plan = byol_views(config.view_size, config.crop_scale, config.blur_sigma)
    first, second = plan.specs
    return replace(plan, specs=(first, replace(second, overlap=(first.name, 0.01))))


class Grouped(NamedTuple):
    """One view's map seen through the prototypes."""

    scores: Tensor
    """Cosines of prototypes and cells (N, K, H, W)."""
    slots: Tensor
    """The mean of the cells, each weighted by its share in the slot (N, K, D)."""

    @property
    def present(self) -> Tensor:
        """Which slots are the first choice of at least one cell: bool (N, K)."""
        first = self.scores.flatten(2).argmax(1)
        return torch.zeros_like(self.slots[..., 0], dtype=torch.bool).scatter_(1, first, True)


class SlotCon(Method):
    """Student and teacher (its momentum copy) project the cells x of each view and share them out among K prototypes.

    With the cosines d_k of a cell and the prototypes and a_k = softmax_k(d / 0.07) + 1e-6, slot k of an image is the
    mean of its cells weighted by a_k. Two losses, each summed over both directions between the views:

        grouping   the teacher's softmax((d' - center) / 0.07) is to be predicted by the student's softmax(d / 0.1), by
                   cross entropy, at H x W places of what both views show, where the maps d and d' are sampled;
        slots      2 tau times InfoNCE with temperature tau: the predicted student slot against the teacher's slot of
                   the same image and prototype in the other view, among all the teacher's slots of the batch.

    A slot is a query where it is the first choice of a cell in both views, and a key where it is in the teacher's. The
    center follows the teacher's mean cosines. The teacher is what is exported, as it is what the authors transfer.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        id="slotcon",
        name="SlotCon",
        unit="group of cells",
        partner="the other view: cells at the same place, slots of the same prototype",
        loss="cross entropy of assignments, InfoNCE of slots",
        second_network="momentum",
        negatives="other slots of the batch",
        paper="arXiv 2205.15288",
        fidelity="code",
        gpu_memory="22 to 25 / 41 to 45",
        uncertain=(
            "an image whose views share nothing is left out of the grouping loss; the code samples an inverted box",
            "the slots' loss is the mean over the slots of all processes; in the code over each process's own first",
            "recipes compute in fp32, where the code trains in mixed precision (float16)",
            "the blur is a Gaussian, where the code calls Pillow, which approximates one by box filters",
        ),
    )

    def __init__(self, config: SlotConConfig, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.plan = overlapping_views(config)
        self.student_backbone = synchronised(
            backbone_for(config.backbone, backbone, zero_init_residual=config.zero_init_residual)
        )
        width = width_of(self.student_backbone)
        self.projector = synchronised(slot_head(width, config.hidden, config.dim, dense=True))
        self.prototypes = nn.Embedding(config.prototypes, config.dim)
        self.predictor = synchronised(slot_head(config.dim, config.hidden, config.dim))
        self.teacher = Momentum(backbone=self.student_backbone, projector=self.projector, prototypes=self.prototypes)
        self.backbone = self.teacher.backbone
        self.centre: Tensor
        self.register_buffer("centre", torch.zeros(config.prototypes))
        self._mean_scores: Tensor | None = None

    @override
    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        """`loss`, its parts `loss_grouping` and `loss_slots`, and for the log:

        of the slots' contrast `positive`, `negative` and `accuracy`, as InfoNCE's; `slots`, the mean number of slots
        that an image's cells choose first, and `prototypes`, the share of all prototypes that the batch uses; `std`,
        the spread of the predicted slots.
        """
        student = [self.grouped(self.projector(self.student_backbone(v.pixels)), self.prototypes.weight) for v in views]
        with torch.no_grad():
            teacher = [
                self.grouped(self.teacher.projector(self.backbone(v.pixels)), self.teacher.prototypes.weight)
                for v in views
            ]
            self._mean_scores = torch.stack([group.scores.mean((0, 2, 3)) for group in teacher]).mean(0)

        size = teacher[0].scores.shape[-1]
        box, exists = overlap(views[0], views[1])
        shared = upright(box)
        s, t = (
            [align(group.scores, view, shared, size)[0] for group, view in zip(groups, views, strict=True)]
            for groups in (student, teacher)
        )
        grouping = self.grouping(s[0], t[1], exists) + self.grouping(s[1], t[0], exists)
        pairs = ((student[0], teacher[1]), (student[1], teacher[0]))
        there, back = (self.contrast(*pair, chosen) for pair, chosen in zip(pairs, choose(pairs), strict=True))
        slots = there.loss + back.loss
        present = torch.stack([group.present for group in student])
        self.embeddings = there.queries.detach()
        weight = self.config.grouping_weight
        return {
            "loss": weight * grouping + (1 - weight) * slots,
            "loss_grouping": grouping.detach(),
            "loss_slots": slots.detach(),
            "positive": (there.positive + back.positive) / 2,
            "negative": (there.negative + back.negative) / 2,
            "accuracy": (there.accuracy + back.accuracy) / 2,
            "slots": present.sum(2).float().mean(),
            "prototypes": present.flatten(0, 1).any(0).float().mean(),
            "std": embedding_std(there.queries),
        }

    @override
    def after_step(self, step: int, total_steps: int) -> None:
        """Update the teacher and its center."""
        m = momentum_at(step + 1, total_steps, self.config.momentum, "cosine")
        self.teacher.update(m)
        if self._mean_scores is not None:
            self.centre.lerp_(gather(self._mean_scores[None]).mean(0).to(self.centre), 1 - self.config.centre_momentum)
            self._mean_scores = None

    def grouped(self, x: Tensor, prototypes: Tensor) -> Grouped:
        """Cosines and slots of projected maps (N, D, H, W) for prototypes (K, D)."""
        with torch.autocast(x.device.type, enabled=False):
            cells = full_precision(x).flatten(2)
            scores = unit(prototypes) @ unit(cells)
            share = (scores / self.config.teacher_temperature).softmax(1) + 1e-6
            slots = (share / share.sum(2, keepdim=True)) @ cells.transpose(1, 2)
        return Grouped(scores.unflatten(2, x.shape[2:]), slots)  # type: ignore[no-untyped-call]

    def grouping(self, student: Tensor, teacher: Tensor, exists: Tensor) -> Tensor:
        """Cross entropy of assignments from aligned cosines (N, K, H, W), over the images of which `exists` holds."""
        wanted = ((teacher - self.centre[:, None, None]) / self.config.teacher_temperature).softmax(1)
        predicted = (student / self.config.student_temperature).log_softmax(1)
        each = -(wanted * predicted).sum(1).mean((1, 2))
        return mean_where(each, exists)

    def contrast(self, student: Grouped, teacher: Grouped, chosen: Chosen) -> Contrast:
        """Predicted student slots against the teacher's of the global batch, `chosen` for this pair of views."""
        queries, n = student.slots.flatten(0, 1)[chosen.queries], len(chosen.queries)
        total = sum(chosen.query_counts)
        if min(chosen.query_counts) == 0 or total == 1:
            # Nothing to normalize over in some process; rare with more than a handful of images.
            nothing = queries.sum() * 0 + sum(p.sum() * 0 for p in self.predictor.parameters())
            zero = nothing.detach()
            return Contrast(nothing, zero, zero, zero, queries.new_zeros(1, self.config.dim))
        queries = unit(self.predictor(queries))
        keys = gather_rows(unit(teacher.slots.flatten(0, 1)[chosen.keys]), chosen.key_counts)
        tau = self.config.contrast_temperature
        with torch.autocast(queries.device.type, enabled=False):
            loss, correct = cross_entropy_sums(queries, keys, chosen.labels, tau)
        positive = (queries * keys[chosen.labels]).sum().detach()
        everything = (queries.sum(0) * keys.sum(0)).sum().detach()
        return Contrast(
            2 * tau * (loss * world_size() / total),
            positive / n,
            (everything - positive) / max(1, n * (len(keys) - 1)),
            correct / n,
            queries,
        )


class Contrast(NamedTuple):
    """One direction of the slots' loss; detached, the scalars of `losses.InfoNCE`; and the predictions."""

    loss: Tensor
    positive: Tensor
    negative: Tensor
    accuracy: Tensor
    queries: Tensor


class Chosen(NamedTuple):
    """Which slots take part in one direction: `queries` (R,) and `keys` (M,) are places among this process's N K."""

    queries: Tensor
    keys: Tensor
    labels: Tensor
    """Index of each query's own key among the keys of all processes (R,)."""
    query_counts: list[int]
    """Number R of queries of every process."""
    key_counts: list[int]
    """Number M of keys of every process."""


@torch.no_grad()
def choose(pairs: Sequence[tuple[Grouped, Grouped]]) -> list[Chosen]:
    """Which slots of each pair of student and teacher take part.

    Here the host waits for the device, once a step: the predictor's batch norm is over as many rows as there are
    slots, which only the device knows.
    """
    masks = [(student.present & teacher.present, teacher.present) for student, teacher in pairs]
    counts = gather(torch.stack([mask.sum() for pair in masks for mask in pair])[None]).cpu().T.tolist()
    found = []
    for (common, kept), query_counts, key_counts in zip(masks, counts[::2], counts[1::2], strict=True):
        queries, keys = places(common, query_counts[rank()]), places(kept, key_counts[rank()])
        labels = (kept.flatten().cumsum(0) - 1)[queries] + sum(key_counts[: rank()])
        found.append(Chosen(queries, keys, labels, query_counts, key_counts))
    return found


def places(mask: Tensor, count: int) -> Tensor:
    """The `count` places of the flattened `mask` where it holds, in order: int64 (count,)."""
    return (~mask).flatten().to(torch.uint8).argsort(stable=True)[:count]


@torch.no_grad()
def gather_rows(x: Tensor, counts: Sequence[int]) -> Tensor:
    """Rows (n, ...) of all processes, n in `counts`, in the order of ranks."""
    if world_size() == 1:
        return x.detach()
    padded = gather(torch.cat([x, x.new_zeros(max(counts) - len(x), *x.shape[1:])])[None])
    return torch.cat([rows[:n] for rows, n in zip(padded, counts, strict=True)])


def cross_entropy_sums(queries: Tensor, keys: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Sums over queries (R, D) of the cross entropy with the keys (M, D) that `labels` name, and of correct choices."""

    def part(q: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        logits = q @ keys.T / temperature
        return F.cross_entropy(logits, label, reduction="sum"), (logits.detach().argmax(1) == label).sum()

    losses, correct = zip(*in_turns(part, rows_at_once(len(keys)), queries, labels), strict=True)
    return torch.stack(losses).sum(), torch.stack(correct).sum()


def slot_head(width: int, hidden: int, dim: int, *, dense: bool = False) -> nn.Sequential:
    """DINO's head without its last layer: rows (N, width) -> (N, dim), or with `dense` the same at every cell of maps.

    Three layers with biases, batch norm and GELU between them; weights start truncated normal (0.02), biases at zero.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in ((width, hidden), (hidden, hidden), (hidden, dim)):
        linear = nn.Conv2d(inputs, outputs, 1) if dense else nn.Linear(inputs, outputs)
        nn.init.trunc_normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.get_parameter("bias"))
        layers += [linear, nn.BatchNorm2d(outputs) if dense else nn.BatchNorm1d(outputs), nn.GELU()]
    return nn.Sequential(*layers[:-2])


PAPER_LARS = LARSConfig(lr=2.0, momentum=0.9, weight_decay=1e-5)
"""LARS with a base rate of 1 per batch of 256; vectors are neither decayed nor adapted."""
PAPER_COSINE = CosineSchedule(per="step", warmup_epochs=5, warmup_start=0.01, final=5e-7)
"""Schedule that rises from a hundredth of the rate and then falls to 1e-6."""
PAPER_COST = "8 GPUs with 64 images each, mixed precision; hours not published"

METHODS = (SlotCon,)

RECIPES: tuple[Recipe, ...] = (
    *(
        Recipe(
            name=f"slotcon-imagenet-{epochs}ep",
            method=SlotConConfig(prototypes=2048),
            epochs=epochs,
            batch_size=512,
            optimizer=PAPER_LARS,
            schedule=PAPER_COSINE,
            data="ImageNet-1k train, 1.28 M images",
            paper="arXiv 2205.15288; code CVMI-Lab/SlotCon",
            expected=f"COCO Mask R-CNN FPN (4conv-1fc) 1x box AP {box}, mask AP {mask}",
            cost=PAPER_COST,
        )
        for epochs, box, mask in ((100, 41.4, 37.2), (200, 41.8, 37.8))
    ),
    Recipe(
        name="slotcon-coco-800ep",
        method=SlotConConfig(),
        epochs=800,
        batch_size=512,
        optimizer=PAPER_LARS,
        schedule=PAPER_COSINE,
        data="COCO train2017, 118 k images",
        paper="arXiv 2205.15288; code CVMI-Lab/SlotCon",
        expected="COCO Mask R-CNN FPN (4conv-1fc) 1x box AP 41.0, mask AP 37.0",
        cost=PAPER_COST,
    ),
    small_recipe(
        "slotcon-mini",
        SlotConConfig(
            backbone="resnet18",
            hidden=512,
            dim=128,
            prototypes=64,
            # At the paper's 0.07 and 0.5 all cells shared the slots equally, and few prototypes were ever used.
            teacher_temperature=0.03,
            grouping_weight=0.2,
            momentum=0.98,
            view_size=96,
            crop_scale=(0.2, 1.0),
            blur_sigma=(0.1, 1.0),
            zero_init_residual=False,
        ),
        epochs=16,
        batch_size=32,
        paper="arXiv 2205.15288, with a teacher's temperature and a weight of grouping of its own; views of 96 pixels, "
        "so that a map has 3 x 3 cells",
        images_per_second=28,
    ),
)
