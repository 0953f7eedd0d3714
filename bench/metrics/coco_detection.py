"""COCO's average precision for boxes and masks by hotcoco: pycocotools' values, and each image's share in them."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from hotcoco import COCO, COCOeval
from numpy.typing import NDArray

from bench.datasets.coco import CocoFile, load_coco
from bench.datasets.shares import hold_out
from bench.errors import BenchError
from bench.metrics.ap_shares import Ranking, ap_shares
from bench.metrics.uncertainty import Floats
from bench.metrics.voc_detection import Objects

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
"""The first six values of pycocotools' summary. AP: mean over IoU .50:.05:.95, at most 100 detections per image."""

_AREAS = {"APs": "small", "APm": "medium", "APl": "large"}
_AT = {"AP50": [0], "AP75": [5]}
"""Positions of the IoU thresholds of the metrics that do not use all of them."""


def load_ground_truth(annotation_file: Path, held_out: float = 0.0) -> COCO:
    """Read an `instances_*.json` as training and the check do; raises :class:`BenchError` if it cannot be used.

    With `held_out`, of the images that this amount holds out of training (`bench.datasets.shares.hold_out`) alone.
    """
    content = load_coco(annotation_file)
    if held_out:
        images = list(content.images.values())
        held = hold_out([Path(image.file_name).name for image in images], held_out)
        content = content.of_images({images[position].id for position in held})
    return ground_truth_of(content)


def ground_truth_of(content: CocoFile) -> COCO:
    """The ground truth of an annotation file. Annotations are numbered from 1 in its order.

    Those of a file without masks have no `segmentation`.
    """
    annotations = []
    for number, item in enumerate(content.objects, start=1):
        entry: dict[str, Any] = {
            "id": number,
            "image_id": item.image.id,
            "category_id": item.category_id,
            "bbox": list(item.box),
            "area": item.area,
            "iscrowd": int(item.crowd),
        }
        if item.mask is not None:
            entry["segmentation"] = item.mask.segmentation
        annotations.append(entry)
    return coco_of(
        [image._asdict() for image in content.images.values()],
        [{"id": number, "name": name} for number, name in content.categories.items()],
        annotations,
    )


def ground_truth_from_objects(objects: Sequence[Objects], num_classes: int) -> COCO:
    """VOC ground truth as a COCO ground truth: image ids are positions in the list, category ids are class indices.

    Difficult objects become crowd regions, COCO's way of saying "neither found nor missed". Box areas decide small,
    medium and large.
    """
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(objects):
        for box, label, difficult in zip(
            np.asarray(image.boxes, np.float64), image.labels, image.difficult, strict=True
        ):
            x1, y1, x2, y2 = box.tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(label),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(difficult),
                }
            )
    return coco_of(
        [{"id": index} for index in range(len(objects))],
        [{"id": index, "name": str(index)} for index in range(num_classes)],
        annotations,
    )


def ground_truth_of_one_class(ground_truth: COCO, annotations: Sequence[Mapping[str, Any]]) -> COCO:
    """`annotations` of a ground truth, all of category 1, on the same images."""
    alike = [{**one, "category_id": 1} for one in annotations]
    return coco_of(ground_truth.dataset["images"], [{"id": 1, "name": "object"}], alike)


def evaluate_coco(
    ground_truth: COCO, detections: Sequence[Mapping[str, Any]], iou_type: Literal["bbox", "segm"]
) -> dict[str, float]:
    """AP, AP50, AP75, APs, APm, APl in per cent.

    `detections` is a list in COCO's results format: `image_id`, `category_id`, `score` and `bbox` (x, y, width, height)
    or `segmentation` (run-length encoding). All images and categories of `ground_truth` are evaluated; it is not
    changed. A value for which there is no object (e.g. no small object in the set) is absent from the result. Raises
    :class:`BenchError` for an unknown image id, no object, or objects without a mask where masks are compared.
    """
    return score_coco(ground_truth, detections, iou_type).metrics


@dataclass(frozen=True)
class CocoScores:
    """Result of `score_coco`."""

    metrics: dict[str, float]
    """Metrics in per cent, as :func:`evaluate_coco` returns them."""
    images: list[Any]
    """Ids of the images (V,)."""
    shares: dict[str, Floats]
    """Each image's share (V,) in each metric, in points of per cent (`bench.metrics.ap_shares`)."""


def score_coco(
    ground_truth: COCO, detections: Sequence[Mapping[str, Any]], iou_type: Literal["bbox", "segm"]
) -> CocoScores:
    """The metrics of :func:`evaluate_coco`, and the share of each image in each of them."""
    known = set(ground_truth.getImgIds())
    unknown = sorted({str(d["image_id"]) for d in detections if d["image_id"] not in known})
    if unknown:
        raise BenchError(f"detections name image id {unknown[0]}, which the ground truth does not have")
    if not all(math.isfinite(d["score"]) for d in detections):
        raise BenchError("a detection has a score that is not finite: such scores have no order")
    if iou_type == "segm" and not all(map(_has_mask, ground_truth.dataset["annotations"])):
        raise BenchError("masks cannot be evaluated: the ground truth has objects without one")
    ground_truth = _numbered(ground_truth)
    with without_output():
        if detections:
            # loadRes changes the dictionaries that it gets
            results = ground_truth.loadRes([dict(d) for d in detections])
        else:
            results = coco_of(ground_truth.dataset["images"], ground_truth.dataset["categories"], [])
        evaluation = COCOeval(ground_truth, results, iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    scores = {name: 100 * float(value) for name, value in zip(METRICS, evaluation.stats, strict=False) if value >= 0}
    if "AP" not in scores:
        raise BenchError("the ground truth has no object of any category: nothing can be evaluated")
    return CocoScores(scores, list(evaluation.params.imgIds), shares_of_images(evaluation, list(scores)))


Found = Mapping[str, Any]
"""The evaluator's result for one image, category and area range."""


def _by_category(evaluation: Any) -> dict[tuple[Any, float, float], list[tuple[int, Found]]]:
    """Matches by category and area range, each with its image's index, in ascending order.

    Images without objects and detections are absent.
    """
    places = {image: place for place, image in enumerate(evaluation.params.imgIds)}
    matched: dict[tuple[Any, float, float], list[tuple[int, Found]]] = {}
    for one in evaluation.evalImgs:
        if one is not None:
            found = matched.setdefault((one["category_id"], *map(float, one["aRng"])), [])
            found.append((places[one["image_id"]], one))
    for found in matched.values():
        found.sort(key=itemgetter(0))
    return matched


def shares_of_images(
    evaluation: Any, metrics: Sequence[str], some: Mapping[str, Collection[int]] = MappingProxyType({})
) -> dict[str, Floats]:
    """Each image's share in each metric, from the evaluator's matches of detections with objects.

    `some` holds the categories of those metrics that are means over some categories alone.
    """
    parameters, matched = evaluation.params, _by_category(evaluation)
    levels, thresholds = len(parameters.recThrs), list(range(len(parameters.iouThrs)))
    found: dict[str, list[Floats]] = {name: [] for name in metrics}
    for area, (low, high) in zip(parameters.areaRngLbl, parameters.areaRng, strict=True):
        of_area = [name for name in metrics if _AREAS.get(name, "all") == area]
        for category in parameters.catIds:
            names = [name for name in of_area if name not in some or category in some[name]]
            found_here = matched.get((category, float(low), float(high)), [])
            matches = _Matches.of(found_here, len(parameters.imgIds), parameters)
            if names and matches.objects.any():
                each = [ap_shares(matches.ranking(threshold), levels) for threshold in thresholds]
                for name in names:
                    found[name].append(np.mean([each[t] for t in _AT.get(name, thresholds)], 0))
    return {name: 100 * np.mean(shares, 0) for name, shares in found.items()}


@dataclass(frozen=True)
class _Matches:
    """Detections of one category and area range in all images, in the evaluator's order of descending scores."""

    image: NDArray[np.int64]
    """Index of each detection's image (N,)."""
    true: NDArray[np.bool_]
    """Whether each detection found an object at each threshold (T, N)."""
    ignored: NDArray[np.bool_]
    """Whether each detection is left out at each threshold (T, N)."""
    objects: NDArray[np.int64]
    """Number of objects of each image that count (V,)."""

    @classmethod
    def of(cls, found: Sequence[tuple[int, Found]], images: int, parameters: Any) -> _Matches:
        """Join the evaluator's results, each with its image's index below `images`, in ascending order."""
        most = parameters.maxDets[-1]
        places, results = [place for place, _ in found], [one for _, one in found]
        counted = ~_joined(one["gtIgnore"] for one in results).astype(bool)
        owners = np.repeat(np.array(places, np.int64), [len(one["gtIgnore"]) for one in results])
        objects = np.bincount(owners[counted], minlength=images)
        scores = _joined(one["dtScores"][:most] for one in results)
        image = np.repeat(np.array(places, np.int64), [len(one["dtScores"][:most]) for one in results])
        order = np.argsort(-scores, kind="mergesort")
        matched, ignored = (
            np.stack([_joined(one[name][t][:most] for one in results) for t in range(len(parameters.iouThrs))]) != 0
            for name in ("dtMatches", "dtIgnore")
        )
        return cls(image[order], matched[:, order] & ~ignored[:, order], ignored[:, order], objects)

    def ranking(self, threshold: int) -> Ranking:
        """The detections that count at one threshold."""
        counts = ~self.ignored[threshold]
        return Ranking(self.image[counts], self.true[threshold, counts], self.objects)


def _joined(lists: Iterable[Iterable[float]]) -> Floats:
    """The numbers of many short lists in one array (N,)."""
    return np.fromiter(chain.from_iterable(lists), np.float64)


def _has_mask(annotation: Mapping[str, Any]) -> bool:
    return bool(annotation.get("segmentation"))


def _numbered(ground_truth: COCO) -> COCO:
    """A copy for the evaluation, with annotations numbered from 1.

    An evaluator keeps the id of the object that a detection has found, and 0 where there is none: an object of id 0
    would never be found.
    """
    annotations = [
        {**annotation, "id": number} for number, annotation in enumerate(ground_truth.dataset["annotations"], start=1)
    ]
    return coco_of(ground_truth.dataset["images"], ground_truth.dataset["categories"], annotations)


def coco_of(images: list[dict[str, Any]], categories: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> COCO:
    """An index of these lists, as in an annotation file."""
    with without_output():
        coco = COCO()
        coco.dataset = {"info": {}, "images": images, "categories": categories, "annotations": annotations}
        coco.createIndex()
    return coco


@contextlib.contextmanager
def without_output() -> Iterator[None]:
    """Whatever is printed is not shown."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
