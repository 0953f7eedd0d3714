"""Stands in for fine-tuning in the tests of bookkeeping: writes a valid result after a moment."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from bench.jobs import TransferRun, read_run_protocol
from bench.protocols import Protocol, TrainingPlan
from bench.sweeps import settled
from leaderboard.records import Environment, Result, TrainingReport
from leaderboard.store import ResultStore
from pretrain.exported import read_card


def instant(run: TransferRun, threads: int) -> None:
    """A run that takes no time; every execution leaves a line in `executions`."""
    fake(run, threads, seconds=0.0)


def slow(run: TransferRun, threads: int) -> None:
    """A run that takes half a second."""
    fake(run, threads, seconds=0.5)


def fails_on_detection(run: TransferRun, threads: int) -> None:
    """A run whose process dies if it is a detection protocol."""
    if "seg" not in run.protocol:
        raise RuntimeError("out of luck")
    instant(run, threads)


def plain_value(protocol: Protocol, seed: int) -> float | None:
    """A value that grows with the seed."""
    return 10.0 + seed % 10


def fake(
    run: TransferRun,
    threads: int,
    *,
    seconds: float = 0.0,
    value: Callable[[Protocol, int], float | None] = plain_value,
) -> None:
    """A run with the headline metric that `value` gives for the protocol, as it is executed, and the seed.

    None is that of a run that diverged.
    """
    with (run.results.parent / "executions").open("a") as lines:
        lines.write(f"{run.key}\n")
    time.sleep(seconds)
    full, sweep = settled(read_run_protocol(run), run)
    reached = value(full, run.seed)
    protocol, iterations = full.reference(), full.plan.iterations if isinstance(full.plan, TrainingPlan) else 1
    result = Result(
        schema_version=2,
        key=run.key,
        card=read_card(run.checkpoint),
        protocol=protocol,
        dataset=run.dataset,
        seed=run.seed,
        status="failed" if reached is None else "finished",
        failure="diverged: loss nan" if reached is None else None,
        metrics={} if reached is None else {protocol.headline: reached},
        standard_errors={},
        probe=None,
        training=TrainingReport(
            planned_iterations=iterations,
            executed_iterations=iterations,
            batch_size=1,
            learning_rate=full.plan.learning_rate if isinstance(full.plan, TrainingPlan) else 0.1,
            images_seen=1,
            backbone_tensors=120,
            trainable_parameters=1,
            frozen_parameters=0,
            head_parameters=1,
        ),
        operations=None,
        environment=Environment(
            device="CPU", precision="fp32", threads=threads, python="3", packages={}, code_commit=None
        ),
        verification="self-reported",
        sweep=sweep,
        outputs={},
        finished_at=datetime(2026, 1, 1, tzinfo=UTC),
        wall_seconds=seconds,
        seconds={},
        peak_memory_mib=None,
    )
    ResultStore(run.results).add(result)
