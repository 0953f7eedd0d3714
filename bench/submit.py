"""Submit a checkpoint: import it with proof, run every protocol with every seed, write one result file a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.checkpoints import import_checkpoint
from bench.datasets import check
from bench.errors import BenchError
from bench.jobs import Outcome, TransferRun, fine_tune, run_all
from bench.protocols import Protocol, builtin_ids, is_outside, load_protocol
from bench.tracks import Track, find_track
from leaderboard.records import Card, DatasetReference, Result, result_key
from leaderboard.store import ResultStore
from pretrain.exported import read_card


@dataclass(frozen=True)
class Submission:
    """What `submit` did: `results` of this checkpoint (old and new) and the runs that failed now."""

    card: Card
    results: list[Result]
    outcomes: list[Outcome]

    @property
    def failures(self) -> list[Outcome]:
        """Runs without a result."""
        return [outcome for outcome in self.outcomes if outcome.failure]


@dataclass(frozen=True)
class SubmissionPlan:
    """The runs of a submission: those that have a result already and those that are to be executed."""

    card: Card
    done: list[TransferRun]
    todo: list[TransferRun]


def plan_submission(
    checkpoint: str | Path,
    *,
    name: str,
    data: Path,
    work: Path,
    track: str = "mini",
    protocols: Sequence[str] = (),
    seeds: int | None = None,
    **card_fields: Any,
) -> SubmissionPlan:
    """Import `checkpoint`, check the data sets, and list the runs of `track` (or of `protocols` alone).

    `protocols` are ids of the track, or protocols from outside: files (their code is executed) and those of installed
    packages, which run with the track's seeds. `seeds` runs the first seeds only; `card_fields` go to
    `import_checkpoint`. Every input is checked before the first run starts.

    Raises:
        BenchError: the checkpoint, a protocol's name or a data set is not usable.
    """
    chosen, seed_list = _choose(track, protocols, seeds)
    folder = import_checkpoint(checkpoint, name=name, work=work, **card_fields)
    card = read_card(folder)
    datasets = {protocol.dataset: check(data, protocol.dataset).reference() for protocol in chosen}
    store = ResultStore(work / "results")
    finished = {result.key for result in store if result.status == "finished"}
    runs = [
        _run(protocol, folder, card, data, datasets[protocol.dataset], seed, work)
        for seed in seed_list
        for protocol in chosen
    ]
    return SubmissionPlan(card, [r for r in runs if r.key in finished], [r for r in runs if r.key not in finished])


def submit(
    plan: SubmissionPlan,
    *,
    processes: int | None = None,
    finished: Callable[[Outcome], None] = lambda outcome: None,
    execute: Callable[[TransferRun, int], None] = fine_tune,
) -> Submission:
    """Execute what is left of `plan` on local processes (default: one a GPU; on a CPU one a core, four at most)."""
    outcomes = run_all(plan.todo, processes=processes, finished=finished, execute=execute)
    results = [ResultStore(run.results).find(run.key) for run in (*plan.done, *plan.todo)]
    return Submission(plan.card, [result for result in results if result is not None], outcomes)


def _choose(track_id: str, names: Sequence[str], seeds: int | None) -> tuple[list[Protocol], tuple[int, ...]]:
    track = find_track(track_id)
    if seeds is not None and not 1 <= seeds <= len(track.seeds):
        raise BenchError(f"track {track.id} has {len(track.seeds)} seeds: --seeds takes 1 to {len(track.seeds)}")
    chosen = [_load(name, track) for name in names or track.protocols]
    return list({protocol.sha256: protocol for protocol in chosen}.values()), track.seeds[:seeds]


def _load(name: str, track: Track) -> Protocol:
    if name in builtin_ids() and name not in track.protocols:
        raise BenchError(f"track {track.id} has no protocol {name!r}: it has {', '.join(track.protocols)}")
    return load_protocol(name)


def _run(
    protocol: Protocol, checkpoint: Path, card: Card, data: Path, dataset: DatasetReference, seed: int, work: Path
) -> TransferRun:
    key = result_key(card.sha256, protocol.sha256, dataset.fingerprint, seed)
    folder = work / "transfers" / card.sha256[:12] / protocol.id / f"seed{seed}-{key[:8]}"
    file = protocol.config_file if is_outside(protocol) else None
    return TransferRun(protocol.id, checkpoint, data, dataset, seed, folder, work / "results", key, file)
