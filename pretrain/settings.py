"""Settings: reads a value from text by its type annotation, and marks fields that a hash treats separately."""

from __future__ import annotations

import math
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

PROSE = {"prose": True}
"""Marks fields that describe a recipe for people: they are not part of its hash."""
ADDED = {"added": True}
"""Marks fields that were added to a published dataclass: at their default they are not part of a recipe's hash, so that
earlier runs still count as runs of the same recipe."""

WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def parse(text: str, annotation: Any) -> Any:
    """The value that `text` means for a field annotated with `annotation`.

    It accepts `int`, `float` (finite), `bool`, `str`, `None`, `Literal[...]`, tuples (comma-separated, brackets
    optional) and unions of these, whose members are tried in order.

    Raises:
        ValueError: the text does not fit; the message says what is expected.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        by_text = {as_text(choice): choice for choice in arguments}
        if text not in by_text:
            raise ValueError(f"must be one of {', '.join(by_text)}")
        return by_text[text]
    if origin in (Union, UnionType):
        return _parse_union(text, arguments)
    if origin is tuple:
        return _parse_tuple(text, arguments)
    if annotation is NoneType:
        if text.lower() != "none":
            raise ValueError("must be none")
        return None
    if annotation is bool:
        if text.lower() not in WORDS:
            raise ValueError("must be true or false")
        return WORDS[text.lower()]
    if annotation is str:
        return text
    if annotation in (int, float):
        return _parse_number(text, annotation)
    raise ValueError("cannot be written as text; change it in Python")


def as_text(value: Any) -> str:
    """The text from which `parse` reads `value` back."""
    if isinstance(value, tuple):
        return ",".join(as_text(item) for item in value)
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _parse_number(text: str, kind: type[int] | type[float]) -> int | float:
    try:
        number = kind(text)
    except ValueError:
        raise ValueError("must be a whole number" if kind is int else "must be a number") from None
    if not math.isfinite(number):
        raise ValueError("must be finite")
    return number


def _parse_union(text: str, members: tuple[Any, ...]) -> Any:
    """The value of a union; `none` is tried first and text last, because `none` could be read as text."""
    problems = []
    for member in sorted(members, key=lambda m: (m is not NoneType, m is str)):
        try:
            return parse(text, member)
        except ValueError as error:
            problems.append(str(error))
    raise ValueError(" or ".join(dict.fromkeys(problems)))


def _parse_tuple(text: str, members: tuple[Any, ...]) -> tuple[Any, ...]:
    inner = text.strip().removeprefix("(").removesuffix(")").strip().removesuffix(",")
    items = [item.strip() for item in inner.split(",")] if inner else []
    if len(members) == 2 and members[1] is Ellipsis:
        return tuple(parse(item, members[0]) for item in items)
    if len(items) != len(members):
        raise ValueError(f"must be {len(members)} values separated by commas")
    return tuple(parse(item, member) for item, member in zip(items, members, strict=True))
