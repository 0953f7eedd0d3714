"""Reads Cityscapes' images of instance ids, in the same way for the check, fine-tuning and the evaluation.

Problems are reported to `Findings`, as in `bench.datasets.cityscapes`. PyTorch is not imported.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.datasets.files import is_file
from bench.datasets.masks import report_missing
from bench.datasets.names import CITYSCAPES_THINGS
from bench.datasets.pixels import LARGEST_FILE, first_line, quiet
from bench.datasets.report import Findings, Strict
from leaderboard.base.errors import DenseBenchError
from leaderboard.base.files import read_bounded
from pretrain.data.pictures import open_picture

LABEL: Final = "_gtFine_instanceIds.png"
FIRST_INSTANCE: Final = 1000
"""Smallest id of an object, which is 1000 times the labelId plus the object's number. A smaller id is a labelId: that
of stuff, of void, or of a group of objects whose outlines were not drawn."""

Ids = npt.NDArray[np.int32]


class Instance(NamedTuple):
    """An object, or a group of objects, of a class that is evaluated."""

    label: int
    """Index of the class in `CITYSCAPES_THINGS`."""
    group: bool
    box: tuple[int, int, int, int]
    """First column and row of the pixels, then last column and row plus 1."""
    counts: list[int]
    """COCO's uncompressed run lengths of the pixels: zeros and ones in turn, column by column."""


def read_ids(path: Path, findings: Findings) -> Ids | None:
    """The image of instance ids (H, W); None, with the problem reported, if it is missing, damaged or another image."""
    name = findings.name(path)
    if not is_file(path):
        report_missing(path, findings)
        return None
    try:
        with quiet(), open_picture(io.BytesIO(read_bounded(path, LARGEST_FILE))) as picture:
            mode, ids = picture.mode, np.array(picture)
    except (DenseBenchError, OSError, ValueError, SyntaxError) as error:
        findings.error("damaged masks", f"{name} is damaged: {first_line(error)}")
        return None
    if mode not in ("I", "I;16"):
        findings.error("masks of a wrong type", f"{name} is a {mode} image: instance ids have 16 bits per pixel")
        return None
    return ids.astype(np.int32)


def load_ids(path: Path) -> Ids:
    """The image of instance ids (H, W), for training and evaluation.

    Raises:
        BenchError: it is missing, damaged or of another kind.
    """
    ids = read_ids(path, Strict())
    assert ids is not None  # else an error was raised
    return ids


def find_instances(ids: Ids) -> list[Instance]:
    """The instances of `CITYSCAPES_THINGS` in an image of ids (H, W), in ascending order of their ids."""
    height = ids.shape[0]
    flat = ids.ravel(order="F")
    starts = np.append(0, np.flatnonzero(flat[1:] != flat[:-1]) + 1)
    lengths, values = np.diff(np.append(starts, flat.size)), flat[starts]
    order = {number: label for label, number in enumerate(CITYSCAPES_THINGS)}
    found = []
    for value in np.unique(values).tolist():
        group = value < FIRST_INSTANCE
        label = order.get(value if group else value // FIRST_INSTANCE)
        if label is not None:
            of_it = values == value
            found.append(Instance(label, group, *_runs(starts[of_it], lengths[of_it], height, flat.size)))
    return found


def _runs(
    starts: npt.NDArray[np.intp], lengths: npt.NDArray[np.intp], height: int, pixels: int
) -> tuple[tuple[int, int, int, int], list[int]]:
    """The box and the run lengths of the pixels in some runs down the columns of an image."""
    ends = starts + lengths
    first, last = starts // height, (ends - 1) // height
    across = first != last  # a run that continues in the next column touches the upper and the lower edge
    top, bottom = np.where(across, 0, starts % height), np.where(across, height, (ends - 1) % height + 1)
    zeros = starts - np.append(0, ends[:-1])
    counts = np.append(np.stack([zeros, lengths], 1).ravel(), pixels - ends[-1]).tolist()
    return (int(first.min()), int(top.min()), int(last.max()) + 1, int(bottom.max())), counts
