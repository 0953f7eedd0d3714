"""Reads from a run folder how far the run is, whether it still trains, and all that it logged."""

from __future__ import annotations

import json
import os
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pretrain.errors import PretrainError
from pretrain.run.folder import RunRecord, in_training, read_record
from pretrain.run.probing import ProbeLine, read_probes

State = Literal["training", "finished", "stopped"]
BESIDE = ("lr", "images_per_second", "data_wait", "peak_memory_mib")
"""Values in a log line besides a method's own scalars, which are plotted like them."""


@dataclass(frozen=True)
class History:
    """The log of a run by columns: one entry per line, NaN where a line has no such scalar."""

    steps: array[int]
    columns: dict[str, array[float]]


class LogReader:
    """Reads the new complete lines of a `log.jsonl`.

    A last line without its line feed is still being written, or was truncated when the run was killed: it is left for
    later. A log that was replaced by a resumed run is read again from the start.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_bytes = 0
        self._file_id = 0
        self._lines = 0

    def read(self) -> tuple[bool, list[bytes]]:
        """Whether earlier lines are no longer valid, and the new lines; none where there is no log yet."""
        if self.path.exists() and not self.path.is_file():
            raise PretrainError(f"{self.path} is not a regular file, so it is not a log")
        try:
            with self.path.open("rb") as file:
                size, file_id = _size_and_id(file.fileno())
                replaced = self._lines > 0 and (file_id != self._file_id or size < self._read_bytes)
                if replaced:
                    self._read_bytes = self._lines = 0
                self._file_id = file_id
                file.seek(self._read_bytes)
                complete, ended, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return False, []
        except OSError as error:
            raise PretrainError(f"cannot read {self.path}: {error.strerror}") from error
        self._read_bytes += len(complete) + len(ended)
        lines = complete.split(b"\n") if ended else []
        self._lines += len(lines)
        return replaced, lines

    def parse(self, line: bytes) -> dict[str, Any]:
        """The values of a complete line; raises PretrainError if it is not one that `RunLog` writes."""
        try:
            values: dict[str, Any] = json.loads(line)
            values["step"], values["scalars"].keys()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise PretrainError(f"{self.path} is damaged: {line[:60]!r} is not a line of a run's log") from error
        return values


class WatchedRun:
    """A run folder under observation: its record, its newest line and, where it is plotted, its whole history.

    Raises:
        PretrainError: the folder holds no run.
    """

    def __init__(self, folder: Path, *, keep_history: bool) -> None:
        self.folder = folder
        self.record: RunRecord = read_record(folder)
        self.newest: dict[str, Any] | None = None
        self.history = History(array("q"), {}) if keep_history else None
        self.probes: list[ProbeLine] = []
        """Results of probes of the backbone so far."""
        self.state: State = "training"
        self._reader = LogReader(folder / "log.jsonl")

    @property
    def name(self) -> str:
        """The run folder's name."""
        return self.folder.resolve().name

    def update(self) -> bool:
        """Read the folder again; return whether anything is new."""
        before = self.state, self.probes
        # The state is read first: if the run ends in between, its last line was written before the log is read.
        self.state = _state(self.folder)
        self.probes = read_probes(self.folder)
        replaced, lines = self._reader.read()
        if replaced:
            self.newest = None
            if self.history is not None:
                self.history = History(array("q"), {})
        if self.history is not None:
            for line in lines:
                self.newest = self._reader.parse(line)
                _append(self.history, self.newest)
        elif lines:
            self.newest = self._reader.parse(lines[-1])
        return bool(lines) or replaced or (self.state, self.probes) != before


def _append(history: History, line: dict[str, Any]) -> None:
    """Add one entry to every column, and columns for new names."""
    values = line["scalars"] | {name: line.get(name) for name in BESIDE}
    count = len(history.steps)
    history.steps.append(line["step"])
    for name in values:
        if name not in history.columns:
            history.columns[name] = array("d", [float("nan")]) * count
    for name, column in history.columns.items():
        value = values.get(name)
        column.append(float("nan") if value is None else value)


def _state(folder: Path) -> State:
    # The order matters: a run writes that it is finished before it releases its folder.
    held = in_training(folder)
    if (folder / "finished.json").exists():
        return "finished"
    return "training" if held else "stopped"


def newest(run: WatchedRun) -> dict[str, str]:
    """The newest line as text, under the names in a table; for a run without lines, its state and length."""
    planned = run.record.planned_steps
    line = run.newest
    probed = {one.probe: f"{one.value:.1f} ± {one.standard_error:.1f}" for one in run.probes}
    if line is None:
        return {"state": run.state, "step": f"0/{planned}", **probed}
    found = {"state": run.state, "step": f"{line['step']}/{planned}", "epoch": f"{line['epoch']:.1f}"}
    found |= {name: significant(value) for name, value in line["scalars"].items()}
    found |= probed
    found |= {
        "lr": significant(line["lr"]),
        "images/s": f"{line['images_per_second']:.0f}",
        "data wait": f"{line['data_wait']:.0%}",
        "memory": f"{line['peak_memory_mib']:.0f} MiB",
    }
    return found | ({"time left": duration(line["eta_seconds"])} if run.state == "training" else {})


def significant(value: float | None) -> str:
    """A value with four significant digits; a dash if it was not finite or not logged."""
    return "-" if value is None else f"{value:.4g}"


def duration(seconds: float) -> str:
    """A number of seconds as `2 h 05 min`, `12 min` or `40 s`."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if seconds >= 90 else f"{seconds:.0f} s"


def _size_and_id(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_size, status.st_ino
