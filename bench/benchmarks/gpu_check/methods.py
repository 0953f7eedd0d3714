"""Step time and memory of every method over MoCo v2's, two methods on the card at a time."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from bench.benchmarks.gpu_check.settings import at_size, base_recipe, size
from bench.benchmarks.gpu_check.task import CheckFailedError, Task
from bench.benchmarks.method_overhead import Steps, beside, release
from pretrain.methods import all_recipes
from pretrain.recipes import Recipe

FIRST = ("DenseCLConfig", "MoCHiConfig")
"""Methods that are measured before the others, in case time runs out."""
TINY_METHODS = ("densecl-mini", "mochi-mini")
SECONDS_EACH = 9.0
"""Seconds that must be left for another method to be begun."""
SMALLEST = 16
IMAGE_SIDE = 128
"""Side of the synthetic images in pixels: a step's time does not depend on it, the time to make views does."""


def methods(task: Task) -> None:
    """Measure each method's recipe of a paper, its own views, in batches that fit: time and memory over MoCo v2's."""
    recipes, rows, failed, late = _recipes(task), list[dict[str, Any]](), dict[str, str](), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        base = _Base(task, Path(folder))
        for recipe in recipes:
            if rows and task.left < SECONDS_EACH:
                late.append(recipe.name)
                continue
            try:
                row = _row(task, base, recipe)
            except Exception as error:  # a method that does not work here stops no other
                failed[recipe.name] = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
                task.line(f"{recipe.name}: {failed[recipe.name]}")
            else:
                rows.append(row)
                task.line(_in_words(row))
            task.note(rows=rows, failed=failed, not_reached=late)
    if late:
        task.line(f"not reached in time: {', '.join(late)}")
    if failed:
        raise CheckFailedError(f"not measured: {', '.join(failed)}")


class _Base:
    """MoCo v2 on the device, at the batch that a method is compared at."""

    def __init__(self, task: Task, folder: Path) -> None:
        self._task, self._folder = task, folder
        self._steps: Steps | None = None
        self.batch = 0

    def at(self, batch: int) -> Steps:
        if self._steps is None or self.batch != batch:
            self._steps = None
            release(self._task.device)
            self._steps = _steps(self._task, base_recipe(self._task, batch), self._folder)
            self.batch = batch
        return self._steps


def _steps(task: Task, recipe: Recipe, folder: Path) -> Steps:
    return Steps(recipe, task.device, folder, side=None if task.tiny else IMAGE_SIDE, batches=1)


def _row(task: Task, base: _Base, recipe: Recipe) -> dict[str, Any]:
    settings = size(task)
    turns = {"rounds": 1, "warmup": settings.warmup, "steps": settings.steps}
    batch = settings.small_batch
    while True:
        sized = at_size(task, recipe, batch)
        try:
            side = None if task.tiny else IMAGE_SIDE
            row = beside(base.at(batch), sized, task.device, **turns, side=side, batches=1)
        except torch.cuda.OutOfMemoryError:
            if batch // 2 < min(SMALLEST, settings.small_batch):
                raise
            batch //= 2
            continue
        sizes = [spec.size for spec in sized.method.build().plan.specs]
        return row | {"method": type(recipe.method).__name__, "batch": batch, "sizes": sizes}


def _recipes(task: Task) -> list[Recipe]:
    """MoCo v2, then for each method its first recipe of a paper with a ResNet-50."""
    known = all_recipes()
    if task.tiny:
        return [known["moco-v2-mini"], *(known[name] for name in TINY_METHODS)]
    found = {"MoCoConfig": known["moco-v2-imagenet-200ep"]}
    for recipe in known.values():
        if recipe.backbone == "resnet50" and not recipe.name.endswith("-mini"):
            found.setdefault(type(recipe.method).__name__, recipe)
    return sorted(found.values(), key=lambda recipe: _rank(type(recipe.method).__name__))


def _rank(method: str) -> int:
    order = ("MoCoConfig", *FIRST)
    return order.index(method) if method in order else len(order)


def _in_words(row: dict[str, Any]) -> str:
    ratio, peak = row["time_over_base"], row["peak_memory_mib"]
    memory = "" if peak is None else f", {peak:.0f} MiB"
    milliseconds = 1000 * row["median_seconds"]
    return (
        f"{row['recipe']} (batch {row['batch']}, {row['views']} px): {milliseconds:.1f} ms, "
        f"{ratio['median']:.2f} times MoCo v2{memory}"
    )
