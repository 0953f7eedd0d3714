"""Hooks of a transfer run: guards at the first and last iteration, figures of every iteration, plain progress lines."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from bench.openmmlab import guards
from bench.openmmlab.build import checkpoint_part, prove_backbone
from bench.protocols import TrainingPlan
from leaderboard.records import Card


class DivergedError(Exception):
    """The loss is not finite. This is a result, not a fault of the run: the row says so."""


@dataclass
class Executed:
    """What was executed, an entry an iteration."""

    losses: list[dict[str, float]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    images_seen: int = 0
    data_seconds: float = 0.0
    step_seconds: float = 0.0
    backbone_tensors: int = 0
    """Number of tensors proven equal to the checkpoint's when training began."""


class GuardHook(Hook):
    """Runs every guard on what is about to be trained, and again on what was executed."""

    priority = "VERY_HIGH"

    def __init__(self, plan: TrainingPlan, card: Card, tensors: dict[str, Tensor], record: Executed) -> None:
        self.plan, self.card, self.tensors, self.record = plan, card, tensors, record

    def before_train(self, runner: Runner) -> None:
        """Nothing has been trained yet: model, loader, optimizer and schedulers are final."""
        model = runner.model.module if hasattr(runner.model, "module") else runner.model
        optimizer = runner.optim_wrapper.optimizer
        model.train()
        guards.check_preprocessor(model.data_preprocessor, self.card)
        guards.check_backbone(model.backbone, self.card, runner.world_size)
        guards.check_trained(model, runner.world_size)
        guards.check_segmenter(model, self.plan)
        guards.check_no_other_weights(model, runner._load_from)
        guards.check_batch(runner.train_dataloader, self.plan, runner.world_size)
        guards.check_schedule(runner.max_iters, optimizer, runner.param_schedulers, self.plan)
        guards.check_weight_decay(model, optimizer, self.plan)
        self.record.backbone_tensors = prove_backbone(checkpoint_part(model), self.tensors)

    def after_train(self, runner: Runner) -> None:
        """Planned is executed."""
        guards.check_executed(runner.iter, self.record.rates, self.plan)


class RecordHook(Hook):
    """Keeps losses, learning rates, images and time of every iteration; stops a run whose loss is not finite."""

    # before ParamSchedulerHook (LOW), which sets the rate of the next iteration
    priority = "NORMAL"

    def __init__(self, record: Executed) -> None:
        self.record = record
        self._mark = 0.0

    def before_train(self, runner: Runner) -> None:
        """The wait for the first batch begins."""
        self._mark = time.perf_counter()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """The batch has arrived."""
        now = time.perf_counter()
        self.record.data_seconds += now - self._mark
        self._mark = now

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Weights are updated; reading the losses also waits for an accelerator."""
        losses = {name: float(value.detach()) for name, value in (outputs or {}).items() if torch.is_tensor(value)}
        now = time.perf_counter()
        self.record.step_seconds += now - self._mark
        self._mark = now
        self.record.losses.append(losses)
        self.record.rates.append(runner.optim_wrapper.optimizer.param_groups[0]["lr"])
        self.record.images_seen += len(data_batch["inputs"]) * runner.world_size
        wrong = [name for name, value in losses.items() if not math.isfinite(value)]
        if wrong:
            raise DivergedError(f"{wrong[0]} was {losses[wrong[0]]} at iteration {runner.iter + 1}")


class ProgressHook(Hook):
    """Ten plain lines a run: iteration, losses, learning rate, time left."""

    priority = "LOW"

    def __init__(self, record: Executed) -> None:
        self.record = record
        self._started = time.perf_counter()

    def before_train(self, runner: Runner) -> None:
        """The clock of the time left starts."""
        self._started = time.perf_counter()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Print a line at every tenth of the run."""
        done, total = runner.iter + 1, runner.max_iters
        if done * 10 // total == (done - 1) * 10 // total:
            return
        left = (time.perf_counter() - self._started) / done * (total - done)
        losses = "  ".join(f"{name} {value:.3f}" for name, value in self.record.losses[-1].items())
        print(f"iteration {done}/{total}  {losses}  lr {self.record.rates[-1]:.2g}  {left:.0f} s left", flush=True)
