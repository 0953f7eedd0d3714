"""What a job of the cluster does: one run, in a process of its own as on a local machine, that survives time limits.

submitit asks SLURM for a signal (SIGUSR2) some time before the limit, calls `Task.checkpoint`, and queues the job
again, with the same number. SLURM sends it to every process of the job, whose default is to die: all but the first
ignore it. A job that SLURM ends otherwise (preempted, its node lost) is queued again by SLURM. In either case the run
continues at what it has saved.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import forkserver
from types import FrameType
from typing import Any, Generic

from bench.errors import BenchError
from bench.gpus import CPU, start_server
from bench.jobs import PRELOAD, Outcome, Run, run_all

MOST_UNSAVED = 3
"""Time limits in a row that may pass without anything being saved."""
KILLED_WITHIN = 3600.0
"""Seconds within which SLURM kills a job that it has told to end (the longest grace time that is waited for)."""


@dataclass
class Task(Generic[Run]):
    """One run as a job: a function without arguments, which is pickled."""

    run: Run
    execute: Callable[[Run, int], None]
    threads: int
    gpus: int
    """Number of GPUs that the job has; 0: it uses the CPU."""
    unsaved: int = 0
    """Number of time limits before, in a row, at which the run could save nothing."""
    killed_within: float = KILLED_WITHIN

    def __call__(self) -> tuple[float, str | None]:
        """Execute the run: seconds, and why it failed (None: it has done its work)."""
        told = False

        def end(number: int, frame: FrameType | None) -> None:
            nonlocal told
            told = True
            for process in multiprocessing.active_children():
                process.terminate()

        before = signal.signal(signal.SIGTERM, end)
        try:
            _start_server()
            outcomes: list[Outcome[Run]] = run_all(
                [self.run],
                processes=1,
                threads=self.threads,
                device=None if self.gpus else CPU,
                devices=max(1, self.gpus),
                finished=lambda outcome: None,
                execute=_Unsignalled(self.execute),
            )
            if told and outcomes[0].failure:
                time.sleep(self.killed_within)  # what ended was stopped: a result would end the job before its requeue
        finally:
            signal.signal(signal.SIGTERM, before)
        return outcomes[0].seconds, outcomes[0].failure

    def checkpoint(self) -> Any:
        """Stop the run, which saves what it can: the job that is queued next, a `DelayedSubmission`.

        Raises:
            BenchError: nothing could be saved, several times in a row.
        """
        from submitit.helpers import DelayedSubmission

        codes = []
        for process in multiprocessing.active_children():
            process.terminate()
            process.join()
            codes.append(process.exitcode)
        # a process that saved ends by itself; one that cannot (a probe, an evaluation) dies of the signal
        unsaved = self.unsaved + 1 if -signal.SIGTERM in codes else 0
        if unsaved >= MOST_UNSAVED:
            raise BenchError(f"the time limit was reached {unsaved} times before anything could be saved: raise --time")
        return DelayedSubmission(replace(self, unsaved=unsaved))


@dataclass(frozen=True)
class _Unsignalled(Generic[Run]):
    """A run whose process, and those that it starts, ignore the signal of the time limit."""

    execute: Callable[[Run, int], None]

    def __call__(self, run: Run, threads: int) -> None:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        self.execute(run, threads)


def _start_server() -> None:
    """Start the server from which runs are forked so that it, too, ignores the signal of the time limit."""
    forkserver.set_forkserver_preload(list(PRELOAD))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    try:
        start_server()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
