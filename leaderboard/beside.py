"""Two tracks beside each other: what settings that are chosen for each checkpoint change.

Protocols of two tracks belong together where their ids are equal but for the track (`paper_voc0712_det_c4_24k` and
`fair_voc0712_det_c4_24k`), or where one's is the other's behind its track (`mini_voc_seg_fcn` and
`fair_mini_voc_seg_fcn`).
"""

from __future__ import annotations

from collections.abc import Iterator

from leaderboard import text
from leaderboard.board import Board, Cell, Group
from leaderboard.errors import LeaderboardError
from leaderboard.stats import weighted_sum
from leaderboard.sweeps import sweeps_of, words

TITLE = "Difference: the second minus the first, with half of its 95 % interval where both have several runs"


def beside(board: Board, first: str, second: str) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row for each submission and pair of protocols that has a value in one of both tracks.

    Raises:
        LeaderboardError: no protocol of one track has results under the same name in the other.
    """
    pairs = list(_pairs(board, first, second))
    if not pairs:
        raise LeaderboardError(f"no results of {first} and {second} stand under protocols of the same name")
    rows = []
    for name, one, other in pairs:
        for entry in dict.fromkeys(cell.entry for cell in (*one.cells, *other.cells)):
            left, right = one.by_entry.get(entry.id), other.by_entry.get(entry.id)
            sweeps = sweeps_of(right.runs) if right is not None else []
            settings = "; ".join(dict.fromkeys(words(sweep.settings) for sweep in sweeps))
            values = (_figure(left), _figure(right), _difference(left, right))
            rows.append([entry.label, one.architecture, f"{name} {one.protocol.headline}", *values, settings])
    return ["submission", "backbone", "protocol", first, second, "difference", f"settings of {second}"], rows


def _pairs(board: Board, first: str, second: str) -> Iterator[tuple[str, Group, Group]]:
    """The name, and the groups of both tracks on the same data and architecture."""
    groups = [group for track in board.tracks for group in track.current]
    for one in groups:
        for other in groups:
            own, name = one.protocol.id, other.protocol.id.removeprefix(f"{second}_")
            if (
                (one.protocol.track, other.protocol.track) == (first, second)
                and name in (own, own.removeprefix(f"{first}_"))
                and (one.dataset.fingerprint, one.architecture) == (other.dataset.fingerprint, other.architecture)
            ):
                yield name, one, other


def _figure(cell: Cell | None) -> str:
    return text.DASH if cell is None or cell.summary is None else text.figure(cell.summary)


def _difference(left: Cell | None, right: Cell | None) -> str:
    if left is None or right is None or left.summary is None or right.summary is None:
        return text.DASH
    if "images" in (left.summary.over, right.summary.over):  # the same images: their errors are not independent
        return text.number(right.summary.mean - left.summary.mean)
    return text.figure(weighted_sum([(1, right.summary), (-1, left.summary)]))
