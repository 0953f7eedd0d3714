"""The error class from which the errors of all packages derive, and the exception that reports stopped work."""

from __future__ import annotations

import signal

from leaderboard.base.printable import printable


class DenseBenchError(Exception):
    """A problem that the user can fix: one to three lines that say what is wrong and what to do.

    The command line prints it without a traceback. Each package raises its own subclass. The text may repeat untrusted
    input: characters that control a terminal are shown as their codes, and the length is bounded.
    """

    def __init__(self, text: object = "") -> None:
        super().__init__(printable(text, 4000, lines=40))


class FileError(DenseBenchError):
    """A file or folder cannot be written."""


class RecordError(DenseBenchError):
    """A record (card, result) is not valid. The text names the field; the caller that read the file adds its name.

    Fields may have untrusted names: the text is one printable line.
    """

    def __init__(self, text: str) -> None:
        super().__init__(printable(text, 500))


class Interrupted(KeyboardInterrupt):
    """Work was stopped by its user (Ctrl-C) or the system (SIGTERM). The text says what is kept and how to go on.

    Code that cleans up after a KeyboardInterrupt cleans up after this, too; `except Exception` does not catch it.
    """

    def __init__(self, text: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(text)
        self.number = number
        """Number of the signal that stopped the work."""

    @classmethod
    def after(cls, stop: KeyboardInterrupt, text: str) -> Interrupted:
        """`stop` with a text; an exception that already has one keeps it."""
        return cls(str(stop) or text, getattr(stop, "number", signal.SIGINT))

    @property
    def exit_code(self) -> int:
        """The exit code that shells use: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.number
