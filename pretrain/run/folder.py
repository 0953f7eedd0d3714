"""A run folder: the inputs of the run, its checkpoint, and whether it is finished.

run.json        the recipe and everything else on which the run depends; written first
checkpoint.pt   the newest state; replaced atomically
log.jsonl       one line per interval (see `pretrain.run.log`)
probes.csv      results of probes of the backbone, if there were any (see `pretrain.run.probing`)
finished.json   executed steps, and what they cost: seconds, images/s, device, memory; written last
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import sys
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from leaderboard.base.errors import FileError
from leaderboard.base.files import is_leftover, read_bounded, remove_all_leftovers, write_atomic
from leaderboard.records import Cost
from pretrain.errors import PretrainError
from pretrain.former_hashes import present_hash
from pretrain.run.memory import device_name, peak_memory_mib

FORMAT = 1
LONGEST_RECORD = 10_000_000
"""Most bytes of a `run.json`, which has about 5,000."""
BACKBONE_PREFIX = "backbone."
"""Prefix of the tensors of the network that is exported, in a method."""
_MEASURED = ("seconds", "images_per_second", "device", "peak_memory_mib")
_FLOCK = "hhqqi4x"
"""Linux's `struct flock`: type, whence, start, length, process."""


@dataclass(frozen=True)
class RunRecord:
    """Content of `run.json`: everything on which a run depends, and what its export must say."""

    recipe: dict[str, Any]
    recipe_sha256: str
    seed: int
    processes: int
    data_name: str
    data_fingerprint: str
    images: int
    batch_size: int
    steps_per_epoch: int
    planned_steps: int
    method: str
    """The method's name as the field writes it."""
    architecture: str
    views: list[dict[str, Any]]
    """Name, size, scale and ratio of each crop."""
    mean: list[float]
    std: list[float]
    code_commit: str | None
    init: dict[str, str] | None = None
    """The `name` and `sha256` of the backbone from which the run started; None for random initialization."""
    method_file: dict[str, str] | None = None
    """The `name` and `sha256` of the file of a user's own method, which `recipe_sha256` covers, too."""
    labels: str = "none"
    """Labels of the images that the method used."""
    format: int = FORMAT

    def image_views(self, steps: int) -> int:
        """Crops that `steps` optimizer steps have shown to the encoder that is trained."""
        return steps * self.batch_size * len(self.views)

    def differences(self, other: RunRecord) -> list[str]:
        """The inputs in which `other` is a different run, in words."""
        compared = {
            "recipe": tuple(present_hash(record.recipe_sha256)[:12] for record in (self, other)),
            "data": (self.data_fingerprint[:12], other.data_fingerprint[:12]),
            "seed": (self.seed, other.seed),
            "number of processes": (self.processes, other.processes),
            "starting weights": tuple(_named(record.init) for record in (self, other)),
            "file of the method": tuple(_named(record.method_file) for record in (self, other)),
        }
        changed = _changed_settings(self.recipe, other.recipe)
        found = [f"{key} {old} -> {new}" for key, (old, new) in compared.items() if old != new]
        if not changed and self.method_file != other.method_file:  # its hash is part of the recipe's
            found.pop(0)
        return [f"recipe ({', '.join(changed)})" if text.startswith("recipe ") and changed else text for text in found]


@dataclass(frozen=True)
class Progress:
    """How far a run has come: finished optimizer steps and the seconds spent training."""

    step: int = 0
    seconds: float = 0.0


class RunFolder:
    """An open run folder. One process at a time may hold it."""

    def __init__(self, folder: Path, record: RunRecord) -> None:
        self.folder = folder
        self.record = record
        self.checkpoint = folder / "checkpoint.pt"
        self.log = folder / "log.jsonl"
        self._finished = folder / "finished.json"
        self._lock: IO[str] | None = None

    @property
    def finished(self) -> bool:
        """Whether all planned steps were executed and saved."""
        return self._finished.exists()

    def claim(self, *, resume: bool) -> bool:
        """Make or reopen the folder for training and lock it; False if the run is finished already.

        Raises:
            PretrainError: the folder holds something else, another run, an unfinished run without `resume`, or a run
                that another process is training; or it cannot be written.
        """
        found = read_record(self.folder) if (self.folder / "run.json").exists() else None
        if found is not None:
            differences = found.differences(self.record)
            if differences:
                raise PretrainError(
                    f"{self.folder} holds another run: {'; '.join(differences)}. Choose another --out, "
                    "or repeat the original settings"
                )
            if self.finished:
                return False
            if not resume:
                raise PretrainError(f"{self.folder} holds an unfinished run: add --resume, or choose another --out")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if found is None and not all(_left_by_start(path) for path in self.folder.iterdir()):
                raise PretrainError(f"{self.folder} is not empty and holds no run: choose another --out")
            self._lock = (self.folder / ".lock").open("w")
        except OSError as error:
            raise PretrainError(f"cannot write into {self.folder}: {error.strerror}; choose another --out") from error
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # record locks are not inherited by loader processes
        except OSError as error:
            raise PretrainError(f"another process is training in {self.folder}: wait for it, or stop it") from error
        remove_all_leftovers(self.folder)
        if found is None:
            write_atomic(self.folder / "run.json", json.dumps(asdict(self.record), indent=2) + "\n")
        return True

    def release(self) -> None:
        """Release the folder for other processes."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def save(self, progress: Progress, method: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Replace the checkpoint.

        Raises:
            FileError: it cannot be written; the earlier one stays.
        """
        state = {
            "format": FORMAT,
            "recipe_sha256": self.record.recipe_sha256,
            "data_fingerprint": self.record.data_fingerprint,
            "seed": self.record.seed,
            **asdict(progress),
            "method": method.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        write_atomic(self.checkpoint, lambda file: torch.save(state, file))

    def load(self, method: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
        """Fill `method` and `optimizer` from the checkpoint; a run without one starts at step 0.

        Raises:
            PretrainError: the file is damaged or belongs to another run.
        """
        if not self.checkpoint.exists():
            return Progress()
        state = read_checkpoint(self.checkpoint, self.record)
        method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
        return Progress(state["step"], state["seconds"])

    def finish(self, progress: Progress, device: torch.device) -> None:
        """Mark the run as finished on `device`.

        Raises:
            PretrainError: executed steps are not the planned ones.
        """
        if progress.step != self.record.planned_steps:
            raise PretrainError(
                f"{self.folder} executed {progress.step} steps, but {self.record.planned_steps} were planned: "
                "this is a fault of densebench or of the image source, and the run is not marked as finished"
            )
        summary = {
            "executed_steps": progress.step,
            "seconds": round(progress.seconds, 3),
            "images_per_second": round(progress.step * self.record.batch_size / max(progress.seconds, 1e-9), 3),
            "device": device_name(device),
            "peak_memory_mib": round(peak_memory_mib(device), 1),
        }
        write_atomic(self._finished, json.dumps(summary, indent=2) + "\n")


def read_record(folder: Path) -> RunRecord:
    """The record of the run in `folder`.

    Raises:
        PretrainError: there is none, or it cannot be read.
    """
    path = folder / "run.json"
    try:
        if folder.is_file():
            raise PretrainError(f"{folder} is a file: give the folder of a pretraining run, which holds run.json")
        values = json.loads(read_bounded(path, LONGEST_RECORD))
        known = {item.name: item.default is MISSING for item in fields(RunRecord)}
        needed = {name for name, required in known.items() if required}
        if values.get("format") != FORMAT or not needed <= values.keys() <= known.keys():
            raise ValueError("it was written by another version of densebench")
        return RunRecord(**values)
    except FileNotFoundError as error:
        if not folder.exists():
            raise PretrainError(f"there is no folder {folder}: give that of a pretraining run") from error
        inside = sorted(one.parent.name for one in folder.glob("*/run.json"))
        runs = f"; it holds runs: {', '.join(inside[:3])}{', …' * (len(inside) > 3)}" if inside else ""
        raise PretrainError(f"{folder} is not a pretraining run: it has no run.json{runs}") from error
    except FileError as error:
        raise PretrainError(f"{error}, so it is not a record of a run") from error
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise PretrainError(f"{path} cannot be read: {error}") from error


def read_cost(folder: Path, record: RunRecord) -> Cost | None:
    """The cost of the run in `folder`; None for a run that has not ended, or that an earlier version finished.

    Raises:
        PretrainError: its file is damaged.
    """
    path = folder / "finished.json"
    if not path.exists():
        return None
    try:
        found = json.loads(read_bounded(path, LONGEST_RECORD))
        measured = {name: found[name] for name in _MEASURED if name in found}
        return Cost(processes=record.processes, **measured) if len(measured) == len(_MEASURED) else None
    except (OSError, FileError, ValueError, TypeError) as error:
        raise PretrainError(f"{path} is damaged: {error}") from error


def tensors_under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a state dict whose names start with `prefix`, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def in_training(folder: Path) -> bool:
    """Whether a process has locked the run in `folder`; on systems other than Linux True, because it is unknown.

    It asks who has the lock. Trying to take the lock could make a run fail that starts at the same moment.
    """
    if sys.platform != "linux":
        return True
    try:
        with (folder / ".lock").open("rb") as lock:
            question = struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
            answer = struct.unpack(_FLOCK, fcntl.fcntl(lock, fcntl.F_GETLK, question))
    except FileNotFoundError:
        return False
    return bool(answer[0] != fcntl.F_UNLCK)


def read_checkpoint(path: Path, record: RunRecord) -> dict[str, Any]:
    """The checkpoint of the run that `record` describes, on the CPU. Only tensors and plain values are unpickled.

    Raises:
        PretrainError: the file is missing, damaged or of another run.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = (state["format"], state["recipe_sha256"], state["data_fingerprint"], state["seed"])
    except FileNotFoundError as error:
        raise PretrainError(f"{path} is missing: the run was stopped before its first checkpoint") from error
    except Exception as error:  # the restricted unpickler may raise anything on bytes that are not a pickle
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PretrainError(f"{path} is damaged ({reason}): delete the run folder and start again") from error
    expected = (FORMAT, present_hash(record.recipe_sha256), record.data_fingerprint, record.seed)
    if (found[0], present_hash(found[1]), *found[2:]) != expected:
        raise PretrainError(f"{path} belongs to another run than {path.parent / 'run.json'}: delete the folder")
    return state


def _named(file: dict[str, str] | None) -> str:
    return "none" if file is None else f"{file['name']} {file['sha256'][:12]}"


def _left_by_start(path: Path) -> bool:
    """Whether a run that was killed before it wrote its record may have left this file."""
    return path.name == ".lock" or is_leftover(path, of="run.json")


def _changed_settings(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Dotted keys and values in which two recipes differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            text
            for key in dict.fromkeys((*old, *new))
            for text in _changed_settings(old.get(key), new.get(key), f"{prefix}{key}.")
        ]
    return [] if old == new else [f"{prefix[:-1]} {old} -> {new}"]
