"""Shows runs while they train, or afterwards: the newest line of each as a table or as plain lines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from leaderboard.base.terminal import Console
from pretrain.run.history import WatchedRun, newest
from pretrain.run.pictures import Gallery
from pretrain.run.plots import write_page

POLL_SECONDS = 1.0
PLAIN_SECONDS = 10.0
"""Shortest time between two plain lines of a run."""
PAGE_SECONDS = 30.0
"""Shortest time between two updates of the page."""
IN_LINE = ("loss", "accuracy", "std", "rank")
"""Scalars that a plain line shows, if the run logs them."""
NAME_WIDTH, RUN_WIDTH = 20, 22


def watch(
    folders: Sequence[Path],
    *,
    page: Path | None = None,
    gallery: Gallery | None = None,
    once: bool = False,
    console: Console | None = None,
) -> bool:
    """Show the newest line of each run, and follow them until none is training; return whether all are finished.

    On a terminal a table is kept up to date; elsewhere it is printed once, and lines follow at intervals. `page` is
    written by `plots.write_page` and updated while the runs are followed; on it, `gallery` draws what was found in
    images. With `once` the present state is shown and written, and nothing is followed. A killed run counts as stopped
    (on Linux; elsewhere it seems to be training).

    Raises:
        PretrainError: a folder holds no run, a log is damaged, or the page cannot be written.
    """
    console = console or Console()
    runs = [WatchedRun(folder, keep_history=page is not None) for folder in folders]
    for run in runs:
        run.update()
    board = _Pages(page, runs, gallery)
    if not once and console.is_terminal:
        _follow_in_table(runs, board, console)
    else:
        console.print(table(runs, console.width))
        if not once:
            _follow_in_lines(runs, board, console)
    return all(run.state == "finished" for run in runs)


def table(runs: Sequence[WatchedRun], width: int) -> Group:
    """The newest line of each run, one column per run; runs that do not fit in `width` characters go below."""
    side_by_side = max(1, (width - NAME_WIDTH) // RUN_WIDTH)
    return Group(*[_columns(runs[k : k + side_by_side]) for k in range(0, len(runs), side_by_side)])


def _columns(runs: Sequence[WatchedRun]) -> Table:
    found = Table(show_edge=False, pad_edge=False)
    found.add_column("")
    for run in runs:
        found.add_column(escape(run.name), justify="right", overflow="fold", max_width=RUN_WIDTH - 3)
    rows = [newest(run) for run in runs]
    for name in {name: None for row in sorted(rows, key=len, reverse=True) for name in row}:
        found.add_row(escape(name), *[escape(row.get(name, "")) for row in rows])
    return found


class _Pages:
    """Writes the page, at most every `PAGE_SECONDS`."""

    def __init__(self, path: Path | None, runs: Sequence[WatchedRun], gallery: Gallery | None) -> None:
        self._path, self._runs, self._gallery = path, runs, gallery
        self._written = time.monotonic()
        self.write()

    def renew(self) -> None:
        if time.monotonic() - self._written >= PAGE_SECONDS:
            self.write()

    def write(self) -> None:
        if self._path is not None:
            found = [self._gallery.of(run.folder) for run in self._runs] if self._gallery else []
            write_page(self._path, self._runs, [one for one in found if one is not None])
            self._written = time.monotonic()


def _follow_in_table(runs: Sequence[WatchedRun], board: _Pages, console: Console) -> None:
    with Live(table(runs, console.width), console=console, auto_refresh=False) as live:
        while _training(runs):
            time.sleep(POLL_SECONDS)
            if _update(runs):
                board.renew()
            live.update(table(runs, console.width), refresh=True)
    board.write()


def _follow_in_lines(runs: Sequence[WatchedRun], board: _Pages, console: Console) -> None:
    shown = dict.fromkeys(range(len(runs)), time.monotonic())
    while _training(runs):
        time.sleep(POLL_SECONDS)
        for number, run in enumerate(runs):
            if not run.update():
                continue
            board.renew()
            if run.state != "training" or time.monotonic() - shown[number] >= PLAIN_SECONDS:
                shown[number] = time.monotonic()
                console.print(_line(run), soft_wrap=True, markup=False, highlight=False)
    board.write()


def _line(run: WatchedRun) -> str:
    values = newest(run)
    scalars = [f"{name} {values[name]}" for name in ("step", "epoch", *IN_LINE) if name in values]
    speed = [f"{values[name]} {name}" for name in ("images/s",) if name in values]
    rest = f"{values['time left']} left" if "time left" in values else run.state
    return "  ".join([run.name, *scalars, *speed, rest])


def _update(runs: Sequence[WatchedRun]) -> bool:
    return sum(run.update() for run in runs) > 0


def _training(runs: Sequence[WatchedRun]) -> bool:
    return any(run.state == "training" for run in runs)
