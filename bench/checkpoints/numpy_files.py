"""numpy's own files: `.npy` with one array, or a pickled dictionary of arrays (DetCon), and `.npz` with several.

`numpy.load` is never asked to unpickle: an array of Python objects goes to our reader of pickles.
"""

from __future__ import annotations

import ast
import io
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bench.checkpoints.pickles import read_pickle
from bench.checkpoints.storages import BeyondBoundsError, NumpyArray, UnreadableError
from leaderboard.base.files import DAMAGED_ZIP
from leaderboard.base.printable import printable_name

MOST_BYTES = 2 * 2**30
"""Most bytes of the arrays in one file."""
MOST_HEADER = 10_000
"""Most bytes of an array's header, which is numpy's own limit."""


def read_npy(path: Path) -> object:
    """The array in a `.npy` file as a tensor, or the content of its only object.

    Raises:
        UnreadableError, ForbiddenError: it is damaged, too large, or names an object that is not weights.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise BeyondBoundsError(f"a numpy file of more than {MOST_BYTES / 2**30:.0f} GiB")
    with path.open("rb") as file:
        return _array(file, size)


def read_npz(archive: zipfile.ZipFile) -> dict[str, object]:
    """The arrays of a `.npz` file by name.

    Raises:
        UnreadableError, ForbiddenError: as for `read_npy`.
    """
    members = [info for info in archive.infolist() if not info.is_dir()]
    if sum(info.file_size for info in members) > MOST_BYTES:
        raise BeyondBoundsError(f"its arrays unpack to more than {MOST_BYTES / 2**30:.0f} GiB")
    arrays = {info.filename.removesuffix(".npy"): _member(archive, info) for info in members}
    if len(arrays) < len(members):
        raise UnreadableError("two members of the archive have one name")
    return arrays


def is_npz(names: list[str]) -> bool:
    """Whether the members of a zip archive are those of a `.npz` file."""
    return bool(names) and all(name.endswith(".npy") for name in names)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> object:
    name = printable_name(info.filename)
    try:
        with archive.open(info) as member:
            data = member.read(info.file_size + 1)
    except DAMAGED_ZIP as error:
        raise UnreadableError(f"{name} cannot be unpacked ({printable_name(error)})") from error
    if len(data) != info.file_size:
        raise UnreadableError(f"{name} does not unpack to the {info.file_size} bytes that the archive says")
    return _array(io.BytesIO(data), len(data))


def _array(file: BinaryIO, size: int) -> object:
    """The array in an open `.npy` file of `size` bytes."""
    shape, fortran, kind = _header(file)
    if kind.hasobject:
        found = read_pickle(file)
        return found.objects if isinstance(found, NumpyArray) else found
    array = NumpyArray()
    array.fill_plain(shape, kind, fortran, file.read(size))
    return array


def _header(file: BinaryIO) -> tuple[object, bool, np.dtype[Any]]:
    """Shape, order of axes and type in the header, after which `file` then stands; numpy's formats 1 to 3."""
    start = file.read(8)
    width = 2 if start[6:7] == b"\x01" else 4
    length = int.from_bytes(file.read(width), "little")
    if not start.startswith(b"\x93NUMPY") or length > MOST_HEADER:
        raise UnreadableError("it has no header of a numpy array")
    try:
        header = ast.literal_eval(file.read(length).decode("latin-1").strip())
        return header["shape"], bool(header["fortran_order"]), np.dtype(str(header["descr"]))
    except (ValueError, TypeError, LookupError, SyntaxError, MemoryError, RecursionError) as error:
        raise UnreadableError(f"the header of a numpy array makes no sense ({type(error).__name__})") from error
