"""Scores of rows by protocol: each value between random initialization (0) and no error (100)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from leaderboard import text
from leaderboard.board import Cell, Standing, Track
from leaderboard.diagrams.rows import MOST, left_out
from leaderboard.diagrams.svg import LINE, Diagram, cut, element, label, width

ROW, COLUMN, GAP = 28, 100, 2
LETTERS = 15
"""Letters in a line of a heading."""
STRONGEST = 0.5
"""Opacity of the cell with the highest score: text stays readable on it in both themes."""


def heat_map(track: Track) -> Diagram | None:
    """Heat map with its rows as in the table; `None` unless two rows have scores, in two protocols or more."""
    # There is no score above a random initialisation that makes no errors.
    columns = [i for i, group in enumerate(track.current) if group.anchor is not None and group.anchor.mean < 100]
    scored = [row for row in track.standings if any(_score(row, i) is not None for i in columns)]
    if len(scored) < 2 or len(columns) < 2:
        return None
    shown = scored[:MOST]
    names = [cut(row.entry.label) for row in shown]
    headings = [textwrap.wrap(track.current[i].label, LETTERS, break_on_hyphens=False) for i in columns]
    top = LINE * max(map(len, headings)) + 8
    left = width(names) + 10
    strongest = max(abs(score) for row in shown for i in columns if (score := _score(row, i)) is not None) or 1.0
    body = "".join(
        label(line, left + COLUMN * (place + 0.5), LINE * (k + 0.5), kind="quiet", anchor="middle")
        for place, heading in enumerate(headings)
        for k, line in enumerate(heading)
    )
    for place, (row, name) in enumerate(zip(shown, names, strict=True)):
        y = top + ROW * place
        kind = "random" if row.entry.is_random else None
        body += label(name, left - 10, y + ROW / 2, kind=kind, anchor="end")
        body += "".join(_cell(row.cells[i], left + COLUMN * column, y, strongest) for column, i in enumerate(columns))
    missing = left_out(
        (len(scored) - len(shown), "further rows"),
        (len(track.standings) - len(scored), "rows without a score"),
        (len(track.current) - len(columns), "protocols without a score"),
    )
    return Diagram(
        kind="scores",
        title=f"Scores by protocol, track {track.id}, {track.architecture}",
        reading="The share of the errors of random initialisation that is gone, in %, ± half of its 95 % interval: "
        f"the stronger the color, the more, up to {text.number(strongest)}; red: more errors than random "
        f"initialisation. (1): a single run, without an interval. Bold: better than every other row.{missing}",
        summary="; ".join(_described(row, track, columns) for row in shown),
        size=(left + COLUMN * len(columns), top + ROW * len(shown) + 2),
        body=body,
    )


def _score(row: Standing, column: int) -> float | None:
    cell = row.cells[column]
    return None if cell is None or cell.score is None else cell.score.mean


def _cell(cell: Cell | None, x: float, y: float, strongest: float) -> str:
    words = label(
        _words(cell), x + COLUMN / 2, y + ROW / 2, kind="leads" if cell and cell.leads else None, anchor="middle"
    )
    if cell is None or cell.score is None:
        return words
    share = cell.score.mean / strongest
    square = element(
        "rect", kind="heat" if share >= 0 else "heat below", x=x, y=y, width=COLUMN - GAP, height=ROW - GAP,
        fill_opacity=f"{abs(share) * STRONGEST:.3f}",
    )  # fmt: skip
    return square + words


def _words(cell: Cell | None) -> str:
    if cell is None:
        return text.DASH
    if cell.summary is None:
        return "failed"
    if cell.score is None:
        return text.DASH
    alone = cell.summary.over is None and not cell.entry.is_random
    return f"{text.figure(cell.score)}{f' ({text.mark(cell.summary)})' if alone else ''}"


def _described(row: Standing, track: Track, columns: Sequence[int]) -> str:
    cells = (f"{track.current[i].label} {_words(row.cells[i])}" for i in columns)
    return f"{row.entry.label}: {', '.join(cells)}"
