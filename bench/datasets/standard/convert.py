"""What the conversions of data sets share: from a file to a file, each whole or absent, nothing done twice."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.datasets.masks import load_labels
from bench.datasets.pixels import first_line
from bench.datasets.standard.table import LONGEST_LIST, Part, Progress
from bench.datasets.standard.unpack import write_whole
from bench.errors import BenchError
from leaderboard.base.errors import DenseBenchError
from leaderboard.base.files import make_folder, read_bounded, write_atomic
from leaderboard.base.lists import read_lines

_LARGEST_MAT: Final = 2**28


def convert_files(
    root: Path,
    progress: Progress,
    *,
    source: str,
    target: str,
    suffix: str,
    convert: Callable[[Path], bytes],
    names: str = "",
) -> None:
    """Make a file in the folder `target` of each file that matches `source`, with the same stem and `suffix`.

    `source` is a pattern of `Part`, with `{}` for the lines of the list `names`, and `target` a folder, both below the
    data root. Files that exist are left alone, so that an interrupted conversion goes on.

    Raises:
        BenchError: there is no such file, or one cannot be converted.
    """
    files = list(Part("", source, None, names=names).files(root))
    if not files:
        raise BenchError(f"{root / source}: there is nothing to convert")
    make_folder(root / target)
    for number, file in enumerate(files):
        made = root / target / f"{file.stem}{suffix}"
        if not _is_made(made):
            write_whole(made, convert(file))
        progress(number + 1, len(files))


def _is_made(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def map_labels(path: Path, table: npt.NDArray[np.uint8]) -> bytes:
    """The label image in `path` as a PNG file whose labels are those of `table`, uint8 (256,)."""
    return save_labels(table[load_labels(path)])


def save_labels(labels: npt.NDArray[np.uint8]) -> bytes:
    """A label image (H, W) as a gray PNG file of one byte per pixel."""
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return buffer.getvalue()


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file of version 4 to 7.2; nothing in it is executed.

    Raises:
        BenchError: it is missing, damaged, or of another version.
    """
    from scipy.io import loadmat  # takes a moment to import

    try:
        content = read_bounded(path, _LARGEST_MAT)
        return dict(loadmat(io.BytesIO(content)))
    except Exception as error:  # damaged files make scipy raise nearly anything
        raise BenchError(f"{path} cannot be read as a MATLAB file: {first_line(error)}") from error


def required_lines(path: Path) -> list[str]:
    """The lines of a list. Raises BenchError if it is missing, empty or no text."""
    try:
        lines = read_lines(path, LONGEST_LIST)
    except (DenseBenchError, OSError, ValueError) as error:
        raise BenchError(f"{path} cannot be read: {error}") from error
    if not lines:
        raise BenchError(f"{path} is empty")
    return lines


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a list, one entry per line."""
    make_folder(path.parent)
    write_atomic(path, "".join(f"{line}\n" for line in lines))
