"""Learning-rate schedules: pure functions of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Literal

from pretrain.settings import ADDED


@dataclass(frozen=True)
class CosineSchedule:
    """Half a cosine from the base rate down to `final` times it, after a linear warm-up from `warmup_start` times it.

    `per` says when the rate moves: once an epoch as in MoCo's code, or at every step as in BYOL and SimCLR. The
    warm-up always moves at every step: step s of W has u + (1 - u) s / W of the base rate, with u the start. With
    `warmup_full` its last step has the base rate already, and so has the next: s / (W - 1) (the codes of DINO and SwAV,
    by `numpy.linspace`). A rate that stays is `final=1`.
    """

    per: Literal["epoch", "step"] = "step"
    warmup_epochs: float = 0.0
    final: float = 0.0
    warmup_start: float = field(default=0.0, metadata=ADDED)
    warmup_full: bool = field(default=False, metadata=ADDED)

    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """Share of the base rate that step `step` (counted from 0) uses."""
        warmup = round(self.warmup_epochs * steps_per_epoch)
        if step < warmup:
            return self.warmup_start + (1 - self.warmup_start) * step / max(1, warmup - self.warmup_full)
        moved = step // steps_per_epoch * steps_per_epoch if self.per == "epoch" else step
        progress = max(0, moved - warmup) / max(1, steps_per_epoch * epochs - warmup)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class StepSchedule:
    """The base rate times `gamma` for every milestone (in finished epochs) that has passed, after a linear warm-up."""

    milestones: tuple[int, ...]
    gamma: float = 0.1
    warmup_epochs: float = 0.0
    warmup_start: float = field(default=0.0, metadata=ADDED)

    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """Share of the base rate that step `step` (counted from 0) uses."""
        warmup = round(self.warmup_epochs * steps_per_epoch)
        if step < warmup:
            return self.warmup_start + (1 - self.warmup_start) * step / warmup
        return self.gamma ** bisect_right(sorted(self.milestones), step // steps_per_epoch)


Schedule = CosineSchedule | StepSchedule
