from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pretrain.data.tables import continue_table

TABLE = np.arange(5 * 2 * 3, dtype=np.int16).reshape(5, 2, 3)


class StoppedError(Exception):
    pass


def write(path: Path, *, stop: int = 5, made: list[int] | None = None, table: npt.NDArray[Any] = TABLE) -> None:
    """Rows of `table`, until one stops it."""

    def rows(done: int) -> Iterator[npt.NDArray[Any]]:
        for index in range(done, len(table)):
            if index == stop:
                raise StoppedError
            if made is not None:
                made.append(index)
            yield table[index]

    continue_table(path, table.shape, table.dtype, rows)


@pytest.mark.parametrize("cut", [0, 5, -1, -7])
def test_a_table_that_was_begun_is_continued_with_whole_rows(tmp_path: Path, cut: int) -> None:
    """Cut off at the start, within the header, and within the last and the second last row."""
    path = tmp_path / "table.npy"
    with pytest.raises(StoppedError):
        write(path, stop=3)
    path.write_bytes(path.read_bytes()[: cut or None] if cut else b"")
    made: list[int] = []
    write(path, made=made)
    assert made == list(range({0: 0, 5: 0, -1: 2, -7: 2}[cut], 5))
    assert np.array_equal(np.load(path, mmap_mode="r"), TABLE)
    assert np.load(path).dtype == np.int16
    write(path, made=made)
    assert made[-1] == 4 and np.array_equal(np.load(path), TABLE)


def test_what_was_begun_for_another_shape_is_begun_anew(tmp_path: Path) -> None:
    write(tmp_path / "table.npy")
    write(tmp_path / "table.npy", table=TABLE[:4].astype(np.int32))
    assert np.array_equal(np.load(tmp_path / "table.npy"), TABLE[:4])


def test_a_row_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a row of shape \(2,\)"):
        continue_table(tmp_path / "table.npy", (3, 4), np.uint8, lambda done: [np.zeros(2)])
