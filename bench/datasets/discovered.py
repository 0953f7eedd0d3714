"""Labels that MaskDistill has discovered, beside the usual data in a data root, and the check of both together.

The table of the stage `labels` (`pretrain.discovery.object_table`) lies in `maskdistill/voc2012.npy` or
`maskdistill/coco2017.npy`, perhaps as a link. Its rows are found by the names of their images' files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bench.datasets.check_coco import check_coco
from bench.datasets.check_voc import check_voc_segmentation
from bench.datasets.files import ImageFiles
from bench.datasets.report import Findings, Split
from bench.errors import BenchError
from pretrain.discovery.object_table import OUTSIDE, row_type

FOLDER: Final = Path("maskdistill")
VOC: Final = "voc2012.npy"
COCO: Final = "coco2017.npy"
VOC_LAYOUT: Final = f"{FOLDER}/{VOC}, the table of maskdistill's stage labels, and VOCdevkit/VOC2012 as for voc2012_seg"
COCO_LAYOUT: Final = f"{FOLDER}/{COCO}, the table of maskdistill's stage labels, and coco as for coco2017"
VOC_CLUSTERS: Final = 20
"""Most clusters that a segmenter of VOC's 21 classes can learn, beside the background."""


def check_voc_discovered(root: Path, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    """Read VOC's segmentation and the labels that were discovered in its training images."""
    splits, images = check_voc_segmentation(root, findings)
    _check(root / FOLDER / VOC, splits["train"], VOC_CLUSTERS, findings)
    return splits, images


def check_coco_discovered(root: Path, findings: Findings) -> tuple[dict[str, Split], ImageFiles]:
    """Read COCO and the objects that were discovered in its training images."""
    splits, images = check_coco(root, findings)
    _check(root / FOLDER / COCO, splits["train"], OUTSIDE - 1, findings)
    return splits, images


def _check(table: Path, split: Split, clusters: int, findings: Findings) -> None:
    try:
        rows = read_discovered(table, clusters)
    except BenchError as error:
        findings.error("tables that cannot be used", str(error))
        return
    for image in split.images:
        if image.name not in rows:
            findings.error("images without a discovered object", f"{findings.name(table)} has no row of {image.name}")
    split.annotations.append(table)


def read_discovered(table: Path, clusters: int = OUTSIDE - 1) -> dict[str, int]:
    """The row of each image that could be read, by the name of its file.

    Raises:
        BenchError: the file is missing or is not such a table, names an image twice, or has more than `clusters`.
    """
    try:
        rows: npt.NDArray[Any] = np.load(table, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise BenchError(f"{table}: {error.strerror or error}: link the table of maskdistill's stage labels") from error
    except (ValueError, EOFError) as error:
        raise BenchError(f"{table} is not a table of maskdistill ({error})") from error
    cells = rows.dtype["cells"] if rows.dtype.names and "cells" in rows.dtype.names else None
    if rows.ndim != 1 or cells is None or len(cells.shape) != 2 or rows.dtype != row_type(cells.shape[0]):
        raise BenchError(f"{table} is not a table of maskdistill: its rows are {rows.dtype}")
    read = rows["height"] > 0
    wrong = read & ((rows["cell"] == 0) | (rows["width"] == 0))
    for side in ("height", "width"):
        wrong |= -(-rows[side].astype(int) // np.maximum(rows["cell"], 1)) > cells.shape[0]
    largest = max((int(row[row != OUTSIDE].max(initial=0)) for row in rows["cells"]), default=0)
    if wrong.any():
        raise BenchError(f"{table} is damaged: row {int(wrong.argmax())} has more cells than there are")
    if largest > clusters:
        raise BenchError(f"{table} has {largest} clusters, but only {clusters} can be learned")
    places = np.flatnonzero(read)
    found = {os.fsdecode(name): int(at) for at, name in zip(places, rows["image"][places], strict=True)}
    if len(found) < len(places):
        raise BenchError(f"{table} has two images of the same name: discover the objects of one data set alone")
    return found
