"""A learning rate that falls along a cosine in steps of an epoch, as PyTorch's schedule in most papers' code does.

mmengine's own counts either epochs, which a loop of iterations does not have, or falls with each iteration; and it
multiplies each rate by a factor to get the next, which loses digits over hundreds of thousands of iterations. Import
after :func:`bench.openmmlab.prepare_openmmlab`, which does.
"""

from __future__ import annotations

import math
from typing import Any

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class SteppedCosineLR(LRSchedulerMixin, _ParamScheduler):
    """At iteration t the first rate times (1 + cos(pi s / S)) / 2, where s = t // `every` and S = `end` / `every`.

    The last `every` iterations have the rate of s = S - 1, which is above 0.

    Args:
        optimizer: whose groups' rates are set.
        every: iterations with one rate; 1 lets it fall with each iteration.
        end: iterations of the whole schedule, a multiple of `every`.
    """

    def __init__(self, optimizer: Any, *, every: int, end: int, **more: Any) -> None:
        if every < 1 or end % every:
            raise ValueError(f"{end} iterations are no multiple of {every}")
        self.every, self.steps = every, end // every
        super().__init__(optimizer, end=end, **more)

    def _get_value(self) -> list[float]:
        step = min(self.last_step // self.every, self.steps)
        return [base * (1 + math.cos(math.pi * step / self.steps)) / 2 for base in self.base_values]
