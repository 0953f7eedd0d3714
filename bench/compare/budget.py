"""The budget of a comparison, which is equal for all methods, and a recipe under it.

It fixes the images, the crops of each image that the trained encoders see, the backbone, the side of the crops and the
batch. All other settings of a recipe (augmentation, optimizer, schedule, heads) belong to the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TypeVar

from bench.errors import BenchError
from pretrain.recipes import Recipe, StepSchedule, override, settings_of

T = TypeVar("T")
FURTHER_SIDES = ("small_size", "local_size", "whole_size", "patch_size")
"""Names of settings for the side of further views, which keep their ratio to `view_size`."""


@dataclass(frozen=True)
class Budget:
    """The budget of every method of a comparison."""

    backbone: str
    resolution: int
    """Side of the crops in pixels; for a method with crops of several sizes, that of the largest."""
    batch_size: int
    views: int
    """Crops of each image that a method sees in its whole training."""

    def __post_init__(self) -> None:
        for name, value in (("resolution", self.resolution), ("batch", self.batch_size), ("views", self.views)):
            if value < 1:
                raise BenchError(f"--{name} is {value}: give 1 or more")


def common_budget(
    recipes: Sequence[Recipe],
    *,
    views: int,
    backbone: str | None = None,
    resolution: int | None = None,
    batch_size: int | None = None,
) -> Budget:
    """The budget with the given values; for None it takes the value that all recipes have in common.

    Raises:
        BenchError: the recipes differ in such a value; the message names the option that sets it.
    """
    return Budget(
        backbone=backbone or _common("backbone", {r.name: r.backbone for r in recipes}),
        resolution=resolution or _common("resolution", {r.name: _own_resolution(r) for r in recipes}),
        batch_size=batch_size or _common("batch", {r.name: r.batch_size for r in recipes}),
        views=views,
    )


def under(recipe: Recipe, budget: Budget, *, rate: float = 1.0) -> Recipe:
    """The recipe under `budget`.

    The number of epochs is the (rounded) one that gives the views; the trainings of a recipe of several stages share
    the views as their own epochs do, and have the precision of the last. Milestones of the learning rate keep their
    place in the training, and a warm-up takes at most a third of it. The learning rate is scaled in proportion to the
    batch (Goyal et al. 2017, arXiv 1706.02677) and by `rate`.

    Raises:
        BenchError: one epoch of every training of the recipe shows more crops of an image than the budget has in all;
            or the recipe trains nothing.
        PretrainError: a setting does not fit the method.
    """
    if not recipe.epochs:
        raise BenchError(f"recipe {recipe.name} trains no backbone, so there is nothing to compare: leave it out")
    trainings = [replace(one, stages=()) for one in (*recipe.stages, recipe) if isinstance(one, Recipe)]
    alike = [_alike(replace(training, precision=recipe.precision), budget, rate) for training in trainings]
    timed = iter(_with_epochs(alike, _epochs(recipe.name, alike, budget.views)))
    stages = tuple(next(timed) if isinstance(stage, Recipe) else stage for stage in recipe.stages)
    return replace(next(timed), stages=stages)


def _alike(training: Recipe, budget: Budget, rate: float) -> Recipe:
    """A training with the budget's backbone, resolution, batch and learning rate, and its own epochs."""
    settings, own = settings_of(training), _own_resolution(training)
    changes = [f"batch_size={budget.batch_size}"]
    changes += [f"{key}={budget.backbone}" for key in settings if _last(key) == "backbone"]
    changes += [f"{key}={budget.resolution}" for key in settings if _last(key) == "view_size"]
    changes += [f"{k}={round(v * budget.resolution / own)}" for k, v in settings.items() if _last(k) in FURTHER_SIDES]
    changes.append(f"optimizer.lr={settings['optimizer.lr'] * budget.batch_size / training.batch_size * rate!r}")
    return override(training, changes)


def _epochs(name: str, trainings: Sequence[Recipe], views: int) -> list[int]:
    """For each training the epochs that it gets, so that all of them together show each image in `views` crops.

    Raises:
        BenchError: not every one of them can have an epoch.
    """
    crops = [crops_of(training) for training in trainings]
    if sum(crops) > views:
        raise BenchError(
            f"recipe {name} sees {sum(crops)} crops of each image in one epoch"
            f"{' of each training' * (len(crops) > 1)}: give --views at least {sum(crops)}"
        )
    own = [training.epochs * seen for training, seen in zip(trainings, crops, strict=True)]
    epochs: list[int] = []
    shown = 0
    for seen, until in zip(crops, accumulate(own), strict=True):
        epochs.append(max(1, round((views * until / sum(own) - shown) / seen)))
        shown += epochs[-1] * seen
    return epochs


def _with_epochs(trainings: Sequence[Recipe], epochs: Sequence[int]) -> list[Recipe]:
    """The trainings with these epochs, and the milestones of their learning rates moved in proportion.

    A warm-up keeps its epochs, but becomes no longer than a third of the training, or its own share where that is
    more: otherwise a short training could end before it reaches its rate.
    """
    changed: list[Recipe] = []
    for rounds in _rounds(list(zip(trainings, epochs, strict=True))):
        before, after = sum(training.epochs for training, _ in rounds), sum(given for _, given in rounds)
        done = 0
        for training, given in rounds:
            schedule = training.schedule
            longest = after * max(1 / 3, schedule.warmup_epochs / before)
            schedule = replace(schedule, warmup_epochs=min(schedule.warmup_epochs, longest))
            if isinstance(schedule, StepSchedule):
                schedule = replace(schedule, milestones=tuple(round(m * after / before) for m in schedule.milestones))
            changed.append(replace(training, epochs=given, first_epoch=done, schedule=schedule))
            done += given
    return changed


def _rounds(trainings: Sequence[tuple[Recipe, int]]) -> list[list[tuple[Recipe, int]]]:
    """The trainings in groups, of which each is one training that goes on (`Recipe.first_epoch`)."""
    groups: list[list[tuple[Recipe, int]]] = []
    for training, epochs in trainings:
        if not training.first_epoch:
            groups.append([])
        groups[-1].append((training, epochs))
    return groups


def crops_of(recipe: Recipe) -> int:
    """Crops of an image that the trained encoders of the recipe's method see in an epoch."""
    return sum(spec.trained for spec in recipe.method.build().plan.specs)


def _common(option: str, values: dict[str, T]) -> T:
    found = set(values.values())
    if len(found) > 1:
        listed = ", ".join(f"{name} {value}" for name, value in values.items())
        raise BenchError(f"the recipes differ in {option} ({listed}): choose one for all with --{option}")
    return found.pop()


def _own_resolution(recipe: Recipe) -> int:
    """The recipe's `view_size`; raises BenchError where its method has no such setting for the side of its crops."""
    sizes = [value for key, value in settings_of(recipe).items() if _last(key) == "view_size"]
    if len(sizes) != 1:
        raise BenchError(
            f"recipe {recipe.name} has no one setting `view_size`, by which its crops could be equal: "
            "give the side of the crops that name in the dataclass of the method's settings"
        )
    return int(sizes[0])


def _last(key: str) -> str:
    return key.rpartition(".")[2]
