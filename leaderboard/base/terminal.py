"""The only place that prints: a console that shows control characters as text, wherever they come from.

All packages print through it, so no table, message or progress bar needs protection of its own against untrusted text.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from leaderboard.base.printable import STEERING, printable, visible

WHOLE = 10_000
"""Characters per line where the output is no terminal: no table is wider, so none is cut."""


class Console(rich.console.Console):
    """Rich's console. It may color text and move the cursor; the texts that it prints may not.

    In a file or pipe its lines may have any length, so that no words are wrapped or cut.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if not self.is_terminal and options.get("width") is None and "COLUMNS" not in os.environ:
            self.width = WHOLE

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Rich's segments, with the control characters in their text made visible."""
        for segment in super().render(renderable, options):
            if segment.control is None and STEERING.search(segment.text):
                yield Segment(visible(segment.text), segment.style)
            else:
                yield segment


def cells(row: Iterable[str | Text]) -> list[Text]:
    """The cells of a table's row: strings become `Text`, because rich reads square brackets in strings as markup."""
    return [cell if isinstance(cell, Text) else Text(cell) for cell in row]


def say(text: str, *, lines: int = 8) -> None:
    """Print plain text, as `print` does: at most `lines` lines."""
    print(printable(text, 4000, lines=lines))


def accept_any_character() -> None:
    """Let standard output and error write what their encoding lacks as codes, where Python would raise an error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
