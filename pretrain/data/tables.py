"""Tables with one row per image, computed once and kept in one memory-mapped file.

Rows are written in order, so that rows computed before an interruption are not computed again.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from leaderboard.base.processes import loader_context
from leaderboard.base.provenance import available_cores

IMAGES_PER_WORKER = 32
"""Fewest images for which a further process is started."""
Item = TypeVar("Item")


def continue_table(
    path: Path,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    rows: Callable[[int], Iterable[npt.NDArray[Any]]],
) -> None:
    """Write the .npy file `path` of an array of this `shape`, or its missing rows after an interruption.

    `rows(done)` gives the rows `done`, `done` + 1, ..., each of shape `shape[1:]`; they depend on nothing else.
    A file that was begun for another shape or type is started again. A type with named fields has them in its rows.
    """
    kind = np.dtype(dtype)
    row = kind.itemsize * int(np.prod(shape[1:], dtype=np.int64))
    start = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(kind)  # type: ignore[no-untyped-call]
    layout = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(start, layout)  # type: ignore[no-untyped-call]
    header = start.getvalue()
    path.touch()
    with path.open("r+b") as file:
        if file.read(len(header)) != header:
            file.seek(0)
            file.truncate()
            file.write(header)
            file.flush()
        done = min(shape[0], (file.seek(0, os.SEEK_END) - len(header)) // row)
        file.truncate(len(header) + done * row)
        file.seek(0, os.SEEK_END)
        for values in rows(done):
            if values.shape != shape[1:]:
                raise ValueError(f"a row of shape {values.shape} in a table of shape {shape}")
            file.write(np.ascontiguousarray(values, dtype=kind).tobytes())
        file.flush()
        os.fsync(file.fileno())


def by_processes(items: Dataset[Item], first: int, count: int) -> Iterable[Item]:
    """The items `first` to `count` - 1, in order, made by as many loading processes as the CPU cores allow."""
    workers = min(available_cores(), (count - first) // IMAGES_PER_WORKER)
    return DataLoader(
        items,
        batch_size=None,
        sampler=range(first, count),
        num_workers=workers,
        multiprocessing_context=loader_context() if workers else None,
        collate_fn=_as_is,
        generator=torch.Generator(),  # not the global one: resuming must not move it
    )


def _as_is(item: Item) -> Item:
    return item
