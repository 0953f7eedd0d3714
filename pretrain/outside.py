"""The user's own methods: a Python file or an installed package that defines `METHODS` and `RECIPES` like those here.

A package names its modules as entry points of the group `densebench.methods`. A module is identified by the hash of its
file, which does not cover what the file imports.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from pretrain.errors import PretrainError
from pretrain.method import Method
from pretrain.methods import METHODS, all_recipes
from pretrain.recipe_files import read_recipe
from pretrain.recipes import MethodConfig, Recipe, find_recipe

GROUP = "densebench.methods"


@dataclass(frozen=True)
class OutsideMethods:
    """Methods and recipes that a module outside of densebench defines."""

    name: str
    """Name of the module's file, after name and version of an installed package."""
    sha256: str
    """Hash of the module's file."""
    methods: tuple[type[Method], ...]
    recipes: Mapping[str, Recipe]


_BY_FILE: dict[tuple[str, str], OutsideMethods] = {}
"""Modules that were loaded from a file, by its path and hash."""
_BY_CONFIG: dict[type[MethodConfig], OutsideMethods] = {}
"""Modules by the class of a method's config."""


def outside_of(recipe: Recipe) -> OutsideMethods | None:
    """The module outside of densebench whose method `recipe` trains; None for a method of densebench."""
    return _BY_CONFIG.get(type(recipe.method))


def identity(recipe: Recipe) -> str:
    """SHA-256 of all that determines the weights: the recipe's settings, and the file of a user's own method."""
    outside = outside_of(recipe)
    if outside is None:
        return recipe.sha256
    return hashlib.sha256(f"{recipe.sha256}\n{outside.sha256}".encode()).hexdigest()


def find_anywhere(name: str) -> Recipe:
    """The recipe called `name` of densebench or of an installed package, or that of a file: `FILE.py` or
    `FILE.py:NAME`.

    Raises:
        PretrainError: there is none, or the file or package cannot be loaded.
    """
    file, own = split_name(name)
    if file is None:
        return find_recipe(every_recipe(), name)
    recipes = load_methods(Path(file)).recipes
    if own is None and len(recipes) > 1:
        raise PretrainError(f"{file} has several recipes: write {file}:NAME with one of {', '.join(recipes)}")
    if own is not None and own not in recipes:
        raise PretrainError(f"{file} has no recipe {own!r}: choose one of {', '.join(recipes)}")
    return recipes[own or next(iter(recipes))]


def split_name(name: str) -> tuple[str | None, str | None]:
    """The file and the recipe in it that `name` names: `FILE.py:NAME`, `FILE.py`, or a recipe without a file."""
    found = re.fullmatch(r"(.+\.py)(?::(.+))?", name, flags=re.DOTALL)
    return (None, name) if found is None else (found[1], found[2])


def find_written(config: Path, method_file: Path | None) -> Recipe:
    """The recipe in the file `config` (a run's `run.json`, or the recipe alone). If its method is not one of
    densebench, `method_file` or an installed package must define it.

    Raises:
        PretrainError: one of the files cannot be read.
    """
    known = every_recipe()
    if method_file is not None:
        known |= load_methods(method_file).recipes
    return read_recipe(config, known.values())


def every_method() -> tuple[type[Method], ...]:
    """The methods of densebench, then those of installed packages."""
    return METHODS + tuple(method for package in installed() for method in package.methods)


def every_recipe() -> dict[str, Recipe]:
    """The recipes of densebench, then those of installed packages, by name."""
    return all_recipes() | {name: recipe for package in installed() for name, recipe in package.recipes.items()}


@cache
def installed() -> tuple[OutsideMethods, ...]:
    """The modules that installed packages name as entry points of `GROUP`.

    Raises:
        PretrainError: one cannot be loaded, or uses a name that is taken.
    """
    found: list[OutsideMethods] = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        found.append(_from_package(point, found))
    return tuple(found)


def load_methods(file: Path) -> OutsideMethods:
    """Run the Python file `file` and return the methods and recipes that it defines.

    Raises:
        PretrainError: it cannot be read or run, defines no methods and recipes, or uses a name that is taken.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise PretrainError(f"{file}: {error.strerror}") from error
    sha256 = hashlib.sha256(data).hexdigest()
    if (str(file), sha256) in _BY_FILE:
        return _BY_FILE[str(file), sha256]
    module = ModuleType(f"densebench_method_{re.sub(r'[^A-Za-z0-9_]', '_', file.stem)}_{sha256[:12]}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # dataclasses look for their module there
    try:
        exec(compile(data, str(file), "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[module.__name__]
        hint = ". A method is one file, and what it imports must be installed"
        hint = hint if isinstance(error, ModuleNotFoundError) else ""
        raise PretrainError(f"{file} cannot be run: {type(error).__name__}: {error}{hint}") from error
    stated = _stated(module, file.name, str(file), sha256, installed())
    _BY_FILE[str(file), sha256] = stated
    return stated


def _from_package(point: EntryPoint, before: list[OutsideMethods]) -> OutsideMethods:
    distribution = point.dist
    package = f"{distribution.name} {distribution.version}" if distribution else point.value
    where = f"{package} (entry point {point.name} = {point.value})"
    try:
        module = point.load()
    except Exception as error:
        raise PretrainError(
            f"{where} cannot be loaded: {type(error).__name__}: {error}. Fix or uninstall it"
        ) from error
    file = getattr(module, "__file__", None)
    if not isinstance(module, ModuleType) or file is None:
        raise PretrainError(f"{where} is no module with a file: an entry point of {GROUP} names one")
    sha256 = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return _stated(module, f"{package}/{Path(file).name}", where, sha256, tuple(before))


def _stated(
    module: ModuleType, name: str, where: str, sha256: str, others: tuple[OutsideMethods, ...]
) -> OutsideMethods:
    """The definitions of `module`, compared with densebench's own and `others`, and remembered."""
    methods: Any = getattr(module, "METHODS", None)
    if not (_some(methods) and all(isinstance(item, type) and issubclass(item, Method) for item in methods)):
        raise PretrainError(f"{where} states no METHODS: a tuple of subclasses of pretrain.method.Method")
    recipes: Any = getattr(module, "RECIPES", None)
    if not (_some(recipes) and all(isinstance(item, Recipe) for item in recipes)):
        raise PretrainError(f"{where} states no RECIPES: a tuple of pretrain.recipes.Recipe")
    taken_ids = [m.info.id for m in METHODS] + [m.info.id for other in others for m in other.methods]
    taken_names = [*all_recipes(), *(n for other in others for n in other.recipes)]
    for kind, new, taken in (
        ("method", [method.info.id for method in methods], taken_ids),
        ("recipe", [recipe.name for recipe in recipes], taken_names),
    ):
        for double in _doubles(new, taken):
            raise PretrainError(f"{where}: the {kind} name {double!r} is taken: choose another")
    stated = OutsideMethods(name, sha256, methods, {recipe.name: recipe for recipe in recipes})
    own = {type(recipe.method) for recipe in recipes}
    _BY_CONFIG.update({config: stated for config in own if not config.__module__.startswith("pretrain.")})
    return stated


def _some(items: Any) -> bool:
    return isinstance(items, tuple) and len(items) > 0


def _doubles(new: list[str], taken: list[str]) -> Iterator[str]:
    """Names in `new` that occur earlier in it or in `taken`."""
    seen = set(taken)
    for name in new:
        if name in seen:
            yield name
        seen.add(name)
