"""Image sources: numbered images in files."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from leaderboard.base.errors import DenseBenchError
from leaderboard.base.lists import read_lines
from pretrain.data.decode import decode_file
from pretrain.errors import PretrainError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
LONGEST_LIST = 2**30
"""Most bytes of a list of images: about twenty million paths, more than the usual data sets have."""


class ImageSource:
    """Images in files, in a fixed order. An image id is a position in that order.

    `names` are paths relative to `root` and are sorted here, so that ids do not depend on how the names were found.
    """

    def __init__(self, root: Path, names: list[str]):
        self.root = root
        # One block of bytes instead of a million strings: so forked workers keep sharing the memory.
        encoded = sorted(os.fsencode(name) for name in names)
        self._ends = np.cumsum([len(name) for name in encoded])
        self._block = b"".join(encoded)

    def __len__(self) -> int:
        return len(self._ends)

    def name(self, index: int) -> str:
        """The path of image `index` relative to `root`."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        start = int(self._ends[index - 1]) if index else 0
        return os.fsdecode(self._block[start : int(self._ends[index])])

    def where(self, index: int) -> str:
        """Name of image `index` in messages: its full path."""
        return str(self.root / self.name(index))

    def size(self, index: int) -> int:
        """Size of image `index` in bytes, encoded; raises PretrainError if its file cannot be found."""
        try:
            status = (self.root / self.name(index)).stat()
        except OSError as error:
            raise PretrainError(f"cannot read image {self.where(index)}: {error.strerror}.") from error
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or device could wait forever or never end
            raise PretrainError(f"cannot read image {self.where(index)}: it is not a regular file.")
        return status.st_size

    def content(self, index: int) -> npt.NDArray[np.uint8]:
        """The bytes of image `index`, encoded; raises OSError if its file cannot be read."""
        return np.fromfile(self.root / self.name(index), dtype=np.uint8)

    def decode(self, index: int) -> Tensor:
        """Image `index` as uint8 RGB (3, H, W); raises DamagedImageError (a PretrainError) naming the file."""
        return decode_file(self.root / self.name(index))

    def fingerprint(self) -> str:
        """Hash of the set of images: sha256 over one line `name NUL size LF` per file, names sorted as bytes.

        Sizes are in bytes of the file. Contents are not read, so that a million images take seconds.
        """
        digest = hashlib.sha256()
        for index in range(len(self)):
            digest.update(b"%s\0%d\n" % (os.fsencode(self.name(index)), self.size(index)))
        return digest.hexdigest()


def is_image(name: str) -> bool:
    """Whether a file with this name is taken as an image, by its suffix in upper or lower case."""
    return name.lower().endswith(SUFFIXES)


def is_hidden(parts: Iterable[str]) -> bool:
    """Whether a path of these parts is hidden, or lies in a hidden folder."""
    return any(part.startswith(".") and part != ".." for part in parts)


def find_files(root: Path) -> Iterator[str]:
    """Paths, relative to `root`, of the files below it, through symbolic links too; hidden ones are left out.

    Raises PretrainError for a folder that cannot be read: its images must not be left out silently.
    """
    seen = set()
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=_refuse_folder):
        here = Path(folder)
        status = here.stat()
        if (status.st_dev, status.st_ino) in seen:
            # A symbolic link to a folder that was already visited, perhaps a parent: its images would count twice.
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not is_hidden([name]))
        for name in files:
            if not is_hidden([name]):
                yield (here / name).relative_to(root).as_posix()


def _refuse_folder(error: OSError) -> None:
    raise PretrainError(
        f"cannot read the folder {error.filename}: {error.strerror}.\nMake it readable, or move it out of the data."
    ) from error


def read_list(path: Path) -> list[str]:
    """The names in a text file, one per line; raises PretrainError if there is none, or one occurs twice.

    A column of labels may follow the names, as in lists for classification: it is ignored where every line has one and
    the whole first line does not name a file.
    """
    try:
        names = read_lines(path, LONGEST_LIST)
    except (DenseBenchError, OSError, ValueError) as error:
        raise PretrainError(f"{path} cannot be read as a list of images: {error}.") from error
    if not names:
        raise PretrainError(f"{path} lists no images; write one image path per line, relative to the file's folder.")
    plain = [_without_labels(name) for name in names]
    if not (path.parent / names[0]).is_file() and all(short != name for short, name in zip(plain, names, strict=True)):
        names = plain
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise PretrainError(f"{path} lists {twice} more than once; remove the repeated lines.")
    return names


def _without_labels(line: str) -> str:
    """A line of a list without the whole numbers after the path."""
    while True:
        before = line.rstrip("0123456789")
        path = before.removesuffix("-").rstrip(" \t,")
        if before == line or path in (before, before.removesuffix("-")) or not path:
            return line
        line = path
