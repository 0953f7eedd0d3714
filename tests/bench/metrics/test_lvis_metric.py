"""LVIS's metric against a plain computation in Python; it was compared with lvis-api 0.5.3 once, where it is the same.

The plain computation follows the description of the metric (Gupta et al., CVPR 2019, section 3): per class, over the
images of which it is known whether they have it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as run_length

from bench.datasets.coco import CocoFile
from bench.datasets.coco_masks import read_mask
from bench.datasets.coco_objects import CocoImage, CocoObject
from bench.datasets.lvis import LvisFile
from bench.errors import BenchError
from bench.metrics.lvis import METRICS, ground_truth_of_lvis, score_lvis

CLASSES, SIDE = 6, 160
AREAS = {"all": (0, 1e10), "s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}
Box = tuple[float, float, float, float]


def made_up(seed: int) -> tuple[LvisFile, list[dict[str, Any]]]:
    """Random objects, and detections: shifted objects, some under other classes, and random boxes; scores have ties."""
    rng = np.random.default_rng(seed)
    images = {number: CocoImage(number, f"train2017/{number}.jpg", SIDE, SIDE) for number in range(1, 9)}
    objects: list[CocoObject] = []
    found: list[dict[str, Any]] = []

    def detect(image: int, label: int, box: Sequence[float]) -> None:
        whole = [float(round(value)) for value in box]
        found.append({"image_id": image, "category_id": label, "bbox": whole, "score": float(rng.integers(1, 10)) / 10})

    for image in images.values():
        for _ in range(rng.integers(0, 6)):
            (x, y), (w, h) = rng.integers(0, 50, 2).tolist(), rng.integers(3, 110, 2).tolist()
            label = int(rng.integers(1, CLASSES + 1))
            polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            mask = read_mask(polygon, image.size)
            objects.append(CocoObject(len(objects) + 1, image, label, (x, y, w, h), float(w * h), False, False, mask))
            if rng.random() < 0.8:
                moved = np.maximum(1, np.array([x, y, w, h]) + rng.normal(0, 0.1, 4) * [w, h, w, h])
                detect(image.id, label if rng.random() < 0.8 else int(rng.integers(1, CLASSES + 1)), moved.tolist())
        for _ in range(rng.integers(0, 4)):
            corner, size = rng.uniform(0, 50, 2), rng.uniform(3, 110, 2)
            detect(image.id, int(rng.integers(1, CLASSES + 1)), [*corner, *size])
    some = {number: [int(c) for c in rng.choice(CLASSES, 2, replace=False) + 1] for number in images}
    lacking = {number: [int(rng.integers(1, CLASSES + 1))] for number in images}
    coco = CocoFile(images, objects, {label: f"class {label}" for label in range(1, CLASSES + 1)})
    return LvisFile(coco, some, lacking, {label: "rcf"[label % 3] for label in coco.categories}), found


def iou(a: Box, b: Box) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def plain(content: LvisFile, found: list[dict[str, Any]]) -> dict[str, float]:
    """All values of boxes, one detection after the other."""
    precisions: dict[tuple[str, int, float], float] = {}
    thresholds = [0.5 + 0.05 * step for step in range(10)]
    for area, (low, high) in AREAS.items():
        for label in content.coco.categories:
            for threshold in thresholds:
                ap = average_precision(content, found, label, (low, high), threshold)
                if ap is not None:
                    precisions[area, label, threshold] = ap

    def mean(area: str, kept: list[float], labels: list[int]) -> float | None:
        values = [v for (a, label, t), v in precisions.items() if a == area and t in kept and label in labels]
        return 100 * float(np.mean(values)) if values else None

    every = list(content.coco.categories)
    found_values = {
        "AP": mean("all", thresholds, every),
        "AP50": mean("all", thresholds[:1], every),
        "AP75": mean("all", thresholds[5:6], every),
        **{f"AP{size}": mean(size, thresholds, every) for size in "sml"},
        **{f"AP{k}": mean("all", thresholds, [c for c in every if content.frequency[c] == k]) for k in "rcf"},
    }
    return {name: value for name, value in found_values.items() if value is not None}


def average_precision(
    content: LvisFile, found: list[dict[str, Any]], label: int, area: tuple[float, float], threshold: float
) -> float | None:
    ranked: list[tuple[float, bool]] = []
    wanted = 0
    for image in sorted(content.coco.images):
        objects = [o for o in content.coco.objects if o.image.id == image and o.category_id == label]
        if not objects and label not in content.absent[image]:
            continue
        counts = [area[0] <= o.area <= area[1] for o in objects]
        wanted += sum(counts)
        order = [i for i, c in enumerate(counts) if c] + [i for i, c in enumerate(counts) if not c]
        taken: set[int] = set()
        mine = [d for d in found if d["image_id"] == image and d["category_id"] == label]
        for one in sorted(mine, key=lambda d: -d["score"]):
            best, chosen = min(threshold, 1 - 1e-10), None
            for i in order:
                if i in taken:
                    continue
                if chosen is not None and counts[chosen] and not counts[i]:
                    break
                overlap = iou(tuple(one["bbox"]), objects[i].box)
                if overlap >= best:
                    best, chosen = overlap, i
            if chosen is not None:
                taken.add(chosen)
                if counts[chosen]:
                    ranked.append((one["score"], True))
            elif area[0] <= one["bbox"][2] * one["bbox"][3] <= area[1] and label not in content.incomplete[image]:
                ranked.append((one["score"], False))
    if not wanted:
        return None
    ranked.sort(key=lambda pair: -pair[0])
    true = np.cumsum([right for _, right in ranked])
    precision = true / np.arange(1, len(ranked) + 1)
    recall = true / wanted
    best_after = np.maximum.accumulate(precision[::-1])[::-1] if len(ranked) else precision
    levels = np.linspace(0, 1, 101)
    places = np.searchsorted(recall, levels, side="left")
    return float(np.mean([best_after[p] if p < len(ranked) else 0.0 for p in places]))


@pytest.mark.parametrize("seed", range(6))
def test_boxes_are_scored_as_by_a_plain_computation(seed: int) -> None:
    content, found = made_up(seed)
    scores = score_lvis(ground_truth_of_lvis(content), found, "bbox")
    expected = plain(content, found)
    assert scores.metrics.keys() == expected.keys() <= set(METRICS)
    assert scores.metrics == pytest.approx(expected, abs=1e-9)
    assert scores.shares.keys() == scores.metrics.keys() and scores.images == sorted(content.coco.images)
    having = {label for item in content.coco.objects if (label := item.category_id)}
    of_kind = {kind: sum(content.frequency[label] == kind for label in having) for kind in "rcf"}
    summed = sum(of_kind[kind] * scores.shares[f"AP{kind}"] for kind in "rcf" if of_kind[kind])
    np.testing.assert_allclose(len(having) * scores.shares["AP"], summed, atol=1e-9)


def test_masks_of_boxes_are_scored_as_boxes() -> None:
    """Objects are rectangles of whole pixels, and so are these detections."""
    content, found = made_up(1)
    ground_truth = ground_truth_of_lvis(content)
    masks = []
    for one in found:
        x, y, w, h = (int(value) for value in one["bbox"])
        pixels = np.zeros((SIDE, SIDE), np.uint8, order="F")
        pixels[y : y + h, x : x + w] = 1
        encoded = run_length.encode(pixels)
        one["bbox"] = [x, y, min(w, SIDE - x), min(h, SIDE - y)]
        kept = {key: one[key] for key in ("image_id", "category_id", "score")}
        masks.append(kept | {"segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()}})
    of_boxes = score_lvis(ground_truth, found, "bbox").metrics
    assert score_lvis(ground_truth, masks, "segm").metrics == pytest.approx(of_boxes, abs=1e-9)


def test_nothing_found_and_scores_without_order() -> None:
    content, found = made_up(2)
    ground_truth = ground_truth_of_lvis(content)
    assert set(score_lvis(ground_truth, [], "bbox").metrics.values()) == {0.0}
    with pytest.raises(BenchError, match="not finite"):
        score_lvis(ground_truth, [found[0] | {"score": float("nan")}], "bbox")
