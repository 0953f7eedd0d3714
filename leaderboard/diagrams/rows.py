"""Which rows of a track a diagram shows."""

from __future__ import annotations

from itertools import takewhile

from leaderboard.board import Standing, Track

MOST = 40
"""Most rows of a diagram; tables show all rows."""


def comparable(track: Track) -> list[Standing]:
    """The first rows that have values in the same protocols: ranks and scores of other rows are on another scale."""
    columns = track.standings[0].columns if track.standings else ()
    return list(takewhile(lambda row: row.columns and row.columns == columns, track.standings))


def left_out(*reasons: tuple[int, str]) -> str:
    """A sentence that says how many rows are missing and why; empty where none is missing."""
    parts = [f"{count} {why}" for count, why in reasons if count]
    return f" Left out: {', '.join(parts)}." if parts else ""
