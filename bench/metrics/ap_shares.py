"""The images' first-order shares in an average precision, for its error due to the draw of the validation images.

An AP as benchmarks compute it is a mean of the interpolated precision at fixed recalls. As a function of the images'
weights it jumps where the recall of a detection passes one of these recalls, and in between it has no useful
derivative; leaving out one image at a time would have the same jumps (the jackknife fails for such statistics: Efron
1982, chapter 3). The shares are therefore derivatives of the integral that the mean approximates,

    AP(w) = integral of P(r) dF(r) over recalls r in [0, 1],    P(r) = the greatest precision at recall r or beyond,

where F spreads the weight of each fixed recall evenly over the recalls nearest to it. With images of weights w, a
detection has the weight of its image, precision is T / N and recall T / G, where T and N are the summed weights of true
positives and of detections down to a score, and G that of objects. The derivatives by w, at 1, have a closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.metrics.uncertainty import Floats


@dataclass(frozen=True)
class Ranking:
    """The detections of one class that count, in descending order of score, at one IoU threshold."""

    image: NDArray[np.int64]
    """Index of each detection's image (N,)."""
    true: NDArray[np.bool_]
    """Whether each detection found an object (N,); one that did not is a false positive."""
    objects: NDArray[np.int64]
    """Number of objects of each image that count (V,)."""


def ap_shares(ranking: Ranking, levels: int) -> Floats:
    """Each image's derivative (V,) of AP in [0, 1] with `levels` fixed recalls, evenly spaced; they sum to 0.

    `levels` is 11 for VOC 2007 and 101 for COCO. At least one object counts.
    """
    true, images = ranking.true, len(ranking.objects)
    total = int(ranking.objects.sum())
    t: Floats = np.cumsum(true, dtype=np.float64)
    n = np.arange(1, len(true) + 1)
    precision = t / n
    best = _last_argmax(precision)  # position of the greatest precision from here on
    p = precision[best]
    recall, before = t / total, (t - true.astype(np.float64)) / total

    # the mass of recalls at which the precision at `best` counts: the effect of a change of that precision
    mass = np.where(true, _mass(recall, levels) - _mass(before, levels), 0.0)
    at_best = np.bincount(best, mass, len(true)) / n
    by_precision = np.where(true, _from_here_on(at_best), 0.0) - _from_here_on(at_best * precision)

    # the effect of a growth of recall from here on: the height of the step down, per recall
    step = np.where(true, (p - _next_true(p, true)) * _density(recall, levels), 0.0)
    by_recall = np.where(true, _from_here_on(step), 0.0) / total
    by_objects = float((step * recall).sum()) / total

    return np.bincount(ranking.image, by_precision + by_recall, images) - by_objects * ranking.objects


def _mass(recall: Floats, levels: int) -> Floats:
    """F(recall): each of the fixed recalls has mass 1 / levels, spread over those nearest to it."""
    width = 1 / (levels - 1)
    ends = np.concatenate([[0.0], (np.arange(levels - 1) + 0.5) * width, [1.0]])
    return np.interp(recall, ends, np.arange(levels + 1) / levels)


def _density(recall: Floats, levels: int) -> Floats:
    """The derivative of F: twice as high in the half intervals at both ends."""
    width = 1 / (levels - 1)
    return np.where((recall <= width / 2) | (recall > 1 - width / 2), 2.0, 1.0) * (levels - 1) / levels


def _last_argmax(values: Floats) -> NDArray[np.intp]:
    """For each place, the position of the greatest value from there to the end."""
    highest = np.maximum.accumulate(values[::-1])[::-1]
    places = np.where(values == highest, np.arange(len(values)), len(values))
    return np.minimum.accumulate(places[::-1])[::-1]


def _from_here_on(values: Floats) -> Floats:
    return np.cumsum(values[::-1])[::-1]


def _next_true(p: Floats, true: NDArray[np.bool_]) -> Floats:
    """For each true place, the value at the next true place, or 0 for the last; other places have no meaning."""
    following = np.zeros(len(p))
    places = np.flatnonzero(true)
    following[places[:-1]] = p[places[1:]]
    return following
