"""VIP: videos of people with maps of 20 classes, parts of the body and clothes, in every frame of `VIP_Fine`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.datasets.davis import Video, video_names
from bench.datasets.files import SUFFIXES, ImageFiles, is_file, listed_in, what_is_in
from bench.datasets.masks import check_masks
from bench.datasets.report import Findings, Split

FOLDER: Final = Path("VIP")
LAYOUT: Final = (
    "VIP with VIP_Fine/Images/VIDEO/*.jpg and VIP_Fine/Annotations/Category_ids/VIDEO/*.png; "
    "VIP_Fine/lists/val_videos.txt lists the videos of val"
)
VIP: Final = "vip"
CLASSES: Final = (
    "background", "hat", "hair", "sun-glasses", "upper-clothes", "dress", "coat", "socks", "pants", "gloves", "scarf",
    "skirt", "torso-skin", "face", "right-arm", "left-arm", "right-leg", "left-leg", "right-shoe", "left-shoe",
)  # fmt: skip
"""The classes by label."""


def list_parts(root: Path, findings: Findings) -> list[Video]:
    """The val videos in the order of the list, or all in the order of their names if there is no list."""
    folder = root / FOLDER / "VIP_Fine"
    images, masks = folder / "Images", folder / "Annotations" / "Category_ids"
    videos = []
    for name in video_names(folder / "lists" / "val_videos.txt", masks, findings):
        frames = tuple(path for path in listed_in(images / name, findings) if path.suffix.lower() in SUFFIXES)
        if len(frames) < 2:
            found = what_is_in(images / name)
            findings.error("short videos", f"{findings.name(images / name)} has no two frames: it {found}")
        videos.append(Video(name, frames, tuple(masks / name / f"{frame.stem}.png" for frame in frames)))
    if not videos:
        findings.error("empty splits", f"{findings.name(masks)} has no folder of a video: expected {LAYOUT}")
    return videos


def check_vip(root: Path, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    """Read the frames and label maps."""
    videos = list_parts(root, findings)
    frames = [frame for video in videos for frame in video.frames]
    listed = root / FOLDER / "VIP_Fine" / "lists" / "val_videos.txt"
    val = Split(frames, [mask for video in videos for mask in video.masks] + [listed] * is_file(listed))
    val.counts["videos"] = len(videos)
    splits = {"train": Split(), "val": val}
    images = ImageFiles(root, frames, findings)
    pairs = {"val": [pair for video in videos for pair in zip(video.frames, video.masks, strict=True)]}
    check_masks(pairs, splits, dict(enumerate(CLASSES)), lambda found: f"labels are 0 to {len(CLASSES) - 1}", images)
    return splits, images
