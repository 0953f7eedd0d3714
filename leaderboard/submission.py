"""A submission beside random initialization and supervised checkpoints: gains, verdicts, and how they were measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np

from leaderboard import submission_rows, text, wording
from leaderboard.board import Board, Cell, Entry, Group, Standing, Track
from leaderboard.comparison import Contest, holm
from leaderboard.errors import LeaderboardError
from leaderboard.stats import Estimate, Summary
from leaderboard.sweeps import how_set

CITATION = (
    "@misc{densebench,\n"
    "  title  = {{DenseBench}: which pretrained backbone is best for dense prediction?},\n"
    "  author = {{The DenseBench developers}},\n"
    "  note   = {Version %s}\n"
    "}"
)


@dataclass(frozen=True)
class Gain:
    """A value minus that of another row under the same protocol."""

    over: Entry
    difference: Estimate
    """In points of per cent; without an error where one of the two values has none."""
    p: float | None
    """Two-sided p-value of Welch's t-test; `None` where one of the two takes part in no test."""


@dataclass(frozen=True)
class Line:
    """The submission under one protocol."""

    group: Group
    cell: Cell
    gains: tuple[Gain, ...]
    """One for each anchor that has a value under the protocol."""


@dataclass(frozen=True)
class Chapter:
    """The submission on one track."""

    track: Track
    standing: Standing
    anchors: tuple[Entry, ...]
    """Random initialization and the checkpoints that were trained with labels."""
    lines: tuple[Line, ...]

    @property
    def verdict(self) -> str:
        """What the tests say, of how many runs they say it, and whether test images were pretrained on."""
        return " ".join([self._tests, *self.copies])

    @property
    def copies(self) -> tuple[str, ...]:
        """A sentence for each data set with copies of its test images among the pretraining images."""
        # Results of one data set may carry different cards: the search that found most copies counts.
        found = {
            line.group.dataset.name: line.cell
            for line in sorted(self.lines, key=lambda line: line.cell.copies.copies if line.cell.copies else 0)
            if wording.has_copies(line.cell)
        }
        sentences = (wording.copies(cell, name) for name, cell in sorted(found.items()))
        return tuple(f"{said[0].upper()}{said[1:]}: values on them may be too high." for said in sentences)

    @property
    def _random(self) -> Entry | None:
        return next((anchor for anchor in self.anchors if anchor.is_random), None)

    def _values_of(self, entry: Entry, lines: Sequence[Line]) -> list[tuple[str, Summary]]:
        """The values of a row under the protocols of these lines, each with the name of its protocol."""
        found = [(line.group, line.group.by_entry.get(entry.id)) for line in lines]
        return [
            (f"{group.protocol.id} {group.suffix}".strip(), cell.summary)
            for group, cell in found
            if cell is not None and cell.summary is not None
        ]

    @property
    def _tests(self) -> str:
        label, where = self.standing.entry.label, f"On track {self.track.id} with {self.track.architecture}"
        standing = ""
        if self.standing.score is not None:
            standing = f" Its score is {text.figure(self.standing.score)}"
            standing += "." if self.standing.tier is None else f", in tier {self.standing.tier}."
        if self.standing.entry.is_random:
            return f"{where}, {label} is random initialisation, the zero of the score: others are compared with it."
        random = self._random
        if random is None:
            return (
                f"{where} there is no random initialisation beside {label}, so nothing can be said of what it gains: "
                f"`densebench submit random:{self.track.architecture}` adds it."
            )
        gains = [(line, gain) for line in self.lines for gain in line.gains if gain.over.id == random.id]
        tested = [(line, gain) for line, gain in gains if gain.p is not None]
        if not tested:
            return (
                f"{where}, {label} was run too few times for a test against random initialisation: "
                f"nothing can be said of what it gains.{standing}"
            )
        p = np.array([[gain.p for _, gain in tested]], np.float64)
        (rejected,) = holm(lambda level: p <= level, 1, len(tested))
        found = [gain for (_, gain), different in zip(tested, rejected, strict=True) if different]
        better = sum(gain.difference.mean > 0 for gain in found)
        worse = len(found) - better
        lines = [line for line, _ in tested]
        values, zeros = ([value for _, value in self._values_of(row, lines)] for row in (self.standing.entry, random))
        untested = f", not tested under {len(gains) - len(tested)}" * (len(gains) > len(tested))
        return (
            f"{where}, {label} is better than random initialisation under {better or 'none'} of {len(gains)} "
            f"protocols, worse under {worse or 'none'}{untested} (Welch's t-test, Holm over the protocols, 5 %)."
            f"{standing} {wording.scope(self.standing.entry, values, random, zeros)}"
        )

    @property
    def methods(self) -> str:
        """The paragraph for a paper: what was run, on what, and what the intervals mean."""
        runs = [run for line in self.lines for run in line.cell.finished]
        commits = sorted({run.environment.code_commit or "not recorded" for run in runs})
        protocols = [f"{line.group.protocol.id} (SHA-256 {line.group.protocol.sha256[:12]})" for line in self.lines]
        data = {line.group.dataset.fingerprint: line.group.dataset for line in self.lines}.values()
        sets = [f"{d.name} ({wording.images(d)}, fingerprint {d.fingerprint[:12]})" for d in data]
        meant = [wording.meaning(self.standing.entry, self._values_of(self.standing.entry, self.lines))]
        if self._random is not None and (zeros := self._values_of(self._random, self.lines)):
            meant.append(wording.meaning(self._random, zeros, "Values of random initialisation"))
        return (
            f"The {self.track.architecture} backbone was evaluated with DenseBench {version('densebench')} (commit "
            f"{wording.listed(commits)}) under {wording.listed(protocols)} on {wording.listed(sets)}. Every backbone "
            f"tensor was shown to be that of the checkpoint in the network that was evaluated. {how_set(runs)} "
            f"{' '.join([*meant, *self.copies])}"
        )


@dataclass(frozen=True)
class SubmissionReport:
    """A submission on all tracks where it has values."""

    entry: Entry
    chapters: tuple[Chapter, ...]

    @property
    def latex(self) -> str:
        """The submission's and the anchors' rows as tables for booktabs."""
        tracks = []
        for chapter in self.chapters:
            shown = {self.entry.id, *(anchor.id for anchor in chapter.anchors)}
            rows = tuple(standing for standing in chapter.track.standings if standing.entry.id in shown)
            tracks.append(replace(chapter.track, standings=rows))
        return "\n".join(submission_rows.latex(track) for track in tracks)

    @property
    def citation(self) -> str:
        """BibTeX of DenseBench; methods and protocols have papers of their own."""
        return CITATION % version("densebench")


def report_on(board: Board, label: str, sha256: str | None = None) -> SubmissionReport:
    """The report on the row called `label`, or on the row to which the checkpoint of that name belongs.

    With `sha256`, it is the row of the checkpoint of that name with this hash.

    Raises:
        LeaderboardError: there is no such row with a value; or several checkpoints have that name.
    """
    standings = (standing for track in board.tracks for standing in track.standings)
    rows = {standing.entry.id: standing.entry for standing in standings if standing.columns}.values()
    called = [row for row in rows if row.label == label and sha256 is None]
    found = called or [
        row for row in rows if any(card.name == label and sha256 in (None, card.sha256) for card in row.cards)
    ]
    if len(found) > 1:
        labels = ", ".join(sorted(row.label for row in found))
        raise LeaderboardError(f"{len(found)} rows have a checkpoint called {label!r}: name one of {labels}")
    if not found:
        listed = ", ".join(sorted(row.label for row in rows)[:10]) or "none"
        raise LeaderboardError(f"no submission {label!r} has a finished run; there are {listed}")
    (entry,) = found
    return SubmissionReport(entry, tuple(chapter for track in board.tracks for chapter in _chapters(track, entry)))


def _chapters(track: Track, entry: Entry) -> Iterator[Chapter]:
    for standing in track.standings:
        if standing.entry.id != entry.id:
            continue
        anchors = [s.entry for s in track.standings if s.entry.id != entry.id and _is_anchor(s.entry)]
        anchors.sort(key=lambda anchor: (not anchor.is_random, anchor.id))
        lines = [
            Line(group, cell, tuple(_gains(group, cell, anchors)))
            for group, cell in zip(track.current, standing.cells, strict=True)
            if cell is not None and cell.summary is not None
        ]
        if lines:
            yield Chapter(track, standing, tuple(anchors), tuple(lines))


def _is_anchor(entry: Entry) -> bool:
    return entry.is_random or entry.card.pretraining.labels not in (None, "none")


def _gains(group: Group, cell: Cell, anchors: Sequence[Entry]) -> Iterator[Gain]:
    for anchor in anchors:
        other = group.by_entry.get(anchor.id)
        if other is not None and other.summary is not None:
            yield gain(cell, other)


def gain(cell: Cell, other: Cell) -> Gain:
    """The difference of two cells of one group that have values; on the same images it is taken image by image."""
    value, zero = cell.summary, other.summary
    assert value is not None and zero is not None
    if value.error is None or zero.error is None:
        return Gain(other.entry, Estimate(value.mean - zero.mean, None, 0), None)
    contest = Contest([value, zero])
    first, second = np.array([0]), np.array([1])
    mean, variance, spread = (float(found[0, 0]) for found in contest.difference(first, second))
    df = variance**2 / spread if spread > 0 else min(value.df, zero.df)
    p = float(contest.p_values(first, second)[0, 0]) if value.tested and zero.tested else None
    return Gain(other.entry, Estimate(mean, variance**0.5, df), p)
