"""What a standard data set consists of: its archives, the files that come of them, and what is converted once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from bench.datasets.files import is_file
from leaderboard.base.lists import read_lines

Role = Literal["images", "masks", "files", "list"]
"""What a part's files are: `images`, `masks` (label images), a `list` with one entry per line, or other `files`."""
Side = Literal["train", "val", ""]
"""A split; empty for what belongs to none or to both."""
Progress = Callable[[int, int], None]
"""Is called with how much is done, and of how much."""
LONGEST_LIST: Final = 2**28
"""Most bytes of a list: ten times those of all images of ImageNet."""


@dataclass(frozen=True)
class Archive:
    """A file that the authors of a data set offer."""

    name: str
    into: str
    """The folder below the data root into which it is unpacked; empty for the data root itself."""
    url: str = ""
    """Its official address, where it can be had without registering; else empty."""
    size: int | None = None
    """Its length in bytes; None where no documentation states it."""
    digest: str = ""
    """`sha256:` or `md5:` and the hash of its bytes; empty where no documentation states one."""
    members: str = "*"
    """Which of its files are unpacked: a pattern of `fnmatch`, whose `*` matches slashes, too."""
    strip: str = ""
    """The beginning of its files' names that is left out."""
    plain: bool = False
    """Whether it is no archive but a file that is used as it is."""


@dataclass(frozen=True)
class Part:
    """Files of one kind."""

    what: str
    pattern: str
    """Where they are below the data root: `*` stands for any name without a slash, `{}` for each line of `names`."""
    count: int | None
    """How many there are, of a `list` the lines; None where no documentation states it."""
    role: Role = "files"
    split: Side = ""
    names: str = ""
    """The list, below the data root, whose lines replace `{}` in the pattern."""
    archive: str = ""
    """Name of the archive that holds them; empty for what a conversion makes and for what other data sets bring."""
    sha256: str = ""
    """Hash of a list's bytes; empty where no documentation states one."""

    @property
    def where(self) -> str:
        """The pattern in messages: NAME stands for each line of the list."""
        return self.pattern.replace("{}", "NAME")

    def files(self, root: Path) -> Iterator[Path]:
        """The files that exist, in the order of `names` or else of their names."""
        if not self.names:
            yield from _matching(root, tuple(self.pattern.split("/")))
            return
        for name in _lines(root / self.names):
            yield from self._of(root, name)

    def absent(self, root: Path) -> list[str]:
        """The lines of `names` for which there is no file."""
        listed = _lines(root / self.names) if self.names else ()
        return [name for name in listed if next(self._of(root, name), None) is None]

    def _of(self, root: Path, name: str) -> Iterator[Path]:
        """The files of one line of `names`."""
        return _matching(root, tuple(self.pattern.replace("{}", name).split("/")))

    def found(self, root: Path) -> int:
        """How many of them exist; of a `list`, how many lines it has."""
        if self.role == "list":
            return len(_lines(root / self.pattern))
        return sum(1 for _ in self.files(root))

    def is_complete(self, found: int) -> bool:
        """Whether `found` is as many as there must be at least."""
        return found >= (self.count or 1)


@dataclass(frozen=True)
class Conversion:
    """What is computed once from other parts."""

    what: str
    run: Callable[[Path, Progress], None]
    """Writes the files of `makes` below a data root; each is whole or absent, and those that exist are left alone.

    It raises `BenchError` where what it needs is missing or damaged.
    """
    makes: tuple[Part, ...]


@dataclass(frozen=True)
class Standard:
    """A data set that `densebench data prepare` sets up."""

    name: str
    title: str
    archives: tuple[Archive, ...]
    parts: tuple[Part, ...]
    """What must be there before anything is converted."""
    conversions: tuple[Conversion, ...] = ()
    terms: str = ""
    """The page with the terms of use."""
    register: str = ""
    """The page on which one registers for what has no address of its own; empty where nobody needs to register."""
    by_hand: str = ""
    """How to get what has no address, where registering is not what it takes."""
    needs: tuple[str, ...] = ()
    """Names of the data sets on which this one builds."""
    labels: Mapping[int, str] = field(default_factory=dict)
    """Names of the labels in its masks, with void; empty where masks hold no classes."""

    def every_part(self) -> tuple[Part, ...]:
        """All parts, what conversions make last."""
        return (*self.parts, *(part for conversion in self.conversions for part in conversion.makes))

    def folder(self) -> Path:
        """The folder below the data root that holds the data set."""
        return Path(self.every_part()[0].pattern.split("/")[0])


def _lines(path: Path) -> tuple[str, ...]:
    """The lines of a list; none if it is missing or no text."""
    try:
        state = path.stat()
    except (OSError, ValueError):
        return ()
    return _lines_of(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _lines_of(path: Path, changed: int, size: int) -> tuple[str, ...]:
    try:
        return tuple(read_lines(path, LONGEST_LIST))
    except (OSError, ValueError):
        return ()


def _matching(folder: Path, pattern: tuple[str, ...]) -> Iterator[Path]:
    """The files below `folder` whose parts match those of `pattern`, sorted; hidden ones match no `*`."""
    first, *rest = pattern
    if "*" not in first:
        if rest:
            yield from _matching(folder / first, tuple(rest))
        elif is_file(folder / first):
            yield folder / first
        return
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                entry.name
                for entry in entries
                if fnmatchcase(entry.name, first)
                and not entry.name.startswith(".")
                and (entry.is_dir() if rest else entry.is_file())
            )
    except OSError:
        return
    for name in found:
        if rest:
            yield from _matching(folder / name, tuple(rest))
        else:
            yield folder / name
