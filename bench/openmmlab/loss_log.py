"""`losses.csv` of a run: one line per iteration, written at once, so that a run of days can be followed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.openmmlab.trackers import Tracker
from leaderboard.base.errors import FileError
from leaderboard.base.files import describe_os_error, write_atomic
from pretrain.run.log import require_tensorboard

LOSSES = "losses.csv"
"""Name of the loss log in the run's folder."""


def has_lines(file: Path, iterations: int) -> bool:
    """Whether the whole lines of at least the first `iterations` iterations are there."""
    return len(_whole_lines(file)) > iterations


class LossLog:
    """Iteration, learning rate and every loss, to `losses.csv` and optionally to TensorBoard and to a tracker.

    A file that exists keeps the lines of the first `done` iterations (which must be there: :func:`has_lines`) and
    loses the others. A full disk delays lines and stops nothing: they are written as soon as there is space. The
    columns are the losses of the first iteration.

    Raises:
        FileError: the file cannot be opened.
        PretrainError: TensorBoard is asked for and not installed.
    """

    def __init__(self, file: Path, done: int = 0, *, tensorboard: bool = False, tracker: Tracker | None = None) -> None:
        self.file = file
        lines = _whole_lines(file)[: done + 1] if done else []
        write_atomic(file, "".join(lines))
        self._columns = lines[0].rstrip("\n").split(",") if lines else []
        self._descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._waiting = b""
        self._writer = _tensorboard_writer(file.parent / "tensorboard", done) if tensorboard else None
        self._tracker = tracker

    def write(self, iteration: int, rate: float, losses: Mapping[str, float]) -> None:
        """Add the line of `iteration`, of which the first is 1."""
        values = {"iteration": str(iteration), "learning_rate": f"{rate:.8g}"}
        values |= {name: f"{value:.6g}" for name, value in losses.items()}
        if not self._columns:
            self._columns = list(values)
            self._waiting += (",".join(values) + "\n").encode()
        self._waiting += (",".join(values.get(name, "") for name in self._columns) + "\n").encode()
        self._drain()
        shown = {"lr": rate, **losses}
        if self._writer is not None:
            for name, value in shown.items():
                self._writer.add_scalar(name, value, iteration)
        if self._tracker is not None:
            self._tracker.log(iteration, shown)

    def sync(self) -> None:
        """Return when every line is on the disk.

        Raises:
            FileError: the disk is full.
        """
        error = self._drain()
        if error is not None:
            raise FileError(f"cannot write {self.file}: {describe_os_error(error)}") from error
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the files."""
        os.close(self._descriptor)
        for other in (self._writer, self._tracker):
            if other is not None:
                other.close()

    def _drain(self) -> OSError | None:
        """Write what waits; the error by which some of it still does."""
        while self._waiting:
            try:
                written = os.write(self._descriptor, self._waiting)
            except OSError as error:
                return error
            self._waiting = self._waiting[written:]
        return None


def _whole_lines(file: Path) -> list[str]:
    """The file's lines, without one that was cut short; none of a file that is missing or no text."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    except (FileNotFoundError, UnicodeDecodeError):
        return []
    return [line for line in lines if line.endswith("\n")]


def _tensorboard_writer(folder: Path, done: int) -> Any:
    require_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=done + 1)
