"""Errors in loading processes, said as they were raised there.

PyTorch raises them again in the process that waits for the batch, as an error of the same kind (or, where that cannot
be built, as a `RuntimeError`) whose message is the whole traceback, in which `Caught KIND in DataLoader worker process`
comes first and the message itself last.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

_CAUGHT = re.compile(r"Caught (?P<kind>\w+) in DataLoader worker process \d+\.")
_BREAK = r"(?:\n|\\n)"
"""A line break, which our own errors write as two characters in long messages."""


@contextmanager
def plain_loading_errors() -> Iterator[None]:
    """An error of a loading process inside is raised with its own message alone; its cause has the traceback."""
    try:
        yield
    except Exception as error:
        words = _own_words(error)
        if words is None:
            raise
        raise type(error)(words) from error


def _own_words(error: Exception) -> str | None:
    """The message of an error in a loading process, as which PyTorch has raised `error`; None if it has not."""
    text = str(error.args[0]) if error.args else ""
    caught = _CAUGHT.match(text)
    if caught is None:
        return None
    kind = caught["kind"]
    # the last line of this kind: those before it led to it
    found = re.match(rf".*{_BREAK}(?:[\w.]+\.)?{kind}(?:: (?P<words>.*?))?{_BREAK}?$", text, re.DOTALL)
    if found is None:
        return None
    words = found["words"] or "no message"
    return words if type(error).__name__ == kind else f"{kind}: {words}"
