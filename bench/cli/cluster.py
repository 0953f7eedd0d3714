"""The options that say where a command executes its runs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.executors.base import Executor

CLUSTER = Group.create_ordered("Where it runs")


@Parameter(name="*", group=CLUSTER)
@dataclass(frozen=True)
class Cluster:
    """Where a command executes its runs: on this machine, or as jobs of a SLURM cluster."""

    executor: Literal["local", "slurm"] = "local"
    """On this machine, or as jobs of SLURM (needs `pip install densebench[slurm]`), one a run: queue, wait, and go on
    with what they found. Ctrl-C leaves them in the queue; the command repeated follows them."""
    partition: str | None = None
    """SLURM's partition (default: its own)."""
    time: str = "24:00:00"
    """Time limit of a SLURM job, in its notation. A run that reaches it saves, is queued again, and continues."""
    sbatch: Annotated[list[str] | None, Parameter(name="--sbatch")] = None
    """A further option of SLURM's sbatch, `account=NAME`; may be repeated."""
    no_wait: bool = False
    """Return when the SLURM jobs are queued; the command repeated goes on with what they have finished."""

    def choose(
        self,
        work: Path,
        *,
        processes: int | None = None,
        threads: int | None = None,
        device: str | None = None,
        devices: int = 1,
    ) -> Executor:
        """The executor; `processes` run at a time, each with `threads` threads, as jobs with `devices` GPUs each.

        Raises:
            BenchError: an option is not possible, or what the executor needs is not installed.
        """
        from bench.executors.base import LocalExecutor
        from bench.executors.slurm import SlurmExecutor, minutes_of
        from bench.gpus import check_device

        check_device(device)
        if threads is not None and threads < 1:
            raise BenchError(f"--threads is {threads}: give 1 or more")
        if self.executor == "local":
            self._require_local()
            return LocalExecutor(processes, threads, device, devices)
        return SlurmExecutor(
            work / "slurm",
            partition=self.partition,
            minutes=minutes_of(self.time),
            threads=threads,
            gpus=0 if device == "cpu" else devices,
            at_most=processes,
            options=tuple(self.sbatch or ()),
            wait=not self.no_wait,
        )

    def _require_local(self) -> None:
        """Raise `BenchError` where an option is given that only jobs of SLURM have."""
        given = [option.name for option in fields(self) if getattr(self, option.name) != option.default]
        if given:
            raise BenchError(f"--{given[0].replace('_', '-')} is for --executor slurm: give both, or none")


LOCAL = Cluster()
"""This machine."""
