"""Which values of a board have common draws (pretraining runs, validation images), and how they vary together.

The page's script ranks again what its filters leave. For the errors of differences and of sums over protocols it needs
the products of these values' shares, summed over the draws: the shares themselves would be too long.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

from leaderboard.board import Board, Group
from leaderboard.stats import Source, Summary, aligned, connected

NOWHERE = (-1, -1)


class Drawn:
    """The sets of values with common draws that the page's script computes with together.

    Values of a track's current protocols are summed, so that they are one set; those of another protocol stand alone.
    A set of more than `most` values is split into one for each row: then the rows are not compared draw by draw.
    """

    def __init__(self, board: Board, most: int) -> None:
        self.sets: list[list[Source]] = []
        """For each set the errors of its values."""
        self._places: dict[int, tuple[int, int]] = {}
        self._split: set[int] = set()
        for track in board.tracks:
            others = [(group,) for group in track.groups if not group.current]
            for groups in (track.current, *others):
                self._add(groups, most)

    def place(self, summary: Summary | None) -> tuple[int, int]:
        """A value's set and its number in it; `NOWHERE` where it shares its draws with no other."""
        return self._places.get(id(summary), NOWHERE)

    def paired(self, group: Group) -> bool:
        """Whether the group's rows are compared draw by draw where they have common draws."""
        return not any(id(cell.summary) in self._split for cell in group.cells)

    def _add(self, groups: Sequence[Group], most: int) -> None:
        values = list({id(value.summary): value for value in _values(groups)}.values())
        for places in connected([value.source.names for value in values]):
            found = [values[place] for place in places]
            of_row: dict[Hashable, list[_Value]] = defaultdict(list)
            for value in found:
                of_row[value.row].append(value)
            split = len(found) > most and len(of_row) > 1
            if split:
                self._split |= {id(value.summary) for value in found}
            for together in of_row.values() if split else (found,):
                if len(together) > 1:
                    self._places |= {id(value.summary): (len(self.sets), i) for i, value in enumerate(together)}
                    self.sets.append([value.source for value in together])


class _Value(NamedTuple):
    row: Hashable
    summary: Summary
    source: Source


def _values(groups: Sequence[Group]) -> Iterator[_Value]:
    """The values whose draws are known, and those of random initialization that are scores' zeros."""
    for group in groups:
        owned = [(cell.entry.id, cell.summary) for cell in group.cells]
        for row, summary in [*owned, ("random initialization", group.anchor)]:
            if summary is not None:
                yield from (_Value(row, summary, source) for source in summary.known)


def members(sources: Sequence[Source]) -> list[list[int]]:
    """For each value what was drawn for it, as numbers of parts; a part is of names that the same values have."""
    holders: dict[str, list[int]] = defaultdict(list)
    for value, source in enumerate(sources):
        for name in source.names:
            holders[name].append(value)
    found: list[list[int]] = [[] for _ in sources]
    for part, values in enumerate(dict.fromkeys(map(tuple, holders.values()))):
        for value in values:
            found[value].append(part)
    return found


def products(sources: Sequence[Source]) -> Iterator[float]:
    """Those of values with common draws, summed over the draws: the triangle up to the diagonal, row by row."""
    _, shares = aligned(sources)
    for row, values in enumerate(shares):
        yield from (shares[: row + 1] * values).sum(1).tolist()
