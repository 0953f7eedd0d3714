"""Sets up standard data sets: says what is there and what is missing, unpacks archives, and converts once.

Nothing that is complete is done again, and each file is whole or absent: after an interruption, repeating the command
continues.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from bench.datasets.files import is_file
from bench.datasets.standard.ade20k import ADE20K
from bench.datasets.standard.cityscapes import CITYSCAPES
from bench.datasets.standard.coco import COCO2017, COCO_STUFF, LVIS
from bench.datasets.standard.cub import CUB
from bench.datasets.standard.davis import DAVIS2016, DAVIS2017
from bench.datasets.standard.fetch import fetch, verify
from bench.datasets.standard.imagenet import IMAGENET, IMAGENET_LT, IMAGENET_SUBSETS
from bench.datasets.standard.jhmdb import JHMDB
from bench.datasets.standard.table import Archive, Part, Progress, Standard
from bench.datasets.standard.unpack import require_space, unpack, write_whole
from bench.datasets.standard.vip import VIP
from bench.datasets.standard.voc import SBD, VOC2007, VOC2012
from bench.errors import BenchError
from leaderboard.base.files import locked, make_folder

STANDARD: Final[dict[str, Standard]] = {
    standard.name: standard
    for standard in (
        VOC2007, VOC2012, SBD, COCO2017, COCO_STUFF, LVIS, CITYSCAPES, ADE20K, CUB, DAVIS2016, DAVIS2017, JHMDB, VIP,
        IMAGENET, IMAGENET_SUBSETS, IMAGENET_LT,
    )
}  # fmt: skip
"""The data sets that `prepare` knows, by name."""
Watch = Callable[[str, int, int], None]
"""Is called with what is done, how much of it, and of how much."""


@dataclass(frozen=True)
class PartState:
    """A part and how much of it is there."""

    part: Part
    found: int
    right: bool
    """Whether a list has the published bytes, where these are known."""

    @property
    def state(self) -> Literal["complete", "incomplete", "missing", "another list"]:
        """What is to be said of it."""
        if self.part.is_complete(self.found):
            return "complete" if self.right else "another list"
        return "incomplete" if self.found else "missing"

    @property
    def counted(self) -> str:
        """How many are there, and of how many."""
        return f"{self.found:,}" if self.part.count is None else f"{self.found:,} of {self.part.count:,}"

    def to_dict(self) -> dict[str, Any]:
        """The state as plain data for JSON."""
        return {
            "what": self.part.what,
            "where": self.part.where,
            "found": self.found,
            "expected": self.part.count,
            "state": self.state,
        }


@dataclass(frozen=True)
class Prepared:
    """A data set after `prepare`."""

    standard: Standard
    parts: tuple[PartState, ...]
    todo: tuple[str, ...]
    """What its user is to do, one sentence each."""

    @property
    def complete(self) -> bool:
        """Whether everything is there."""
        return all(part.state == "complete" for part in self.parts)

    @property
    def state(self) -> Literal["complete", "incomplete", "missing"]:
        """What is to be said of the whole."""
        if self.complete:
            return "complete"
        return "missing" if all(part.state == "missing" for part in self.parts) else "incomplete"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data for JSON."""
        return {
            "dataset": self.standard.name,
            "title": self.standard.title,
            "complete": self.complete,
            "archives": [
                {"name": one.name, "url": one.url or None, "bytes": one.size, "digest": one.digest or None}
                for one in self.standard.archives
            ],
            "parts": [part.to_dict() for part in self.parts],
            "todo": list(self.todo),
            "terms": self.standard.terms,
        }


def find_standard(names: Sequence[str]) -> list[Standard]:
    """The named data sets, each after those on which it builds; all of them if no name is given.

    Raises:
        BenchError: there is no such data set.
    """
    if unknown := [name for name in names if name not in STANDARD]:
        raise BenchError(f"unknown data set {unknown[0]!r}: choose from {', '.join(STANDARD)}")
    ordered: dict[str, Standard] = {}
    for name in names or STANDARD:
        for needed in (*STANDARD[name].needs, name):
            ordered[needed] = STANDARD[needed]
    return list(ordered.values())


def survey(root: Path, standard: Standard, archives: Path) -> Prepared:
    """What is there of a data set and what is to do; writes nothing. `archives` is where archives are looked for."""
    parts = tuple(_state(root, part) for part in standard.every_part())
    return Prepared(standard, parts, tuple(_todo(root, standard, parts, archives)))


def prepare(
    root: Path,
    standard: Standard,
    archives: Path,
    *,
    download: bool = False,
    watch: Watch = lambda what, done, of: None,
) -> Prepared:
    """Unpack what is in the folder `archives` and not yet below the data root, and convert what is not converted.

    With `download`, archives that are missing are downloaded into that folder first, where they have an address. Of a
    data set that is there in part, that part is converted. One process at a time sets up a data root; others wait.

    Raises:
        BenchError: an archive is damaged or not the published one, a conversion fails, or the disk is full.
    """
    make_folder(root)
    with locked(root):
        for archive in standard.archives:
            if not _is_unpacked(root, standard, archive):
                _unpack(root, archive, archives, download, watch)
        if all(part.found(root) for part in standard.parts):
            for conversion in standard.conversions:
                if not all(_is_there(root, part) for part in conversion.makes):
                    conversion.run(root, _watched(watch, conversion.what))
    return survey(root, standard, archives)


def _unpack(root: Path, archive: Archive, archives: Path, download: bool, watch: Watch) -> None:
    """Get an archive, check it and put its content in place; nothing where it is not to be had."""
    path = archives / archive.name
    if is_file(path):
        verify(path, archive, _watched(watch, f"checking {archive.name}"))
    elif download and archive.url:
        fetch(archive, archives, _watched(watch, f"downloading {archive.name}"))
    else:
        return
    _put(path, archive, root, _watched(watch, f"unpacking {archive.name}"))


def _put(path: Path, archive: Archive, root: Path, progress: Progress) -> None:
    target = root / archive.into
    if not archive.plain:
        unpack(path, target, archive.members, archive.strip, progress)
        return
    require_space(target, path.stat().st_size, f"copying {archive.name}")
    make_folder(target)
    with path.open("rb") as source:
        write_whole(target / archive.name, lambda sink: shutil.copyfileobj(source, sink), path.stat().st_size)


def _watched(watch: Watch, what: str) -> Progress:
    return lambda done, total: watch(what, done, total)


def _is_there(root: Path, part: Part) -> bool:
    return part.is_complete(part.found(root))


def _is_unpacked(root: Path, standard: Standard, archive: Archive) -> bool:
    return all(_is_there(root, part) for part in standard.parts if part.archive == archive.name)


def _state(root: Path, part: Part) -> PartState:
    found = part.found(root)
    right = True
    if part.sha256 and found:
        right = hashlib.sha256((root / part.pattern).read_bytes()).hexdigest() == part.sha256
    return PartState(part, found, right)


def _todo(root: Path, standard: Standard, parts: Sequence[PartState], archives: Path) -> list[str]:
    """What is to do, archives first."""
    missing = {state.part for state in parts if state.state in ("missing", "incomplete")}
    steps = []
    for archive in standard.archives:
        if not any(part.archive == archive.name for part in missing):
            continue
        if is_file(archives / archive.name):
            steps.append(f"unpack {archives / archive.name}: densebench data prepare {root} {standard.name}")
        elif archive.url:
            steps.append(
                f"get {archive.url}{_size(archive)} into {archives}, or add --download, which accepts the terms of "
                f"{standard.terms}"
            )
        else:
            where = f"register at {standard.register}" if standard.register else f"get it at {standard.by_hand}"
            steps.append(f"{where}, and put {archive.name} into {archives}")
    if not standard.archives and missing:
        steps.append(f"register at {standard.register}")
    if standard.needs and any(part.role == "images" for part in missing if not part.archive):
        steps.append(f"its images are those of {standard.needs[0]}: densebench data prepare {root} {standard.needs[0]}")
    elif not steps and any(part in missing for conversion in standard.conversions for part in conversion.makes):
        steps.append(f"convert: densebench data prepare {root} {standard.name}")
    for state in parts:
        if state.state == "another list":
            steps.append(f"{state.part.pattern} is not the published list: remove it, and repeat the command")
    return steps


def _size(archive: Archive) -> str:
    return f" ({archive.size / 2**30:.2g} GiB)" if archive.size and archive.size > 2**27 else ""
