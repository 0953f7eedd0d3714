"""The tables of `pretrain.discovery.attention`: a row for every image, with cells in its object or beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

OUTSIDE = 255
"""Value of the cells of a row that are not cells of its image."""
Row = npt.NDArray[Any]


def row_type(side: int) -> np.dtype[Any]:
    """The fields of an image's row.

    `image` is the name of its file, without folders; `height` and `width` are those of the resized image that the
    network saw, 0 of an image that cannot be read; `cell` is the side of a cell in its pixels. `cells` (`side`, `side`)
    has one value per cell, of which the last may reach beyond the image, and `OUTSIDE` beyond the last.
    """
    sizes = [("height", "<u2"), ("width", "<u2"), ("cell", "<u2")]
    return np.dtype([("image", "S255"), *sizes, ("cells", "u1", (side, side))])


def cells_of(row: Row) -> npt.NDArray[np.uint8]:
    """The cells (rows, columns) of one row of a table."""
    size, cell = (int(row["height"]), int(row["width"])), max(1, int(row["cell"]))
    cells: npt.NDArray[np.uint8] = row["cells"][: -(-size[0] // cell), : -(-size[1] // cell)]
    return cells


def spread(row: Row, height: int, width: int) -> npt.NDArray[np.uint8]:
    """What the cell at each pixel of the image has, (`height`, `width`), by the nearest."""
    cells, sizes = cells_of(row), ((height, int(row["height"])), (width, int(row["width"])))
    rows, columns = (((np.arange(n) + 0.5) * of / n).astype(np.int64) // int(row["cell"]) for n, of in sizes)
    return cells[rows[:, None], columns]


def box_of(row: Row, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, bottom, left and right in pixels of the image of the box around a row's object; the whole image without."""
    cells = cells_of(row)
    ends = []
    for axis, (size, of) in enumerate(((height, row["height"]), (width, row["width"]))):
        found = np.flatnonzero(((cells > 0) & (cells != OUTSIDE)).any(1 - axis))
        if not len(found):
            return 0, height, 0, width
        low, high = int(found[0]) * int(row["cell"]), (int(found[-1]) + 1) * int(row["cell"])
        first = min(size - 1, round(low * size / int(of)))
        ends += [first, max(first + 1, min(size, round(high * size / int(of))))]
    return ends[0], ends[1], ends[2], ends[3]
