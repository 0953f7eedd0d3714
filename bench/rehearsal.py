"""The rehearsal of a submission: a few iterations of every protocol, and from them what the whole will take.

Each protocol is rehearsed at full settings, in a process of its own and with the threads that its run will have. A
batch that takes too much memory or time on a CPU, or does not fit on a GPU, is replaced by one of two images; the full
batch's time and memory are then extrapolated, and marked so. No result is stored.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.datasets import check
from bench.errors import BenchError
from bench.jobs import TransferRun, read_run_protocol, run_all
from bench.probes.plans import ProbePlan
from bench.protocols import Protocol, TrainingPlan
from bench.submit import Evaluation, plan_runs
from leaderboard.base.files import write_atomic
from leaderboard.base.provenance import available_cores
from leaderboard.records import DatasetReference

if TYPE_CHECKING:
    from bench.openmmlab.measuring import Measured

FOUND = "rehearsal.json"
"""What a rehearsal leaves in its folder."""
SMALL = 2
"""Images of the batch from which a larger one is extrapolated."""
MOST_SECONDS = 60.0
"""Time after which the iterations of a rehearsal end, and again its evaluation."""
MEMORY_SHARE = 0.8
"""Largest share of a CPU's memory that the full batches of all runs at a time may take to be tried."""


@dataclass(frozen=True)
class Rehearsed:
    """What one run of a protocol will take."""

    protocol: str
    batch: int
    measured_batch: int
    """Images of the batch that was timed; with fewer than `batch`, time and memory are extrapolated."""
    iteration_seconds: float
    iterations: int
    image_seconds: float
    """Mean time in seconds to evaluate one image."""
    images: int
    memory_mib: float
    device_mib: float
    """Memory in MiB that the run can have: the GPU's, or a share of the machine's."""
    disk_bytes: int
    """Weights, and the checkpoints that a run of this length keeps; without predictions."""
    sweep_runs: int = 0
    """Runs of the sweep that chooses the protocol's settings."""
    sweep_iterations: int = 0
    """Iterations of each of them."""

    @property
    def extrapolated(self) -> bool:
        """Whether time and memory are those of a smaller batch, scaled."""
        return self.measured_batch < self.batch

    @property
    def training_hours(self) -> float:
        """Hours that all iterations take."""
        return self.iteration_seconds * self.iterations / 3600

    @property
    def evaluation_hours(self) -> float:
        """Hours that evaluating all validation images takes."""
        return self.image_seconds * self.images / 3600

    @property
    def hours(self) -> float:
        """Hours that the whole run takes."""
        return self.training_hours + self.evaluation_hours

    @property
    def sweep_hours(self) -> float:
        """Hours that training the runs of the sweep takes."""
        return self.iteration_seconds * self.sweep_runs * self.sweep_iterations / 3600

    @property
    def fits(self) -> bool:
        """Whether there is memory enough."""
        return self.memory_mib <= self.device_mib


@dataclass(frozen=True)
class Rehearsal:
    """What the submission of a checkpoint will take, or why it cannot be said."""

    rehearsed: list[Rehearsed]
    problems: dict[str, str]
    """Why a rehearsal failed, by protocol, and what is wrong with stored results that cannot be used, by file."""
    probes: list[str]
    """Protocols that are not rehearsed: probes take minutes."""
    seeds: int
    """Runs of each protocol."""
    free_bytes: int
    """Free bytes on the disk of the work folder."""

    @property
    def sweep_runs(self) -> int:
        """Runs of sweeps, beside those with each seed."""
        return sum(one.sweep_runs for one in self.rehearsed)

    @property
    def hours(self) -> float:
        """Hours that all runs take, one after the other."""
        return sum(self.seeds * one.hours + one.sweep_hours for one in self.rehearsed)

    @property
    def disk_bytes(self) -> int:
        """Bytes that all runs keep on disk, if none was removed."""
        return sum((self.seeds + one.sweep_runs) * one.disk_bytes for one in self.rehearsed)


def missing_data(data: Path, protocols: Sequence[Protocol]) -> tuple[dict[str, DatasetReference], dict[str, list[str]]]:
    """The data sets of `protocols` that can be used, and everything that is wrong with each of the others, by name."""
    reports = {name: check(data, name) for name in dict.fromkeys(protocol.dataset for protocol in protocols)}
    usable = {name: report.reference() for name, report in reports.items() if not report.errors}
    return usable, {name: list(report.errors) for name, report in reports.items() if report.errors}


def rehearse(
    checkpoint: str | Path,
    protocols: Sequence[Protocol],
    datasets: dict[str, DatasetReference],
    seeds: Sequence[int],
    *,
    name: str,
    data: Path,
    work: Path,
    processes: int | None = None,
    threads: int | None = None,
    device: str | None = None,
    **card_fields: Any,
) -> Rehearsal:
    """Import the checkpoint and rehearse those of `protocols` whose data set is in `datasets` (usable, by name).

    `processes`, `threads` and `device` are those of `run_all`, for the runs and for their rehearsals. What these print
    is in `work`/rehearsals.

    Raises:
        BenchError: the checkpoint is not usable.
        FileError: the work folder cannot be written.
    """
    ready = tuple(protocol for protocol in protocols if protocol.dataset in datasets)
    plan = plan_runs(checkpoint, Evaluation(ready, (seeds[0],), data, datasets), name=name, work=work, **card_fields)
    probes = [protocol.id for protocol in ready if isinstance(protocol.plan, ProbePlan)]
    runs = [
        replace(run, folder=work / "rehearsals" / run.protocol)
        for run in (*plan.done, *plan.todo)
        if run.protocol in {protocol.id for protocol in ready} - set(probes)
    ]
    blocked = {str(file.path): file.reason for file in plan.unusable}
    outcomes = run_all(
        runs,
        processes=processes,
        threads=threads,
        device=device,
        finished=lambda outcome: None,
        execute=_rehearse,
    )
    order = [protocol.id for protocol in ready]
    outcomes.sort(key=lambda outcome: order.index(outcome.run.protocol))
    return Rehearsal(
        rehearsed=[_read(outcome.run) for outcome in outcomes if outcome.failure is None],
        problems=blocked | {one.run.protocol: one.failure for one in outcomes if one.failure is not None},
        probes=probes,
        seeds=len(seeds),
        free_bytes=shutil.disk_usage(work).free,
    )


def _rehearse(run: TransferRun, threads: int) -> None:
    """Measure, in the run's process, and leave the outcome in its folder."""
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(0)
    protocol = read_run_protocol(run)
    if torch.cuda.is_available():
        device_mib = torch.cuda.get_device_properties(0).total_memory / 2**20
        measured = _measure_on_gpu(run, protocol)
    else:
        device_mib = _memory_mib() / max(1, available_cores() // threads)
        measured = _measure_on_cpu(run, protocol, device_mib)
    found = scaled(measured, protocol, run.dataset.val_images, device_mib)
    write_atomic(run.folder / FOUND, json.dumps(asdict(found), indent=2) + "\n")


def _measure_on_gpu(run: TransferRun, protocol: Protocol) -> Measured:
    """Measure on the GPU with the full batch, or where it does not fit, with a small one."""
    import torch

    plan = _plan(protocol)
    try:
        return _measure(run, protocol, plan.batch_size)
    except torch.OutOfMemoryError as error:
        if plan.batch_size <= SMALL:
            raise BenchError(f"{protocol.id}: {str(error).splitlines()[0]}") from error
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return _measure(run, protocol, SMALL)


def _measure_on_cpu(run: TransferRun, protocol: Protocol, device_mib: float) -> Measured:
    """Measure with a small batch, then with the full one where that takes neither too much memory nor too much time."""
    from bench.openmmlab.measuring import ITERATIONS

    plan = _plan(protocol)
    small = _measure(run, protocol, min(SMALL, plan.batch_size))
    full = scaled(small, protocol, run.dataset.val_images, device_mib)
    affordable = full.memory_mib <= MEMORY_SHARE * device_mib
    if full.extrapolated and affordable and full.iteration_seconds * (ITERATIONS + 1) <= MOST_SECONDS:
        return _measure(run, protocol, plan.batch_size)
    return small


def _measure(run: TransferRun, protocol: Protocol, batch: int) -> Measured:
    from bench.openmmlab.measuring import measure

    return measure(protocol, run.checkpoint, run.data_root, run.folder, batch=batch, most_seconds=MOST_SECONDS)


def scaled(measured: Measured, protocol: Protocol, images: int, device_mib: float) -> Rehearsed:
    """What a run of `protocol` with `images` validation images takes, from what was measured with its batch or a part.

    An iteration's time grows with the batch, and so does what its activations take; gradients and the optimizer's
    state do not.
    """
    from bench.openmmlab.checkpoints import CHECKPOINT_SECONDS

    plan = _plan(protocol)
    times = plan.batch_size / measured.batch
    activations = max(0.0, measured.peak_mib - measured.before_mib - measured.fixed_mib)
    iteration_seconds = measured.iteration_seconds * times
    long = iteration_seconds * plan.iterations > CHECKPOINT_SECONDS
    return Rehearsed(
        protocol=protocol.id,
        batch=plan.batch_size,
        measured_batch=measured.batch,
        iteration_seconds=iteration_seconds,
        iterations=plan.iterations,
        image_seconds=measured.image_seconds,
        images=images,
        memory_mib=max(measured.peak_mib + activations * (times - 1), measured.evaluation_mib),
        device_mib=device_mib,
        # while a checkpoint is replaced there are two
        disk_bytes=measured.weights_bytes + (2 * measured.checkpoint_bytes if long else 0),
        sweep_runs=len(protocol.sweep.grid) if protocol.sweep else 0,
        sweep_iterations=protocol.sweep.iterations if protocol.sweep else 0,
    )


def _read(run: TransferRun) -> Rehearsed:
    return Rehearsed(**json.loads((run.folder / FOUND).read_text(encoding="utf-8")))


def _plan(protocol: Protocol) -> TrainingPlan:
    assert isinstance(protocol.plan, TrainingPlan)
    return protocol.plan


def _memory_mib() -> float:
    """Memory of the machine in MiB, or what its container may use."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(machine, int(text)) / 2**20 if text.isdigit() else machine / 2**20
