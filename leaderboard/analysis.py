"""Turns results into a board: group what may be compared, test within the groups, aggregate over them.

No row can take anything from another. Which groups enter the standings of a track is declared, so that a result of
another version, protocol or plan changes nothing; a track that nobody declared uses all its groups. Entries are ranked
on what they have, and by overall scores only among those that have the same.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from types import MappingProxyType

import numpy as np

from leaderboard.board import Board, Cell, Entry, Group, Track, identity
from leaderboard.entries import Checkpoint, find_entries
from leaderboard.ranking import compare, standings
from leaderboard.records import DatasetReference, ProtocolReference, Result
from leaderboard.shares import Shares
from leaderboard.stats import ImageError, Source, Summary, summarise
from leaderboard.sweeps import sweep_notes

_FILE = re.compile(r"(_leftImg8bit)?(\.[A-Za-z]{2,4})?$")
"""The end of an image's file name: Cityscapes' word for its images, and the ending."""
Loader = Callable[[Result], Shares | None]
"""A function that returns the images' shares of a run's metrics, or None where they were not kept."""


def analyse(
    results: Iterable[Result],
    declared: Mapping[str, Collection[ProtocolReference]] = MappingProxyType({}),
    *,
    shares: Loader = lambda result: None,
    each: bool = False,
) -> Board:
    """Build the board; the order of `results` does not matter. Runs of sweeps are counted, and never ranked.

    `declared` gives the known tables by name, as a rule one per track, with the protocols that their standings use; in
    a table named after its track, a row that has them all is complete. `shares` lets single runs on the same images be
    compared image by image. With `each`, every checkpoint has a row of its own.
    """
    listed = list(results)
    ordered = sorted((result for result in listed if not result.held_out), key=lambda result: result.file_name)
    entries, notes = find_entries(ordered, each=each)
    tables = _Tables(declared)
    kinds: dict[ProtocolReference, str] = {}
    found: dict[tuple[str, str, str, int | None], list[Result]] = defaultdict(list)
    for result in ordered:
        kind = kinds.get(result.protocol) or kinds.setdefault(result.protocol, _kind(result.protocol))
        plan = None if kind in tables.of_kind or not result.training else result.training.planned_iterations
        architecture = entries[result.card.name, result.card.sha256].card.architecture
        found[kind, result.dataset.fingerprint, architecture, plan].append(result)
    by_table: dict[tuple[str, str], list[Group]] = defaultdict(list)
    for (kind, _, architecture, plan), members in found.items():
        protocol = tables.reference.get(kind) or _usual([result.protocol for result in members])
        table, current = tables.place(kind, protocol)
        if members[0].dataset.classes is not None:
            table = own_table(table, members[0].dataset)
        cells, anchor = compare(_cells(members, entries, shares))
        group = Group(protocol, members[0].dataset, architecture, plan, cells, anchor, current)
        by_table[table, architecture].append(group)
    marked = {key: _mark(groups) for key, groups in sorted(by_table.items())}
    ids = Counter(group.id for groups in marked.values() for group in groups)
    made = []
    for (table, architecture), groups in marked.items():
        unique = tuple(replace(group, elsewhere=ids[group.id] > 1) for group in groups)
        made.append(Track(table, architecture, unique, *standings(unique, tables.complete(table))))
    return Board(
        tuple(made),
        len(ordered),
        (*notes, *_notes(made), *_copies(made), *sweep_notes(made, len(listed) - len(ordered))),
    )


def own_table(table: str, dataset: DatasetReference) -> str:
    """The table of data of a user's own: another for each set of files, so that no other data are ranked with them.

    The name can be part of a file's, whatever the name of the data holds.
    """
    name = re.sub(r"[^A-Za-z0-9._+-]+", "-", dataset.name)[:40]
    return f"{table}-{name}-{dataset.fingerprint[:4]}"


class _Tables:
    """Finds the table that a protocol's results belong to."""

    def __init__(self, declared: Mapping[str, Collection[ProtocolReference]]) -> None:
        self.declared = declared
        pairs = [(table, protocol) for table, protocols in declared.items() for protocol in protocols]
        self.reference = {_kind(protocol): protocol for _, protocol in pairs}
        self.of_kind = {_kind(protocol): table for table, protocol in pairs}
        self.of_id = {protocol.id: table for table, protocol in pairs}

    def place(self, kind: str, protocol: ProtocolReference) -> tuple[str, bool]:
        """The table, and whether its standings use the protocol; a table that nobody declared uses all of them."""
        if kind in self.of_kind:
            return self.of_kind[kind], True
        table = self.of_id.get(protocol.id, protocol.track)
        return table, table not in self.declared

    def complete(self, table: str) -> int:
        """Number of protocols that a complete row has; 0 where nothing declares it."""
        return sum(protocol.track == table for protocol in self.declared.get(table, ()))


def _kind(protocol: ProtocolReference) -> str:
    return json.dumps(identity(protocol))


def _usual(protocols: Sequence[ProtocolReference]) -> ProtocolReference:
    """The most frequent one of references that differ in their titles alone."""
    counts = Counter(protocols)
    return min(counts, key=lambda protocol: (-counts[protocol], protocol.title, protocol.short_title))


def _cells(results: Sequence[Result], entries: Mapping[Checkpoint, Entry], shares: Loader) -> list[Cell]:
    """One cell per entry."""
    runs: dict[tuple[str, str], list[Result]] = defaultdict(list)
    of: dict[tuple[str, str], Entry] = {}
    for result in results:
        entry = entries[result.card.name, result.card.sha256]
        of[entry.id] = entry
        runs[entry.id].append(result)
    return [_cell(of[id_], found, shares) for id_, found in runs.items()]


def _cell(entry: Entry, runs: list[Result], shares: Loader) -> Cell:
    places = {card.sha256: place for place, card in enumerate(entry.cards)}
    runs.sort(key=lambda run: (places[run.card.sha256], run.seed))
    cell = Cell(entry, tuple(runs), None)
    if not cell.finished:
        return cell
    summary = _summary(cell)
    if summary.over == "images" and (of_images := _shares(cell.finished, shares)) is not None:
        summary = replace(summary, known=(of_images,))
    return replace(cell, summary=summary)


def _summary(cell: Cell) -> Summary:
    """Summary of the headline metric over the finished runs; each checkpoint counts equally."""
    units: dict[str, list[float]] = defaultdict(list)
    for run, value in zip(cell.finished, cell.values, strict=True):
        units[run.card.sha256].append(value)
    trained = cell.finished[0].probe is None
    return summarise(list(units.values()), _image_error(cell.finished), trained=trained, checkpoints=tuple(units))


def _image_error(runs: Sequence[Result]) -> ImageError | None:
    """Error of the mean over runs on the same images: at most the mean of the runs' errors, so that mean is used."""
    errors = [run.standard_errors.get(run.protocol.headline) for run in runs]
    known = [error for error in errors if error is not None]
    images = runs[0].dataset.val_images
    return ImageError(fmean(known), images) if len(known) == len(runs) and images > 1 else None


def _shares(runs: Sequence[Result], shares: Loader) -> Source | None:
    """The error from the mean over the runs of each image's share of the headline metric; `None` unless all have it."""
    found = [shares(run) for run in runs]
    known = [one for one in found if one is not None and runs[0].protocol.headline in one.metrics]
    if len(known) < len(runs) or any(one.names != known[0].names for one in known):
        return None
    values = np.mean([one.metrics[runs[0].protocol.headline] for one in known], axis=0)
    return Source.of(_images(known[0].names), values) if len(values) > 1 else None


def _images(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of images without what a data set's files add to them: protocols of one data set read other files of it."""
    plain = tuple(_FILE.sub("", name) for name in names)
    return plain if len(set(plain)) == len(names) else names


def _mark(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Groups by protocol id, the current ones first, each with what distinguishes it from others with the same id."""
    by_id: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        by_id[group.protocol.id].append(group)
    marked = []
    for _, found in sorted(by_id.items()):
        found.sort(key=lambda group: (not group.current, -group.protocol.version, group.digest))
        marked += [replace(group, suffix=_suffix(group, found)) for group in found]
    return tuple(marked)


def _notes(tracks: Sequence[Track]) -> list[str]:
    """Notes on protocols whose results are in several groups that are not comparable with each other."""
    by_id: dict[tuple[str, str], dict[str, bool]] = defaultdict(dict)
    for track, group in ((one, group) for one in tracks for group in one.groups):
        # Groups that differ in the architecture alone have the same protocol; own data have tables of their own.
        what = json.dumps([identity(group.protocol), group.dataset.fingerprint, group.iterations])
        by_id[group.protocol.id, track.id if group.dataset.classes else ""][what] = group.current
    notes = []
    for (id_, _), found in sorted(by_id.items()):
        if not all(found.values()):
            notes.append(
                f"{id_}: results of a version or hash that its track does not declare are shown apart and enter no "
                "standings; run them again with this version of densebench"
            )
        if sum(found.values()) > 1:
            notes.append(f"{id_}: {sum(found.values())} different protocols or data sets, each with its own column")
    return notes


def _copies(tracks: Sequence[Track]) -> list[str]:
    """Notes on rows whose backbones were pretrained on copies of test images."""
    found = [
        f"{cell.entry.label}: copies of {cell.copies.copies:,} of the {cell.copies.tested:,} test images of "
        f"{group.dataset.name} are among its pretraining images"
        for track in tracks
        for group in track.groups
        for cell in group.cells
        if cell.copies is not None and cell.copies.copies
    ]
    return list(dict.fromkeys(found))


def _suffix(group: Group, found: Sequence[Group]) -> str:
    if len(found) == 1:
        return ""
    protocol, fingerprint = group.protocol, group.dataset.fingerprint
    parts = []
    if any(other.protocol.version != protocol.version for other in found):
        parts.append(f"v{protocol.version}")
    if any(o.protocol.sha256 != protocol.sha256 and o.protocol.version == protocol.version for o in found):
        parts.append(f"protocol {protocol.sha256[:4]}")
    if any(other.dataset.fingerprint != fingerprint for other in found):
        parts.append(f"data {fingerprint[:4]}")
    if any(other.iterations != group.iterations and other.protocol == protocol for other in found):
        parts.append(f"{group.iterations} iterations")
    return " ".join(parts) or group.digest[:4]
