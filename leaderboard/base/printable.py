"""Makes untrusted text safe to show: without characters that control a terminal or hide other text.

Names, ids, headlines and messages come out of files that anybody can write. Printed as they are, an escape sequence in
one could clear the screen, set the window's title or fill the clipboard; a line break could forge a line of ours.
"""

from __future__ import annotations

import json
import re
from typing import Any

_STEERING = r"\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
STEERING = re.compile(f"[{_STEERING}]")
"""Matches control characters (but line feed), line separators, writing direction marks, halves of surrogate pairs."""
_STEERING_OR_BREAK = re.compile(f"[\n{_STEERING}]")

LONGEST_NAME = 120
"""A message repeats at most this many characters of a name."""
LONGEST_MESSAGE = 1500
"""A message has at most this many characters."""
_CUT = " [...] "


def printable(text: object, limit: int = LONGEST_MESSAGE, *, lines: int = 1) -> str:
    r"""`text` with every control character written as its code, at most `limit` (20 or more) characters long.

    The middle of longer texts is left out. Line breaks that make more than `lines` lines are written as `\n`.

    >>> print(printable("a\x1b[2J\nb"))
    a\x1b[2J\nb
    >>> printable("0123456789" * 3, 20)
    '01234567 [...] 56789'
    """
    words = _shortened(str(text), limit)
    head = words.split("\n", lines - 1)
    return _shortened("\n".join(visible(part, breaks=True) for part in head), limit)


def printable_name(name: object) -> str:
    """A name (of a tensor, file, class ...) for the middle of a message: one line, not long."""
    return printable(name, LONGEST_NAME)


def visible(text: str, *, breaks: bool = False) -> str:
    """The whole `text` with control characters, and with `breaks` also line feeds, written as codes."""
    return (_STEERING_OR_BREAK if breaks else STEERING).sub(_code, text)


def printable_json(value: Any, *, indent: int | None = 2) -> str:
    r"""`value` as JSON for a terminal: control characters become `\u....`, which programs read as the same strings."""
    plain = json.dumps(value, indent=indent, ensure_ascii=False)
    return STEERING.sub(lambda match: f"\\u{ord(match[0]):04x}", plain)  # outside strings JSON has only line feeds


def _code(match: re.Match[str]) -> str:
    number = ord(match[0])
    if match[0] in "\n\t\r":
        return {"\n": r"\n", "\t": r"\t", "\r": r"\r"}[match[0]]
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    tail = (limit - len(_CUT)) * 2 // 5
    return f"{text[: limit - len(_CUT) - tail]}{_CUT}{text[-tail:]}"
