from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as run_length

from bench.metrics.class_agnostic import best_pairs, score_class_agnostic
from bench.metrics.coco_detection import coco_of

SIDE = 12


def rectangle(left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
    mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
    mask[top : top + height, left : left + width] = 1
    return mask


def encoded(mask: NDArray[np.uint8]) -> dict[str, Any]:
    found: dict[str, Any] = run_length.encode(mask)
    return {"size": found["size"], "counts": found["counts"].decode()}


def truth(objects: list[tuple[int, tuple[int, int, int, int], int, bool]], images: int = 4) -> Any:
    """Objects of an image, a box and a class, crowd or not."""
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": kind,
            "bbox": list(box),
            "area": box[2] * box[3],
            "iscrowd": int(crowd),
            "segmentation": encoded(rectangle(*box)),
        }
        for number, (image, box, kind, crowd) in enumerate(objects, start=1)
    ]
    sizes = [{"id": image, "height": SIDE, "width": SIDE} for image in range(images)]
    return coco_of(sizes, [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}], annotations)


def detection(image: int, box: tuple[int, int, int, int], score: float) -> dict[str, Any]:
    return {
        "image_id": image,
        "category_id": 7,
        "score": score,
        "bbox": list(box),
        "segmentation": encoded(rectangle(*box)),
    }


def plain_ap50(objects: dict[int, list[NDArray[Any]]], found: list[tuple[float, int, NDArray[Any]]]) -> float:
    """COCO's AP at IoU .5 by loops: 101 recall levels, each with the best precision at that recall or above."""
    total = sum(map(len, objects.values()))
    taken: dict[int, set[int]] = {image: set() for image in objects}
    hits: list[bool] = []
    for _, image, mask in sorted(found, key=lambda one: -one[0]):
        best, at = 0.5, None
        for place, other in enumerate(objects.get(image, [])):
            iou = (mask & other).sum() / (mask | other).sum()
            if place not in taken[image] and iou >= best:
                best, at = iou, place
        if at is not None:
            taken[image].add(at)
        hits.append(at is not None)
    true = np.cumsum(hits)
    values = []
    for level in np.linspace(0, 1, 101):
        reached = [true[n] / (n + 1) for n in range(len(hits)) if true[n] / total >= level - 1e-12]
        values.append(max(reached, default=0.0))
    return 100 * float(np.mean(values))


boxes = st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(1, 4), st.integers(1, 4))


@given(
    objects=st.lists(st.tuples(st.integers(0, 3), boxes, st.integers(1, 2), st.just(False)), min_size=1, max_size=6),
    found=st.lists(st.tuples(st.integers(0, 3), boxes), max_size=8),
    seed=st.integers(0, 999),
)
@settings(max_examples=25, deadline=None)
def test_both_settings_are_those_of_plain_loops(objects: list[Any], found: list[Any], seed: int) -> None:
    scores = np.random.default_rng(seed).permutation(len(found)) / 10 + 0.1  # no two are equal
    detections = [detection(image, box, float(score)) for (image, box), score in zip(found, scores, strict=True)]
    metrics = score_class_agnostic(truth(objects), detections).metrics
    every: dict[int, list[NDArray[Any]]] = {}
    for image, box, _, _ in objects:
        every.setdefault(image, []).append(rectangle(*box))
    predicted = [(float(s), image, rectangle(*box)) for (image, box), s in zip(found, scores, strict=True)]
    assert metrics["multi_AP50"] == pytest.approx(plain_ap50(every, predicted), abs=1e-9)

    single: dict[int, list[NDArray[Any]]] = {}
    chosen = []
    for image in range(4):
        of_image = [(float(s), box) for (at, box), s in zip(found, scores, strict=True) if at == image]
        theirs = [box for at, box, _, _ in objects if at == image]
        if not of_image or not theirs:
            continue
        score, box = max(of_image)
        mine = rectangle(*box).astype(int)
        overlaps = [(mine * rectangle(*other)).sum() / ((mine + rectangle(*other)) > 0).sum() for other in theirs]
        single[image] = [rectangle(*theirs[int(np.argmax(overlaps))])]
        chosen.append((score, image, rectangle(*box)))
    expected = plain_ap50(single, chosen) if single else 0.0
    assert metrics["single_AP50"] == pytest.approx(expected, abs=1e-9)


def test_single_compares_the_surest_with_the_object_of_its_place_whatever_its_class() -> None:
    """Image 0: right, and a surer one wrong; image 1: right with a second object missed; image 2: without an object."""
    objects = [(0, (0, 0, 4, 4), 1, False), (1, (0, 0, 4, 4), 2, False), (1, (6, 6, 4, 4), 1, False)]
    found = [detection(0, (0, 0, 4, 4), 0.5), detection(0, (8, 8, 3, 3), 0.9), detection(1, (6, 6, 4, 4), 0.8)]
    scores = score_class_agnostic(truth(objects), [*found, detection(2, (0, 0, 2, 2), 0.95)])
    # of two that count, by falling scores, the first is wrong: precision 1/2 up to half of the recall
    assert scores.metrics["single_AP50"] == pytest.approx(100 * 51 / 101 / 2)
    pairs = best_pairs(truth(objects).dataset["annotations"], found)
    assert [(one["bbox"], other["bbox"]) for one, other in pairs] == [
        ([8, 8, 3, 3], [0, 0, 4, 4]),
        ([6, 6, 4, 4], [6, 6, 4, 4]),
    ]


def test_crowds_are_no_objects_of_single_and_no_prediction_gives_zero() -> None:
    objects = [(0, (0, 0, 4, 4), 1, True), (0, (6, 6, 4, 4), 1, False), (1, (0, 0, 3, 3), 1, False)]
    (pair,) = best_pairs(truth(objects).dataset["annotations"], [detection(0, (0, 0, 4, 4), 0.5)])
    assert pair[1]["bbox"] == [6, 6, 4, 4]
    nothing = score_class_agnostic(truth(objects), [])
    assert set(nothing.metrics.values()) == {0.0} and set(nothing.metrics) == set(nothing.shares)
    assert all(len(of_images) == 4 for of_images in nothing.shares.values())
