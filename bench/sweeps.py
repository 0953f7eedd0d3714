"""What a sweep chose: read from the results of its runs when a run with the chosen settings starts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.protocols import Protocol, TrainingPlan, trials
from bench.sweep_config import with_settings
from leaderboard.records import Sweep, Tried, best_of, edges, result_key
from leaderboard.store import ResultStore
from pretrain.exported import read_card

if TYPE_CHECKING:
    from bench.jobs import TransferRun


def settled(protocol: Protocol, run: TransferRun) -> tuple[Protocol, Sweep | None]:
    """`protocol` with the settings that `run` has, and how they were chosen; None where a protocol chooses nothing.

    Id and hash stay those of the protocol, which cover the grid: runs of other checkpoints are comparable, whatever
    was chosen for them.

    Raises:
        BenchError: a run of the sweep has no result yet, or all of them diverged.
        LeaderboardError: the result of one cannot be read.
    """
    if (trial := protocol.config.get("trial")) is not None:
        return protocol, Sweep(id=trial["of"], settings=trial["settings"], tried=(), at_edge=())
    if protocol.sweep is None:
        return protocol, None
    tried = _tried(protocol, run)
    best = best_of(tried)
    if best is None:
        raise BenchError(f"{protocol.id}: all {len(tried)} runs of its sweep diverged, so no settings can be chosen")
    sweep = Sweep(
        id=protocol.id,
        settings=best.settings,
        tried=tuple(tried),
        at_edge=edges(best.settings, [one.settings for one in tried]),
    )
    config = with_settings(protocol.config, {name: float(value) for name, value in best.settings.items()})
    return replace(protocol, config=config, plan=TrainingPlan(**config["protocol"]["plan"])), sweep


def _tried(protocol: Protocol, run: TransferRun) -> list[Tried]:
    """The runs of the sweep with their values, in the order of the grid."""
    assert protocol.sweep is not None
    store, checkpoint = ResultStore(run.results), read_card(run.checkpoint).sha256
    tried, missing = [], 0
    for trial in trials(protocol):
        key = result_key(checkpoint, trial.sha256, run.dataset.fingerprint, protocol.sweep.seed)
        result = store.find(key)
        if result is None:
            missing += 1
            continue
        value = result.metrics[protocol.headline] if result.status == "finished" else None
        tried.append(Tried(settings=trial.config["trial"]["settings"], key=key, value=value))
    if missing:
        raise BenchError(f"{protocol.id}: {missing} runs of its sweep have no result yet: repeat the command")
    return tried
