"""Semantic segmentation metrics from one confusion matrix over the whole validation set.

mIoU is the mean over the classes that occur in labels or predictions (union > 0), as mmseg and the VOC and Cityscapes
servers compute it. It is not the mean of per-image values, and classes that occur nowhere do not count as 0. Nothing is
rounded.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.errors import BenchError

IGNORE = 255
"""The label id of pixels that do not count (VOC's object borders, Cityscapes' void)."""


@dataclass(frozen=True)
class SegmentationScores:
    """The metrics, all in per cent. `iou` and `accuracy` are per class (K,), NaN where they are undefined."""

    iou: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    pixel_accuracy: float

    @property
    def miou(self) -> float:
        """Mean IoU over the classes with a non-zero union."""
        return float(np.nanmean(self.iou))

    @property
    def mean_accuracy(self) -> float:
        """Mean recall over the classes that have labeled pixels."""
        return float(np.nanmean(self.accuracy))


def confusion_matrix(
    label: NDArray[np.integer], prediction: NDArray[np.integer], num_classes: int, name: str = "image"
) -> NDArray[np.int64]:
    """Pixel counts (K, K) of one image: row = label, column = prediction; pixels with label 255 are left out.

    Raises :class:`BenchError`, which gives `name` and the id, for a label or prediction that is not a class.
    """
    if label.shape != prediction.shape:
        raise BenchError(f"{name}: the label map is {label.shape}, the prediction {prediction.shape}")
    valid = label != IGNORE
    true, predicted = label[valid].astype(np.int64), prediction[valid].astype(np.int64)
    for what, ids, allowed in (("label", true, f" and not {IGNORE} (ignored)"), ("predicted", predicted, "")):
        if ids.size and (ids.min() < 0 or ids.max() >= num_classes):
            wrong = ids[(ids < 0) | (ids >= num_classes)][0]
            raise BenchError(f"{name}: {what} id {wrong} is not one of the classes 0 to {num_classes - 1}{allowed}")
    counts = np.bincount(true * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def segmentation_scores(matrix: NDArray[np.int64]) -> SegmentationScores:
    """The scores of a confusion matrix (K, K) summed over the whole set; raises :class:`BenchError` if it is empty."""
    if matrix.sum() == 0:
        raise BenchError("no labelled pixel in the whole validation set: nothing can be evaluated")
    hits = np.diag(matrix).astype(np.float64)
    labelled, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    return SegmentationScores(
        iou=_per_cent(hits, labelled + predicted - np.diag(matrix)),
        accuracy=_per_cent(hits, labelled),
        pixel_accuracy=100 * float(hits.sum()) / int(matrix.sum()),
    )


def _per_cent(part: NDArray[np.float64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return 100 * np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
