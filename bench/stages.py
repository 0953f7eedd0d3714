"""The order of runs of which some need the results of others: the runs of a sweep come before those that it tunes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.jobs import Outcome, TransferRun
from leaderboard.store import ResultStore

RunAll = Callable[[Sequence[TransferRun]], list[Outcome[TransferRun]]]


def run_in_stages(
    runs: Sequence[TransferRun], run_all: RunAll, finished: Callable[[Outcome[TransferRun]], None]
) -> list[Outcome[TransferRun]]:
    """Execute by `run_all` those of `runs` that others need, then the others, but none that lacks a result it needs.

    What is not started is reported to `finished` as a failure.
    """
    needed = {key for run in runs for key in run.needs}
    first = [run for run in runs if run.key in needed]
    outcomes = run_all(first) if first else []
    ready, waiting = list[TransferRun](), list[Outcome[TransferRun]]()
    for run in runs:
        if run.key in needed:
            continue
        missing = set(run.needs) - ResultStore(run.results).keys() if run.needs else set()
        if missing:
            why = f"not started: {len(missing)} of {len(run.needs)} runs of its sweep have no result"
            waiting.append(Outcome(run, 0.0, why))
        else:
            ready.append(run)
    outcomes += run_all(ready) if ready else []
    for outcome in waiting:
        finished(outcome)
    return outcomes + waiting
