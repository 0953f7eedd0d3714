"""Pairs of the data sets whose published protocols use the central square of each image: COCO-Stuff-27 and CUB-200.

COCO-Stuff-27 (PiCIE, Cho et al., CVPR 2021, and those after it): the shorter side is scaled to 320 pixels, and the
central square counts. CUB-200 (Melas-Kyriazi et al., ICLR 2022): the central square at full size; foreground is where
the first channel of the mask is above half.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.datasets.masks import load_foreground, load_labels
from bench.datasets.report import Findings
from bench.datasets.standard.coco import COCO_STUFF
from bench.datasets.standard.cub import CUB
from bench.datasets.standard.table import Standard

Labels = npt.NDArray[np.uint8]


def central_square(pixels: Labels) -> Labels:
    """The central square of pixels (H, W, ...), rounded to the upper left."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


_SETS: Final[Mapping[str, tuple[Standard, Callable[[Path], Labels]]]] = {
    COCO_STUFF.name: (COCO_STUFF, load_labels),
    CUB.name: (CUB, load_foreground),
}
NAMES: Final = tuple(_SETS)


def list_squares(
    root: Path, dataset: str, part: str, findings: Findings
) -> list[tuple[Path, Path, Callable[[], Labels]]]:
    """The images of `train` or `val` in the order of the list, each with its mask and what reads the mask's square."""
    standard, load = _SETS[dataset]
    found: dict[str, list[Path]] = {
        one.role: list(one.files(root)) for one in standard.every_part() if one.split == part and one.role != "list"
    }
    images, masks = found["images"], found["masks"]
    if not images or [path.stem for path in images] != [path.stem for path in masks]:
        findings.error("incomplete parts", f"{dataset}: images and masks of {part} are not complete in {root}")
    return [(image, mask, partial(_square, load, mask)) for image, mask in zip(images, masks, strict=False)]


def _square(load: Callable[[Path], Labels], path: Path) -> Labels:
    return central_square(load(path))
