"""The VOC metric against a plain loop written from the devkit's rules, and against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bench.errors import BenchError
from bench.metrics.voc_detection import (
    Detections,
    Objects,
    evaluate_voc,
    inclusive_iou,
    round_like_results_file,
)

Boxes = list[tuple[float, float, float, float]]


def objects(boxes: Boxes, labels: list[int] | None = None, difficult: list[bool] | None = None) -> Objects:
    return Objects(
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(labels if labels is not None else [0] * len(boxes), np.int64),
        np.array(difficult if difficult is not None else [False] * len(boxes), bool),
    )


def detections(boxes: Boxes, scores: list[float], labels: list[int] | None = None) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(labels if labels is not None else [0] * len(boxes), np.int64),
    )


# --- an independent implementation: strings as in the results file, one detection after the other


def reference_iou(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    area = (a[2] - a[0] + 1) * (a[3] - a[1] + 1) + (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
    return width * height / (area - width * height)


def reference_ap(truth: list[Objects], found: list[Detections], label: int, threshold: float) -> float | None:
    ground: list[list[tuple[list[float], bool]]] = []
    for image in truth:
        ground.append(
            [
                ([box[0] + 1, box[1] + 1, box[2], box[3]], bool(difficult))
                for box, own, difficult in zip(image.boxes.tolist(), image.labels, image.difficult, strict=True)
                if own == label
            ]
        )
    positives = sum(not difficult for image in ground for _, difficult in image)
    if positives == 0:
        return None
    lines = []
    for index, image in enumerate(found):
        for box, score, own in zip(image.boxes, image.scores, image.labels, strict=True):
            if own == label:
                x1, y1 = box[0] + np.float32(1), box[1] + np.float32(1)
                lines.append(f"{index} {score:.3f} {x1:.1f} {y1:.1f} {box[2]:.1f} {box[3]:.1f}")
    rows = [line.split() for line in lines]
    rows.sort(key=lambda row: -float(row[1]))  # stable
    taken: set[tuple[int, int]] = set()
    curve, true, false = [], 0, 0
    for row in rows:
        image_index, box = int(row[0]), [float(value) for value in row[2:]]
        best, best_iou = -1, -1.0
        for number, (other, _) in enumerate(ground[image_index]):
            iou = reference_iou(box, other)
            if iou > best_iou:
                best, best_iou = number, iou
        if best_iou > threshold:
            if ground[image_index][best][1]:
                continue
            if (image_index, best) in taken:
                false += 1
            else:
                taken.add((image_index, best))
                true += 1
        else:
            false += 1
        curve.append((true / positives, true / (true + false)))
    total = 0.0
    for step in range(11):
        total += max((precision for recall, precision in curve if recall >= np.arange(0, 1.1, 0.1)[step]), default=0.0)
    return total / 11


coordinate = st.integers(0, 60).map(lambda value: value / 4)
size = st.integers(2, 60).map(lambda value: value / 4)


@st.composite
def box_lists(draw: st.DrawFn, most: int) -> Boxes:
    rows = draw(st.lists(st.tuples(coordinate, coordinate, size, size), max_size=most))
    return [(x, y, x + w, y + h) for x, y, w, h in rows]


@st.composite
def images(draw: st.DrawFn) -> tuple[Objects, Detections]:
    boxes = draw(box_lists(5))
    truth = objects(
        boxes,
        draw(st.lists(st.integers(0, 2), min_size=len(boxes), max_size=len(boxes))),
        draw(st.lists(st.booleans(), min_size=len(boxes), max_size=len(boxes))),
    )
    # half of the detections are objects moved a little, so that all thresholds are crossed
    shift = st.tuples(*[st.integers(-9, 9).map(lambda value: value / 8)] * 4)
    near = [
        tuple(np.add(box, draw(shift)).tolist())
        for box in draw(st.lists(st.sampled_from(boxes), max_size=6) if boxes else st.just([]))
    ]
    candidates = near + draw(box_lists(4))
    n = len(candidates)
    scores = draw(st.lists(st.floats(0, 1, width=32), min_size=n, max_size=n))
    return truth, detections(candidates, scores, draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))


@settings(max_examples=200, deadline=None)
@given(st.lists(images(), min_size=1, max_size=5))
def test_equals_the_plain_loop(sample: list[tuple[Objects, Detections]]) -> None:
    truth, found = [t for t, _ in sample], [d for _, d in sample]
    expected = np.array(
        [[reference_ap(truth, found, label, threshold / 100) for threshold in range(50, 100, 5)] for label in range(3)],
        dtype=float,
    )
    if np.isnan(expected).all():
        with pytest.raises(BenchError, match="nothing can be evaluated"):
            evaluate_voc(truth, found, 3)
        return
    scores = evaluate_voc(truth, found, 3)
    np.testing.assert_allclose(scores.per_class, 100 * expected, rtol=0, atol=1e-9)
    assert scores.ap == pytest.approx(100 * np.nanmean(expected), abs=1e-9)
    assert scores.ap50 == pytest.approx(100 * np.nanmean(expected[:, 0]), abs=1e-9)
    assert scores.ap75 == pytest.approx(100 * np.nanmean(expected[:, 5]), abs=1e-9)


# --- by hand

SQUARE = (10.0, 10.0, 20.0, 20.0)
FAR = (40.0, 40.0, 50.0, 50.0)


def test_ground_truth_as_detections_is_100() -> None:
    truth = [objects([SQUARE, FAR], [0, 3]), objects([]), objects([FAR], [3])]
    found = [detections([SQUARE, FAR], [0.9, 0.8], [0, 3]), detections([], []), detections([FAR], [0.7], [3])]
    scores = evaluate_voc(truth, found, 5)
    assert (scores.ap, scores.ap50, scores.ap75) == (100, 100, 100)
    assert np.isnan(scores.per_class[[1, 2, 4]]).all()


def test_one_of_two_objects_found_reaches_six_of_eleven_recalls() -> None:
    scores = evaluate_voc([objects([SQUARE, FAR])], [detections([SQUARE], [0.9])], 1)
    assert scores.ap == pytest.approx(100 * 6 / 11)  # recalls 0, .1, ..., .5


def test_a_better_scored_false_positive_halves_precision() -> None:
    scores = evaluate_voc([objects([SQUARE])], [detections([FAR, SQUARE], [0.9, 0.8])], 1)
    assert scores.ap == pytest.approx(50)


def test_a_second_detection_of_an_object_is_a_false_positive() -> None:
    twice = [SQUARE, SQUARE, FAR]
    scores = evaluate_voc([objects([SQUARE, FAR])], [detections(twice, [0.9, 0.8, 0.7])], 1)
    assert scores.ap == pytest.approx(100 * (6 * 1 + 5 * 2 / 3) / 11)


def test_iou_equal_to_the_threshold_does_not_match() -> None:
    # 10 pixels wide and high; half of it in x is exactly IoU .5 with the inclusive pixel rule
    half = (10.0, 10.0, 15.0, 20.0)
    assert inclusive_iou(np.array([[11, 11, 15, 20.0]]), np.array([[11, 11, 20, 20.0]])) == 0.5
    scores = evaluate_voc([objects([SQUARE])], [detections([half], [0.9])], 1)
    assert scores.ap50 == 0
    wider = (10.0, 10.0, 15.2, 20.0)
    assert evaluate_voc([objects([SQUARE])], [detections([wider], [0.9])], 1).ap50 == 100


def test_pixel_areas_include_the_last_pixel() -> None:
    assert inclusive_iou(np.array([[5.0, 5, 5, 5]]), np.array([[5.0, 5, 5, 5]])) == 1
    assert inclusive_iou(np.array([[5.0, 5, 6, 5]]), np.array([[5.0, 5, 5, 5]])) == 0.5
    assert inclusive_iou(np.array([[5.0, 5, 5, 5]]), np.array([[6.0, 5, 6, 5]])) == 0


def test_difficult_objects_and_their_detections_do_not_count() -> None:
    truth = [objects([SQUARE, FAR], difficult=[True, False])]
    assert evaluate_voc(truth, [detections([FAR], [0.5])], 1).ap == 100
    found = [detections([SQUARE, SQUARE, FAR], [0.9, 0.8, 0.5])]
    assert evaluate_voc(truth, found, 1).ap == 100


def test_a_class_with_difficult_objects_only_is_left_out_of_the_mean() -> None:
    truth = [objects([SQUARE, FAR], [0, 1], [False, True])]
    scores = evaluate_voc(truth, [detections([SQUARE, FAR], [0.9, 0.9], [0, 1])], 2)
    assert scores.ap == 100
    assert np.isnan(scores.per_class[1]).all()


def test_detections_of_a_class_without_objects_do_not_count() -> None:
    scores = evaluate_voc([objects([SQUARE])], [detections([SQUARE, FAR], [0.5, 0.9], [0, 1])], 2)
    assert scores.ap == 100


def test_missed_class_is_zero() -> None:
    scores = evaluate_voc([objects([SQUARE, FAR], [0, 1])], [detections([SQUARE], [0.5])], 2)
    assert scores.ap == 50


def test_scores_that_round_to_the_same_value_keep_their_order() -> None:
    # .9001 and .9004 are both .900 in the results file: the first in the list comes first although its score is lower
    scores = evaluate_voc([objects([SQUARE])], [detections([SQUARE, FAR], [0.9001, 0.9004])], 1)
    assert scores.ap == 100
    assert evaluate_voc([objects([SQUARE])], [detections([SQUARE, FAR], [0.9001, 0.9016])], 1).ap == 50


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(-2000, 2000, width=32), min_size=1), st.lists(st.floats(0, 1, width=32), min_size=1))
def test_rounding_equals_writing_and_reading_a_results_file(boxes: list[float], scores: list[float]) -> None:
    rounded_boxes, rounded_scores = round_like_results_file(np.array(boxes, np.float32), np.array(scores, np.float32))
    np.testing.assert_array_equal(rounded_boxes, [float(f"{value:.1f}") for value in boxes])
    np.testing.assert_array_equal(rounded_scores, [float(f"{value:.3f}") for value in scores])


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_that_is_no_class_is_named(label: int) -> None:
    with pytest.raises(BenchError, match=f"detections: label {label} is not one of the 2 classes"):
        evaluate_voc([objects([SQUARE])], [detections([SQUARE], [0.9], [label])], 2)
    with pytest.raises(BenchError, match=f"ground truth: label {label}"):
        evaluate_voc([objects([SQUARE], [label])], [detections([SQUARE], [0.9])], 2)


def test_figures_that_are_not_finite_are_refused() -> None:
    with pytest.raises(BenchError, match="diverged"):
        evaluate_voc([objects([SQUARE])], [detections([SQUARE], [float("nan")])], 1)
    with pytest.raises(BenchError, match="not a finite number"):
        evaluate_voc([objects([SQUARE])], [detections([(0.0, 0.0, float("inf"), 1.0)], [0.5])], 1)


def test_lists_of_different_length_are_refused() -> None:
    with pytest.raises(BenchError, match="2 images have ground truth, but 1 have detections"):
        evaluate_voc([objects([SQUARE]), objects([])], [detections([], [])], 1)
    one_label: NDArray[np.int64] = np.zeros(1, np.int64)
    with pytest.raises(BenchError, match="ground truth of image 0: 2 boxes, but 1 labels"):
        evaluate_voc([Objects(np.zeros((2, 4)), one_label, np.zeros(1, bool))], [detections([], [])], 1)


def test_many_equal_scores_keep_their_order() -> None:
    # numpy's default sort keeps the order of short arrays only
    boxes = [FAR] * 150 + [SQUARE] + [FAR] * 150
    scores = evaluate_voc([objects([SQUARE])], [detections(boxes, [0.5] * 301)], 1)
    assert scores.ap == pytest.approx(100 / 151)


def test_of_two_objects_at_one_place_the_first_is_compared() -> None:
    both, found = [SQUARE, SQUARE], [detections([SQUARE], [0.9])]
    assert evaluate_voc([objects(both, difficult=[True, False])], found, 1).ap == 0
    assert evaluate_voc([objects(both, difficult=[False, True])], found, 1).ap == 100
