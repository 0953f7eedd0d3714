"""Reads recipes from the JSON that `Recipe.to_dict` writes: in a run's `run.json`, or in a file of the recipe alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from leaderboard.base.errors import FileError
from leaderboard.base.files import read_bounded
from pretrain.errors import PretrainError
from pretrain.optim.optimizers import OptimizerConfig
from pretrain.recipes import Recipe
from pretrain.settings import as_text

LONGEST_RECORD = 10_000_000
"""Most bytes of a file with a recipe, which has about 5,000."""


def read_recipe(file: Path, known: Iterable[Recipe]) -> Recipe:
    """The recipe in `file`, which is a `run.json` or holds a recipe as `densebench recipes --json` prints it.

    `known` are recipes of all methods that may occur.

    Raises:
        PretrainError: the file cannot be read, or holds no recipe; the message names the first key that is wrong.
    """
    try:
        values = json.loads(read_bounded(file, LONGEST_RECORD))
    except FileError as error:
        raise PretrainError(f"{error}, so it is not a recipe") from error
    except OSError as error:
        raise PretrainError(f"{file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise PretrainError(f"{file} is not JSON: {error}") from error
    if isinstance(values, dict) and "recipe" in values:
        values = values["recipe"]
    try:
        return recipe_from(values, config_types(known))
    except PretrainError as error:
        raise PretrainError(f"{file}: {error}") from error


def recipe_from(values: Any, types: Mapping[str, type]) -> Recipe:
    """The recipe whose `to_dict` is `values`; settings that are missing have their defaults.

    `types` are the dataclasses that may occur, by name (`config_types`).

    Raises:
        PretrainError: a key is not known or is missing, or a value is of another type; the message names the key.
    """
    try:
        recipe = _value(values, Recipe, types, "")
    except ValueError as error:
        raise PretrainError(str(error)) from error
    assert isinstance(recipe, Recipe)
    return recipe


def config_types(recipes: Iterable[Recipe]) -> dict[str, type]:
    """The dataclasses of the parts of `recipes`, and those in their annotations, by name."""
    found: dict[str, type] = {}
    waiting: list[Any] = [Recipe, *OptimizerConfig.__subclasses__(), *(part for r in recipes for part in _parts(r))]
    while waiting:
        one = waiting.pop()
        if found.get(one.__name__) is one:
            continue
        if one.__name__ in found:
            raise PretrainError(f"two dataclasses of recipes are called {one.__name__}: rename that of your own")
        found[one.__name__] = one
        for annotation in get_type_hints(one).values():
            waiting += [member for member in (annotation, *get_args(annotation)) if _is_config(member)]
    return found


def _parts(value: Any) -> Iterator[type]:
    if is_dataclass(value) and not isinstance(value, type):
        yield type(value)
        for item in fields(value):
            yield from _parts(getattr(value, item.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _parts(item)


def _is_config(annotation: Any) -> bool:
    return isinstance(annotation, type) and is_dataclass(annotation)


def _value(value: Any, annotation: Any, types: Mapping[str, type], key: str) -> Any:
    """`value`, converted for a field with the annotation `annotation`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(value, dict) or _is_config(annotation):
        return _config(value, annotation, types, key)
    if origin in (Union, UnionType):
        return _member(value, arguments, types, key)
    if origin is tuple:
        return _tuple(value, arguments, types, key)
    if origin is Literal:
        if value not in arguments or isinstance(value, bool):
            raise _wrong(key, value, f"must be one of {', '.join(as_text(choice) for choice in arguments)}")
        return value
    expected = {NoneType: "null", bool: "true or false", int: "a whole number", float: "a finite number", str: "text"}
    number = float if isinstance(value, int) and not isinstance(value, bool) and annotation is float else type(value)
    if annotation not in expected:
        raise _wrong(key, value, "must be an object with its type")
    if number is not annotation or (number is float and not math.isfinite(value)):
        raise _wrong(key, value, f"must be {expected[annotation]}")
    return value if annotation is NoneType else annotation(value)


def _config(value: Any, annotation: Any, types: Mapping[str, type], key: str) -> Any:
    """The dataclass that the object `value` describes, one of those that `annotation` allows."""
    within = f"{key}." if key else ""
    if not isinstance(value, dict):
        raise _wrong(key, value, "must be an object with its type")
    if "type" not in value:
        raise ValueError(f"{within}type is missing: the name of a dataclass, e.g. {_example(annotation)}")
    config = types.get(value["type"]) if isinstance(value["type"], str) else None
    if config is None or not _allowed(config, annotation):
        allowed = [name for name, one in types.items() if _allowed(one, annotation)]
        nearest = get_close_matches(str(value["type"]), allowed, n=3, cutoff=0.4) or sorted(allowed)[:5]
        problem = "cannot stand here" if config else "is not known; a method from outside needs its FILE.py, too"
        raise ValueError(f"{within}type: {value['type']!r} {problem} (there are {', '.join(nearest)})")
    hints, settings = get_type_hints(config), {name: item for name, item in value.items() if name != "type"}
    known = {item.name: item for item in fields(config) if item.init}
    for name in settings:
        if name not in known:
            nearest = get_close_matches(name, known, n=3, cutoff=0.4) or list(known)
            raise ValueError(f"{within}{name}: {value['type']} has no such setting; did you mean {', '.join(nearest)}?")
    for name, item in known.items():
        if name not in settings and item.default is MISSING and item.default_factory is MISSING:
            raise ValueError(f"{within}{name} is missing")
    return config(**{name: _value(item, hints[name], types, within + name) for name, item in settings.items()})


def _allowed(config: type, annotation: Any) -> bool:
    if get_origin(annotation) in (Union, UnionType):
        return any(_allowed(config, member) for member in get_args(annotation))
    if not isinstance(annotation, type):
        return False
    if getattr(annotation, "_is_protocol", False):
        names = {item.name for item in fields(config)} | set(dir(config))
        return all(name in names for name in vars(annotation) if not name.startswith("_"))
    return issubclass(config, annotation)


def _example(annotation: Any) -> str:
    members = get_args(annotation) or (annotation,)
    return str(getattr(members[0], "__name__", annotation))


def _member(value: Any, members: tuple[Any, ...], types: Mapping[str, type], key: str) -> Any:
    problems = []
    for member in members:
        try:
            return _value(value, member, types, key)
        except ValueError as error:
            problems.append(str(error).removeprefix(f"{key}: "))
    raise ValueError(f"{key}: {' or '.join(dict.fromkeys(problems))}")


def _tuple(value: Any, members: tuple[Any, ...], types: Mapping[str, type], key: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _wrong(key, value, "must be a list")
    if len(members) == 2 and members[1] is Ellipsis:
        members = (members[0],) * len(value)
    if len(value) != len(members):
        raise _wrong(key, value, f"must be a list of {len(members)}")
    return tuple(
        _value(item, member, types, f"{key}[{at}]")
        for at, (item, member) in enumerate(zip(value, members, strict=True))
    )


def _wrong(key: str, value: Any, problem: str) -> ValueError:
    shown = json.dumps(value)
    return ValueError(f"{key or 'the recipe'}: {problem}, not {shown if len(shown) < 60 else shown[:60] + '...'}")
