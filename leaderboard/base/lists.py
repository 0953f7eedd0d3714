"""Text files with one entry per line, as people and their editors write them."""

from __future__ import annotations

import codecs
from pathlib import Path

from leaderboard.base.files import read_bounded

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark is the first half of this one
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_lines(path: Path, most: int) -> list[str]:
    """The nonblank lines of a text file of at most `most` bytes, without blanks around them.

    The text is UTF-8, with or without a byte order mark (bytes that are not UTF-8 become half surrogates, so that a
    path with them still names its file), or UTF-16 or UTF-32 with a mark, as Windows writes them.

    Raises:
        FileError: it is not a regular file, or longer.
        OSError: it is missing or cannot be opened.
        ValueError: its bytes do not fit its byte order mark, or it holds NUL, so it is not text.
    """
    data = read_bounded(path, most)
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
    text = data.decode(encoding, errors)
    if "\0" in text:
        raise ValueError("it holds NUL, so it is not a text file (UTF-16 needs a byte order mark)")
    return [line for line in map(str.strip, text.splitlines()) if line]
