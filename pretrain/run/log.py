"""The log of a run: one JSON line per interval, a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from leaderboard.base.files import write_atomic
from leaderboard.base.terminal import Console
from pretrain.errors import PretrainError
from pretrain.run.memory import peak_memory_mib
from pretrain.run.processes import Process

PLAIN_SECONDS = 10.0
"""Shortest time between two plain lines."""


class Interval:
    """Collects the named scalars of the steps since the last `close`, without waiting for the device in between."""

    def __init__(self, process: Process, *, batch_size: int, step: int) -> None:
        self._process = process
        self._batch_size = batch_size
        self._step = step
        self._names: tuple[str, ...] = ()
        self._rows: list[Tensor] = []
        self._waited = 0.0
        self._opened = time.perf_counter()

    def add(self, scalars: Mapping[str, Tensor], waited: float) -> None:
        """Add one step: its scalars, and the seconds spent waiting for its data."""
        self._names = tuple(scalars)
        self._rows.append(torch.stack([value.detach().float() for value in scalars.values()]))
        self._waited += waited

    def leave_out(self, seconds: float) -> None:
        """Do not count this time for the steps."""
        self._opened += seconds

    def close(self, **last: Tensor) -> dict[str, Any]:
        """Averages since the last call, over steps and ranks; all ranks must call it at the same step.

        `last` are named scalars of the last step alone, averaged over ranks.

        Raises:
            PretrainError: the loss or the gradient (`grad_norm`) of a step was not finite; the message names the step.
        """
        table = self._process.mean(torch.stack(self._rows)).cpu()
        measured_last = self._process.mean(torch.stack([x.float() for x in last.values()])).tolist() if last else []
        now = time.perf_counter()
        self._require_finite(table)
        seconds = now - self._opened
        steps = len(self._rows)
        values = dict(zip(self._names, table.double().mean(0).tolist(), strict=True))
        values |= zip(last, measured_last, strict=True)
        line = {
            "scalars": {name: value if math.isfinite(value) else None for name, value in values.items()},
            "images_per_second": round(steps * self._batch_size / seconds, 2),
            "data_wait": round(self._waited / seconds, 4),
            "peak_memory_mib": round(peak_memory_mib(self._process.device), 1),
        }
        self._step += steps
        self._rows, self._waited, self._opened = [], 0.0, now
        return line

    def _require_finite(self, table: Tensor) -> None:
        # A finite loss can have a gradient that is not: then the weights are lost already, one step before the loss is.
        tested = {"loss": "loss", "grad_norm": "norm of the gradient"}
        columns = {self._names.index(name): what for name, what in tested.items() if name in self._names}
        for step, row in enumerate(table.tolist(), self._step + 1):
            for column, what in columns.items():
                if not math.isfinite(row[column]):
                    raise PretrainError(
                        f"the {what} of step {step} is {row[column]}: lower optimizer.lr, lengthen the warm-up "
                        "or use precision=fp32. No checkpoint was saved after it"
                    )


class RunLog:
    """Writes `log.jsonl` and shows progress; on ranks other than 0 it does nothing.

    An existing log is continued: lines after `first_step`, and a truncated line, are removed first.
    """

    def __init__(
        self, path: Path, process: Process, *, title: str, first_step: int, planned_steps: int, tensorboard: bool
    ) -> None:
        self._active = process.main
        if not self._active:
            return
        self._writer = _tensorboard_writer(path.parent / "tensorboard", first_step) if tensorboard else None
        _truncate(path, first_step)
        self._file: IO[str] = _open(path)
        self._screen = _screen(title, first_step, planned_steps)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._active:
            return
        with ExitStack() as closing:  # closes each, whatever becomes of the others
            # What `write` could not write fails here again: the error that ends the training tells of it.
            closing.enter_context(_writing(self._file.name) if error is None else suppress(OSError))
            closing.callback(self._screen.close)
            if self._writer is not None:
                closing.callback(self._writer.close)
            closing.callback(self._file.close)

    def note(self, text: str) -> None:
        """Show a line about the whole run."""
        if self._active:
            self._screen.note(text)

    def write(self, line: dict[str, Any]) -> None:
        """Append one line: `step`, `epoch`, `lr`, `scalars`, speeds, memory, `seconds` and `eta_seconds`.

        Raises:
            PretrainError: it cannot be written.
        """
        if not self._active:
            return
        with _writing(self._file.name):
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()
        self._screen.show(line)
        if self._writer is not None:
            flat = {**line["scalars"], **{key: line[key] for key in ("lr", "images_per_second", "data_wait")}}
            for name, value in flat.items():
                if value is not None:
                    self._writer.add_scalar(name, value, line["step"])


class _Screen(Protocol):
    def note(self, text: str) -> None: ...

    def show(self, line: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


class _Bar:
    """A progress bar on a terminal."""

    def __init__(self, console: Console, title: str, first_step: int, planned_steps: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task(title, total=planned_steps, completed=first_step, status="")
        self._progress.start()

    def note(self, text: str) -> None:
        self._progress.console.print(text)

    def show(self, line: dict[str, Any]) -> None:
        self._progress.update(self._task, completed=line["step"], status=_status(line))

    def close(self) -> None:
        self._progress.stop()


class _Lines:
    """Plain lines for a log file, a few per minute."""

    def __init__(self, console: Console, title: str, planned_steps: int) -> None:
        self._console = console
        self._title = title
        self._planned = planned_steps
        self._shown = -math.inf

    def note(self, text: str) -> None:
        self._console.print(text)

    def show(self, line: dict[str, Any]) -> None:
        now = time.monotonic()
        if now - self._shown < PLAIN_SECONDS and line["step"] < self._planned:
            return
        self._shown = now
        left = f"{line['eta_seconds']:.0f} s left"
        self._console.print(f"{self._title} step {line['step']}/{self._planned}  {_status(line)}  {left}")

    def close(self) -> None:
        """Do nothing: there is nothing to restore."""


def _screen(title: str, first_step: int, planned_steps: int) -> _Screen:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if console.is_terminal:
        return _Bar(console, title, first_step, planned_steps)
    return _Lines(console, title, planned_steps)


def _status(line: dict[str, Any]) -> str:
    loss = line["scalars"]["loss"]
    return (
        f"epoch {line['epoch']:.1f}  loss {loss:.4f}  {line['images_per_second']:.0f} images/s  "
        f"data wait {line['data_wait']:.0%}"
    )


@contextmanager
def _writing(file: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PretrainError(
            f"cannot write {file}: {error.strerror}. The checkpoint is kept: once this is mended, continue "
            "with --resume"
        ) from error


def _open(path: Path) -> IO[str]:
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise PretrainError(f"cannot write {path}: {error.strerror}") from error


def _truncate(path: Path, last_step: int) -> None:
    """Keep the complete lines up to `last_step`."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            step = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):
            break  # truncated when the run was killed
        if step > last_step:
            break
        kept.append(line + "\n")
    write_atomic(path, "".join(kept))


def require_tensorboard() -> None:
    """Raise PretrainError where TensorBoard is not installed."""
    if find_spec("tensorboard") is None:
        raise PretrainError("TensorBoard is not installed: pip install 'densebench[tensorboard]'")


def _tensorboard_writer(folder: Path, first_step: int) -> Any:
    require_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=first_step + 1)
