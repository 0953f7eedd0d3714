"""Which rows of a track a diagram shows."""

from __future__ import annotations

from itertools import takewhile

from leaderboard.board import Standing, Track

MOST = 40
"""Rows of a diagram; tables show all."""


def comparable(track: Track) -> list[Standing]:
    """The first rows, with values in the same protocols: ranks and scores of others are not on their scale."""
    columns = track.standings[0].columns if track.standings else ()
    return list(takewhile(lambda row: row.columns and row.columns == columns, track.standings))


def left_out(*reasons: tuple[int, str]) -> str:
    """A sentence that says how many rows are missing and why; nothing where none is."""
    parts = [f"{count} {why}" for count, why in reasons if count]
    return f" Left out: {', '.join(parts)}." if parts else ""
