"""Reads a record from the bytes of a file, with every check: size, duplicate keys, earlier versions, fields.

Speed matters, because a leaderboard reads ten thousand results: a file of the present version goes straight through
pydantic's parser, which takes the last of two equal keys without a word. That there are none is then proven by counting
colons, and only where the count leaves a doubt by a second parser.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any, Self, TypeVar, get_args, get_origin

from pydantic import ValidationError, model_validator

from leaderboard.base.errors import RecordError
from leaderboard.base.validation import first_problem
from leaderboard.records.base import MAX_BYTES, SCHEMA_VERSION, Record
from leaderboard.records.card import Card
from leaderboard.records.migrations import upgrade_card, upgrade_result
from leaderboard.records.protocol import DatasetReference, ProtocolReference
from leaderboard.records.result import Environment, Result

R = TypeVar("R", Card, Result)
_PRESENT = re.compile(rb'\s*\{\s*"schema_version"\s*:\s*%d\s*,' % SCHEMA_VERSION)


def read_card_json(data: bytes) -> Card:
    """The card in the bytes of a `card.json` of any schema version.

    Raises:
        RecordError: it is not a valid card; says where and why.
    """
    return _read(Card, data)


def read_result_json(data: bytes) -> Result:
    """The result in the bytes of a result file of any schema version.

    Raises:
        RecordError: it is not a valid result; says where and why.
    """
    return _assembled(data) or _read(Result, data)


class _Rest(Result):
    """A result without the parts that many results have in common: they are null in its text."""

    card: None  # type: ignore[assignment]
    protocol: None  # type: ignore[assignment]
    dataset: None  # type: ignore[assignment]
    environment: None  # type: ignore[assignment]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        return self  # the whole result is checked later


_PARTS: tuple[tuple[str, bytes, type[Record]], ...] = tuple(
    (name, b'\n  "%s": {' % name.encode(), kind)
    for name, kind in (
        ("card", Card), ("protocol", ProtocolReference), ("dataset", DatasetReference), ("environment", Environment)
    )
)  # fmt: skip
"""The common parts in their order: name, the bytes that begin the part in the layout of `Record.to_json`, and class."""
_known: dict[bytes, Record] = {}
_MOST_KNOWN = 1000


def _assembled(data: bytes) -> Result | None:
    """The result in a text that has the layout of `Record.to_json`; None for other layouts and invalid results.

    Parts of equal text are read once and shared, which takes half of the time and of the memory. Each is a whole JSON
    text by itself, and the rest is one with null in their places: so together they are the JSON that the whole is.
    """
    if len(data) > MAX_BYTES or _PRESENT.match(data) is None:
        return None
    parts: dict[str, Record] = {}
    rest: list[bytes] = []
    end = 0
    for name, opening, kind in _PARTS:
        start = data.find(opening, end) + len(opening) - 1
        close = data.find(b"\n  }", start)
        if start < len(opening) or close < 0:
            return None
        rest.append(data[end:start])
        end = close + 4
        part = _part(kind, data[start:end])
        if part is None:
            return None
        parts[name] = part
    rest.append(data[end:])
    text = b"null".join(rest)
    result = Result.__new__(Result)
    try:
        _Rest.__pydantic_validator__.validate_json(text, strict=True, self_instance=result)
        if _most_keys(text) != _count_keys(result, _Rest):
            return None
        vars(result).update(parts)
        result.check()
    except ValueError:
        return None
    return result


def _part(kind: type[Record], text: bytes) -> Record | None:
    """The record in a text that has no key twice."""
    known = _known.get(text)
    if type(known) is kind:
        return known
    try:
        part = kind.model_validate_json(text, strict=True)
    except ValidationError:
        return None
    if _most_keys(text) != _count_keys(part):
        return None
    if len(_known) > _MOST_KNOWN:
        _known.clear()
    _known[text] = part
    return part


def _read(kind: type[R], data: bytes) -> R:
    if len(data) > MAX_BYTES:
        raise RecordError(f"it is longer than {MAX_BYTES} bytes")
    present = _PRESENT.match(data) is not None
    try:
        # Strict: no text for a number, no true for 1.
        record = kind.model_validate_json(data if present else _upgraded(kind, data), strict=True)
    except ValidationError as error:
        raise RecordError(_problem(error, present)) from error
    if present and _most_keys(data) != _count_keys(record):
        _parse(data)  # raises if a key is there twice
    return record


def _problem(error: ValidationError, present: bool) -> str:
    """What is wrong, and where in the file; an upgraded text is no file of the user, so its line is left out."""
    problem = first_problem(error)
    if "recursion limit exceeded" in problem:
        return "it is nested too deeply"
    return problem if present else re.sub(r" at line \d+ column \d+$", "", problem)


def _upgraded(kind: type[Card] | type[Result], data: bytes) -> str:
    """The record as JSON of the present version."""
    values = _parse(data)
    if not isinstance(values, dict):
        raise RecordError("it holds no JSON object")
    return json.dumps(upgrade_card(values) if kind is Card else upgrade_result(values))


def _parse(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except RecursionError as error:
        raise RecordError("it is nested too deeply") from error
    except ValueError as error:  # no UTF-8, no JSON, a number of thousands of digits
        raise RecordError(f"it is not valid JSON: {error}") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise RecordError(f"{twice[:60]}: this key is there twice")
    return values


def _most_keys(data: bytes) -> int:
    """The number of keys in the text, or more: a colon after a quotation mark may also stand inside a text."""
    return data.translate(None, b" \t\n\r").count(b'":')


def _count_keys(record: Record, kind: type[Record] | None = None) -> int:
    """The number of different keys in the JSON of a record: every field is one, as all are required."""
    count, others = _shape(kind or type(record))
    for get in others:
        value = get(record)
        if isinstance(value, dict):
            count += len(value)
        elif isinstance(value, Record):
            count += _count_keys(value)
        elif value:
            count += sum(map(_count_keys, value))
    return count


@cache
def _shape(kind: type[Record]) -> tuple[int, list[Callable[[Record], Any]]]:
    """How many keys every record of `kind` has, and getters of what may add to them (dicts, optional records)."""
    count, paths = _always(kind)
    return count, [attrgetter(path) for path in paths]


def _always(kind: type[Record]) -> tuple[int, list[str]]:
    count, paths = len(kind.model_fields), []
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Record):
            inner, below = _always(field.annotation)
            count += inner
            paths += [f"{name}.{path}" for path in below]
        elif _may_hold_keys(field.annotation):
            paths.append(name)
    return count, paths


def _may_hold_keys(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return True
    return get_origin(annotation) is dict or any(map(_may_hold_keys, get_args(annotation)))
