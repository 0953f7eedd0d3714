"""Segmentation heads that were pretrained with their backbone, and which only the protocols of track heads load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from bench.errors import BenchError
from bench.protocols import Protocol, TrainingPlan
from leaderboard.records import RANDOM_METHOD, Card
from pretrain.errors import PretrainError
from pretrain.exported import read_card, read_head


@dataclass(frozen=True)
class PretrainedHead:
    """A head, without the classifier that a fine-tuning adds."""

    tensors: Mapping[str, Tensor]
    """By MMSegmentation's names."""
    sha256: str
    """Hash of `head.safetensors`."""


def pretrained_head(protocol: Protocol, checkpoint: Path) -> PretrainedHead | None:
    """The head that `protocol` loads from the exported folder `checkpoint`; None where heads start at random: under
    other protocols, and of random initialization, the zero of every table.

    Raises:
        BenchError: the folder has no head, or a damaged one.
    """
    if not (isinstance(protocol.plan, TrainingPlan) and loads_head(protocol.plan, read_card(checkpoint))):
        return None
    try:
        return PretrainedHead(*read_head(checkpoint))
    except PretrainError as error:
        raise BenchError(f"{protocol.id} starts from a pretrained head: {error}") from error


def loads_head(plan: TrainingPlan, card: Card) -> bool:
    """Whether the head of this checkpoint is loaded under a protocol with this plan."""
    return plan.pretrained_head and card.method != RANDOM_METHOD


def head_hash(protocol: Protocol, checkpoint: Path) -> str | None:
    """The hash of :func:`pretrained_head`."""
    head = pretrained_head(protocol, checkpoint)
    return None if head is None else head.sha256
