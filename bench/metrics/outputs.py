"""Files with a run's outputs per validation image, from which its metrics and their errors can be computed again.

counts.npz        for segmentation: `names` (V,) and the confusion matrices `counts` (V, K, K), row = label
detections.json   for detection: COCO's results format
shares.npz        for both: each image's share in each metric (`leaderboard.shares`)
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.datasets.shares import LABELLED
from bench.metrics.segmentation import segmentation_scores
from bench.metrics.uncertainty import Counts, Floats, segmentation_shares
from leaderboard.base.files import file_sha256, write_atomic
from leaderboard.shares import SHARES, Shares, read_shares

COUNTS = "counts.npz"
DETECTIONS = "detections.json"
OF_TRAINING = ("losses.csv", "weights.safetensors")
"""What a fine-tuning leaves beside them: `LOSSES` of `bench.openmmlab.loss_log` and `WEIGHTS` of `stored_weights`."""


def segmentation_metrics(counts: Counts) -> dict[str, float]:
    """mIoU, mAcc and aAcc over all images, in per cent.

    Raises:
        BenchError: no pixel is labeled.
    """
    found = segmentation_scores(counts.sum(0))
    return {"mIoU": found.miou, "mAcc": found.mean_accuracy, "aAcc": found.pixel_accuracy}


def keep_segmentation(folder: Path, names: Sequence[str], counts: Counts) -> None:
    """Write `counts.npz` and `shares.npz`.

    Raises:
        FileError: `folder` cannot be written.
    """
    keep_counts(folder, names, {"counts": counts})
    Shares(tuple(names), segmentation_shares(counts)).write(folder / SHARES)


def keep_counts(folder: Path, names: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write `counts.npz`: the images' `names` (V,), and `arrays` with one row per image (V, ...).

    Raises:
        FileError: `folder` cannot be written.
    """
    content = io.BytesIO()
    named: dict[str, Any] = {"names": np.array(names, str), **arrays}
    np.savez_compressed(content, **named)
    write_atomic(folder / COUNTS, content.getvalue())


def keep_detections(
    folder: Path, names: Sequence[str], detections: Sequence[Mapping[str, Any]], shares: Mapping[str, Floats]
) -> None:
    """Write `detections.json` and `shares.npz`.

    Raises:
        FileError: `folder` cannot be written.
    """
    write_atomic(folder / DETECTIONS, json.dumps(detections))
    Shares(tuple(names), shares).write(folder / SHARES)


def describe_outputs(folder: Path) -> tuple[dict[str, float], dict[str, str]]:
    """`Result.standard_errors` and `Result.outputs`, from the files that the run has kept in its folder."""
    files = {name: folder / name for name in (COUNTS, DETECTIONS, SHARES, LABELLED, *OF_TRAINING)}
    outputs = {name: file_sha256(file) for name, file in files.items() if file.is_file()}
    return read_shares(files[SHARES]).standard_errors() if SHARES in outputs else {}, outputs
