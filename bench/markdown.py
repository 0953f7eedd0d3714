"""Tables in Markdown, for the README, the documentation and commands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown themselves; a vertical bar within a cell is escaped, if it is not yet."""
    return "\n".join(map(_line, [columns, ["---"] * len(columns), *rows]))


def _line(cells: Sequence[str]) -> str:
    return " ".join(["|", *(re.sub(r"(?<!\\)\|", r"\\|", cell) + " |" for cell in cells)])
