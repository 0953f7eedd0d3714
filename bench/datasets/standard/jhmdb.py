"""JHMDB (Jhuang et al., ICCV 2013): frames of 928 clips with 15 joints, for the propagation of keypoints.

Numbers: the paper and its web page (31,838 frames of 21 actions; split 1 has 660 and 268 clips). The layout of
`joint_positions.mat` (`pos_img`, pixels counted from 1) and of the lists of splits: the README files beside the
archives, and the evaluation of videowalk (Jabri et al., NeurIPS 2020). No license that allows an unattended download
was found, so the files are got by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bench.datasets.standard.convert import read_mat, required_lines, write_lines
from bench.datasets.standard.table import Archive, Conversion, Part, Progress, Side, Standard
from bench.errors import BenchError

JOINTS: Final = 15
_IMAGES: Final = "Rename_Images.tar.gz"
_POSITIONS: Final = "joint_positions.zip"
_LISTS: Final = "splits.zip"


def read_joints(path: Path) -> npt.NDArray[np.float64]:
    """The joints in a `joint_positions.mat`, float64 (frames, 15, 2): x and y in pixels, counted from 0.

    Joints outside the image have coordinates outside it.

    Raises:
        BenchError: it is damaged or holds something else.
    """
    positions: npt.NDArray[Any] | None = read_mat(path).get("pos_img")
    if positions is None or positions.ndim != 3 or positions.shape[:2] != (2, JOINTS):
        raise BenchError(f"{path} holds no pos_img of 2 x {JOINTS} x frames, as JHMDB's files do")
    if positions.dtype.kind not in "iuf" or not np.isfinite(positions).all():
        raise BenchError(f"{path}: its pos_img holds values that are no coordinates")
    return positions.astype(np.float64).transpose(2, 1, 0) - 1


def _list(root: Path, progress: Progress) -> None:
    """Write the clips of each split of the authors' first split as `ACTION/CLIP`; test is called val."""
    clips: dict[str, list[str]] = {"1": [], "2": []}
    files = list(Part("", "JHMDB/splits/*_test_split1.txt", None).files(root))
    if not files:
        raise BenchError(f"{root / 'JHMDB/splits'} holds no ACTION_test_split1.txt")
    for file in files:
        action = file.name.removesuffix("_test_split1.txt")
        for line in required_lines(file):
            clip, _, mark = line.rpartition(" ")
            if mark not in ("0", "1", "2") or not clip.endswith(".avi"):
                raise BenchError(f"{file}: {line!r} is not CLIP.avi with 1 (train) or 2 (test) behind it")
            clips.setdefault(mark, []).append(f"{action}/{clip.removesuffix('.avi')}")
    write_lines(root / "JHMDB/lists/train.txt", clips["1"])
    write_lines(root / "JHMDB/lists/val.txt", clips["2"])
    progress(1, 1)


_SPLITS: Final[tuple[tuple[Side, int], ...]] = (("train", 660), ("val", 268))


def _of_split(split: Side, count: int) -> tuple[Part, ...]:
    names = f"JHMDB/lists/{split}.txt"
    return (
        Part(f"list {split}", names, count, "list", split),
        Part(f"frames of {split}", "JHMDB/Rename_Images/{}/*.png", None, "images", split, names),
        Part(f"joints of {split}", "JHMDB/joint_positions/{}/joint_positions.mat", count, "files", split, names),
    )


JHMDB: Final = Standard(
    name="jhmdb",
    title="JHMDB, split 1 (keypoints in video)",
    archives=(
        Archive(_IMAGES, "JHMDB", members="Rename_Images/*"),
        Archive(_POSITIONS, "JHMDB", members="joint_positions/*"),
        Archive(_LISTS, "JHMDB", members="splits/*"),
    ),
    parts=(
        Part("frames", "JHMDB/Rename_Images/*/*/*.png", 31_838, archive=_IMAGES),
        Part("joints", "JHMDB/joint_positions/*/*/joint_positions.mat", 928, archive=_POSITIONS),
        Part("lists of split 1", "JHMDB/splits/*_test_split1.txt", 21, archive=_LISTS),
    ),
    conversions=(
        Conversion("lists of split 1", _list, tuple(part for split in _SPLITS for part in _of_split(*split))),
    ),
    terms="http://jhmdb.is.tue.mpg.de/",
    by_hand="http://jhmdb.is.tue.mpg.de/ (Rename_Images.tar.gz, joint_positions.zip, splits.zip)",
)
