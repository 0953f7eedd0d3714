"""The methods: one file each, listed here."""

from __future__ import annotations

from pretrain.method import Method
from pretrain.methods import densecl, moco
from pretrain.recipes import Recipe

METHODS: tuple[type[Method], ...] = (
    moco.MoCo,
    densecl.DenseCL,
)


def all_recipes() -> dict[str, Recipe]:
    """Every recipe of every method by name."""
    return {recipe.name: recipe for module in (moco, densecl) for recipe in module.RECIPES}
