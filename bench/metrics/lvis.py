"""LVIS's average precision for boxes and masks by hotcoco: lvis-api's values, and each image's share in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from hotcoco import COCO, LVISEval, LVISResults

from bench.datasets.lvis import FREQUENCIES, LvisFile
from bench.errors import BenchError
from bench.metrics.coco_detection import METRICS as OF_COCO
from bench.metrics.coco_detection import CocoScores, coco_of, ground_truth_of, shares_of_images, without_output

METRICS = (*OF_COCO, *(f"AP{kind}" for kind in FREQUENCIES))
"""COCO's six values, and AP of rare, common and frequent classes. At most `MOST_DETECTIONS` per image count."""
MOST_DETECTIONS = 300


def ground_truth_of_lvis(content: LvisFile) -> COCO:
    """The ground truth of an annotation file."""
    plain = ground_truth_of(content.coco)
    images = [
        image
        | {
            "neg_category_ids": content.absent[image["id"]],
            "not_exhaustive_category_ids": content.incomplete[image["id"]],
        }
        for image in plain.dataset["images"]
    ]
    categories = [one | {"frequency": content.frequency[one["id"]]} for one in plain.dataset["categories"]]
    return coco_of(images, categories, plain.dataset["annotations"])


def score_lvis(
    ground_truth: COCO, detections: Sequence[Mapping[str, Any]], iou_type: Literal["bbox", "segm"]
) -> CocoScores:
    """LVIS's metrics in per cent: as lvis-api, detections of a class count in images that are known to have it or not.

    A detection that finds no object is left out where not every object of its class is annotated. For `detections` see
    `bench.metrics.coco_detection.evaluate_coco`. A value without an object is absent.

    Raises:
        BenchError: a score is not finite, or there is no object.
    """
    if not all(math.isfinite(d["score"]) for d in detections):
        raise BenchError("a detection has a score that is not finite: such scores have no order")
    with without_output():
        if detections:
            results = LVISResults(ground_truth, [dict(d) for d in detections], MOST_DETECTIONS)
        else:
            results = coco_of(ground_truth.dataset["images"], ground_truth.dataset["categories"], [])
        evaluation = LVISEval(ground_truth, results, iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    found = evaluation.get_results()
    scores = {name: 100 * float(found[name]) for name in METRICS if found[name] >= 0}
    if "AP" not in scores:
        raise BenchError("the ground truth has no object of any category: nothing can be evaluated")
    some = {
        f"AP{kind}": {one["id"] for one in ground_truth.dataset["categories"] if one["frequency"] == kind}
        for kind in FREQUENCIES
    }
    return CocoScores(scores, list(evaluation.params.imgIds), shares_of_images(evaluation, list(scores), some))
