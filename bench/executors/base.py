"""What an executor is, and the one that uses this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.jobs import Outcome, Run, run_all


class Executor(Protocol):
    """Executes runs, each in a process of its own and none twice."""

    @property
    def at_once(self) -> bool:
        """Whether it should get as many runs as possible at a time, because they wait for a place elsewhere."""
        ...

    def run_all(
        self, runs: Sequence[Run], *, finished: Callable[[Outcome[Run]], None], execute: Callable[[Run, int], None]
    ) -> list[Outcome[Run]]:
        """Execute `runs`; `finished` is called after each. `execute` does one run with a number of threads.

        Raises:
            BenchError: no run can be executed.
        """
        ...


@dataclass(frozen=True)
class LocalExecutor:
    """Processes of this machine, by default one per GPU, or on a CPU one per core, at most 4 (`bench.jobs`)."""

    processes: int | None = None
    threads: int | None = None
    device: str | None = None
    devices: int = 1
    """GPUs of each run."""
    at_once: bool = False

    def run_all(
        self, runs: Sequence[Run], *, finished: Callable[[Outcome[Run]], None], execute: Callable[[Run, int], None]
    ) -> list[Outcome[Run]]:
        """Execute `runs`, as many at a time as there are processes."""
        return run_all(
            runs,
            processes=self.processes,
            threads=self.threads,
            device=self.device,
            devices=self.devices,
            finished=finished,
            execute=execute,
        )
