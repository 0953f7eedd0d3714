"""Contestants measured in turns: A B C A B C ..., so that a machine that slows down slows all of them."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from bench.environment import describe_environment
from bench.errors import BenchError
from leaderboard.base.errors import DenseBenchError
from leaderboard.base.provenance import available_cores
from leaderboard.base.terminal import Console

Step = Callable[[], None]


@dataclass(frozen=True)
class Contestant:
    """Something that takes steps. `open` starts a new pipeline and gives the step; its exit stops all workers.

    No contestant works in the background while another is measured, and none starts a round with batches that were
    prepared during the others' time.
    """

    name: str
    open: Callable[[], AbstractContextManager[Step]]


@dataclass(frozen=True)
class Ratio:
    """One contestant's value over another's: the median over rounds, and the lowest and highest of a round."""

    median: float
    low: float
    high: float


def measure(
    contestants: Sequence[Contestant], device: torch.device, *, rounds: int, warmup: int, steps: int
) -> dict[str, list[float]]:
    """Seconds per step of each contestant in each round: `steps` steps after `warmup` steps that do not count.

    Raises:
        BenchError: a count is too small.
    """
    if rounds < 1 or steps < 1 or warmup < 0:
        raise BenchError(f"{rounds} rounds of {warmup} + {steps} steps: take at least 1 round and 1 step")
    seconds: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for _ in range(rounds):
        for contestant in contestants:
            with contestant.open() as step:
                for _ in range(warmup):
                    step()
                _wait(device)
                started = time.perf_counter()
                for _ in range(steps):
                    step()
                _wait(device)
                seconds[contestant.name].append((time.perf_counter() - started) / steps)
    return seconds


def compare(seconds: Sequence[float], base: Sequence[float]) -> Ratio:
    """Ratio of `seconds` to `base`, round by round: a slowdown of the machine in a round affects both and cancels."""
    ratios = [mine / other for mine, other in zip(seconds, base, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def machine(device: torch.device, precision: Any) -> dict[str, Any]:
    """The machine, versions and load, on which measured values depend besides the code."""
    environment = describe_environment(device, precision)
    named = ("torch", "torchvision", "numpy")
    return {
        "device": environment.device,
        "cores": available_cores(),
        "threads": environment.threads,
        "precision": precision,
        "python": environment.python,
        "packages": {name: environment.packages[name] for name in named if name in environment.packages},
        "code_commit": environment.code_commit,
        "load_before": round(os.getloadavg()[0], 1),
    }


def in_words(found: Mapping[str, Any]) -> str:
    """The values of `machine` in one or two lines of text."""
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    return (
        f"{found['device']}, {found['cores']} CPU cores, {found['threads']} threads, {found['precision']}\n"
        f"{packages}, Python {found['python']}; load before the start {found['load_before']}"
    )


def output() -> Console:
    """The console for reports: in a file or a pipe, lines of tables are not wrapped."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=140)


def start(command: Callable[[], None]) -> None:
    """Run a benchmark's command and exit: expected errors end it in one or two lines, as in the command line."""
    try:
        command()
    except DenseBenchError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False, highlight=False)
        sys.exit(1)


def endless(count: int) -> Iterator[int]:
    """The endless sequence 0, 1, ..., count - 1, 0, 1, ..."""
    while True:
        yield from range(count)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
