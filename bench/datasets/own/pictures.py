"""The images of own data: which there are, their stored sizes, and whether their EXIF orientation is applied.

Annotations were made for pictures as they are stored, or as a viewer shows them. A quarter turn exchanges width and
height, so that the size in the annotations tells which; for other orientations, square pictures and annotations
without a size the description says it (`orientation`), and is asked for where it does not.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from bench.datasets.files import by, is_file, relative, what_is_in, why_missing
from bench.datasets.own.description import Own, Part, PartName
from bench.datasets.pixels import first_line, quiet
from bench.datasets.report import Findings, Strict
from leaderboard.base.errors import DenseBenchError
from leaderboard.base.files import describe_os_error
from leaderboard.base.lists import read_lines
from pretrain.data.pictures import QUARTER_TURNS, open_picture, orientation

SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""Endings of names of images, in upper or lower case."""
MOST_FILES: Final = 1_000_000
"""Most files of a folder that are looked at."""
_LONGEST: Final = 2**28
"""Most bytes of a list of images."""


class Header(NamedTuple):
    """What the head of a picture's file says."""

    size: tuple[int, int]
    """Width and height as stored."""
    orientation: int
    """EXIF orientation, 1 to 8."""


Headers = Callable[[Path], Header | None]
"""Function that reads a picture's header; None, with the problem reported, for a file that cannot be used."""


class Picture(NamedTuple):
    """An image as it is used."""

    path: Path
    size: tuple[int, int]
    """Width and height in use."""
    turned: bool
    """Whether the pixels are turned as the EXIF orientation says."""


def read_header(path: Path) -> Header:
    """The header of a picture, for training and evaluation, whose data was checked.

    Raises:
        BenchError: it is missing or damaged.
    """
    findings = Strict()
    if not is_file(path):
        findings.error("missing images", f"{path} {why_missing(path)}")
    try:
        with quiet(), open_picture(path) as picture:
            return Header(picture.size, orientation(picture))
    except Exception as error:  # damaged data makes Pillow raise nearly anything
        findings.error("damaged images", f"{path} is damaged: {first_line(error)}")


def resolve(
    path: Path, written: tuple[int, int] | None, own: Own, headers: Headers, findings: Findings
) -> Picture | None:
    """The picture as annotations of the size `written` (None: they have none) fit it.

    None, with the problem reported, where it cannot be used or the sizes do not fit.
    """
    header = headers(path)
    if header is None:
        return None
    (size, turned), name = header, findings.name(path)
    if turned == 1:
        if written not in (None, size):
            assert written is not None
            findings.error(
                "images of another size than annotated",
                f"{name} is {by(size)}, but its annotations are for {by(written)}",
            )
            return None
        return Picture(path, size, False)
    seen = size[::-1] if turned in QUARTER_TURNS else size
    if written is not None and written not in (size, seen):
        findings.error(
            "images of another size than annotated",
            f"{name} is {by(size)} as stored and {by(seen)} as its EXIF orientation {turned} says, but its annotations "
            f"are for {by(written)}",
        )
        return None
    if written is not None and size != seen:
        return Picture(path, written, written == seen)
    if own.said.orientation is None:
        findings.error(
            "images whose orientation is to be said",
            f"{name} has the EXIF orientation {turned}, and no size tells whether its annotations were made for the "
            f"picture as stored or as turned: look at one and write `orientation: stored` or `orientation: turned` "
            f"into {own.file.name}",
        )
        return None
    apply = own.said.orientation == "turned"
    return Picture(path, seen if apply else size, apply)


def list_names(own: Own, name: PartName, findings: Findings) -> list[str]:
    """Names of the images of a part: paths below its folder of images, with slashes, in order."""
    return of_part(own, name, list_all_names(own, name, findings))


def list_all_names(own: Own, name: PartName, findings: Findings) -> list[str]:
    """Those of the part's list or folder, with those that `val_share` gives to the other part."""
    part = own.part(name)
    names = _listed(own, part, findings) if part.listed else _found(own, part, findings)
    stems = Counter(str(PurePosixPath(one).with_suffix("")) for one in names)
    for stem, times in stems.items():
        if times > 1:
            folder = findings.name(own.folder / part.images)
            findings.error("names of two images", f"{folder} holds {times} images {stem}.*: keep one, or rename one")
    return names


def of_part(own: Own, name: PartName, names: list[str]) -> list[str]:
    """Those of the names of all images that belong to a part, in their order."""
    if own.said.val is not None or not names:
        return names
    held_out = own.held_out(names)
    return [one for one in names if (one in held_out) == (name == "val")]


def files_below(folder: Path, suffixes: Sequence[str]) -> Iterator[str]:
    """Files below a folder with one of these endings, in lower case, sorted by path; hidden ones are left out.

    Symbolic links to folders are followed, after all that is not behind one, so that a folder that is also reached
    through a link, perhaps a parent, has its own name and counts once.
    """
    found = 0
    waiting = [folder]
    seen = set()
    for start in waiting:
        for where, folders, names in os.walk(start):
            here = Path(where)
            state = here.stat()
            if (state.st_dev, state.st_ino) in seen:
                folders.clear()
                continue
            seen.add((state.st_dev, state.st_ino))
            folders[:] = sorted(one for one in folders if not one.startswith("."))
            waiting += [here / one for one in folders if (here / one).is_symlink()]
            for name in sorted(names):
                found += 1
                if found > MOST_FILES:
                    return
                if not name.startswith(".") and name.lower().endswith(tuple(suffixes)):
                    yield relative(here / name, folder)


def _found(own: Own, part: Part, findings: Findings) -> list[str]:
    folder = own.folder / part.images
    names = list(files_below(folder, SUFFIXES))
    if own.said.format == "masks" and own.folder / part.annotations != folder:
        inside = PurePosixPath(part.annotations)
        if inside.is_relative_to(PurePosixPath(part.images)):  # masks in a folder within that of the images
            prefix = f"{inside.relative_to(PurePosixPath(part.images)).as_posix()}/"
            names = [one for one in names if not one.startswith(prefix)]
    if own.said.format == "masks" and part.images == part.annotations:
        names = [one for one in names if not one.endswith(own.said.mask_ending)]
    if not names:
        findings.error("empty splits", f"{findings.name(folder)} holds no image: it {what_is_in(folder)}")
    return names


def _listed(own: Own, part: Part, findings: Findings) -> list[str]:
    """The images of a list; a line without an ending stands for the one image of that name."""
    assert part.listed is not None
    file, folder = own.folder / part.listed, own.folder / part.images
    where = findings.name(file)
    try:
        lines = read_lines(file, _LONGEST)
    except OSError as error:
        findings.error("missing lists", f"{where} cannot be read: {describe_os_error(error)}")
        return []
    except (DenseBenchError, ValueError) as error:
        findings.error("damaged lists", f"{where} cannot be read: {first_line(error)}")
        return []
    known = list(files_below(folder, SUFFIXES))
    by_name = {one: one for one in known} | {str(PurePosixPath(one).with_suffix("")): one for one in known}
    names = []
    for line in lines:
        if found := by_name.get(line.strip().removeprefix("./")):
            names.append(found)
        else:
            findings.error("missing images", f"{where} lists {line.strip()!r}, which {findings.name(folder)} lacks")
    for one, times in Counter(names).items():
        if times > 1:
            findings.error("duplicated ids", f"{where} lists {one} {times} times")
    return list(dict.fromkeys(names))
