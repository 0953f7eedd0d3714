"""Runs on local processes: each run in a process of its own, a few at a time, none twice.

The processes are forked from a server that has imported the detection and segmentation libraries once, so a run
starts in a fraction of a second, and a run that crashes takes nothing down but itself. Where a forked process could not
use the GPUs, each run imports the libraries itself. A run ends with its parent:
killing the command leaves no orphan behind, and repeating it continues with the runs that have no result yet; one that
fine-tuned for long continues at its last checkpoint.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess, SpawnProcess
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from bench.errors import BenchError
from bench.gpus import CPU, VISIBLE, find_gpus
from bench.probes.plans import ProbePlan
from bench.protocols import Protocol as TransferProtocol
from bench.protocols import load_protocol
from leaderboard.base.errors import DenseBenchError, Interrupted
from leaderboard.base.files import describe_os_error, remove_all_leftovers
from leaderboard.base.printable import printable
from leaderboard.base.processes import end_with_parent
from leaderboard.base.provenance import available_cores
from leaderboard.records import DatasetReference, Result, result_key

PRELOAD = ("bench.openmmlab.preload",)
"""Modules that the server from which runs are forked imports."""
NO_LOG = 74
"""Exit code of a run's process that cannot write its log (EX_IOERR)."""
BUSY = 75
"""Exit code of a run's process whose run another command executes (EX_TEMPFAIL)."""
TAIL = 1 << 16
"""Bytes at the end of a run's log in which its last words are looked for."""
STOPPING = "stopping: a run that trains ends its iteration and saves it; Ctrl-C again ends all at once"
FULL = 1 << 20
"""Free bytes below which a run that ended without a word is said to have filled the disk."""


class LocalRun(Protocol):
    """What can be executed in a process of its own."""

    @property
    def key(self) -> str:
        """A key that no other run has of those that are executed together."""
        ...

    @property
    def folder(self) -> Path:
        """A folder of this run alone, for its lock and its log."""
        ...

    @property
    def log(self) -> Path:
        """The file in `folder` that holds what the run printed."""
        ...


Run = TypeVar("Run", bound=LocalRun)


@dataclass(frozen=True)
class TransferRun:
    """One fine-tuning run, as data: everything its process needs."""

    protocol: str
    checkpoint: Path
    """Folder with `backbone.safetensors` and `card.json`."""
    data_root: Path
    dataset: DatasetReference
    seed: int
    folder: Path
    """Folder in which the run keeps its log, resolved config, predictions and final weights."""
    results: Path
    """Folder of the result store."""
    key: str
    protocol_file: Path | None = None
    """The file of a protocol from outside; None for one of DenseBench's own."""
    needs: tuple[str, ...] = ()
    """Keys of the runs that must have a result before this one: those of the sweep that chooses its settings."""

    @property
    def log(self) -> Path:
        """The file that holds what the run printed."""
        return self.folder / "run.log"


@dataclass(frozen=True)
class Outcome(Generic[Run]):
    """How a run's process ended. `failure` is None when the run has done its work."""

    run: Run
    seconds: float
    failure: str | None


def run_all(
    runs: Sequence[Run],
    *,
    processes: int | None = None,
    threads: int | None = None,
    device: str | None = None,
    devices: int = 1,
    finished: Callable[[Outcome[Run]], None],
    execute: Callable[[Run, int], None],
) -> list[Outcome[Run]]:
    """Execute `runs` in order on `processes` processes at a time, sharing the cores equally.

    Each process has one GPU, or `devices` of them, and no other is visible to it; more processes than GPUs share them
    evenly. The default is a process for each GPU (for each `devices` of them), or without GPUs one per core, at most 4.
    `device` limits them to cpu, or to one GPU, cuda:N; `threads` replaces each run's share of the cores. `finished` is
    called after each run. A run that fails is reported and does not stop the others. `execute` does one run with a
    number of threads, in the run's process.

    Raises:
        BenchError: `processes` is below 1, no process can be started, the device does not exist, or there are fewer
            than `devices` GPUs.
    """
    if processes is not None and processes < 1:
        raise BenchError(f"--processes is {processes}: give 1 or more")
    if not runs:
        return []
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(list(PRELOAD))
    gpus = find_gpus(server).on(device)
    context = server if gpus.forks else multiprocessing.get_context("spawn")
    groups = gpus.in_groups(devices)
    processes = processes or len(groups) or max(1, min(4, available_cores()) // devices)
    threads = threads or max(1, available_cores() // processes)
    waiting, outcomes, free = list(runs), list[Outcome[Run]](), list(range(processes))
    active: dict[ForkServerProcess | SpawnProcess, tuple[Run, float, int, int]] = {}
    try:
        while waiting or active:
            while waiting and free:
                run, slot = waiting.pop(0), free.pop(0)
                gpu = groups[slot % len(groups)] if groups else "" if device == CPU else None
                process = context.Process(target=_in_process, args=(execute, run, threads, gpu), name=run.key)
                earlier = run.log.stat().st_size if run.log.is_file() else 0
                process.start()
                active[process] = (run, time.monotonic(), slot, earlier)
            wait([process.sentinel for process in active])
            for process in [p for p in active if not p.is_alive()]:
                run, started, slot, earlier = active.pop(process)
                free = sorted([*free, slot])
                failure = None if process.exitcode == 0 else _why(run, process.exitcode, earlier)
                outcomes.append(Outcome(run, time.monotonic() - started, failure))
                finished(outcomes[-1])
    finally:
        if active:
            print(STOPPING, file=sys.stderr, flush=True)
        for process in active:
            process.terminate()
        for process in active:
            process.join()
    return outcomes


def evaluate(run: TransferRun, threads: int, *, devices: int = 1, **fine_tuning: Any) -> None:
    """Execute one run in this process, fine-tuning or probe, and add its result to the store.

    Nothing is done if the result is there: another command may have made it since this one was planned. A fine-tuning
    may be shared among `devices` devices, a probe uses one.
    `fine_tuning` are options of `run_transfer` that change no result.
    """
    import cv2
    import torch

    from bench.openmmlab.checkpoints import CHECKPOINT
    from bench.sweeps import settled
    from leaderboard.shares import SHARES
    from leaderboard.store import ResultStore

    store = ResultStore(run.results)
    if (stored := store.find(run.key)) is not None and is_done(stored):
        (run.folder / CHECKPOINT).unlink(missing_ok=True)
        return
    torch.set_num_threads(threads)
    cv2.setNumThreads(0)
    protocol, sweep = settled(read_run_protocol(run), run)
    inputs = (protocol, run.checkpoint, run.data_root, run.dataset, run.seed, run.folder)
    if isinstance(protocol.plan, ProbePlan):
        from bench.probes.runner import run_probe

        result = run_probe(*inputs)
    else:
        from bench.openmmlab.devices import on_devices
        from bench.openmmlab.runner import run_transfer

        result = on_devices(devices, threads, run_transfer, *inputs, **fine_tuning)
    shares = (run.folder / SHARES).read_bytes() if SHARES in result.outputs else None
    store.add(result.model_copy(update={"sweep": sweep}), shares)
    (run.folder / CHECKPOINT).unlink(missing_ok=True)


def is_done(result: Result) -> bool:
    """Whether the run of a stored result need not be executed again; of a sweep's run, even a failure is a result."""
    return result.status == "finished" or result.held_out


def read_run_protocol(run: TransferRun) -> TransferProtocol:
    """The run's protocol, read again in the run's process.

    Raises:
        BenchError: it is not what was planned, because its file or the checkpoint's card was changed since.
    """
    from bench.heads import head_hash
    from pretrain.exported import read_card

    protocol = load_protocol(str(run.protocol_file or run.protocol))
    card = read_card(run.checkpoint)
    head = head_hash(protocol, run.checkpoint)
    if result_key(card.sha256, protocol.sha256, run.dataset.fingerprint, run.seed, head) != run.key:
        raise BenchError(f"{protocol.config_file} or {run.checkpoint} was changed meanwhile: repeat the command")
    return protocol


def _in_process(execute: Callable[[Run, int], None], run: Run, threads: int, gpu: str | None) -> None:
    """A run's process, which holds the run's lock; what is printed goes to its log, to which others do not write."""
    if gpu is not None:
        os.environ[VISIBLE] = gpu
    end_with_parent()
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
        lock = (run.folder / "lock").open("w")
        log = run.log.open("a")
    except OSError:
        sys.exit(NO_LOG)
    with lock, log:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # two commands never execute a run at the same time
        except BlockingIOError:
            sys.exit(BUSY)
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
        _executed(execute, run, threads)


def _executed(execute: Callable[[Run, int], None], run: Run, threads: int) -> None:
    """Do the run, or end the process after the line that says why it failed."""
    try:
        remove_all_leftovers(run.folder)  # of a run that was killed
        execute(run, threads)
    except Interrupted as stop:
        print(f"FAILED: {printable(stop)}", flush=True)
        sys.exit(stop.exit_code)
    except BaseException as error:
        traceback.print_exc()
        print(f"FAILED: {_words(error)}")
        sys.stdout.flush()
        sys.exit(1)


def _words(error: BaseException) -> str:
    """The message for an error, in one line."""
    if isinstance(error, DenseBenchError):
        return printable(error)
    if isinstance(error, OSError):
        return printable(describe_os_error(error))
    return printable(f"{type(error).__name__}: {error}")


def _why(run: LocalRun, exitcode: int | None, earlier: int) -> str:
    """The last words of a failed run, whose log had `earlier` bytes before it began."""
    if exitcode == BUSY:
        return f"{run.folder} is being run by another command: wait for it, or stop it"
    if exitcode == NO_LOG:
        return f"its log {run.log} cannot be written: make the folder writable or free space, and repeat the command"
    lines = _tail(run.log, earlier).splitlines()
    words = next((line.removeprefix("FAILED: ") for line in reversed(lines) if line.startswith("FAILED: ")), None)
    if words is None and shutil.disk_usage(_existing(run.folder)).free < FULL:
        words = "the disk is full: free space and repeat the command"
    return f"{words or f'its process ended with exit code {exitcode}'} (log: {run.log})"


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next(one for one in (folder, *folder.parents) if one.is_dir())


def _tail(log: Path, earlier: int) -> str:
    """The end of a log, which may be long, without the first `earlier` bytes; nothing of one that is missing."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(earlier, log.stat().st_size - TAIL))
        return file.read().decode(errors="replace")
