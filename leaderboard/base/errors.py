"""The error class that all packages' own errors derive from, and how work that was stopped says so."""

from __future__ import annotations

import signal

from leaderboard.base.printable import printable


class DenseBenchError(Exception):
    """Anything its user can mend: one to three lines that say what is wrong and what to do.

    The command line prints it without a traceback. Each package raises its own subclass. The text may repeat what a
    stranger wrote: whatever steers a terminal is shown as its code, and its length is bounded.
    """

    def __init__(self, text: object = "") -> None:
        super().__init__(printable(text, 4000, lines=40))


class FileError(DenseBenchError):
    """A file or folder cannot be written."""


class RecordError(DenseBenchError):
    """A record (card, result) is not valid. The text names the field, not the file: who read the file adds its name.

    Fields may have untrusted names: the text is one printable line.
    """

    def __init__(self, text: str) -> None:
        super().__init__(printable(text, 500))


class Interrupted(KeyboardInterrupt):
    """Work was stopped by its user (Ctrl-C) or the system (SIGTERM). The text says what is kept and how to go on.

    What cleans up after a KeyboardInterrupt cleans up after this; no handler of errors takes it for one.
    """

    def __init__(self, text: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(text)
        self.number = number
        """The signal."""

    @classmethod
    def after(cls, stop: KeyboardInterrupt, text: str) -> Interrupted:
        """`stop` with a text; what has one already keeps it."""
        return cls(str(stop) or text, getattr(stop, "number", signal.SIGINT))

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM, as shells have it."""
        return 128 + self.number
