"""JHMDB: clips of people with the positions of 15 joints in every frame; those of the test part of split 1 are val."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat

from bench.datasets.files import ImageFiles, listed_in
from bench.datasets.pixels import LARGEST_FILE, first_line
from bench.datasets.report import Findings, Split, Strict
from leaderboard.base.errors import DenseBenchError
from leaderboard.base.files import read_bounded
from leaderboard.base.lists import read_lines

FOLDER: Final = Path("JHMDB")
LAYOUT: Final = (
    "JHMDB with Rename_Images/CLASS/CLIP/*.png, joint_positions/CLASS/CLIP/joint_positions.mat and "
    "splits/CLASS_test_split1.txt"
)
JHMDB: Final = "jhmdb"
JOINTS: Final = 15
_TEST: Final = "2"
_LONGEST_LIST: Final = 1_000_000


class Clip(NamedTuple):
    """A clip's frames in order, and the file of its joints."""

    name: str
    """CLASS/CLIP."""
    frames: tuple[Path, ...]
    joints: Path


def list_clips(root: Path, findings: Findings) -> list[Clip]:
    """The test clips of split 1, by class and as listed; all clips if there is no folder of splits."""
    folder = root / FOLDER
    clips = []
    for name in _names(folder, findings):
        frames = tuple(path for path in listed_in(folder / "Rename_Images" / name, findings) if path.suffix == ".png")
        clips.append(Clip(name, frames, folder / "joint_positions" / name / "joint_positions.mat"))
    if not clips:
        findings.error("empty splits", f"{findings.name(folder)} has no test clip: expected {LAYOUT}")
    return clips


def load_joints(path: Path, frames: int) -> npt.NDArray[np.float64]:
    """Positions (T, 15, 2) of the joints, x and y in pixels from 0, in the first T of `frames` frames.

    Raises:
        BenchError: the file is missing, damaged or holds something else.
    """
    joints = read_joints(path, frames, Strict())
    assert joints is not None  # else an error was raised
    return joints


def read_joints(path: Path, frames: int, findings: Findings) -> npt.NDArray[np.float64] | None:
    """As `load_joints`; None, with the problem reported, if the file cannot be used."""
    name = findings.name(path)
    try:
        joints = np.asarray(loadmat(io.BytesIO(read_bounded(path, LARGEST_FILE)))["pos_img"], np.float64)
    except FileNotFoundError:
        findings.error("missing joints", f"{name} is missing")
        return None
    except (DenseBenchError, KeyError, NotImplementedError, OSError, TypeError, ValueError) as error:
        findings.error("damaged joints", f"{name} holds no positions of joints: {first_line(error)}")
        return None
    if joints.ndim != 3 or joints.shape[:2] != (2, JOINTS) or not np.isfinite(joints).all():
        findings.error("damaged joints", f"{name}: pos_img is {joints.shape}, not finite numbers (2, {JOINTS}, frames)")
        return None
    if min(joints.shape[2], frames) < 2:
        findings.error("short clips", f"{name} has joints of {joints.shape[2]} of {frames} frames; at least 2 are used")
        return None
    return joints.transpose(2, 1, 0)[:frames] - 1


def check_jhmdb(root: Path, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    """Read frames and joints."""
    clips = list_clips(root, findings)
    frames = [frame for clip in clips for frame in clip.frames]
    val = Split(frames, [clip.joints for clip in clips] + _lists(root / FOLDER, findings))
    val.counts["clips"] = len(clips)
    images = ImageFiles(root, frames, findings)
    for clip in clips:
        sizes = {images.size(frame) for frame in clip.frames}
        if len(sizes) > 1:
            findings.error("clips of several sizes", f"{clip.name} has frames of several sizes")
        joints = read_joints(clip.joints, len(clip.frames), findings)
        val.histogram["joints"] += 0 if joints is None else joints.shape[0] * JOINTS
    return {"train": Split(), "val": val}, images


def _names(folder: Path, findings: Findings) -> list[str]:
    lists = _lists(folder, findings)
    if not lists:
        findings.warning(
            "missing lists", f"{findings.name(folder / 'splits')} has no list of split 1: all clips are val"
        )
        places = listed_in(folder / "joint_positions", findings)
        return [f"{place.name}/{clip.name}" for place in places for clip in listed_in(place, findings)]
    names = []
    for path in lists:
        try:
            rows = [line.split() for line in read_lines(path, _LONGEST_LIST)]
        except (DenseBenchError, OSError, ValueError) as error:
            findings.error("damaged lists", f"{findings.name(path)} cannot be read: {error}")
            continue
        action = path.name.removesuffix("_test_split1.txt")
        names += [f"{action}/{Path(row[0]).stem}" for row in rows if row[1:] == [_TEST]]
    return names


def _lists(folder: Path, findings: Findings) -> list[Path]:
    return [path for path in listed_in(folder / "splits", findings) if path.name.endswith("_test_split1.txt")]
