"""Quality of the masks of objects in videos, as the DAVIS challenges define it.

J, region similarity, is the intersection over union of a predicted and a true mask. F, contour accuracy, is the
harmonic mean of precision and recall of the boundaries' pixels, which match within a distance. Source: Perazzi et al.,
CVPR 2016, and Pont-Tuset et al., arXiv 1704.00675; details, and equal values, as in davis2017-evaluation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

TOLERANCE = 0.008
"""Distance within which boundaries match, as a share of the image's diagonal; rounded up to whole pixels."""
RECALLED = 0.5
"""Value above which a frame counts as recalled."""


def jaccard(truth: Mask, predicted: Mask) -> float:
    """J of two masks (H, W): their intersection over their union, 1 if both are empty."""
    union = np.count_nonzero(truth | predicted)
    return np.count_nonzero(truth & predicted) / union if union else 1.0


def contour_accuracy(truth: Mask, predicted: Mask) -> float:
    """F of two masks (H, W): 1 if both boundaries are empty, 0 if one is."""
    radius = math.ceil(TOLERANCE * math.hypot(*truth.shape))
    of_truth, of_prediction = boundary(truth), boundary(predicted)
    true, found = np.count_nonzero(of_truth), np.count_nonzero(of_prediction)
    if not true or not found:
        return float(true == found)
    precision = np.count_nonzero(of_prediction & near(of_truth, radius)) / found
    recall = np.count_nonzero(of_truth & near(of_prediction, radius)) / true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: Mask) -> Mask:
    """The pixels (H, W) that differ from their neighbor to the right, below, or to the right and below.

    In the last row only the neighbor to the right counts, in the last column only the one below.
    """
    edge = np.zeros_like(mask)
    right, below = mask[:, :-1] ^ mask[:, 1:], mask[:-1] ^ mask[1:]
    edge[:, :-1] |= right
    edge[:-1] |= below
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edge


def near(pixels: Mask, radius: int) -> Mask:
    """The pixels (H, W) whose distance from one of `pixels` is at most `radius`: dilation by a disk."""
    if not pixels.any():
        return pixels
    distances: Floats = distance_transform_edt(~pixels)
    return distances <= radius


@dataclass(frozen=True)
class Statistics:
    """Statistics of an object's values over the frames."""

    mean: float
    recall: float
    """Share of the frames whose value is above 0.5."""
    decay: float
    """Mean over the first quarter of the frames minus that over the last; neighboring quarters share a frame."""


def statistics(values: Floats) -> Statistics:
    """Statistics of the values (T,) of one object, T > 0."""
    edges = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(np.int64) - 1
    first, last = values[edges[0] : edges[1] + 1], values[edges[3] : edges[4] + 1]
    return Statistics(
        mean=float(values.mean()), recall=float((values > RECALLED).mean()), decay=float(first.mean() - last.mean())
    )
