"""Average precision of instances as Cityscapes defines it, over IoU .50:.05:.95 of masks (Cordts et al., CVPR 2016).

It differs from COCO's in each of these points:

* Precision is not interpolated: AP is the area below the straight lines between the points of precision and recall, one
  per distinct score, and the point of recall 0 and precision 1.
* An object that several predictions match is found by the one with the highest score; predictions are not assigned to
  objects one after the other, and their number is not limited.
* A match has an IoU strictly greater than the threshold. Objects of under 100 pixels, and groups, need not be found.
* A prediction that matches nothing is a false positive, unless the share of its pixels that are void, of a group or of
  a small object of its class is greater than the threshold. What matches a group or a small object counts nothing.
* A class without an object is left out of the mean; one without a prediction counts 0.

The code was written from these rules. Without any prediction, Cityscapes' own script fails; here the values are 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.datasets.cityscapes_instances import FIRST_INSTANCE
from bench.datasets.names import CITYSCAPES_THINGS, CITYSCAPES_VOID
from bench.errors import BenchError
from bench.metrics.uncertainty import Floats

IOU_THRESHOLDS = np.arange(0.5, 1.0, 0.05)  # the script's expression, so that borderline IoUs fall on the same side
SMALLEST = 100
"""Fewest pixels of an object that has to be found."""

Ids = NDArray[np.integer]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Overlaps:
    """The objects and the predictions of one image, and the pixels that they share."""

    labels: NDArray[np.int64]
    """Class of each object (G,), an index into `CITYSCAPES_THINGS`."""
    pixels: NDArray[np.int64]
    """Number of pixels of each object (G,)."""
    groups: Bools
    """Whether each object is a group of objects (G,)."""
    found_labels: NDArray[np.int64]
    """Class of each prediction (P,)."""
    found_pixels: NDArray[np.int64]
    """Number of pixels of each prediction (P,), at least 1."""
    void: NDArray[np.int64]
    """Number of void pixels of each prediction (P,)."""
    scores: NDArray[np.float64]
    """Score of each prediction (P,)."""
    shared: NDArray[np.int64]
    """Number of pixels that each prediction and object share (P, G)."""

    def of_class(self, label: int) -> Overlaps:
        """The objects and the predictions of one class."""
        mine, found = self.labels == label, self.found_labels == label
        return Overlaps(
            self.labels[mine],
            self.pixels[mine],
            self.groups[mine],
            self.found_labels[found],
            self.found_pixels[found],
            self.void[found],
            self.scores[found],
            self.shared[found][:, mine],
        )


def overlaps_of(ids: Ids, masks: Iterable[Bools], labels: Sequence[int], scores: Sequence[float]) -> Overlaps:
    """Compare predictions with the image of instance ids (H, W), `*_gtFine_instanceIds.png`.

    Args:
        ids: instance ids as Cityscapes writes them.
        masks: masks of the predictions, (H, W) each; empty ones are left out.
        labels: their classes, indices into `CITYSCAPES_THINGS`.
        scores: their confidences.

    Raises:
        BenchError: a score is not finite, or a mask has another size than `ids`.
    """
    if not np.isfinite(scores).all():
        raise BenchError("a prediction has a score that is not a finite number: the model has diverged")
    numbers, places = np.unique(ids, return_inverse=True)
    places = places.reshape(ids.shape)
    classes = np.where(numbers < FIRST_INSTANCE, numbers, numbers // FIRST_INSTANCE)
    things = np.isin(classes, list(CITYSCAPES_THINGS))
    void = np.isin(numbers, list(CITYSCAPES_VOID))
    kept, counts = [], []
    for index, mask in enumerate(masks):
        if mask.shape != ids.shape:
            raise BenchError(
                f"a mask is {mask.shape[1]}x{mask.shape[0]} pixels, its image {ids.shape[1]}x{ids.shape[0]}"
            )
        if mask.any():
            kept.append(index)
            counts.append(np.bincount(places[mask], minlength=len(numbers)))
    shared = np.array(counts, np.int64).reshape(len(kept), len(numbers))
    order = {number: index for index, number in enumerate(CITYSCAPES_THINGS)}
    return Overlaps(
        labels=np.array([order[number] for number in classes[things].tolist()], np.int64),
        pixels=np.bincount(places.ravel(), minlength=len(numbers))[things].astype(np.int64),
        groups=numbers[things] < FIRST_INSTANCE,
        found_labels=np.array([labels[index] for index in kept], np.int64),
        found_pixels=shared.sum(1),
        void=shared[:, void].sum(1),
        scores=np.array([scores[index] for index in kept], np.float64),
        shared=shared[:, things],
    )


@dataclass(frozen=True)
class CityscapesScores:
    """The metric in per cent. `per_class` is (8, 10 thresholds), NaN where a class has no object."""

    per_class: Floats
    shares_per_threshold: NDArray[np.float64]
    """Each image's share in the mean over classes at each threshold (10, V), in points (`bench.metrics.ap_shares`)."""

    @property
    def metrics(self) -> dict[str, float]:
        """AP, the mean over classes and thresholds, and AP50, the mean over classes at .50."""
        return {"AP": float(np.nanmean(self.per_class)), "AP50": float(np.nanmean(self.per_class[:, 0]))}

    @property
    def shares(self) -> dict[str, NDArray[np.float64]]:
        """Each image's shares (V,) in AP and AP50."""
        return {"AP": self.shares_per_threshold.mean(0), "AP50": self.shares_per_threshold[0]}


def evaluate_instances(images: Sequence[Overlaps]) -> CityscapesScores:
    """Evaluate all images of a set.

    Raises:
        BenchError: no image has an object that counts.
    """
    per_class = np.full((len(CITYSCAPES_THINGS), len(IOU_THRESHOLDS)), np.nan)
    shares = []
    for label in range(len(per_class)):
        of_class = [image.of_class(label) for image in images]
        objects = np.array([np.count_nonzero(_to_find(image)) for image in of_class])
        if objects.any():
            curves = [_Curve.of(of_class, objects, threshold) for threshold in IOU_THRESHOLDS.tolist()]
            per_class[label] = [100 * curve.area() for curve in curves]
            shares.append([100 * curve.shares() for curve in curves])
    if not shares:
        raise BenchError("no image has an object of a class that is evaluated: nothing can be computed")
    return CityscapesScores(per_class, np.mean(shares, axis=0))


def _to_find(image: Overlaps) -> Bools:
    return ~image.groups & (image.pixels >= SMALLEST)


def _judge(image: Overlaps, threshold: float) -> tuple[Bools, Bools]:
    """Which predictions of one class and image are true (P,), and which count, as true or as false positives (P,)."""
    union = image.found_pixels[:, None] + image.pixels[None, :] - image.shared
    matches = image.shared / union > threshold
    to_find = _to_find(image)
    true = np.zeros(len(image.scores), bool)
    for column in matches.T[to_find]:
        rivals = np.flatnonzero(column)
        if len(rivals):
            true[rivals[np.argmax(image.scores[rivals])]] = True
    counts = matches[:, to_find].any(1)
    # a small group is left out twice, as by the script
    left_out = image.shared[:, image.groups].sum(1) + image.shared[:, image.pixels < SMALLEST].sum(1)
    ignored = (image.void + left_out) / image.found_pixels
    return true, counts | (~matches.any(1) & (ignored <= threshold))


@dataclass(frozen=True)
class _Curve:
    """Precision and recall of one class at one threshold: one point per distinct score, highest score first."""

    image: NDArray[np.int64]
    """Index of the image of each prediction that counts (N,)."""
    true: Bools
    """Whether each prediction that counts is a true positive (N,)."""
    point: NDArray[np.int64]
    """Index of the first point to which each prediction that counts contributes (N,)."""
    precision: Floats
    """Precision at each point (K,)."""
    recall: Floats
    """Recall at each point (K,)."""
    found: NDArray[np.int64]
    """Number of predictions that count, down to each point (K,)."""
    objects: NDArray[np.int64]
    """Number of objects to be found in each image (V,)."""

    @classmethod
    def of(cls, images: Sequence[Overlaps], objects: NDArray[np.int64], threshold: float) -> _Curve:
        judged = [_judge(image, threshold) for image in images]
        counts = np.concatenate([count for _, count in judged])
        true = np.concatenate([one for one, _ in judged])[counts]
        scores = np.concatenate([image.scores for image in images])[counts]
        origin = np.repeat(np.arange(len(images)), [len(image.scores) for image in images])[counts]
        order = np.argsort(-scores, kind="stable")
        true, scores, origin = true[order], scores[order], origin[order]
        last = np.flatnonzero(np.append(scores[:-1] != scores[1:], True)) if len(scores) else np.zeros(0, np.int64)
        found = last + 1
        hits = np.cumsum(true)[last]
        point = np.searchsorted(last, np.arange(len(scores)))
        return cls(origin, true, point, hits / found, hits / objects.sum(), found, objects)

    def area(self) -> float:
        """AP in [0, 1]."""
        precision, recall = np.append(1.0, self.precision), np.append(0.0, self.recall)
        return float((np.diff(recall) * (precision[1:] + precision[:-1]) / 2).sum())

    def shares(self) -> NDArray[np.float64]:
        """Derivative of AP by each image's weight (V,), which its objects and predictions have, too."""
        total = int(self.objects.sum())
        if not len(self.found):
            return np.zeros(len(self.objects))
        step = np.diff(self.recall, prepend=0.0)
        by_precision = (step + np.append(step[1:], 0.0)) / 2
        before, after = np.append(1.0, self.precision[:-1]), np.append(self.precision[1:], -self.precision[-1])
        by_recall = (before - after) / 2
        # the effect of a true positive, and of any prediction, from its first point on
        hit = np.cumsum((by_precision / self.found + by_recall / total)[::-1])[::-1]
        any_one = np.cumsum((by_precision * self.precision / self.found)[::-1])[::-1]
        values = np.where(self.true, hit[self.point], 0.0) - any_one[self.point]
        of_images = np.bincount(self.image, values, len(self.objects))
        found: NDArray[np.float64] = of_images - self.objects * (by_recall * self.recall).sum() / total
        return found
