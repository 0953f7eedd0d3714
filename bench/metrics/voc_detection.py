"""PASCAL VOC detection metric as the self-supervised literature reports it (detectron2's evaluator of VOC 2007).

For each class and each IoU threshold .50:.05:.95 an average precision by the VOC 2007 rule, the mean of the
interpolated precision at the eleven recalls 0, .1, ..., 1. `AP` is the mean over classes and thresholds, `AP50` and
`AP75` are means over classes at one threshold.

Conventions, each of which changes the value:

* Coordinates are pixel indices and boxes include their last pixel: width = x2 - x1 + 1.
* A detection matches if its IoU is strictly greater than the threshold. It is compared with one object only, the one
  that it overlaps most; a second detection of that object is a false positive.
* Objects marked `difficult` count neither as found nor as missed, and detections that match them are left out.
* Before matching, scores are rounded to .001 and coordinates to .1 (`round_like_results_file`): the devkit reads
  results from a text file with these digits, and ties that rounding creates change AP.
* Detections of equal score keep their order (image, then position). detectron2 leaves that order to an unstable sort.
* Classes without a (non-difficult) object are left out of the means. detectron2 counts them as 0; VOC 2007 test has all
  classes, so that the two agree there.

This is not pycocotools' AP: see `bench.metrics.coco_detection`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.errors import BenchError
from bench.metrics.ap_shares import Ranking, ap_shares

Floats = NDArray[np.floating]

IOU_THRESHOLDS = np.arange(50, 100, 5) / 100.0
RECALL_LEVELS = np.arange(0.0, 1.1, 0.1)  # the devkit's expression, so that borderline recalls fall on the same side


@dataclass(frozen=True)
class Objects:
    """The ground truth of one image.

    `boxes` (G, 4) as x1, y1, x2, y2 in continuous coordinates (VOC's xmin - 1, ymin - 1, xmax, ymax), `labels` (G,)
    class indices, `difficult` (G,) booleans.
    """

    boxes: NDArray[np.floating]
    labels: NDArray[np.integer]
    difficult: NDArray[np.bool_]


@dataclass(frozen=True)
class Detections:
    """A detector's outputs for one image: `boxes` (N, 4) as in :class:`Objects`, `scores` (N,), `labels` (N,)."""

    boxes: NDArray[np.floating]
    scores: NDArray[np.floating]
    labels: NDArray[np.integer]


@dataclass(frozen=True)
class VOCScores:
    """The metric in per cent. `per_class` is (classes, 10 thresholds), NaN where a class has no object."""

    per_class: Floats
    shares_per_threshold: NDArray[np.float64]
    """Each image's share in the mean over classes at each threshold (10, V), in points (`bench.metrics.ap_shares`)."""

    @property
    def ap(self) -> float:
        """Mean over classes and IoU .50:.05:.95."""
        return float(np.nanmean(self.per_class))

    @property
    def ap50(self) -> float:
        """Mean over classes at IoU .50."""
        return float(np.nanmean(self.per_class[:, 0]))

    @property
    def ap75(self) -> float:
        """Mean over classes at IoU .75."""
        return float(np.nanmean(self.per_class[:, 5]))

    def shares(self) -> dict[str, NDArray[np.float64]]:
        """Each image's shares (V,) in AP, AP50 and AP75, in points of per cent."""
        by_threshold = self.shares_per_threshold
        return {"AP": by_threshold.mean(0), "AP50": by_threshold[0], "AP75": by_threshold[5]}


def evaluate_voc(objects: Sequence[Objects], detections: Sequence[Detections], num_classes: int) -> VOCScores:
    """Evaluate `detections` against `objects`, image by image in the same order.

    Raises :class:`BenchError` if the lists differ in length, a label is outside 0..num_classes-1, a box or score is not
    finite, or no class has an object.
    """
    if len(objects) != len(detections):
        raise BenchError(f"{len(objects)} images have ground truth, but {len(detections)} have detections")
    truth = _Table.of_objects(objects, num_classes)
    found = _Table.of_detections(detections, num_classes)
    per_class = np.full((num_classes, len(IOU_THRESHOLDS)), np.nan)
    shares = []
    for label in range(num_classes):
        class_truth = truth.of_class(label)
        if np.any(~class_truth.difficult):
            rankings = _rankings(class_truth, found.of_class(label), len(objects))
            per_class[label] = [100 * _eleven_point_ap(ranking) for ranking in rankings]
            shares.append([100 * ap_shares(ranking, len(RECALL_LEVELS)) for ranking in rankings])
    if not shares:
        raise BenchError("the validation set has no (non-difficult) object of any class: nothing can be evaluated")
    return VOCScores(per_class, np.mean(shares, axis=0))


def round_like_results_file(boxes: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """Coordinates to .1 and scores to .001, half to even, as a devkit results file holds them.

    For float32 values this equals formatting with `%.1f` and `%.3f` and reading back: the products with 10 and 1000 are
    exact.
    """
    return np.round(boxes.astype(np.float64), 1), np.round(scores.astype(np.float64), 3)


@dataclass(frozen=True)
class _Table:
    """Boxes of all images in pixel indices, one row per box, ordered by image."""

    image: NDArray[np.int64]
    boxes: Floats
    labels: NDArray[np.int64]
    scores: Floats
    difficult: NDArray[np.bool_]

    @classmethod
    def of_objects(cls, objects: Sequence[Objects], num_classes: int) -> "_Table":
        image, boxes, labels = _stack([(o.boxes, o.labels) for o in objects], num_classes, "ground truth")
        difficult = np.concatenate([np.asarray(o.difficult, bool).reshape(-1) for o in objects] or [np.zeros(0, bool)])
        if len(difficult) != len(labels):
            raise BenchError(f"ground truth has {len(labels)} labels, but {len(difficult)} difficult flags")
        return cls(image, _to_pixel_indices(boxes).astype(np.float64), labels, np.zeros(len(labels)), difficult)

    @classmethod
    def of_detections(cls, detections: Sequence[Detections], num_classes: int) -> "_Table":
        image, boxes, labels = _stack([(d.boxes, d.labels) for d in detections], num_classes, "detections")
        scores = np.concatenate([np.asarray(d.scores).reshape(-1) for d in detections] or [np.zeros(0)])
        if len(scores) != len(labels):
            raise BenchError(f"detections have {len(labels)} labels, but {len(scores)} scores")
        if not np.all(np.isfinite(scores)):
            raise BenchError("a detection has a score that is not a finite number: the model has diverged")
        boxes, scores = round_like_results_file(_to_pixel_indices(boxes), scores)
        order = np.argsort(-scores, kind="stable")
        return cls(image[order], boxes[order], labels[order], scores[order], np.zeros(len(labels), bool))

    def of_class(self, label: int) -> "_Table":
        rows = np.flatnonzero(self.labels == label)
        return _Table(self.image[rows], self.boxes[rows], self.labels[rows], self.scores[rows], self.difficult[rows])


def _stack(
    images: Sequence[tuple[ArrayLike, ArrayLike]], num_classes: int, what: str
) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64]]:
    boxes = [np.asarray(box).reshape(-1, 4) for box, _ in images] or [np.zeros((0, 4))]
    labels = [np.asarray(label, np.int64).reshape(-1) for _, label in images] or [np.zeros(0, np.int64)]
    for index, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        if len(box) != len(label):
            raise BenchError(f"{what} of image {index}: {len(box)} boxes, but {len(label)} labels")
    all_boxes, all_labels = np.concatenate(boxes), np.concatenate(labels)
    wrong = all_labels[(all_labels < 0) | (all_labels >= num_classes)]
    if len(wrong):
        raise BenchError(f"{what}: label {wrong[0]} is not one of the {num_classes} classes (0 to {num_classes - 1})")
    if not np.all(np.isfinite(all_boxes)):
        raise BenchError(f"{what}: a box has a coordinate that is not a finite number")
    return np.repeat(np.arange(len(boxes)), [len(box) for box in boxes]), all_boxes, all_labels


def _to_pixel_indices(boxes: Floats) -> Floats:
    """Convert continuous coordinates to the 1-based inclusive pixel indices of VOC's files."""
    shift = np.array([1, 1, 0, 0], dtype=boxes.dtype if np.issubdtype(boxes.dtype, np.floating) else np.float64)
    return boxes + shift


def _rankings(truth: _Table, found: _Table, images: int) -> list[Ranking]:
    """Ranking of the detections of one class at each threshold. `found` is sorted by descending score."""
    best_iou, best_object = _best_overlaps(truth, found)
    objects = np.bincount(truth.image[~truth.difficult], minlength=images)
    rankings = []
    for threshold in IOU_THRESHOLDS:
        true, false = _classify(best_iou > threshold, best_object, truth.difficult)
        counts = true | false
        rankings.append(Ranking(found.image[counts], true[counts], objects))
    return rankings


def _best_overlaps(truth: _Table, found: _Table) -> tuple[Floats, NDArray[np.int64]]:
    """Each detection's greatest IoU with an object of its image, and the first such object (-inf and 0 if none)."""
    best_iou = np.full(len(found.image), -np.inf)
    best_object = np.zeros(len(found.image), np.int64)
    by_image = np.argsort(found.image, kind="stable")
    starts = np.searchsorted(found.image[by_image], truth.image, side="left")
    ends = np.searchsorted(found.image[by_image], truth.image, side="right")
    first_objects = np.flatnonzero(np.diff(truth.image, prepend=-1))
    for first, last in zip(first_objects, [*first_objects[1:], len(truth.image)], strict=True):
        rows = by_image[starts[first] : ends[first]]
        if len(rows):
            iou = inclusive_iou(found.boxes[rows], truth.boxes[first:last])
            best = iou.argmax(axis=1)
            best_iou[rows] = iou[np.arange(len(rows)), best]
            best_object[rows] = first + best
    return best_iou, best_object


def inclusive_iou(a: Floats, b: Floats) -> Floats:
    """IoU (A, B) of boxes (A, 4) and (B, 4) in pixel indices, whose last pixel belongs to them (+1)."""
    size = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2]) + 1
    intersection = np.maximum(size, 0).prod(axis=2)
    areas_a = (a[:, 2:] - a[:, :2] + 1).prod(axis=1)
    areas_b = (b[:, 2:] - b[:, :2] + 1).prod(axis=1)
    return intersection / (areas_a[:, None] + areas_b[None, :] - intersection)


def _classify(
    matches: NDArray[np.bool_], best_object: NDArray[np.int64], difficult: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which detections are true and which are false positives; those that match a difficult object are neither."""
    on_difficult = matches & difficult[best_object]
    candidates = np.flatnonzero(matches & ~on_difficult)
    # np.unique returns the first occurrence: the detection of highest score takes the object
    _, first = np.unique(best_object[candidates], return_index=True)
    true = np.zeros(len(matches), bool)
    true[candidates[first]] = True
    return true, ~true & ~on_difficult


def _eleven_point_ap(ranking: Ranking) -> float:
    """Mean over eleven recalls of the greatest precision at this recall or beyond; 0 for recalls not reached."""
    true_so_far = np.cumsum(ranking.true)
    recall = true_so_far / ranking.objects.sum()
    precision = true_so_far / np.arange(1, len(true_so_far) + 1)
    reached = recall[None, :] >= RECALL_LEVELS[:, None]
    return float(np.where(reached, precision[None, :], 0.0).max(axis=1, initial=0.0).mean())
