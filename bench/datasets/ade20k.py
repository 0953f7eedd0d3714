"""Lists ADE20K's images and label maps (150 classes), in the same way for fine-tuning and probes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.datasets.files import is_file
from bench.datasets.masks import load_labels, report_missing
from bench.datasets.report import Findings
from bench.datasets.standard.ade20k import ADE20K

NAME: Final = ADE20K.name
FOLDER: Final = ADE20K.folder()
LAYOUT: Final = f"{FOLDER} with images/{{training,validation}}/*.jpg and annotations/{{training,validation}}/*.png"
CLASSES: Final = len(ADE20K.labels) - 1
"""Number of classes that are evaluated."""
_FOLDERS: Final = {"train": "training", "val": "validation"}


def list_pairs(root: Path, part: str, findings: Findings) -> list[tuple[Path, Path]]:
    """The images of `train` or `val`, sorted by name, each with the path of its label map."""
    folder = root / FOLDER
    images = sorted((folder / "images" / _FOLDERS[part]).glob("[!.]*.jpg"))
    labels = folder / "annotations" / _FOLDERS[part]
    pairs = [(image, labels / f"{image.stem}.png") for image in images]
    if not pairs:
        findings.error("missing parts", f"no image of {part} in {root}: expected {LAYOUT}")
    for _, path in pairs:
        if not is_file(path):
            report_missing(path, findings)
    return pairs


def load_classes(path: Path) -> npt.NDArray[np.uint8]:
    """The classes of a label map (H, W): 0 to 149, and 255 for pixels that are not evaluated, which are stored as 0.

    Raises:
        BenchError: the file is missing, damaged or not a label image.
    """
    # unsigned, so that 0 - 1 is 255
    return load_labels(path) - np.uint8(1)
