"""Submit a checkpoint: import it with proof, run every protocol with every seed, write one result file per run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.checkpoints import Inspection, import_checkpoint, inspect_checkpoint
from bench.checkpoints.importing import RANDOM
from bench.datasets import check
from bench.datasets.own.check import usable
from bench.datasets.own.description import DATASETS as OWN_DATASETS
from bench.datasets.own.description import is_own
from bench.errors import BenchError
from bench.executors.base import Executor, LocalExecutor
from bench.fine_tuning import require_fine_tuning
from bench.heads import head_hash
from bench.jobs import Outcome, TransferRun, evaluate, is_done
from bench.probes.plans import ProbePlan
from bench.protocols import Protocol, TrainingPlan, builtin_ids, is_outside, load_protocol, trials, with_batch
from bench.smaller_batch import split_id
from bench.stages import run_in_stages
from bench.sweep_config import split_trial
from bench.tracks import CUSTOM, TRACKS, Track, find_track
from leaderboard.base.errors import Interrupted
from leaderboard.base.files import require_writable
from leaderboard.records import Card, DatasetReference, Result, result_key
from leaderboard.store import ResultStore, Unusable
from pretrain.exported import check_name, read_card


@dataclass(frozen=True)
class Submission:
    """What `submit` did: `results` of this checkpoint (old and new) and the runs that failed now."""

    card: Card
    results: list[Result]
    outcomes: list[Outcome[TransferRun]]
    unusable: list[Unusable]
    """Files of the result store that are not usable."""

    @property
    def failures(self) -> list[Outcome[TransferRun]]:
        """Runs without a result."""
        return [outcome for outcome in self.outcomes if outcome.failure]


@dataclass(frozen=True)
class SubmissionPlan:
    """The runs of a submission: those that have a result already and those that are to be executed."""

    card: Card
    """The checkpoint's card; for random initialisation with another network per seed, that of the first network."""
    done: list[TransferRun]
    todo: list[TransferRun]
    inspection: Inspection | None = None
    """What the checkpoint's file is; None for random weights."""
    unusable: list[Unusable] = field(default_factory=list)
    """Files of the result store that are not usable. A run whose file is among them is neither done nor to be done."""

    def finished(self) -> int:
        """The number of runs that have a finished result now."""
        keys = {run.key for run in (*self.done, *self.todo)}
        stores = {run.results for run in (*self.done, *self.todo)}
        found = [result for folder in stores for result in ResultStore(folder).load()[0]]
        return sum(result.key in keys and result.status == "finished" for result in found)


@dataclass(frozen=True)
class Evaluation:
    """What a checkpoint is evaluated under."""

    protocols: tuple[Protocol, ...]
    seeds: tuple[int, ...]
    """Seeds of the evaluation, not of a pretraining."""
    data: Path
    """Data root."""
    datasets: Mapping[str, DatasetReference]
    """The data sets that the protocols need, by name, checked."""
    networks: tuple[int, ...] = ()
    """Seeds of the networks that random initialisation without a seed of its own stands for (none: `seeds`)."""

    def seeds_of(self, protocol: Protocol) -> tuple[int, ...]:
        """Seeds with which a checkpoint runs under `protocol`: a probe draws next to nothing and needs one."""
        return self.seeds[:1] if isinstance(protocol.plan, ProbePlan) else self.seeds


def plan_submission(
    checkpoint: str | Path,
    *,
    name: str,
    data: Path,
    work: Path,
    track: str = "mini",
    protocols: Sequence[str] = (),
    seeds: int | None = None,
    batch: int | None = None,
    **card_fields: Any,
) -> SubmissionPlan:
    """Check checkpoint and data sets, import the one, and list the runs of `track` (or of `protocols` alone).

    `protocols` are ids of the track, or protocols from outside: files (their code is executed) and those of installed
    packages, which run with the track's seeds. `seeds` runs the first seeds only, `batch`
    with at most so many images per iteration (`bench.smaller_batch`); `card_fields` go to `import_checkpoint`. Every
    input is checked before anything is written, and all before the first run starts.

    Raises:
        BenchError: the checkpoint, a protocol's name or a data set is not usable.
        FileError: the work folder cannot be written.
        PretrainError: the name is not valid.
    """
    check_name(name)
    chosen, seed_list = choose_protocols(track, protocols, seeds, batch, data=data)
    inspection = None if RANDOM.fullmatch(str(checkpoint)) else _importable(Path(checkpoint), card_fields)
    networks = find_track(track).networks
    evaluation = Evaluation(tuple(chosen), seed_list, data, check_data_sets(data, chosen), networks)
    return plan_runs(checkpoint, evaluation, name=name, work=work, inspection=inspection, **card_fields)


def plan_runs(
    checkpoint: str | Path,
    evaluation: Evaluation,
    *,
    name: str,
    work: Path,
    inspection: Inspection | None = None,
    stored: tuple[list[Result], list[Unusable]] | None = None,
    **card_fields: Any,
) -> SubmissionPlan:
    """Import a checkpoint, and list its runs under what was chosen and checked.

    `stored` is what the store of `work` holds, of who has read it already.
    Random initialisation without a seed of its own is several networks, another one with each seed where there are
    several seeds: a single network may lie points above or below the next.

    Raises:
        BenchError: the checkpoint is not usable.
        FileError: the work folder cannot be written.
    """
    for part in ("transfers", "results"):
        require_writable(work / part)
    folders = _import(checkpoint, evaluation, name, work, **card_fields)
    cards = {folder: read_card(folder) for _, folder in folders}
    usable, unusable = stored or ResultStore(work / "results").load()
    finished = {result.key for result in usable if is_done(result)}
    blocked = {file.key for file in unusable}
    tried = {protocol.id: trials(protocol) for protocol in evaluation.protocols}
    runs: list[TransferRun] = []
    for (seed, folder), protocol in itertools.product(folders, evaluation.protocols):
        where = (folder, cards[folder], evaluation.data, evaluation.datasets[protocol.dataset])
        own = evaluation.seeds[0] if isinstance(protocol.plan, ProbePlan) else seed
        needed = [_run(one, *where, one.config["trial"]["seed"], work) for one in tried[protocol.id]]
        runs += [*needed, replace(_run(protocol, *where, own, work), needs=tuple(run.key for run in needed))]
    runs = [run for run in {run.key: run for run in runs}.values() if run.key not in blocked]
    done, todo = [r for r in runs if r.key in finished], [r for r in runs if r.key not in finished]
    return SubmissionPlan(cards[folders[0][1]], done, todo, inspection, unusable)


def _import(
    checkpoint: str | Path, evaluation: Evaluation, name: str, work: Path, **card_fields: Any
) -> list[tuple[int, Path]]:
    """Each seed, with the exported folder that is evaluated with it."""
    seeds = evaluation.seeds
    random = RANDOM.fullmatch(str(checkpoint))
    if random is None or random[2] is not None:
        folder = import_checkpoint(checkpoint, name=name, work=work, **card_fields)
        return [(seed, folder) for seed in seeds]
    names = {network: f"{name}-seed{network}" if network else name for network in evaluation.networks or seeds}
    folders = [import_checkpoint(f"{checkpoint}:{n}", name=own, work=work, **card_fields) for n, own in names.items()]
    return list(zip(itertools.cycle(seeds), folders, strict=False))


def submit(
    plan: SubmissionPlan,
    *,
    executor: Executor | None = None,
    processes: int | None = None,
    finished: Callable[[Outcome[TransferRun]], None] = lambda outcome: None,
    execute: Callable[[TransferRun, int], None] = evaluate,
) -> Submission:
    """Execute what is left of `plan` by `executor` (default: `processes` of this machine, see `LocalExecutor`).

    Raises:
        BenchError: the executor can do nothing, e.g. because the device does not exist.
        Interrupted: it was stopped; the text says what is finished.
        Queued: the runs are queued elsewhere, and nobody waits for them.
    """
    try:
        run_all = partial((executor or LocalExecutor(processes)).run_all, finished=finished, execute=execute)
        outcomes = run_in_stages(plan.todo, run_all, finished)
    except KeyboardInterrupt as stop:
        from bench.openmmlab.checkpoints import CHECKPOINT

        total = len(plan.done) + len(plan.todo)
        text = f"stopped: {plan.finished()} of {total} runs of {plan.card.name} are finished and kept"
        begun = sum((run.folder / CHECKPOINT).is_file() for run in plan.todo)
        text += f", {begun} saved within their training" if begun else ""
        text += f"; repeat the command to {'continue' if begun else 'run the others'}"
        raise Interrupted.after(stop, text) from stop
    results = [ResultStore(run.results).find(run.key) for run in (*plan.done, *plan.todo)]
    return Submission(plan.card, [result for result in results if result is not None], outcomes, plan.unusable)


def _importable(checkpoint: Path, fields: Mapping[str, Any]) -> Inspection:
    """What is in the file, read before hours are spent on data sets.

    Raises:
        BenchError: it cannot be imported.
    """
    inspection = inspect_checkpoint(checkpoint, prefix=fields.get("prefix"), architecture=fields.get("architecture"))
    if inspection.problems:
        problems = "; ".join(inspection.problems)
        raise BenchError(f"{inspection.path}: {problems} (`densebench inspect` shows the table)")
    return inspection


def check_data_sets(data: Path, protocols: Sequence[Protocol]) -> dict[str, DatasetReference]:
    """The data sets of `protocols`, by name.

    Raises:
        BenchError: one cannot be used; says which protocols could run without it.
    """
    reports = {name: check(data, name) for name in dict.fromkeys(protocol.dataset for protocol in protocols)}
    try:
        return {name: report.reference() for name, report in reports.items()}
    except BenchError as error:
        if is_own(data) and not set(OWN_DATASETS) & reports.keys():
            raise BenchError(f"{error}\n{data} is described as data of your own: add --track custom") from error
        ready = [protocol.id for protocol in protocols if not reports[protocol.dataset].errors]
        if not ready:
            raise
        options = " ".join(f"--protocol {name}" for name in ready)
        raise BenchError(f"{error}\nTo run the protocols whose data can be used, add {options}") from error


def choose_protocols(
    track_id: str, names: Sequence[str], seeds: int | None, batch: int | None = None, *, data: Path | None = None
) -> tuple[list[Protocol], tuple[int, ...]]:
    """Protocols by `names` (none: all of the track), each once, and the first `seeds` (None: all) of the track's seeds.

    With `batch`, protocols of more images per iteration are replaced by those of so many. Of the protocols for own data
    that `names` does not name, only those that `data` can serve are chosen; their probes, which have no batch, stay.

    Raises:
        BenchError: there is no such track, protocol or number of seeds, the batch is not possible, or what fine-tuning
            needs is not installed.
    """
    track = find_track(track_id)
    if seeds is not None and not 1 <= seeds <= len(track.seeds):
        most = len(track.seeds)
        has = f"{most} seeds: --seeds takes 1 to {most}" if most > 1 else "one seed: leave --seeds out"
        raise BenchError(f"track {track.id} has {has}")
    chosen = [_load(name, track) for name in names or track.protocols]
    if data is not None and not names and track is CUSTOM:
        served = usable(data)
        chosen = [protocol for protocol in chosen if protocol.dataset in served]
    if batch is not None:
        kept = [protocol for protocol in chosen if track is CUSTOM and isinstance(protocol.plan, ProbePlan)]
        chosen = [protocol if protocol in kept else with_batch(protocol, batch) for protocol in chosen]
    if any(isinstance(protocol.plan, TrainingPlan) for protocol in chosen):
        _require_fine_tuning(chosen)
    return list({protocol.sha256: protocol for protocol in chosen}.values()), track.seeds[:seeds]


def _require_fine_tuning(chosen: Sequence[Protocol]) -> None:
    """Raise `BenchError` where what fine-tuning needs is missing; names the probes, which run without it."""
    try:
        require_fine_tuning()
    except BenchError as error:
        probes = [protocol.id for protocol in chosen if isinstance(protocol.plan, ProbePlan)]
        if not probes:
            raise
        options = " ".join(f"--protocol {name}" for name in probes)
        raise BenchError(f"{error}\nTo run the probes, which need none of it, add {options}") from error


def run_folder(work: Path, checkpoint_sha256: str, protocol: str, seed: int, key: str) -> Path:
    """Folder in which the run of this key keeps what it makes beside its result; `protocol` is its protocol's id."""
    return work / "transfers" / checkpoint_sha256[:12] / protocol / f"seed{seed}-{key[:8]}"


def _load(name: str, track: Track) -> Protocol:
    own = split_id(split_trial(name) or name)[0]
    if own in builtin_ids() and own not in (*track.protocols, *track.further):
        other = next(one.id for one in TRACKS if own in (*one.protocols, *one.further))
        raise BenchError(f"track {track.id} has no protocol {name!r}: it is one of track {other}; add --track {other}")
    if own in builtin_ids() and split_trial(name):
        raise BenchError(f"{name} is a run of a sweep: submit {split_trial(name)}, which does all of them")
    return load_protocol(name)


def _run(
    protocol: Protocol, checkpoint: Path, card: Card, data: Path, dataset: DatasetReference, seed: int, work: Path
) -> TransferRun:
    key = result_key(card.sha256, protocol.sha256, dataset.fingerprint, seed, head_hash(protocol, checkpoint))
    folder = run_folder(work, card.sha256, protocol.id, seed, key)
    file = protocol.config_file if is_outside(protocol) else None
    return TransferRun(protocol.id, checkpoint, data, dataset, seed, folder, work / "results", key, file)
