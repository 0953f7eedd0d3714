"""Describes in one line what pydantic found wrong."""

from __future__ import annotations

from pydantic import ValidationError

from leaderboard.base.printable import printable_name

_LONGEST = 60
"""A message repeats at most this many characters of a wrong value."""


def first_problem(error: ValidationError) -> str:
    """Where the first problem lies, what it is and, where that helps, the value: `mean.0: Input ... (it is 1.5)`."""
    problem = error.errors(include_url=False, include_context=False)[0]
    where = printable_name(".".join(str(part) for part in problem["loc"]))
    text = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    if isinstance(value, str | int | float | None) and problem["type"] != "missing":
        shown = _shown(value)
        text += f" (it is {shown if len(shown) <= _LONGEST else shown[:_LONGEST] + '...'})"
    return f"{where}: {text}" if where else text


def _shown(value: str | float | None) -> str:
    """The value as Python writes it; long texts are cut, and an integer of thousands of digits is only called that."""
    if isinstance(value, str):
        return repr(value[: _LONGEST + 1])
    if isinstance(value, int) and value.bit_length() > 1024:
        return "a number of more than 300 digits"
    return repr(value)
