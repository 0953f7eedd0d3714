"""Finds texts of YOLO's boxes that belong to no image: an image without a text is one without objects, so that names
that differ would make objects vanish silently."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from bench.datasets.own.description import Own, PartName
from bench.datasets.own.objects import Listed
from bench.datasets.own.pictures import SUFFIXES, files_below
from bench.datasets.report import Findings
from leaderboard.base.errors import DenseBenchError
from leaderboard.base.files import read_bounded

_LONGEST: Final = 2**20


def yolo_lines(file: Path) -> list[list[float]] | None:
    """The numbers in a text file of boxes or of polygons, a class and at least four each; None for another one."""
    try:
        text = read_bounded(file, _LONGEST).decode("utf-8")
        lines = [list(map(float, line.split())) for line in text.splitlines() if line.strip()]
    except (DenseBenchError, OSError, ValueError):
        return None
    objects = all(len(line) >= 5 and line[0].is_integer() and 0 <= line[0] < 10_000 for line in lines)
    return lines if objects and lines else None


def report_unmatched(own: Own, parts: Mapping[PartName, Listed], findings: Findings) -> None:
    """Report texts of boxes below the parts' folders that have the name of no image, listed or not.

    It is an error where they, and the images without a text, outnumber the images of a part that have one; otherwise
    they may belong to images that are left out on purpose.
    """
    matched = {text for name in parts for text in _texts_of_images(own, name)}
    for name, listed in parts.items():
        folder = own.folder / own.part(name).annotations
        texts = [folder / one for one in files_below(folder, (".txt",))]
        left = [text for text in texts if text not in matched and yolo_lines(text)]
        if not left:
            continue
        images, with_text = len(listed.images), len(listed.annotations)
        message = (
            f"{findings.name(folder)}: {len(left):,} texts with boxes, such as {findings.name(left[0])}, belong to no "
            "image"
        )
        if min(len(left), images - with_text) > with_text:
            findings.error(
                "texts without an image",
                f"{message}, and {images - with_text:,} of the {images:,} images of {name} have no text: NAME.jpg has "
                "NAME.txt (an image without objects may have an empty one)",
            )
        else:
            findings.warning("texts without an image", f"{message}: their boxes are not used")


def _texts_of_images(own: Own, name: PartName) -> list[Path]:
    """The texts that the images in a part's folder would have."""
    part = own.part(name)
    names = files_below(own.folder / part.images, SUFFIXES)
    return [own.folder / part.annotations / PurePosixPath(one).with_suffix(".txt") for one in names]
