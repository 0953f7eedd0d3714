"""Hooks of a transfer run: guards at the first and last iteration, values of every iteration, checkpoints, progress."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from bench.errors import BenchError
from bench.heads import PretrainedHead, loads_head
from bench.openmmlab import guards
from bench.openmmlab.build import checkpoint_part, head_part, network_of, prove_backbone
from bench.openmmlab.devices import mean_losses, whole
from bench.openmmlab.loss_log import LossLog
from bench.protocols import TrainingPlan
from leaderboard.records import Card
from pretrain.run.history import duration
from pretrain.run.processes import Process

LINE_SECONDS = 60.0
"""Time after which a progress line is printed, beside those at each tenth of the run."""


class DivergedError(Exception):
    """The loss is not finite. This is a result, not a fault of the run: the row says so."""

    def __init__(self, text: str, images: list[str], values: dict[str, Any]) -> None:
        super().__init__(text)
        self.images = images
        """Paths of the batch's images."""
        self.values = values
        """Iteration, learning rate and losses."""


@dataclass
class Executed:
    """What was executed, by all processes that have worked on the run one after the other."""

    rates: list[float] = field(default_factory=list)
    """The learning rate of every iteration; that of the backbone where the head has its own."""
    head_rates: list[float] = field(default_factory=list)
    """The learning rate of the head."""
    losses: dict[str, float] = field(default_factory=dict)
    """Losses of the last iteration, by name."""
    images_seen: int = 0
    data_seconds: float = 0.0
    step_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    peak_memory_mib: float = 0.0
    """Peak memory in MiB of the processes before this one."""
    backbone_tensors: int = 0
    """Number of tensors proven equal to the checkpoint's when training began."""
    head_tensors: int = 0
    """Number of tensors of the pretrained head, proven likewise; 0 where the head starts at random."""

    @property
    def iterations(self) -> int:
        """Number of iterations that were executed."""
        return len(self.rates)


class GuardHook(Hook):
    """Runs every guard on what is about to be trained, and again on what was executed."""

    priority = "VERY_HIGH"

    def __init__(
        self,
        plan: TrainingPlan,
        card: Card,
        tensors: dict[str, Tensor],
        record: Executed,
        seed: int = 0,
        head: PretrainedHead | None = None,
    ) -> None:
        self.plan, self.card, self.tensors, self.record, self.seed = plan, card, tensors, record, seed
        self.head = head

    def before_train(self, runner: Runner) -> None:
        """Check model, loader, optimizer and schedulers, which are final before anything is trained."""
        model: Any = whole(runner.model)
        optimizer = runner.optim_wrapper.optimizer
        model.train()
        guards.check_preprocessor(model.data_preprocessor, self.card)
        guards.check_backbone(model.backbone, self.card, runner.world_size, frozen=self.plan.frozen)
        for name, part in model.named_children():
            if name != "backbone" or not self.plan.frozen:
                guards.check_trained(part, runner.world_size, name)
        guards.check_segmenter(model, self.plan)
        guards.check_no_other_weights(model, runner._load_from)
        guards.check_batch(runner.train_dataloader, self.plan, runner.world_size)
        guards.check_labels(runner.train_dataloader.dataset, self.plan, self.seed)
        guards.check_schedule(runner.max_iters, optimizer, runner.param_schedulers, self.plan)
        guards.check_head_rate(model, optimizer, self.plan)
        guards.check_weight_decay(model, optimizer, self.plan)
        self._backbone = checkpoint_part(model)
        self.record.backbone_tensors = prove_backbone(self._backbone, self.tensors)
        if self.head is not None:
            self.record.head_tensors = prove_backbone(head_part(model), dict(self.head.tensors), "head")
        if loads_head(self.plan, self.card) != (self.record.head_tensors > 0):
            raise BenchError(f"{self.record.head_tensors} tensors of a pretrained head were loaded, against the plan")

    def after_train(self, runner: Runner) -> None:
        """Check that what was planned was executed, and that a frozen backbone is still the checkpoint's, any other
        not."""
        guards.check_executed(runner.iter, self.record.rates, self.plan, self.record.head_rates)
        if self.plan.frozen:
            prove_backbone(self._backbone, self.tensors)
        else:
            network = network_of(self._backbone)
            guards.check_changed(network, self.tensors, runner.optim_wrapper.optimizer)


class RecordHook(Hook):
    """Keeps losses, learning rates, images and time of every iteration; stops a run whose loss is not finite."""

    # before ParamSchedulerHook (LOW), which sets the rate of the next iteration
    priority = "NORMAL"

    def __init__(self, record: Executed, log: LossLog | None = None, process: Process | None = None) -> None:
        self.record, self.log, self.process = record, log, process
        self._mark = 0.0

    def before_train(self, runner: Runner) -> None:
        """Note that the wait for the first batch begins."""
        self._mark = time.perf_counter()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Note that the batch has arrived."""
        now = time.perf_counter()
        self.record.data_seconds += now - self._mark
        self._mark = now

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Note the iteration's values after the weights' update; reading the losses also waits for an accelerator."""
        losses = {name: float(value.detach()) for name, value in (outputs or {}).items() if torch.is_tensor(value)}
        if self.process is not None:
            losses = mean_losses(losses, self.process)
        now = time.perf_counter()
        self.record.step_seconds += now - self._mark
        self._mark = now
        groups = runner.optim_wrapper.optimizer.param_groups
        rate = groups[0]["lr"]
        self.record.losses = losses
        self.record.rates.append(rate)
        self.record.head_rates.append(groups[-1]["lr"])
        self.record.images_seen += len(data_batch["inputs"]) * runner.world_size
        if self.log is not None:
            own = {} if groups[-1]["lr"] == rate else {"head_learning_rate": groups[-1]["lr"]}
            self.log.write(runner.iter + 1, rate, own | losses)
        wrong = [name for name, value in losses.items() if not math.isfinite(value)]
        if wrong:
            images = [sample.img_path for sample in data_batch["data_samples"]]
            raise DivergedError(
                f"{wrong[0]} was {losses[wrong[0]]} at iteration {runner.iter + 1}; "
                f"its images were {', '.join(Path(image).name for image in images)}",
                images,
                {"iteration": runner.iter + 1, "learning_rate": rate, "losses": losses},
            )

    def leave_out(self, seconds: float) -> None:
        """Count this time, which has just passed, as none of waiting for data."""
        self._mark += seconds


class ProgressHook(Hook):
    """Plain progress lines at each tenth of a run and each minute: iteration, losses, learning rate, time left."""

    priority = "LOW"

    def __init__(self, record: Executed) -> None:
        self.record = record
        self._first = 0
        self._started = self._shown = 0.0

    def before_train(self, runner: Runner) -> None:
        """Start the clock of the time left."""
        self._first = self.record.iterations
        self._started = self._shown = time.perf_counter()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Print a line if it is time."""
        done, total, now = runner.iter + 1, runner.max_iters, time.perf_counter()
        if done * 10 // total == (done - 1) * 10 // total and now - self._shown < LINE_SECONDS:
            return
        self._shown = now
        left = duration((now - self._started) / (done - self._first) * (total - done))
        losses = "  ".join(f"{name} {value:.3f}" for name, value in self.record.losses.items())
        print(f"iteration {done}/{total}  {losses}  lr {self.record.rates[-1]:.2g}  {left} left", flush=True)


class RehearsedError(Exception):
    """Enough iterations were timed: the run ends here."""


class RehearsalHook(Hook):
    """Ends a run after `passed` iterations and a few whose time counts, or after some seconds and one that counts.

    `record` is that of a `RecordHook`, which comes before.
    """

    priority = "LOWEST"

    def __init__(self, record: Executed, iterations: int, most_seconds: float, *, passed: int = 1) -> None:
        self.record, self.iterations, self.most_seconds, self.passed = record, iterations, most_seconds, passed
        self.seconds = self.data_seconds = 0.0
        """Mean seconds of the iterations that count: of the whole iteration, and of the wait for data in it."""
        self._ends: list[float] = []
        self._waits: list[float] = []

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        self._ends, self._waits = [time.perf_counter()], [0.0]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Look at the clock; raise `RehearsedError` when it is enough."""
        self._ends.append(time.perf_counter())
        self._waits.append(self.record.data_seconds)
        timed = len(self._ends) - 1 - self.passed
        enough = timed >= self.iterations or (timed >= 1 and self._ends[-1] - self._ends[0] > self.most_seconds)
        if enough or runner.iter + 1 == runner.max_iters:
            first = self.passed if timed >= 1 else 0  # of a run that is too short, all
            count = len(self._ends) - 1 - first
            self.seconds = (self._ends[-1] - self._ends[first]) / count
            self.data_seconds = (self._waits[-1] - self._waits[first]) / count
            raise RehearsedError
