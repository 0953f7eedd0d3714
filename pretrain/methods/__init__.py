"""The methods, one file each in this folder. A file defines `METHODS` and their `RECIPES`; nothing else names it."""

from __future__ import annotations

import re
from importlib import import_module
from pkgutil import iter_modules
from typing import get_type_hints

from pretrain.method import Method, MethodInfo
from pretrain.recipes import Recipe


def _published(info: MethodInfo) -> str:
    """Sort key of methods: the arXiv number of the first paper, which begins with the month; others come last."""
    number = re.search(r"\d{4}\.\d{4,5}", info.paper)
    return number[0] if number else "9999"


_MODULES = sorted(
    (import_module(f"{__name__}.{file.name}") for file in iter_modules(__path__)),
    key=lambda module: (_published(module.METHODS[0].info), module.__name__),
)

METHODS: tuple[type[Method], ...] = tuple(method for module in _MODULES for method in module.METHODS)


def all_recipes() -> dict[str, Recipe]:
    """Every recipe of every method by name."""
    return {recipe.name: recipe for module in _MODULES for recipe in module.RECIPES}


def method_of(recipe: Recipe) -> type[Method]:
    """The method that a recipe trains: the return type of its config's `build`."""
    method: type[Method] = get_type_hints(type(recipe.method).build)["return"]
    return method


def gpu_memory(recipe: Recipe) -> str:
    """`MethodInfo.gpu_memory` of the method of a recipe with a ResNet-50; empty for other backbones."""
    return method_of(recipe).info.gpu_memory if recipe.backbone == "resnet50" else ""
