"""Runs as jobs of a SLURM cluster, queued by submitit.

All runs that are given together are one array of jobs. Each run's folder says which job it has (`job.json`), so a
command that is repeated follows what is queued and queues the rest. Which jobs there are is asked of `squeue`, which
needs no accounting; what they found comes as files, so the folder of the work must be one that all nodes see.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import math
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.errors import BenchError, Queued
from bench.executors.task import Task
from bench.jobs import LocalRun, Outcome, Run
from leaderboard.base.files import make_folder, write_atomic

JOB: Final = "job.json"
"""File in a run's folder that holds the number of its job."""
NAME: Final = "densebench"
"""Name of all jobs."""
SIGNAL_SECONDS: Final = 120
"""Most seconds before the time limit at which a run is told to save and to end; of a short limit it is a quarter."""
POLL_SECONDS: Final = 15.0
MOST_LIMITS: Final = 1000
"""Time limits after which a run is not queued again; `Task` gives up one that saves nothing long before."""
_OURS: Final = {
    "job_name": "its jobs are found by it",
    "cpus_per_task": "give --threads",
    "array": "it numbers the runs",
}
"""Options of sbatch, in submitit's spelling, that `--sbatch` cannot set, and why."""
_GPUS: Final = {"gres", "gpus", "gpus_per_node", "gpus_per_task"}
"""Options of sbatch that ask for GPUs: with one of them ours is left out."""


def in_queue() -> set[str]:
    """The user's jobs that wait or run, an element of an array as `ARRAY_INDEX`.

    Raises:
        BenchError: SLURM does not answer.
    """
    return set(_ask("squeue", "--me", f"--name={NAME}", "--noheader", "--array", "--format=%i").split())


@dataclass(frozen=True)
class SlurmExecutor:
    """Executes runs as jobs of a SLURM cluster."""

    folder: Path
    """Folder for the jobs' pickles and logs, which every node sees."""
    partition: str | None = None
    minutes: int = 1440
    """Time limit of a job. A run that reaches it saves, is queued again, and continues."""
    threads: int | None = None
    """CPU cores of a job; default: 8, or 8 for each of its GPUs."""
    gpus: int = 1
    at_most: int | None = None
    """Jobs of an array that run at the same time; None: as many as SLURM allows."""
    options: tuple[str, ...] = ()
    """Further options of `sbatch`, `key=value` or `key`."""
    wait: bool = True
    """Whether `run_all` returns when the runs have ended; otherwise it raises `Queued` when they are queued."""
    at_once: bool = True
    jobs: Callable[[], set[str]] = field(default=in_queue, repr=False)
    poll_seconds: float = POLL_SECONDS

    def __post_init__(self) -> None:
        for what, value in (("--time", self.minutes), ("--threads", self.threads), ("--processes", self.at_most)):
            if value is not None and value < 1:
                raise BenchError(f"{what} is {value}: give 1 or more")
        if importlib.util.find_spec("submitit") is None:
            raise BenchError("--executor slurm needs submitit: add it by\npip install 'densebench[slurm]'")
        if shutil.which("sbatch") is None:
            raise BenchError("--executor slurm needs SLURM's commands (sbatch, squeue): run it where they are")

    def run_all(
        self, runs: Sequence[Run], *, finished: Callable[[Outcome[Run]], None], execute: Callable[[Run, int], None]
    ) -> list[Outcome[Run]]:
        """Queue those of `runs` that are not queued, and wait for all.

        Raises:
            BenchError: SLURM does not accept the jobs, or does not answer.
            Queued: the runs are queued, and `wait` is off.
        """
        if not runs:
            return []
        active = self._queue(runs, execute)
        numbers = dict.fromkeys(job.partition("_")[0] for job in active.values())
        text = f"{len(active)} {'run is' if len(active) == 1 else 'runs are'} in the queue as job {', '.join(numbers)}"
        if not self.wait:
            raise Queued(f"{text}; repeat the command to go on with what they have finished")
        print(f"{text}; logs in {self.folder}", flush=True)
        try:
            return list(self._outcomes(runs, active, finished))
        except KeyboardInterrupt:
            print("the jobs stay in the queue (scancel ends them); repeat the command to follow them", file=sys.stderr)
            raise

    def _queue(self, runs: Sequence[Run], execute: Callable[[Run, int], None]) -> dict[str, str]:
        """The job of each run, by the run's key; those that have none get one."""
        with _alone(self.folder):
            there = self.jobs()
            before = {run.key: _job_of(run) for run in runs}
            active = {key: job for key, job in before.items() if job is not None and job in there}
            new = [run for run in runs if run.key not in active]
            for run, job in zip(new, self._submit(new, execute) if new else [], strict=True):
                make_folder(run.folder)
                write_atomic(run.folder / JOB, json.dumps({"job": job}) + "\n")
                active[run.key] = job
        return active

    def _submit(self, runs: Sequence[Run], execute: Callable[[Run, int], None]) -> list[str]:
        """Queue runs as one array; their jobs."""
        from submitit import SlurmExecutor as Submitit
        from submitit.core.utils import FailedJobError

        cores = self.threads or 8 * max(1, self.gpus)
        tasks = [Task(run, execute, cores, self.gpus) for run in runs]
        submitit = Submitit(self.folder.absolute(), max_num_timeout=MOST_LIMITS)
        submitit.update_parameters(**self._parameters(cores, len(runs)))
        try:
            with submitit.batch():
                jobs = [submitit.submit(task) for task in tasks]
        except FailedJobError as error:
            words = [line for line in str(error).splitlines() if "sbatch: error" in line] or [str(error)]
            raise BenchError(f"SLURM does not accept the jobs: {words[0]}") from error
        return [job.job_id for job in jobs]

    def _parameters(self, cores: int, count: int) -> dict[str, Any]:
        further: dict[str, Any] = {"requeue": True}
        for option in self.options:
            key, equals, value = option.removeprefix("--").partition("=")
            if key.startswith("-"):  # submitit writes long names only
                raise BenchError(f"--sbatch {option} is a short option: give its long name, as in account=NAME")
            name = key.replace("-", "_")  # submitit's spelling, so that ours is replaced
            if name in _OURS:
                raise BenchError(f"--sbatch {key} is set by DenseBench: {_OURS[name]}")
            further[name] = value if equals else True
        return {
            "job_name": NAME,
            "time": self.minutes,
            "cpus_per_task": cores,
            "srun_args": [f"--cpus-per-task={cores}"],  # since 22.05 srun does not take it from sbatch
            "signal_delay_s": min(SIGNAL_SECONDS, 15 * self.minutes),
            "partition": self.partition,
            "gpus_per_node": None if _GPUS & further.keys() else self.gpus or None,
            "array_parallelism": self.at_most or count,
            "wckey": None,
            "additional_parameters": further,
        }

    def _outcomes(
        self, runs: Sequence[Run], active: dict[str, str], finished: Callable[[Outcome[Run]], None]
    ) -> Iterator[Outcome[Run]]:
        """The outcomes as the jobs end."""
        waiting, missing = list(runs), set[str]()
        while True:
            there = self.jobs()
            for run in list(waiting):
                job = active[run.key]
                outcome = _outcome(run, self.folder, job)
                if outcome is None and job not in there:
                    if job not in missing:  # files of another node may come a moment later
                        missing.add(job)
                        continue
                    outcome = Outcome(run, 0.0, f"SLURM ended its job {job}{_state(job)} (log: {run.log})")
                if outcome is not None:
                    waiting.remove(run)
                    finished(outcome)
                    yield outcome
            if not waiting:
                return
            time.sleep(self.poll_seconds)


def _outcome(run: Run, folder: Path, job: str) -> Outcome[Run] | None:
    """What the job has found; None while it has not ended by itself."""
    from submitit import SlurmJob
    from submitit.core.utils import FailedJobError, UncompletedJobError

    found: Any = SlurmJob(folder.absolute(), job)
    if not found.paths.result_pickle.exists():
        return None
    try:
        seconds, failure = found.result()
    except (FailedJobError, UncompletedJobError) as error:
        words = [line for line in str(error).splitlines() if line.strip()]
        failure = words[-1].removeprefix("bench.errors.BenchError: ") if words else type(error).__name__
        return Outcome(run, 0.0, f"{failure} (log: {found.paths.stderr})")
    return Outcome(run, seconds, failure)


def _job_of(run: LocalRun) -> str | None:
    """The job that the run was last queued as."""
    try:
        return str(json.loads((run.folder / JOB).read_text())["job"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{run.folder / JOB} is damaged: remove it") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder: two commands that queue at the same time do not queue a run twice."""
    make_folder(folder)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _state(job: str) -> str:
    """The state in which SLURM remembers the job, as it keeps one for some minutes."""
    try:
        state = re.search(r"JobState=(\w+)", _ask("scontrol", "--oneliner", "show", "job", job))
    except BenchError:
        return ""
    return f": {state[1]}" if state else ""


def _ask(*command: str) -> str:
    """What a command of SLURM prints.

    Raises:
        BenchError: it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise BenchError(f"{command[0]} does not answer: {words[0]}")
    return done.stdout


def minutes_of(limit: str) -> int:
    """Minutes of a time limit in SLURM's notation, seconds rounded up.

    It is MINUTES, MINUTES:SECONDS, HOURS:MINUTES:SECONDS, DAYS-HOURS, DAYS-HOURS:MINUTES or DAYS-HOURS:MINUTES:SECONDS.

    Raises:
        BenchError: it is not, or it is 0.

    >>> [minutes_of(limit) for limit in ("90", "24:00:00", "2-12", "1-00:30", "0:61")]
    [90, 1440, 3600, 1470, 2]
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", limit)
    if found is None:
        raise BenchError(f"--time {limit} is not a time limit of SLURM: give minutes, HH:MM:SS or DAYS-HH:MM:SS")
    days, *parts = (None if part is None else int(part) for part in found.groups())
    given = [part for part in parts if part is not None]
    if days is None and len(given) < 3:
        given.insert(0, 0)  # the first is minutes
    hours, minutes, seconds = [*given, 0, 0][:3]
    total = ((days or 0) * 24 + hours) * 60 + minutes + math.ceil(seconds / 60)
    if not total:
        raise BenchError(f"--time {limit} is no time: give 1 minute or more")
    return total
