"""Text files of one entry a line, as people and their editors write them."""

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
    """The lines of a text file of at most `most` bytes that are not blank, without blanks around them.

    The text is UTF-8, with a byte order mark or without one (bytes that are none become half surrogates, by which a
    path still finds its file), or UTF-16 or UTF-32 with a mark, as Windows writes them.

    Raises:
        FileError: it is no regular file, or longer.
        OSError: it is missing or cannot be opened.
        ValueError: it has a mark that its bytes do not keep to, or holds NUL, so it is no text.
    """
    data = read_bounded(path, most)
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
    text = data.decode(encoding, errors)
    if "\0" in text:
        raise ValueError("it holds NUL, so it is no text file (UTF-16 needs a byte order mark)")
    return [line for line in map(str.strip, text.splitlines()) if line]
