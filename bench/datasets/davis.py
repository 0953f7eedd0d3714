"""DAVIS: videos with the masks of their objects in every frame, listed and checked in the same way.

`davis2017` has a number for each object of a video; 255 is void, which counts as background. `davis2016` has one object
per video: every pixel whose label is not 0. A root without the list of val has only val videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.datasets.files import SUFFIXES, ImageFiles, by, is_file, listed_in, report_lengths, what_is_in, why_missing
from bench.datasets.masks import load_labels, read_labels
from bench.datasets.names import VOID
from bench.datasets.report import Findings, Split
from leaderboard.base.errors import DenseBenchError
from leaderboard.base.lists import read_lines

FOLDER: Final = Path("DAVIS")
LAYOUT: Final = (
    "DAVIS with JPEGImages/480p/VIDEO/*.jpg and Annotations/480p/VIDEO/*.png; ImageSets/YEAR/val.txt lists the videos "
    "of val"
)
DAVIS_2016: Final = "davis2016"
DAVIS_2017: Final = "davis2017"
SHORTEST: Final = 3
"""Least number of frames of a video: the first and the last are not evaluated."""
_YEARS: Final = {DAVIS_2016: "2016", DAVIS_2017: "2017"}
_PUBLISHED: Final = {DAVIS_2016: 1376, DAVIS_2017: 1999}
"""Numbers of val frames with which published values were measured, in 20 and 30 videos."""
_LONGEST_LIST: Final = 1_000_000


class Video(NamedTuple):
    """A video's frames in order, and the label maps of their objects."""

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]


def list_videos(root: Path, dataset: str, findings: Findings) -> list[Video]:
    """The val videos in the order of the list, or all in the order of their names if there is no list."""
    folder = root / FOLDER
    images, masks = folder / "JPEGImages" / "480p", folder / "Annotations" / "480p"
    videos = []
    for name in video_names(folder / "ImageSets" / _YEARS[dataset] / "val.txt", masks, findings):
        frames = tuple(path for path in listed_in(images / name, findings) if path.suffix.lower() in SUFFIXES)
        if len(frames) < SHORTEST:
            found = f"{len(frames)} frames" if frames else f"no frames: it {what_is_in(images / name)}"
            findings.error("short videos", f"{findings.name(images / name)} has {found}; at least {SHORTEST} are used")
        videos.append(Video(name, frames, tuple(masks / name / f"{frame.stem}.png" for frame in frames)))
    if not videos:
        findings.error("empty splits", f"{findings.name(masks)} has no folder of a video: expected {LAYOUT}")
    return videos


def load_objects(path: Path, dataset: str) -> npt.NDArray[np.uint8]:
    """The number of the object at each pixel (H, W), 0 for the background.

    Raises:
        BenchError: the label map is missing, damaged or not a label map.
    """
    return objects(load_labels(path), dataset)


def objects(labels: npt.NDArray[np.uint8], dataset: str) -> npt.NDArray[np.uint8]:
    """Numbers of objects from the stored labels (H, W)."""
    if dataset == DAVIS_2016:
        return (labels != 0).astype(np.uint8)
    return np.where(labels == VOID, 0, labels).astype(np.uint8)


def check_davis2016(root: Path, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    """Read the frames and masks of one object per video."""
    return _check(root, DAVIS_2016, findings)


def check_davis2017(root: Path, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    """Read the frames and masks of several objects per video."""
    return _check(root, DAVIS_2017, findings)


def _check(root: Path, dataset: str, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    videos = list_videos(root, dataset, findings)
    frames = [frame for video in videos for frame in video.frames]
    listed = root / FOLDER / "ImageSets" / _YEARS[dataset] / "val.txt"
    val = Split(frames, [mask for video in videos for mask in video.masks] + [listed] * is_file(listed))
    val.counts.update({"videos": len(videos), "objects": 0})
    val.histogram.update({"background": 0, "object": 0})
    images = ImageFiles(root, frames, findings)
    for video in videos:
        _check_video(video, dataset, val, images)
    splits = {"train": Split(), "val": val}
    report_lengths(splits, {"val": _PUBLISHED[dataset]}, findings)
    return splits, images


def _check_video(video: Video, dataset: str, val: Split, images: ImageFiles) -> None:
    findings = images.findings
    sizes: set[tuple[int, int]] = set()
    for frame, mask in zip(video.frames, video.masks, strict=True):
        size = images.size(frame)
        if not is_file(mask):
            findings.error("missing masks", f"{findings.name(mask)} {why_missing(mask)}")
            continue
        labels = read_labels(mask, findings)
        if labels is None:
            continue
        height, width = labels.shape
        sizes.add((width, height))
        what = f"{findings.name(mask)} is {by((width, height))}, "
        images.compare(frame, size, (width, height), what, "masks of another size than their image")
        found = objects(labels, dataset)
        val.histogram["object"] += int(np.count_nonzero(found))
        val.histogram["background"] += int(np.count_nonzero(found == 0))
        if mask == video.masks[0]:
            val.counts["objects"] += int(found.max())
            if not found.any():
                hint = f" (if 255 is its object, use {DAVIS_2016})" if (labels == VOID).any() else ""
                findings.error("videos without an object", f"{findings.name(mask)} shows no object to follow{hint}")
    if len(sizes) > 1:
        shown = ", ".join(map(by, sorted(sizes)))
        findings.error("videos of several sizes", f"{video.name} has frames of several sizes: {shown}")


def video_names(listed: Path, masks: Path, findings: Findings) -> Sequence[str]:
    """The names in a list, or those of all folders of masks."""
    if is_file(listed):
        try:
            return list(dict.fromkeys(read_lines(listed, _LONGEST_LIST)))
        except (DenseBenchError, OSError, ValueError) as error:
            findings.error("damaged lists", f"{findings.name(listed)} cannot be read: {error}")
            return []
    findings.warning("missing lists", f"{findings.name(listed)} is missing: all videos with masks are val")
    return [path.name for path in listed_in(masks, findings) if path.is_dir()]
