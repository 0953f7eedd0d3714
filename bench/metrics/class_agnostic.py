"""Average precision of masks without classes, of all predictions (multi) and of the best one in each image (single).

After the evaluation of MaskDistill (arXiv 2206.06363, code wvangansbeke/MaskDistill). All objects have one class. For
`multi`, all predictions are compared with all objects, as COCO does. For `single`, the prediction with the highest
score in an image is compared with the one object whose box overlaps most with its own box; other objects, and images
without a prediction or without an object that is not a crowd, do not count. So `single` has no misses but those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hotcoco import COCO

from bench.metrics.coco_detection import CocoScores, ground_truth_of_one_class, score_coco
from bench.metrics.uncertainty import Floats

KEPT = ("AP", "AP50")


def score_class_agnostic(ground_truth: COCO, detections: Sequence[Mapping[str, Any]]) -> CocoScores:
    """`multi_AP50`, `multi_AP`, `single_AP50` and `single_AP` in per cent, 0 where nothing was found.

    `detections` are in COCO's results format with `bbox` and `segmentation`; their categories do not matter.

    Raises:
        BenchError: there is no object, or one without a mask.
    """
    multi = _scored(ground_truth, ground_truth.dataset["annotations"], detections)
    pairs = best_pairs(ground_truth.dataset["annotations"], detections)
    single = None
    if pairs:
        single = _scored(ground_truth, [chosen for _, chosen in pairs], [found for found, _ in pairs])
    metrics: dict[str, float] = {}
    shares: dict[str, Floats] = {}
    for name in KEPT:
        metrics |= {f"multi_{name}": multi.metrics[name], f"single_{name}": single.metrics[name] if single else 0.0}
        nothing = np.zeros(len(multi.images))
        shares |= {f"multi_{name}": multi.shares[name], f"single_{name}": single.shares[name] if single else nothing}
    return CocoScores(metrics, multi.images, shares)


def best_pairs(
    annotations: Sequence[Mapping[str, Any]], detections: Sequence[Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """For each image with both, the detection of the highest score and the object whose box overlaps most with it.

    Of equal ones the first; crowds are no objects.
    """
    best: dict[Any, Mapping[str, Any]] = {}
    for found in detections:
        before = best.get(found["image_id"])
        if before is None or found["score"] > before["score"]:
            best[found["image_id"]] = found
    objects: dict[Any, list[Mapping[str, Any]]] = {}
    for annotation in annotations:
        if not annotation["iscrowd"]:
            objects.setdefault(annotation["image_id"], []).append(annotation)
    return [
        (found, max(objects[image], key=lambda one: _overlap(found["bbox"], one["bbox"])))
        for image, found in best.items()
        if image in objects
    ]


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes (left, top, width, height); 0 of empty ones."""
    width, height = (
        max(0.0, min(one[k] + one[k + 2], other[k] + other[k + 2]) - max(one[k], other[k])) for k in (0, 1)
    )
    both = width * height
    union = one[2] * one[3] + other[2] * other[3] - both
    return both / union if union > 0 else 0.0


def _scored(
    ground_truth: COCO, annotations: Sequence[Mapping[str, Any]], detections: Sequence[Mapping[str, Any]]
) -> CocoScores:
    found = [
        {key: one[key] for key in ("image_id", "score", "segmentation")} | {"category_id": 1} for one in detections
    ]
    return score_coco(ground_truth_of_one_class(ground_truth, annotations), found, "segm")
