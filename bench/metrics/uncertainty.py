"""The error of a segmentation metric due to the draw of the validation images.

Shares and standard errors come from linearization, as for ratios in survey sampling (Woodruff, JASA 1971): each image's
share in the metric's first-order change. Images are not resampled, so that no rare class drops out of a sample and
shifts the mean over classes, as in a bootstrap over images. The intervals are for the mean over the classes that these
images have (`bench.benchmarks.interval_coverage`). For detection see `bench.metrics.ap_shares`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
"""Confusion matrices of the images (V, K, K): row = label, column = prediction."""
Floats = NDArray[np.float64]


def segmentation_shares(counts: Counts) -> dict[str, Floats]:
    """Each image's shares (V,) in mIoU, mAcc and aAcc over all images, in points of per cent (`leaderboard.shares`)."""
    hits = np.diagonal(counts, axis1=1, axis2=2).astype(np.float64)
    labelled, predicted = counts.sum(2).astype(np.float64), counts.sum(1).astype(np.float64)
    return {
        "mIoU": 100 * influence(hits, labelled + predicted - hits),
        "mAcc": 100 * influence(hits, labelled),
        "aAcc": 100 * influence(hits.sum(1, keepdims=True), labelled.sum(1, keepdims=True)),
    }


def influence(part: Floats, whole: Floats) -> Floats:
    """Each image's first-order share in the mean over classes of sum(part) / sum(whole); (V, K) each gives (V,).

    Classes whose `whole` is 0 over all images are left out, as in the metric. The shares sum to 0.
    """
    total = whole.sum(0)
    there = total > 0
    ratio = part.sum(0)[there] / total[there]
    return ((part[:, there] - ratio * whole[:, there]) / total[there]).mean(1)
