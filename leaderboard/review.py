"""What a reviewer needs to decide about a folder of results that somebody submits: the command `leaderboard review`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from leaderboard import tables, text, wording
from leaderboard.analysis import analyse
from leaderboard.base.errors import FileError
from leaderboard.base.printable import printable
from leaderboard.board import Board, Cell, Group
from leaderboard.checked import hashes_below, missing_files, needed_files, with_levels
from leaderboard.errors import LeaderboardError
from leaderboard.plans import split_by_plan
from leaderboard.records import ProtocolReference, Result, Sweep
from leaderboard.shares import Shares
from leaderboard.store import ResultStore
from leaderboard.sweeps import words


@dataclass(frozen=True)
class Review:
    """Findings about submitted results, and the board with them."""

    problems: tuple[str, ...]
    """What is to be solved before the results are accepted."""
    remarks: tuple[str, ...]
    """What the reviewer and the author should know."""
    rows: tuple[str, ...]
    """Per new row and protocol one line: its value and where it stands."""
    board: Board
    """The tables of stored and submitted results together."""
    tracks: frozenset[tuple[str, str]]
    """Track and architecture of the tables that have new rows."""
    proven: tuple[Result, ...] = ()
    """New results whose backbone and whose files are attached, with the hashes that they hold: level `logs`."""

    def render(self) -> RenderableType:
        """The tables with new rows, these rows in words, remarks and problems, and the verdict."""
        shown = [tables.TerminalTable(t) for t in self.board.tracks if (t.id, t.architecture) in self.tracks]
        lines = [*self.rows, *(f"remark: {remark}" for remark in self.remarks)]
        lines += [f"problem: {problem}" for problem in self.problems]
        lines += ["nothing speaks against these results" if not self.problems else "not to be accepted as they are"]
        return Lines(*shown, Text("\n".join(lines)))


def review(
    submitted: Path,
    results: Path,
    *,
    attached: Path | None = None,
    plans: Mapping[str, int] = MappingProxyType({}),
    protocols: Mapping[str, Collection[ProtocolReference]] = MappingProxyType({}),
) -> Review:
    """Compare the result files in `submitted` with those in `results`; nothing is written.

    Files in `attached` and below it, whatever they are called, are those of the runs: backbones, outputs, losses,
    weights. `plans` and `protocols` are those of `leaderboard.build.build`.

    Raises:
        LeaderboardError: a folder is missing, or `submitted` has no result file. A missing folder `results` is empty:
            the first submission of a new collection finds none.
        FileError: an attached file cannot be read.
    """
    new, old = ResultStore(submitted), ResultStore(results)
    for store in (new, old):
        if not store.folder.is_dir() and (store is new or store.folder.exists()):
            raise LeaderboardError(f"{store.folder}: no such folder; give the folder that holds the result files")
    if attached is not None and not attached.is_dir():
        raise LeaderboardError(f"{attached}: no such folder; give the folder that holds the files of the runs")
    usable, unusable = new.load()
    if not usable and not unusable:
        raise LeaderboardError(f"{submitted} holds no result file (*.json): give the folder that holds them")
    accepted, damaged = old.load()
    stored, unproven = with_levels(accepted, old.folder)
    planned, others = split_by_plan(usable, plans)
    problems = [*map(str, unusable), *(f"{result.file_name}: {reason}" for result, reason in others)]
    remarks = [f"{len(damaged)} files of {results} cannot be used, the first: {damaged[0]}"] if damaged else []
    if not old.folder.exists():
        remarks.append(f"there is no folder {results} yet: these results are compared with no accepted ones")
    remarks += unproven
    known = {result.key: result for result in accepted}
    fresh = [result for result in planned if result.key not in known]
    for result in planned:
        if result.key in known:
            same = result == known[result.key]
            (remarks if same else problems).append(
                f"{result.file_name}: this run is stored already{'' if same else ', with other content'}"
            )
    problems += [*_names(fresh, stored), *_protocols(fresh, protocols), *_sweeps(fresh, stored)]
    hashes = frozenset() if attached is None else hashes_below(attached)
    lacking = {result.key: missing_files(result, hashes) for result in fresh}
    proven = [result for result in fresh if needed_files(result) and not lacking[result.key]]
    remarks += [*_facts(fresh), *_levels(fresh, lacking), *_data(fresh, stored)]

    def shares(result: Result) -> Shares | None:
        try:
            return (old if result.key in known else new).shares(result)
        except FileError as error:
            problems.append(f"{error}; the run is compared without it")
            return None

    board = analyse([*stored, *with_levels(fresh, old.folder)[0]], protocols, shares=shares)
    found = [(track, group, cell) for track in board.tracks for group, cell in _cells(track.groups, fresh)]
    return Review(
        tuple(dict.fromkeys(problems)),
        tuple(remarks),
        tuple(_row(group, cell) for _, group, cell in found),
        board,
        frozenset((track.id, track.architecture) for track, _, _ in found),
        tuple(proven),
    )


def _names(fresh: Sequence[Result], stored: Sequence[Result]) -> Iterator[str]:
    """Names that stand for another checkpoint, too, and checkpoints that have another name already."""
    hashes: dict[str, set[str]] = defaultdict(set)
    names: dict[str, set[str]] = defaultdict(set)
    for result in (*stored, *fresh):
        hashes[result.card.name].add(result.card.sha256)
        names[result.card.sha256].add(result.card.name)
    for name, sha256 in sorted({(result.card.name, result.card.sha256) for result in fresh}):
        if others := sorted(hashes[name] - {sha256}):
            belongs = f"the name {name} belongs to another checkpoint than {sha256[:12]}, too ({others[0][:12]})"
            yield f"{belongs}: submit each under a name of its own"
        if aliases := sorted(names[sha256] - {name}):
            yield f"the checkpoint {name} is there under another name, too ({', '.join(aliases)}): submit it under one"


def _protocols(fresh: Sequence[Result], protocols: Mapping[str, Collection[ProtocolReference]]) -> Iterator[str]:
    """Protocols that call themselves like a known one and are another."""
    known = {reference.id: reference.sha256 for table in protocols.values() for reference in table}
    for protocol, sha256 in sorted({(result.protocol.id, result.protocol.sha256) for result in fresh}):
        if known.get(protocol, sha256) != sha256:
            yield (
                f"{protocol} was run with the hash {sha256[:12]}, and is {known[protocol][:12]} here: its values stand "
                "in a table of their own; run it with the present version"
            )


def _sweeps(fresh: Sequence[Result], stored: Sequence[Result]) -> Iterator[str]:
    """Results whose settings come from a sweep of which a run is missing, has another value, or has other settings
    than every checkpoint tries."""
    known = {result.key: result for result in (*stored, *fresh)}
    grids = {result.protocol.sha256: _grid(sweep) for result in stored if (sweep := result.sweep) and sweep.tried}
    for result in fresh:
        if result.sweep is None or result.held_out:
            continue
        tried = result.sweep.tried
        if absent := sum(one.key not in known for one in tried):
            yield (
                f"{result.file_name}: {absent} of the {len(tried)} runs of its sweep are not among the files: submit "
                "them, too"
            )
        if any(one.key in known and _headline(known[one.key]) != one.value for one in tried):
            yield f"{result.file_name}: its sweep names other values than the results of the sweep's runs hold"
        if grids.get(result.protocol.sha256, _grid(result.sweep)) != _grid(result.sweep):
            where = result.protocol.id
            yield f"{result.file_name}: its sweep tried other settings than those of stored results of {where}"


def _grid(sweep: Sweep) -> list[str]:
    return [words(one.settings) for one in sweep.tried]


def _headline(result: Result) -> float | None:
    """The value by which a sweep compares `result`; None for a run that diverged."""
    return result.metrics[result.protocol.headline] if result.status == "finished" else None


def _facts(fresh: Sequence[Result]) -> Iterator[str]:
    """What cards and environments leave open, and failed runs."""
    silent: dict[str, list[str]] = defaultdict(list)
    for card in {result.card.sha256: result.card for result in fresh}.values():
        open_ = {
            "license": card.license,
            "pretraining data": card.pretraining.data,
            "epochs": card.pretraining.epochs,
            "labels": card.pretraining.labels,
        }
        if absent := [name for name, value in open_.items() if value is None]:
            silent[", ".join(absent)].append(card.name)
    for absent_facts, names in silent.items():
        yield f"cards do not say: {absent_facts} ({', '.join(names)})"
    counts: dict[str, list[Result]] = defaultdict(list)
    for result in fresh:
        commit = result.environment.code_commit
        if commit is None or commit.endswith("-dirty"):
            counts["evaluated with code that no commit names"].append(result)
        if result.status == "failed":
            why = ((result.failure or "").strip().splitlines() or ["no words"])[-1]
            counts[f"failed: {printable(why, 100)}"].append(result)
    yield from (f"{len(results)} of {len(fresh)} runs: {what}" for what, results in counts.items())


def _levels(fresh: Sequence[Result], lacking: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """The level of verification that each run reaches by what is attached, whatever its file says."""
    counts: dict[str, int] = defaultdict(int)
    for result in fresh:
        if not needed_files(result):
            reached = "self-reported: the result holds no hash of an output"
        elif lacking[result.key]:
            reached = f"self-reported: not attached, or with another hash: {', '.join(lacking[result.key])}"
        else:
            reached = "logs and weights are attached, and have the hashes that the results hold"
        counts[reached] += 1
        if result.verification != "self-reported":
            counts[f"the file says {result.verification} of itself, which no table shows"] += 1
    yield from (f"{count} of {len(fresh)} runs: {reached}" for reached, count in counts.items())


def _data(fresh: Sequence[Result], stored: Sequence[Result]) -> Iterator[str]:
    """Data that no stored result of the protocol has."""
    there = defaultdict(set)
    for result in stored:
        there[result.protocol.sha256].add(result.dataset.fingerprint)
    for result in {(r.protocol.sha256, r.dataset.fingerprint): r for r in fresh}.values():
        fingerprints = there[result.protocol.sha256]
        if fingerprints and result.dataset.fingerprint not in fingerprints:
            yield (
                f"{result.protocol.id} ran on data that no stored result has ({result.dataset.name}, "
                f"{result.dataset.val_images} validation images): the values are not compared with stored ones"
            )


def _cells(groups: Sequence[Group], fresh: Sequence[Result]) -> Iterator[tuple[Group, Cell]]:
    keys = {result.key for result in fresh}
    for group in groups:
        yield from ((group, cell) for cell in group.cells if any(run.key in keys for run in cell.runs))


def _row(group: Group, cell: Cell) -> str:
    """A value, what it gains over random initialization, and its rank."""
    head = f"{cell.entry.label}, {group.protocol.id}: "
    if cell.summary is None:
        return f"{head}no finished run, {cell.failed} failed"
    said = [f"{group.protocol.headline} {text.figure(cell.summary)} (over {wording.source(cell.entry, cell.summary)})"]
    if cell.entry.is_random:
        said.append("the zero of the score")
    elif cell.score is None:
        said.append("no score without random initialisation on the same data")
    else:
        said.append(f"score {text.figure(cell.score)}")
    if not cell.summary.tested:
        said.append("takes part in no test: a single run")
    elif cell.ranking is None or cell.ranking.best is None:
        said.append("takes part in no test: no other row does")
    else:
        ranks = text.ranks(cell.ranking.best, cell.ranking.worst)
        rows = sum(other.tier is not None for other in group.cells)
        said.append(f"rank {text.plain(cell.ranking.position)} of {rows} (tests leave {ranks} open), tier {cell.tier}")
    return head + "; ".join(said)
