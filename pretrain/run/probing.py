"""Probes the frozen backbone during training, at regular numbers of epochs.

A copy of the backbone is measured: no weight, statistic or random state of the training changes, so that a run ends
with the same bits with and without probes. The results are kept in the run's folder:

    probes.csv    step, epoch, probe, data, value, standard_error, seconds: one line per probe

A resumed run does not repeat probes in this file, even if it trains the steps before them again, because these give the
same weights.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from leaderboard.base.errors import FileError
from leaderboard.base.files import read_bounded, write_atomic
from pretrain.errors import PretrainError
from pretrain.run.folder import BACKBONE_PREFIX, RunRecord, tensors_under
from pretrain.run.log import RunLog
from pretrain.run.processes import Process

FILE = "probes.csv"
_LONGEST = 10_000_000
"""Most bytes of the file, which has about a hundred per line."""


@dataclass(frozen=True)
class Probed:
    """Result of one probe."""

    probe: str
    """Name of the probe, one line."""
    data: str
    """Fingerprint of the data used for it, or the beginning of the fingerprint."""
    value: float
    """Value in per cent."""
    standard_error: float
    """Standard error for the draw of the images, in points of per cent."""


@dataclass(frozen=True)
class Probing:
    """Settings of the probes of a run."""

    measure: Callable[[Mapping[str, Tensor], RunRecord, int], Sequence[Probed]]
    """Function that probes, given the backbone's tensors as exported, the run's record and the finished steps."""
    every: int
    """Epochs from one probe to the next; there is one before the first step and one after the last."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise PretrainError(f"a backbone is probed every 1 or more epochs, not {self.every}")


@dataclass(frozen=True)
class ProbeLine:
    """One line of the file: the result of a probe after `step` steps."""

    step: int
    epoch: float
    probe: str
    data: str
    value: float
    standard_error: float
    seconds: float


_COLUMNS = [field.name for field in fields(ProbeLine)]


class ProbeLog:
    """Probes the run in `folder` when this is due, and writes the results. All processes of the run have one.

    Raises:
        PretrainError: the folder's file is damaged.
    """

    def __init__(self, probing: Probing | None, folder: Path, record: RunRecord, process: Process) -> None:
        self._probing, self._folder, self._record, self._process = probing, folder, record, process
        self._lines = [] if probing is None else process.on_main(lambda: read_probes(folder))

    def after(self, step: int, method: nn.Module, log: RunLog) -> float:
        """Probe the backbone of `method` if this is due after `step` finished steps; return the seconds that it took.

        Raises:
            PretrainError: the backbone cannot be probed, or the file cannot be written.
        """
        probing = self._probing
        if probing is None or not self._due(step, probing.every):
            return 0.0
        started = time.perf_counter()
        found = self._process.on_main(lambda: self._measure(probing, step, method))
        self._lines += found
        words = ", ".join(f"{line.probe} {line.value:.1f} ± {line.standard_error:.1f}" for line in found)
        log.note(f"probe after epoch {step / self._record.steps_per_epoch:g}: {words}")
        return time.perf_counter() - started

    def _due(self, step: int, every: int) -> bool:
        planned = step % (every * self._record.steps_per_epoch) == 0 or step == self._record.planned_steps
        return planned and step not in {line.step for line in self._lines}

    def _measure(self, probing: Probing, step: int, method: nn.Module) -> list[ProbeLine]:
        started = time.perf_counter()
        tensors = tensors_under(BACKBONE_PREFIX, method.state_dict())
        copies = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        device = self._process.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            found = probing.measure(copies, self._record, step)
        seconds, epoch = round(time.perf_counter() - started, 3), round(step / self._record.steps_per_epoch, 4)
        lines = [
            ProbeLine(step, epoch, one.probe, one.data, one.value, one.standard_error, seconds / len(found))
            for one in found
        ]
        write_atomic(self._folder / FILE, _text(_by_steps([*self._lines, *lines])))
        return lines


def read_probes(folder: Path) -> list[ProbeLine]:
    """All results of probes of the run in `folder`, by steps; empty where there were none.

    Raises:
        PretrainError: the file is damaged.
    """
    path = folder / FILE
    try:
        rows = csv.DictReader(io.StringIO(read_bounded(path, _LONGEST).decode()))
        if rows.fieldnames != _COLUMNS:
            raise ValueError("its columns are others")
        lines = [
            ProbeLine(
                step=int(row["step"]),
                epoch=float(row["epoch"]),
                probe=row["probe"],
                data=row["data"],
                value=float(row["value"]),
                standard_error=float(row["standard_error"]),
                seconds=float(row["seconds"]),
            )
            for row in rows
        ]
        if not all(math.isfinite(line.value + line.standard_error) for line in lines):
            raise ValueError("a value is not finite")
    except FileNotFoundError:
        return []
    except (OSError, FileError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise PretrainError(f"{path} is damaged ({error}): remove it, and the probes are repeated") from error
    return _by_steps(lines)


def _by_steps(lines: Sequence[ProbeLine]) -> list[ProbeLine]:
    """The lines by their steps: a resumed run that probes more often than before fills gaps."""
    return sorted(lines, key=lambda line: line.step)


def _text(lines: Sequence[ProbeLine]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(astuple(line) for line in lines)
    return text.getvalue()
