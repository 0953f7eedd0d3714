"""The checkpoint of a training run: one file with everything on which the rest of the run depends.

It holds weights, optimizer, schedulers, iteration, the states of all random generators, and what was executed so far.
The order of the data is not in it: it is drawn again from the seed (`bench.openmmlab.feed`). On a CPU a run that was
killed and continued ends with the same bits as one that was not, and only the same machine and versions continue it.
On a GPU no two runs have equal bits, and it continues on any GPU, with other versions of the libraries, too. What
cannot be continued is kept under another name. Only tensors and plain values are read (`weights_only`).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.openmmlab.loss_log import LOSSES, has_lines
from leaderboard.base.errors import FileError
from leaderboard.base.files import write_atomic
from leaderboard.records import Card, DatasetReference, Environment

FORMAT = 1
CHECKPOINT = "checkpoint.pt"
"""The checkpoint's name in the run's folder. It is removed when the result is stored."""
UNUSED = "unused"
"""Ending of the names under which a checkpoint that cannot be continued, and its losses, are kept: `-unused-1` ..."""
WHAT = ("protocol", "checkpoint", "data", "seed", "head", "precision")
"""Parts of a run's identity that say what is computed; all others say where and with what."""
CHECKPOINT_SECONDS = 600.0
"""Default number of seconds between two checkpoints; a shorter run writes none."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoint in the run's `folder`, which only a run of the same `identity` may continue."""

    folder: Path
    identity: Mapping[str, str]
    seconds: float = CHECKPOINT_SECONDS
    """Seconds between two checkpoints."""
    exact: bool = True
    """Whether all of the identity must be the same: without, `WHAT` alone, and a line says what else differs."""
    devices: int = 1
    """Number of devices that share the run, each with random states of its own."""

    @property
    def file(self) -> Path:
        """Path of the checkpoint."""
        return self.folder / CHECKPOINT

    def read(self) -> dict[str, Any] | None:
        """The state last given to :meth:`write`, on the CPU; None, with a printed reason, where it cannot be used."""
        try:
            found: dict[str, Any] = torch.load(self.file, map_location="cpu", weights_only=True)
            state = dict(found["state"])
            why = self._unusable(found, state["iteration"])
        except FileNotFoundError:
            return None
        except Exception as error:  # the restricted unpickler may raise anything on bytes that are not a pickle
            why = f"is damaged ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        if why is not None:
            print(f"{self.file} {why}: the run starts again from the beginning", flush=True)
            return None
        others = _differences(found["identity"], self.identity)
        changed = f", elsewhere or with other versions ({'; '.join(others)})" if others else ""
        print(f"continued: {self.file} was written after iteration {state['iteration']}{changed}", flush=True)
        return state

    def set_aside(self) -> None:
        """Give a checkpoint that cannot be continued, and its losses, names that nothing overwrites; a line says which.

        Nothing is done where there is no checkpoint.
        """
        if not self.file.is_file():
            return
        files = [file for file in (self.file, self.folder / LOSSES) if file.is_file()]
        number = next(n for n in itertools.count(1) if not any(_unused(file, n).exists() for file in files))
        for file in files:
            file.rename(_unused(file, number))
        names = " and ".join(_unused(file, number).name for file in files)
        print(f"kept: {names}, in {self.folder}; remove them where nobody needs them", flush=True)

    def write(self, state: Mapping[str, Any]) -> bool:
        """Replace the checkpoint, and return whether that was possible: if not, a line says so and the last one stays.

        Training goes on without a new checkpoint, because a full disk may have space again before one is needed.
        """
        content = {"format": FORMAT, "identity": dict(self.identity), "state": dict(state)}
        try:
            write_atomic(self.file, lambda file: torch.save(content, file))
        except FileError as error:
            print(f"no checkpoint after iteration {state['iteration']}: {error}. Training goes on", flush=True)
            return False
        return True

    def _unusable(self, found: Mapping[str, Any], iteration: int) -> str | None:
        if found["format"] != FORMAT:
            return "was written by another version of densebench"
        different = _differences(found["identity"], self.identity, None if self.exact else WHAT)
        if different:
            return f"belongs to another run ({'; '.join(different)})"
        devices = 1 + len(found["state"].get("random_of_others", ()))
        if devices != self.devices:
            return f"is of a run on another number of devices ({devices} -> {self.devices})"
        if not has_lines(self.folder / LOSSES, iteration):
            return f"is at iteration {iteration}, and {LOSSES} ends before"
        return None


def run_identity(
    config_sha256: str, card: Card, dataset: DatasetReference, seed: int, environment: Environment, device_type: str
) -> dict[str, str]:
    """All that a run's final bits depend on, in words; see `Checkpoints` for what of it must be the same.

    It holds the versions of the libraries and of densebench, but not the commits of densebench between two versions.
    """
    inputs = {"protocol": config_sha256, "checkpoint": card.sha256, "data": dataset.fingerprint, "seed": str(seed)}
    machine = {"device": environment.device, "precision": environment.precision}
    threads = {"threads": str(environment.threads)} if device_type == "cpu" else {}
    return {**inputs, **machine, **threads, **environment.packages}


def random_states() -> dict[str, Any]:
    """The states of all generators that this process draws from: PyTorch's (also of its GPU), numpy's and Python's."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "numpy": (name, keys.tolist(), *rest),  # type: ignore[union-attr]
        "python": random.getstate(),
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Set all generators to what :func:`random_states` found."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))
    random.setstate(states["python"])


def _differences(old: Mapping[str, str], new: Mapping[str, str], keys: Collection[str] | None = None) -> list[str]:
    """Descriptions of what differs, of all `keys` or of these alone."""
    return [
        f"{key} {str(old.get(key, 'none'))[:40]} -> {new.get(key, 'none')[:40]}"
        for key in dict.fromkeys((*old, *new))
        if old.get(key) != new.get(key) and (keys is None or key in keys)
    ]


def _unused(file: Path, number: int) -> Path:
    return file.with_stem(f"{file.stem}-{UNUSED}-{number}")
