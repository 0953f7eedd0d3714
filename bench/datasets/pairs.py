"""Lists the images and label maps of a segmentation data set, as the check and fine-tuning do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.datasets import ade20k, check_cityscapes, check_voc, cityscapes, squares, voc
from bench.datasets.files import load_pixels
from bench.datasets.masks import load_labels
from bench.datasets.own.description import SEGMENTATION, read_own
from bench.datasets.report import Strict
from bench.errors import BenchError

Part = Literal["train", "val"]
Labels = npt.NDArray[np.uint8]


class Pair(NamedTuple):
    """An image and its label map."""

    image: Path
    labels: Path
    """The file of the label map, or of the annotations that it is drawn from."""
    turned: bool = False
    """Whether the label map fits the picture as its EXIF orientation turns it; otherwise it is used as stored."""
    read: Callable[[], Labels] | None = None
    """Function that makes the label map, of own data and of ADE20K; None for a file that holds the labels as used."""
    square: bool = False
    """Whether only the central square of the picture counts; what makes the label map cuts it, too."""

    def load_pixels(self) -> Labels:
        """The picture, BGR (H, W, 3); raises BenchError if it is missing or damaged."""
        pixels = load_pixels(self.image, self.turned)
        return squares.central_square(pixels) if self.square else pixels

    def load_labels(self) -> Labels:
        """The label map (H, W); raises BenchError if it is missing or damaged."""
        return load_labels(self.labels) if self.read is None else self.read()


def segmentation_pairs(root: Path, dataset: str, part: Part) -> list[Pair]:
    """All pairs of a part of a data set in the data root `root`, in the order of its lists.

    The data sets are `voc2012_seg`, `cityscapes`, `ade20k`, `cocostuff27` and `cub200`.

    Those of own data (`custom_seg`) are described in `root`, a description or a folder with one.

    Raises:
        BenchError: the data set has no label maps, or a list, image or label map is missing.
    """
    if dataset == "voc2012_seg":
        folder = root / check_voc.FOLDER
        listed, photos = folder / "ImageSets" / "Segmentation" / f"{part}.txt", folder / "JPEGImages"
        entries = voc.read_entries(listed, photos, folder / "SegmentationClass", ".png", Strict(root))
        return [Pair(entry.image, entry.annotation) for entry in entries]
    if dataset == SEGMENTATION:
        from bench.datasets.own.maps import own_pairs  # which makes pairs itself

        return own_pairs(read_own(root), part)
    if dataset == "cityscapes":
        folder = root / check_cityscapes.FOLDER
        frames = cityscapes.list_frames(folder / "leftImg8bit" / part, folder / "gtFine" / part, Strict(root))
        return [Pair(frame.image, frame.label) for frame in frames]
    if dataset == ade20k.NAME:
        listed_pairs = ade20k.list_pairs(root, part, Strict(root))
        return [Pair(image, labels, read=partial(ade20k.load_classes, labels)) for image, labels in listed_pairs]
    if dataset in squares.NAMES:
        listed_squares = squares.list_squares(root, dataset, part, Strict(root))
        return [Pair(image, labels, read=read, square=True) for image, labels, read in listed_squares]
    known = ", ".join(["voc2012_seg", "cityscapes", ade20k.NAME, *squares.NAMES, SEGMENTATION])
    raise BenchError(f"{dataset} has no label maps: a probe of segmentation takes {known}")
