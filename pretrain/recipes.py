"""A recipe is data: the method's config and everything else that decides the final weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from pretrain.method import Method
from pretrain.optimizers import OptimizerConfig, SGDConfig
from pretrain.schedules import CosineSchedule, Schedule, StepSchedule

__all__ = [
    "CosineSchedule",
    "MethodConfig",
    "OptimizerConfig",
    "Recipe",
    "SGDConfig",
    "Schedule",
    "StepSchedule",
]

PROSE = {"prose": True}
"""Marks fields that describe a recipe for people: they are not part of its hash."""


class MethodConfig(Protocol):
    """A method's frozen config dataclass: it names its backbone and builds its method."""

    @property
    def backbone(self) -> str:
        """Architecture for `pretrain.backbones.build_backbone`."""
        ...

    def build(self) -> Method:
        """The freshly initialised method."""
        ...


@dataclass(frozen=True)
class Recipe:
    """One way of pretraining. `batch_size` is global: over all processes of a step."""

    name: str
    method: MethodConfig
    epochs: int
    batch_size: int
    optimizer: OptimizerConfig
    schedule: Schedule
    precision: Literal["fp32", "bf16"] = "fp32"
    data: str = field(default="", metadata=PROSE)
    """What the paper pretrained on."""
    paper: str = field(default="", metadata=PROSE)
    expected: str = field(default="", metadata=PROSE)
    """Published scores of this recipe."""
    cost: str = field(default="", metadata=PROSE)
    """Rough cost of a run."""

    @property
    def backbone(self) -> str:
        """The backbone's architecture."""
        return self.method.backbone
