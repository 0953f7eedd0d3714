"""The methods: one file each, named here. A file states its `METHODS` and their `RECIPES`."""

from __future__ import annotations

from importlib import import_module

from pretrain.method import Method
from pretrain.recipes import Recipe

FILES = (
    "moco",
    "simclr",
    "simsiam",
    "byol",
    "mochi",
    "moco_multicrop",
    "moco_plus",
    "densecl",
    "swav",
    "dino",
    "detcon",
    "relicv2",
    "regioncl",
    "pixpro",
    "vicregl",
    "slotcon",
    "cp2",
    "lc_loss",
    "densesiam",
)
_MODULES = tuple(import_module(f"{__name__}.{file}") for file in FILES)

METHODS: tuple[type[Method], ...] = tuple(method for module in _MODULES for method in module.METHODS)


def all_recipes() -> dict[str, Recipe]:
    """Every recipe of every method by name."""
    return {recipe.name: recipe for module in _MODULES for recipe in module.RECIPES}
