"""Runs that are killed at a chosen moment, in the test's own process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest

from bench.openmmlab.loss_log import LossLog


class Killed(BaseException):
    """No handler of errors takes it for one."""


def kill(*_: Any) -> None:
    """Takes the place of something that does not end."""
    raise Killed


@contextmanager
def killed_at(iteration: int) -> Iterator[None]:
    """A run inside ends within this iteration, after the weights have moved and before anything is kept."""
    write = LossLog.write

    def killed(log: LossLog, number: int, *values: Any) -> None:
        if number == iteration:
            raise Killed
        write(log, number, *values)

    with patch.object(LossLog, "write", killed), pytest.raises(Killed):
        yield
