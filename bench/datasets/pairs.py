"""Lists the images and label maps of a segmentation data set, as the check and fine-tuning do."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from bench.datasets import check_cityscapes, check_voc, cityscapes, voc
from bench.datasets.report import Strict
from bench.errors import BenchError

Part = Literal["train", "val"]


class Pair(NamedTuple):
    """An image and its label map."""

    image: Path
    labels: Path


def segmentation_pairs(root: Path, dataset: str, part: Part) -> list[Pair]:
    """All pairs of a part of `voc2012_seg` or `cityscapes` in the data root `root`, in the order of its lists.

    Raises:
        BenchError: the data set has no label maps, or a list, image or label map is missing.
    """
    if dataset == "voc2012_seg":
        folder = root / check_voc.FOLDER
        listed, photos = folder / "ImageSets" / "Segmentation" / f"{part}.txt", folder / "JPEGImages"
        entries = voc.read_entries(listed, photos, folder / "SegmentationClass", ".png", Strict(root))
        return [Pair(entry.image, entry.annotation) for entry in entries]
    if dataset == "cityscapes":
        folder = root / check_cityscapes.FOLDER
        frames = cityscapes.list_frames(folder / "leftImg8bit" / part, folder / "gtFine" / part, Strict(root))
        return [Pair(frame.image, frame.label) for frame in frames]
    raise BenchError(f"{dataset} has no label maps: a probe of segmentation takes voc2012_seg or cityscapes")
