"""The error class that all packages' own errors derive from."""

from leaderboard.base.printable import printable


class DenseBenchError(Exception):
    """Anything its user can mend: one to three lines that say what is wrong and what to do.

    The command line prints it without a traceback. Each package raises its own subclass.
    """


class FileError(DenseBenchError):
    """A file or folder cannot be written."""


class RecordError(DenseBenchError):
    """A record (card, result) is not valid. The text names the field, not the file: who read the file adds its name.

    Fields may be named by a stranger: the text is one printable line.
    """

    def __init__(self, text: str) -> None:
        super().__init__(printable(text, 500))
