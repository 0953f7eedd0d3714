"""The command `leaderboard`: makes tables and page from a folder of result files, or checks that they are current."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from rich.console import Group, RenderableType
from rich.text import Text

from leaderboard import frame, page, tables
from leaderboard.analysis import analyse
from leaderboard.base.errors import FileError
from leaderboard.base.files import locked, make_folder, read_bounded, remove_leftovers, write_atomic
from leaderboard.board import Board
from leaderboard.checked import with_levels
from leaderboard.correlations import correlate
from leaderboard.correlations import csv as correlation_csv
from leaderboard.diagrams import diagrams as draw
from leaderboard.errors import LeaderboardError
from leaderboard.page_data import Background
from leaderboard.plans import split_by_plan
from leaderboard.records import ProtocolReference, Result, TrackDescription
from leaderboard.shares import Shares
from leaderboard.store import ResultStore, Unusable, collection_paused

LONGEST_PAGE = 1_000_000_000
"""Most bytes of a file with a table that is read: a page of ten thousand results has 30 million."""


@dataclass
class Report:
    """What `build` did."""

    board: Board
    written: list[Path] = field(default_factory=list)
    current: list[Path] = field(default_factory=list)
    """Files that a check found to be what the results give."""
    problems: list[str] = field(default_factory=list)
    """Result files that were left out, and files that a check found to differ."""

    left_out: int = 0
    """Number of result files that enter no table."""

    @property
    def values(self) -> int:
        """Number of values in the tables, each of a submission under a protocol: a row of the CSV."""
        return sum(len(group.cells) for track in self.board.tracks for group in track.groups)

    def render(self) -> RenderableType:
        """The tables, and one line for each file that was written and each problem."""
        board = self.board
        counted = f"{board.results} results of {board.checkpoints} checkpoints, {self.values} values"
        lines = [f"note: {note}" for note in board.notes]
        lines += [f"written: {path}" for path in self.written] + [f"current: {path}" for path in self.current]
        lines += [f"problem: {problem}" for problem in self.problems]
        if self.left_out:
            lines.append(f"{self.left_out} result files are left out of all tables until they are fixed or moved away")
        return Group(*map(tables.TerminalTable, board.tracks), Text("\n".join([counted, *lines])))


def build(
    results: Path,
    *,
    csv: Path | None = None,
    markdown: Path | None = None,
    latex: Path | None = None,
    site: Path | None = None,
    diagrams: Path | None = None,
    correlations: Path | None = None,
    check: bool = False,
    tracks: Mapping[str, TrackDescription] = MappingProxyType({}),
    plans: Mapping[str, int] = MappingProxyType({}),
    protocols: Mapping[str, Collection[ProtocolReference]] = MappingProxyType({}),
    each: bool = False,
    background: Background = Background(),  # noqa: B008 - it is immutable
) -> Report:
    """Make the named files from the usable result files in `results`: the same bytes every time.

    `site` is the page's folder, `diagrams` the folder for diagrams (one SVG file each) of tracks that have enough rows,
    `correlations` a CSV of the protocols' rank correlations. `markdown` may be a page with other text: only what stands
    between the two marks `tables.BEGIN` and `tables.END` is renewed. With `check` nothing is written. Then a file that
    differs from what the results give is a problem, and so is each result file that cannot be used, or that is not
    comparable because it executed another number of iterations than its protocol plans (`plans` gives the iterations of
    known protocols by their hash). `protocols` are those of the known tables (`declared` of :func:`analyse`), and
    `tracks` (by id) hold what the page says about a track, `background` what it says about methods and protocols.
    With `each`, every checkpoint has a row of its own, also where several are pretraining runs of one method.

    Raises:
        LeaderboardError: the folder is missing, or a Markdown page has no place for the table.
        FileError: a file cannot be written.
    """
    with collection_paused():
        report = _analyse(ResultStore(results), plans, protocols, each)
        targets = _render(report.board, csv, markdown, latex, site, diagrams, correlations, tracks, background)
    for path, text in targets.items():
        if not check:
            make_folder(path.parent)
            with locked(path.parent):
                remove_leftovers(path)  # of commands that were killed
                write_atomic(path, text)
            report.written.append(path)
        elif (difference := _difference(path, text)) is None:
            report.current.append(path)
        else:
            report.problems.append(difference)
    return report


def _analyse(
    store: ResultStore,
    plans: Mapping[str, int],
    protocols: Mapping[str, Collection[ProtocolReference]],
    each: bool,
) -> Report:
    """The board, and the results that could not enter it."""
    if not store.folder.is_dir():
        raise LeaderboardError(f"{store.folder}: no such folder; results are made by `densebench submit`")
    usable, unusable = store.load()
    checked, unproven = with_levels(usable, store.folder)
    found, others = split_by_plan(checked, plans)
    unusable += [Unusable(store.folder / result.file_name, reason) for result, reason in others]
    lost: list[str] = []

    def shares(result: Result) -> Shares | None:
        try:
            return store.shares(result)
        except FileError as error:
            lost.append(f"{error}; the run is compared without them")
            return None

    board = analyse(found, protocols, shares=shares, each=each)
    return Report(board, problems=[*store.describe(unusable).splitlines(), *unproven, *lost], left_out=len(unusable))


def _render(
    board: Board,
    csv: Path | None,
    markdown: Path | None,
    latex: Path | None,
    site: Path | None,
    diagrams: Path | None,
    correlations: Path | None,
    tracks: Mapping[str, TrackDescription],
    background: Background,
) -> dict[Path, str]:
    """The content of each named file."""
    targets: dict[Path, str] = {}
    if csv is not None:
        targets[csv] = frame.csv(board)
    if markdown is not None:
        targets[markdown] = _markdown(markdown, tables.markdown(board))
    if latex is not None:
        targets[latex] = tables.latex(board)
    if site is not None:
        targets[site / "index.html"] = page.render(board, tracks, background)
    if diagrams is not None:
        for track in board.tracks:
            for drawn in draw(track):
                targets[diagrams / f"{track.id}.{track.architecture}.{drawn.kind}.svg"] = drawn.file()
    if correlations is not None:
        targets[correlations] = correlation_csv(correlate(board))
    return targets


def _markdown(path: Path, table: str) -> str:
    if not path.exists():
        return table
    page_text = tables.embed(_read(path), table)
    if page_text is None:
        raise LeaderboardError(
            f"{path}: has no place for the table, so it would be lost as a whole; "
            f"add these two lines where the table belongs:\n{tables.BEGIN}\n{tables.END}"
        )
    return page_text


def _difference(path: Path, expected: str) -> str | None:
    if not path.exists():
        return f"{path} is missing; make it with `densebench leaderboard` without --check"
    actual, wanted = _read(path).split("\n"), expected.split("\n")
    if actual == wanted:
        return None
    pairs = enumerate(zip(actual, wanted, strict=False))
    first = next((i for i, (a, b) in pairs if a != b), min(len(actual), len(wanted)))
    return f"{path} is not what the results give (first in line {first + 1}); renew it without --check"


def _read(path: Path) -> str:
    try:
        return read_bounded(path, LONGEST_PAGE).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LeaderboardError(f"{path}: cannot be read ({error})") from error
