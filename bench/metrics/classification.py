"""Metrics of whole images: average precision of one class, in the forms of the literature, and accuracy.

`envelope`  the area under the monotone envelope of precision over recall (VOC 2010 and later), which code for linear
            classifiers on VOC 2007 uses
`eleven`    VOC 2007's own rule: the mean of the envelope at the recalls 0, .1, ..., 1
`steps`     scikit-learn's: the mean precision at the true images, without an envelope

Images of equal score keep their order, except in `steps`, where they are one step as in scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.metrics.ap_shares import Ranking, ap_shares
from bench.metrics.uncertainty import Floats
from bench.metrics.voc_detection import RECALL_LEVELS

RULES = ("envelope", "eleven", "steps")
_FINE = 100_001
"""Number of recalls whose mean is the area under an envelope as far as shares go."""
MANY, FEW = 100, 20
"""Classes of more training images than `MANY` are many-shot, those of fewer than `FEW` few-shot (Liu et al., CVPR 2019,
arXiv 1904.05160)."""


def average_precision(scores: Floats, true: NDArray[np.bool_], rule: str) -> float:
    """The average precision in [0, 1] of images with these scores (n,), of which some are `true` (n,), at least one."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(true[order])
    precision, recall = hits / np.arange(1, len(order) + 1), hits / hits[-1]
    if rule == "steps":
        last = np.append(np.diff(scores[order]) != 0, True)  # the last of equal scores
        return float((np.diff(recall[last], prepend=0.0) * precision[last]).sum())
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if rule == "envelope":
        return float((np.diff(recall, prepend=0.0) * envelope).sum())
    reached = np.searchsorted(recall, RECALL_LEVELS)
    return float(np.append(envelope, 0.0)[reached].mean())


def average_precision_shares(scores: Floats, true: NDArray[np.bool_], rule: str) -> Floats:
    """Each image's derivative (n,) of the average precision by its weight; they sum to 0 (`bench.metrics.ap_shares`).

    Ties are taken in the images' order.
    """
    order = np.argsort(-scores, kind="stable")
    found = true[order]
    if rule == "steps":
        shares = np.empty(len(order))
        shares[order] = _step_shares(found.astype(np.float64))
        return shares
    ranking = Ranking(order, found, true.astype(np.int64))
    return ap_shares(ranking, 11 if rule == "eleven" else _FINE)


def top_correct(scores: Floats, labels: NDArray[np.int64], most: int) -> NDArray[np.bool_]:
    """Whether each image's class (n,) is among the `most` of the highest score (n, K); of equal ones the first win."""
    own = scores[np.arange(len(labels)), labels][:, None]
    before = np.arange(scores.shape[1]) < labels[:, None]
    return ((scores > own) | ((scores == own) & before)).sum(1) < most


def accuracy(correct: NDArray[np.bool_]) -> tuple[float, Floats]:
    """The share of correct images in per cent, and each image's share (n,) in it, in points."""
    value = 100 * float(correct.mean())
    return value, (100 * correct - value) / len(correct)


def class_accuracy(
    correct: NDArray[np.bool_], labels: NDArray[np.int64], classes: Sequence[int]
) -> tuple[float, Floats]:
    """The mean accuracy (per cent) of those of `classes` that have images, and each image's share (n,) in it.

    At least one of `classes` has an image.
    """
    there = [label for label in classes if (labels == label).any()]
    shares = np.zeros(len(labels))
    values = []
    for label in there:
        own = labels == label
        value, found = accuracy(correct[own])
        values.append(value)
        shares[own] = found / len(there)
    return float(np.mean(values)), shares


def class_metrics(
    scores: Floats, labels: NDArray[np.int64], shots: NDArray[np.int64] | None = None
) -> dict[str, tuple[float, Floats]]:
    """Each metric (per cent) of scores (n, K) with the images' shares (n,) in it: `top-1`, `class accuracy`, and with
    more than five classes `top-5`.

    Where classes have `shots` (K,) training images and are of several kinds by `MANY` and `FEW`, also the mean accuracy
    of the classes of each kind.
    """
    correct = top_correct(scores, labels, 1)
    every = range(scores.shape[1])
    measured = {"top-1": accuracy(correct), "class accuracy": class_accuracy(correct, labels, every)}
    if len(every) > 5:
        measured["top-5"] = accuracy(top_correct(scores, labels, 5))
    if shots is None:
        return measured
    bands = {"many": shots > MANY, "medium": (shots >= FEW) & (shots <= MANY), "few": shots < FEW}
    there = {name: [k for k in np.flatnonzero(band) if (labels == k).any()] for name, band in bands.items()}
    if sum(bool(band) for band in there.values()) > 1:
        measured |= {f"top-1 {name}": class_accuracy(correct, labels, band) for name, band in there.items() if band}
    return measured


def _step_shares(true: Floats) -> Floats:
    """The derivatives for images in descending order of score: AP = sum of true precision / number of true images."""
    total, n = true.sum(), np.arange(1, len(true) + 1)
    precision = np.cumsum(true) / n
    later = np.cumsum((true / n)[::-1])[::-1]
    weighted = np.cumsum((true * precision / n)[::-1])[::-1]
    value = (true * precision).sum() / total
    return (true * (precision + later - value) - weighted) / total
