"""A method in training, step by step: exactly the step of `pretrain.run.train`, on any views."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from pretrain.data.batches import ImageSource
from pretrain.data.views import View
from pretrain.parts.losses import effective_rank
from pretrain.recipes import Recipe
from pretrain.run.log import Interval
from pretrain.run.processes import Process
from pretrain.run.train import take_step

LOG_EVERY = 10
"""Scalars are fetched from the device after this many steps, as in `pretrain.run.train`."""


class Trainee:
    """The method of a recipe with its optimizer, as the training loop holds them in one process."""

    def __init__(self, recipe: Recipe, source: ImageSource, device: torch.device, folder: Path) -> None:
        torch.manual_seed(0)
        self.recipe, self.process = recipe, Process(device)
        self.method = recipe.method.build().train().to(device).to(memory_format=torch.channels_last)
        self.method.prepare(source, folder)
        trained = ((name, p) for name, p in self.method.named_parameters() if p.requires_grad)
        self.optimizer = recipe.optimizer.build(trained)
        self.steps_per_epoch = max(1, len(source) // recipe.batch_size)
        self.total = self.steps_per_epoch * recipe.epochs
        self.step = 0
        self._interval = Interval(self.process, batch_size=recipe.batch_size, step=0)

    def take(self, views: Sequence[View], waited: float = 0.0) -> None:
        """Take one step, logged as in training; the schedule starts again when it has ended."""
        scalars, _ = take_step(
            self.method,
            self.method,
            self.optimizer,
            self.recipe,
            views,
            seed=0,
            step=self.step % self.total,
            steps_per_epoch=self.steps_per_epoch,
        )
        self.step += 1
        self._interval.add(scalars, waited)
        if self.step % LOG_EVERY == 0:
            embeddings = self.method.embeddings
            self._interval.close(**({} if embeddings is None else {"rank": effective_rank(embeddings.detach())}))
