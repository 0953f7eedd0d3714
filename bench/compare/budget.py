"""The budget of a comparison, which is equal for all methods, and a recipe under it.

It fixes the images, the crops of each image that the trained encoders see, the backbone, the side of the crops and the
batch. All other settings of a recipe (augmentation, optimizer, schedule, heads) belong to the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.errors import BenchError
from pretrain.recipes import Recipe, override, settings_of

T = TypeVar("T")
FURTHER_SIDES = ("small_size", "local_size", "whole_size")
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
    """The recipe under `budget`: the number of epochs (rounded) that gives the views, and the learning rate scaled in
    proportion to the batch (Goyal et al. 2017, arXiv 1706.02677) and by `rate`.

    Raises:
        BenchError: the recipe has stages, or sees more crops of an image in one epoch than the budget has in all.
        PretrainError: a setting does not fit the method.
    """
    if recipe.stages:
        raise BenchError(f"recipe {recipe.name} trains in stages, which no budget can share out yet: leave it out")
    settings, own = settings_of(recipe), _own_resolution(recipe)
    changes = [f"batch_size={budget.batch_size}"]
    changes += [f"{key}={budget.backbone}" for key in settings if _last(key) == "backbone"]
    changes += [f"{key}={budget.resolution}" for key in settings if _last(key) == "view_size"]
    changes += [f"{k}={round(v * budget.resolution / own)}" for k, v in settings.items() if _last(k) in FURTHER_SIDES]
    changes.append(f"optimizer.lr={settings['optimizer.lr'] * budget.batch_size / recipe.batch_size * rate!r}")
    changed = override(recipe, changes)
    crops = crops_of(changed)
    if crops > budget.views:
        raise BenchError(
            f"recipe {recipe.name} sees {crops} crops of each image in one epoch: give --views at least {crops}"
        )
    return override(changed, [f"epochs={round(budget.views / crops)}"])


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
        raise BenchError(f"recipe {recipe.name} has no one setting `view_size`, by which its crops could be equal")
    return int(sizes[0])


def _last(key: str) -> str:
    return key.rpartition(".")[2]
