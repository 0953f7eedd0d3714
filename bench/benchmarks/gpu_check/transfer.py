"""The mini protocols with a ResNet-50, through `submit` itself: time, memory, scores, and what must be equal."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from bench.benchmarks.gpu_check.task import CheckFailedError, Task
from bench.datasets import generate
from bench.jobs import Outcome, TransferRun, evaluate
from bench.protocols import TrainingPlan, load_protocol
from bench.submit import plan_submission, submit
from leaderboard.records import Result
from leaderboard.store import ResultStore

REPEATED = "mini_city_seg_fcn"
"""Protocol that is run twice, one of the quickest."""
IMAGES, FEW_IMAGES = (60, 24), (8, 4)
"""Numbers of generated images: for training and for validation, in full and where the task is tiny."""


def transfer(task: Task) -> None:
    """Submit random:resnet50 to every protocol, one of them twice, and hold the results against each other."""
    with tempfile.TemporaryDirectory() as folder:
        data = task.options.transfer_data
        if data is None:
            data = Path(folder) / "data"
            train, val = FEW_IMAGES if task.tiny else IMAGES
            generate(data, train=train, val=val, pretrain=0)
        first = _submit(task, data, Path(folder) / "first", [REPEATED] if task.tiny else [])
        _count_processes(task, first)
        _compare(task, first, _submit(task, data, Path(folder) / "again", [REPEATED]))


def shortened(run: TransferRun, threads: int) -> None:
    """Two iterations of a run's protocol, under the protocol's own hash: for a store that is thrown away."""
    from bench.openmmlab.runner import run_transfer

    torch.set_num_threads(threads)
    protocol = load_protocol(run.protocol)
    config: dict[str, Any] = copy.deepcopy(dict(protocol.config))
    plan: dict[str, Any] = {"batch_size": 2, "iterations": 2, "learning_rate": 0.01, "final_learning_rate": 0.01}
    config["protocol"]["plan"] |= plan
    config["train_dataloader"]["batch_size"] = plan["batch_size"]
    config["train_cfg"]["max_iters"] = plan["iterations"]
    config["optim_wrapper"]["optimizer"]["lr"] = plan["learning_rate"]
    config["param_scheduler"] = [{"type": "ConstantLR", "factor": 1.0, "by_epoch": False}]
    cut = replace(protocol, config=config, plan=TrainingPlan(**config["protocol"]["plan"]))
    ResultStore(run.results).add(run_transfer(cut, run.checkpoint, run.data_root, run.dataset, run.seed, run.folder))


def _submit(task: Task, data: Path, work: Path, protocols: Sequence[str]) -> list[Result]:
    """The results, each shown as it comes.

    Raises:
        CheckFailedError: a run failed, has not done all its iterations, or was not on the device.
    """
    architecture = "resnet18" if task.tiny else "resnet50"
    plan = plan_submission(
        f"random:{architecture}", name=architecture, data=data, work=work, protocols=protocols, seeds=1
    )
    rows: list[dict[str, Any]] = []

    def finished(outcome: Outcome[TransferRun]) -> None:
        result = None if outcome.failure else ResultStore(outcome.run.results).find(outcome.run.key)
        row = {"protocol": outcome.run.protocol, "seconds": outcome.seconds, "failure": outcome.failure}
        rows.append(row | ({} if result is None else _figures(result)))
        task.note(**{work.name: rows})
        task.line(f"{work.name}: {_in_words(rows[-1])}")

    submission = submit(plan, finished=finished, execute=shortened if task.tiny else evaluate)
    if submission.failures:
        raise CheckFailedError(f"{len(submission.failures)} of {len(plan.todo)} runs failed")
    if len(submission.results) != len(plan.todo):
        raise CheckFailedError(f"{len(plan.todo)} runs left {len(submission.results)} results")
    for result in submission.results:
        done = result.training
        if result.status != "finished" or done is None or done.executed_iterations != done.planned_iterations:
            raise CheckFailedError(f"{result.protocol.id}: {result.failure or 'not all iterations were executed'}")
        if task.device.type == "cuda" and result.environment.device != torch.cuda.get_device_name(task.device):
            raise CheckFailedError(f"{result.protocol.id} ran on {result.environment.device}")
    return submission.results


def _figures(result: Result) -> dict[str, Any]:
    done = result.training
    return {
        "status": result.status,
        "wall_seconds": result.wall_seconds,
        "where": result.seconds,
        "peak_memory_mib": result.peak_memory_mib,
        "metrics": result.metrics,
        "headline": result.protocol.headline,
        "precision": result.environment.precision,
        "device": result.environment.device,
        "iterations": None if done is None else done.executed_iterations,
    }


def _in_words(row: dict[str, Any]) -> str:
    if row["failure"] or row.get("status") != "finished":
        return f"{row['protocol']}: failed: {row['failure'] or row.get('status')}"
    figure = f"{row['headline']} {row['metrics'][row['headline']]:.2f}"
    memory = f"{row['peak_memory_mib']:.0f} MiB"
    seconds = f"{row['seconds']:.0f} s ({row['wall_seconds']:.0f} of them the run's own)"
    return f"{row['protocol']}: {figure}, {row['iterations']} iterations, {seconds}, {memory}, {row['precision']}"


def _count_processes(task: Task, results: list[Result]) -> None:
    """Check how many runs were at work at a time: on GPUs one for each."""
    spans = [(r.finished_at - timedelta(seconds=r.wall_seconds), r.finished_at) for r in results]
    most = max(sum(begun <= start < ended for begun, ended in spans) for start, _ in spans)
    allowed = torch.cuda.device_count() if task.device.type == "cuda" else None
    task.note(most_runs_at_a_time=most, gpus=allowed)
    task.line(f"at most {most} runs at a time" + ("" if allowed is None else f" on {allowed} GPU"))
    if allowed is not None and most > allowed:
        raise CheckFailedError(f"{most} runs shared {allowed} GPU: submit must run one process per GPU")


def _compare(task: Task, first: list[Result], again: list[Result]) -> None:
    """Check that inputs are equal; scores may differ by what a GPU's order of additions makes of them: this is told."""
    by_protocol = {result.protocol.id: result for result in first}
    for result in again:
        before = by_protocol[result.protocol.id]
        for name, a, b in (
            ("checkpoint", before.card.sha256, result.card.sha256),
            ("protocol", before.protocol.sha256, result.protocol.sha256),
            ("data", before.dataset.fingerprint, result.dataset.fingerprint),
            ("key", before.key, result.key),
        ):
            if a != b:
                raise CheckFailedError(f"{result.protocol.id}: the hash of {name} differs between two runs")
        difference = {name: value - before.metrics[name] for name, value in result.metrics.items()}
        task.note(difference_of_the_repeated_run=difference)
        told = ", ".join(f"{name} {value:+.3f}" for name, value in difference.items() if len(difference) < 8 or value)
        task.line(f"repeated {result.protocol.id}: hashes equal; scores differ by {told or 'nothing'}")
