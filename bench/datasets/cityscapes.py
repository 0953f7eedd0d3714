"""Lists Cityscapes' folders, in the same way for the check, the fingerprint and fine-tuning.

Problems are reported to `Findings`: the check collects them, a reader's `Strict` findings raise the first error.
PyTorch is not imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from bench.datasets.files import SUFFIXES, is_file, listed_in, what_is_in
from bench.datasets.masks import report_missing
from bench.datasets.report import Findings
from leaderboard.base.files import describe_os_error

IMAGE: Final = "_leftImg8bit"
"""Ending of an image's name before its suffix, which is one of `files.SUFFIXES`, in upper or lower case."""
LABEL: Final = "_gtFine_labelTrainIds.png"


class Frame(NamedTuple):
    """An image and its mask of trainIds."""

    id: str
    """Id of the frame, e.g. `aachen_000000_000019`."""
    city: str
    image: Path
    label: Path


def list_frames(images: Path, labels: Path, findings: Findings, label: str = LABEL) -> list[Frame]:
    """The frames of a split, sorted by path: `images/CITY/*_leftImg8bit.png`, and `label` for it in `labels/CITY`.

    A city may be a symbolic link to a folder. Hidden files and folders, such as macOS's `._a_leftImg8bit.png`, are
    left out; images elsewhere, which are not used, are reported.
    """
    frames = []
    for city in listed_in(images, findings):
        if not _is_folder(city, findings):
            _report_elsewhere(city, images, findings)
            continue
        for path in listed_in(city, findings):
            frame_id = _frame_id(path)
            if _is_folder(path, findings):
                if any(_frame_id(inner) for inner in listed_in(path, findings)):
                    _report_elsewhere(path, images, findings)
            elif frame_id is not None:
                frames.append(Frame(frame_id, city.name, path, labels / city.name / f"{frame_id}{label}"))
    for frame in frames:
        if not is_file(frame.label):
            report_missing(frame.label, findings)
    if not frames:
        findings.error(
            "empty splits",
            f"{findings.name(images)} has no image: expected CITY/*{IMAGE}.png (or .jpg) in it; "
            f"the folder {what_is_in(images)}",
        )
    return frames


def list_labels(folder: Path, findings: Findings) -> list[Path]:
    """The masks of trainIds in a split's folder of cities."""
    cities = [city for city in listed_in(folder, findings) if _is_folder(city, findings)]
    return [path for city in cities for path in listed_in(city, findings) if path.name.endswith(LABEL)]


def _is_folder(path: Path, findings: Findings) -> bool:
    try:
        return path.is_dir()
    except OSError as error:  # the parent folder lists it, but forbids access
        findings.error("unreadable folders", f"{findings.name(path)} cannot be read: {describe_os_error(error)}")
        return False


def _frame_id(path: Path) -> str | None:
    stem, dot, end = path.name.rpartition(".")
    if f"{dot}{end.lower()}" not in SUFFIXES or not stem.endswith(IMAGE):
        return None
    return stem.removesuffix(IMAGE)


def _report_elsewhere(path: Path, images: Path, findings: Findings) -> None:
    if _is_folder(path, findings) or _frame_id(path) is not None:
        findings.warning(
            "images elsewhere",
            f"{findings.name(path)} is not used: images are those directly in {findings.name(images)}/CITY",
        )
