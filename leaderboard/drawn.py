"""Which values of a board were measured on the same draws (pretraining runs, validation images), and how they vary.

The page's script ranks again what its filters leave. For the errors of differences and of sums over protocols it needs
the variances and covariances of these values: the draws' shares themselves would be too long.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from leaderboard.board import Board, Group
from leaderboard.stats import Source, Summary

NOWHERE = (-1, -1)


class Drawn:
    """The sets of values with the same draws that the page's script computes with together.

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
        """Whether the group's rows are compared draw by draw where they have the same draws."""
        return not any(id(cell.summary) in self._split for cell in group.cells)

    def _add(self, groups: Sequence[Group], most: int) -> None:
        found: dict[tuple[str, ...], dict[int, tuple[object, Summary, Source]]] = defaultdict(dict)
        for owner, summary in _owned(groups):
            for source in summary.known:
                found[source.names][id(summary)] = owner, summary, source
        for values in (list(values.values()) for values in found.values()):
            of_owner: dict[object, list[tuple[object, Summary, Source]]] = defaultdict(list)
            for value in values:
                of_owner[value[0]].append(value)
            if len(values) > most and len(of_owner) > 1:
                self._split |= {id(summary) for _, summary, _ in values}
            for one in of_owner.values() if len(values) > most else (values,):
                if len(one) > 1:
                    self._places |= {id(summary): (len(self.sets), slot) for slot, (_, summary, _) in enumerate(one)}
                    self.sets.append([source for _, _, source in one])


def _owned(groups: Sequence[Group]) -> Iterator[tuple[object, Summary]]:
    """The values of the groups, and those of random initialization that are scores' zeros, each with its row."""
    for group in groups:
        yield from ((cell.entry.id, cell.summary) for cell in group.cells if cell.summary is not None)
        if group.anchor is not None:
            yield "random initialization", group.anchor


def covariances(sources: Sequence[Source]) -> Iterator[float]:
    """Those of values with the same draws: the triangle up to the diagonal, row by row."""
    shares = np.stack([source.shares for source in sources if source.shares is not None])
    n = shares.shape[1]
    for row, values in enumerate(shares):
        yield from ((shares[: row + 1] * values).sum(1) * n / (n - 1)).tolist()
