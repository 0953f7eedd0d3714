"""The one way to the terminal: a console that shows what steers a terminal as text, wherever it comes from.

All packages print through it, so no table, message or progress bar has to remember that its words are untrusted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from leaderboard.base.printable import STEERING, printable, visible

WHOLE = 10_000
"""Characters of a line, where no terminal says how many it has: no table is wider, and none is cut."""


class Console(rich.console.Console):
    """Rich's console. Colors and cursor are its own; of what it is given to print, none comes through.

    In a file or pipe it has lines of any length: there is no edge at which words had to be broken or left out.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if not self.is_terminal and options.get("width") is None and "COLUMNS" not in os.environ:
            self.width = WHOLE

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Rich's segments, the text in them made visible."""
        for segment in super().render(renderable, options):
            if segment.control is None and STEERING.search(segment.text):
                yield Segment(visible(segment.text), segment.style)
            else:
                yield segment


def say(text: str, *, lines: int = 8) -> None:
    """Print plain text, as `print` does: at most `lines` lines."""
    print(printable(text, 4000, lines=lines))


def accept_any_character() -> None:
    """Let standard output and error write what their encoding lacks as a code, where Python would raise an error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
