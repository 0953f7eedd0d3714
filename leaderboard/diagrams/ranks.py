"""Mean ranks with rank intervals, and tiers: what a critical-difference diagram shows, from other tests.

Demsar's diagram (JMLR 2006) joins methods whose mean ranks differ by less than one critical difference (Nemenyi), which
needs many data sets. Here rows that our tests put into one tier are joined, and the whiskers are the rank intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from leaderboard import text
from leaderboard.board import Standing, Track
from leaderboard.diagrams.axes import Axis
from leaderboard.diagrams.rows import MOST, comparable, left_out
from leaderboard.diagrams.svg import LINE, Diagram, cut, element, label, safe, width

ROW, TOP = 24, 2.6 * LINE
PLOT = 420
TIER = 40
"""Width of the column of tiers."""
READING = (
    "Dots: mean rank over the protocols. Whiskers: the mean of the best and of the worst ranks that the tests leave "
    "open (Welch t, Holm within the row, 5 %). Numbers in circles: the tier by score; rows of one tier that follow "
    "each other are joined."
)
Row = tuple[Standing, float, tuple[float, float]]
"""A standing, its mean rank, and the interval of that rank."""


def rank_diagram(track: Track) -> Diagram | None:
    """Diagram with its rows as in the table, from top to bottom; `None` unless two rows were tested."""
    same = comparable(track)
    tested = [
        (row, row.mean_rank, row.mean_rank_interval)
        for row in same
        if row.mean_rank is not None and row.mean_rank_interval is not None
    ]
    if len(tested) < 2:
        return None
    shown = tested[:MOST]
    names = [cut(row.entry.label) for row, _, _ in shown]
    figures = [f"{text.number(rank)} [{text.span(interval)}]" for _, rank, interval in shown]
    left = width(names) + TIER
    axis = Axis(1, max(2, math.ceil(max(high for *_, (_, high) in shown))), left + 12, left + 12 + PLOT)
    missing = left_out(
        (len(tested) - len(shown), "further tested rows"),
        (len(same) - len(tested), "without a test"),
        (len(track.standings) - len(same), "with other protocols"),
    )
    body = _grid(axis, len(shown))
    body += "".join(map(_row, range(len(shown)), shown, names, figures, [axis] * len(shown)))
    return Diagram(
        kind="ranks",
        title=f"Mean ranks and tiers, track {track.id}, {track.architecture}",
        reading=f"{READING}{missing}",
        summary="; ".join(
            f"{row.entry.label}: rank {figure}, {'no tier' if row.tier is None else f'tier {row.tier}'}"
            for (row, _, _), figure in zip(shown, figures, strict=True)
        ),
        size=(axis.end + 24 + width(figures), TOP + ROW * len(shown) + 4),
        body=body + _tiers([row for row, _, _ in shown], left - TIER / 2),
    )


def height(place: int) -> float:
    """Vertical middle, in pixels, of the row at `place` (from 0)."""
    return TOP + ROW * (place + 0.5)


def _grid(axis: Axis, rows: int) -> str:
    drawn = label("mean rank, better to the left", (axis.start + axis.end) / 2, LINE / 2, kind="quiet", anchor="middle")
    for tick in axis.ticks():
        x = axis.place(tick)
        drawn += element("line", kind="grid", x1=x, x2=x, y1=TOP, y2=TOP + ROW * rows)
        drawn += label(f"{tick:g}", x, 1.8 * LINE, kind="quiet tick", anchor="middle")
    return drawn


def _row(place: int, row: Row, name: str, figure: str, axis: Axis) -> str:
    standing, rank, (low, high) = row
    y = height(place)
    drawn = label(name, axis.start - 12 - TIER, y, kind="random" if standing.entry.is_random else None, anchor="end")
    drawn += element("line", kind="whisker", x1=axis.place(low), x2=axis.place(high), y1=y, y2=y)
    drawn += element("circle", kind="dot", cx=axis.place(rank), cy=y, r=4)
    drawn += label(figure, axis.end + 16, y, kind="quiet")
    return element("g", element("title", safe(standing.entry.label)) + drawn)


def _tiers(rows: Sequence[Standing], x: float) -> str:
    drawn = ""
    for place, (row, before) in enumerate(zip(rows, [None, *rows], strict=False)):
        if row.tier is None:
            continue
        y = height(place)
        if before is not None and before.tier == row.tier:
            drawn += element("line", kind="joined", x1=x, x2=x, y1=y - ROW + 8, y2=y - 8)
        drawn += element("circle", kind="first tier" if row.tier == 1 else "tier", cx=x, cy=y, r=8)
        drawn += label(str(row.tier), x, y, kind="number", anchor="middle")
    return drawn
