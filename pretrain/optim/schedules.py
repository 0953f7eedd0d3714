"""Learning-rate schedules: pure functions of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Literal

from typing_extensions import override

from pretrain.settings import ADDED


@dataclass(frozen=True)
class CosineSchedule:
    """Half a cosine from the base rate down to `final` times it, after a linear warm-up from `warmup_start` times it.

    `per` says when the rate changes: once per epoch as in MoCo's code, or at every step as in BYOL and SimCLR. In the
    warm-up it always changes at every step: step s of W has u + (1 - u) s / W of the base rate, where u is the start.
    With `warmup_full`, the last step of the warm-up has the base rate already, and so has the next: s / (W - 1), as in
    the code of DINO and of SwAV (by `numpy.linspace`). `final=1` gives a constant rate.
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


def curriculum(progress: float, start: int, end: int) -> int:
    """R2O's number of clusters after the share `progress` of all steps: a quarter cosine from `start` to `end`.

    >>> [curriculum(epoch / 300, 128, 4) for epoch in (1, 50, 100, 150, 200, 250, 275, 290, 300)]
    [127, 123, 111, 91, 66, 36, 20, 10, 4]
    """
    return int(math.cos(math.pi / 2 * progress) * (start - end) + end)


@dataclass(frozen=True)
class CurriculumSchedule(CosineSchedule):
    """A cosine schedule times K / `clusters_of_lr`, with K the number of clusters of R2O's curriculum."""

    clusters: tuple[int, int] = (128, 4)
    """Number of clusters K at the start and at the end."""
    clusters_of_lr: float = 16.0
    """Number of clusters to which the base rate refers."""

    @override
    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """Share of the base rate that step `step` (counted from 0) uses."""
        clusters = curriculum(step / (steps_per_epoch * epochs), *self.clusters)
        return super().factor(step, steps_per_epoch, epochs) * clusters / self.clusters_of_lr


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
