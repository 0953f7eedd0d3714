"""Texts of a run as lines of its card: the name of the data, which may be that of any folder."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from leaderboard.base.printable import printable
from leaderboard.records.base import Line
from pretrain.errors import PretrainError

_LINE: TypeAdapter[str] = TypeAdapter(Line)
_LONGEST = 200
"""Most characters of a line."""


def require_line(what: str, text: str) -> None:
    """Raise PretrainError, which says `what` the text is, if `text` cannot stand in a card."""
    try:
        _LINE.validate_python(text)
    except ValidationError as error:
        raise PretrainError(
            f"{what} {text[:_LONGEST]!r} cannot stand in a card: give one line of at most {_LONGEST} characters, "
            "without control characters and without a space in front"
        ) from error


def as_line(text: str) -> str:
    """`text` where a card can hold it; otherwise shortened, with codes in place of what cannot be printed."""
    try:
        return _LINE.validate_python(text)
    except ValidationError:
        return printable(text, _LONGEST).lstrip() or "unnamed"
