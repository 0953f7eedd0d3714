"""Segmentation metrics against a plain loop and against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from bench.errors import BenchError
from bench.metrics.segmentation import confusion_matrix, segmentation_scores

labels = arrays(np.uint8, (5, 7), elements=st.sampled_from([0, 1, 2, 3, 255]))
predictions = arrays(np.int64, (5, 7), elements=st.integers(0, 3))


@given(st.lists(st.tuples(labels, predictions), min_size=1, max_size=4))
def test_equals_the_plain_loop(images: list[tuple[NDArray[np.uint8], NDArray[np.int64]]]) -> None:
    expected = [[0] * 4 for _ in range(4)]
    for label, prediction in images:
        for row in range(5):
            for column in range(7):
                if label[row, column] != 255:
                    expected[label[row, column]][prediction[row, column]] += 1
    matrix = sum((confusion_matrix(*image, 4) for image in images), np.zeros((4, 4), np.int64))
    assert matrix.tolist() == expected
    assert matrix.dtype == np.int64
    total = sum(map(sum, expected))
    if total == 0:
        with pytest.raises(BenchError, match="no labelled pixel"):
            segmentation_scores(matrix)
        return
    ious, recalls = [], []
    for k in range(4):
        labelled, predicted = sum(expected[k]), sum(row[k] for row in expected)
        if labelled + predicted:
            ious.append(expected[k][k] / (labelled + predicted - expected[k][k]))
        if labelled:
            recalls.append(expected[k][k] / labelled)
    scores = segmentation_scores(matrix)
    assert scores.miou == pytest.approx(100 * sum(ious) / len(ious))
    assert scores.mean_accuracy == pytest.approx(100 * sum(recalls) / len(recalls))
    assert scores.pixel_accuracy == pytest.approx(100 * sum(expected[k][k] for k in range(4)) / total)


def test_by_hand() -> None:
    label = np.array([[0, 0, 1, 1], [0, 0, 1, 255]], np.uint8)
    prediction = np.array([[0, 0, 1, 0], [0, 1, 1, 3]])
    scores = segmentation_scores(confusion_matrix(label, prediction, 4))
    # class 0: 3 hits of 3 + 1 + 1; class 1: 2 hits of 2 + 1 + 1; classes 2 and 3 occur nowhere: pixel (1, 3) is ignored
    np.testing.assert_allclose(scores.iou, [60, 50, np.nan, np.nan])
    np.testing.assert_allclose(scores.accuracy, [75, 100 * 2 / 3, np.nan, np.nan])
    assert scores.miou == pytest.approx(55)
    assert scores.mean_accuracy == pytest.approx((75 + 100 * 2 / 3) / 2)
    assert scores.pixel_accuracy == pytest.approx(100 * 5 / 7)


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    scores = segmentation_scores(confusion_matrix(np.array([[0, 0]]), np.array([[0, 2]]), 3))
    np.testing.assert_allclose(scores.iou, [50, np.nan, 0])
    assert scores.miou == 25


def test_whole_set_is_not_the_mean_over_images() -> None:
    first = confusion_matrix(np.array([[0, 1]]), np.array([[0, 1]]), 2)
    second = confusion_matrix(np.array([[0, 0, 0, 0]]), np.array([[1, 1, 1, 1]]), 2)
    assert segmentation_scores(first).miou == 100
    assert segmentation_scores(second).miou == 0
    assert segmentation_scores(first + second).miou == pytest.approx(20)


def test_nothing_is_rounded() -> None:
    matrix = np.array([[2, 1], [0, 3]], np.int64)
    assert segmentation_scores(matrix).miou == pytest.approx(100 * (2 / 3 + 3 / 4) / 2, abs=1e-12)


def test_counts_beyond_32_bits() -> None:
    matrix = np.array([[6_000_000_000, 0], [2_000_000_000, 4_000_000_000]], np.int64)
    np.testing.assert_allclose(segmentation_scores(matrix).iou, [75, 100 * 2 / 3])


@pytest.mark.parametrize("wrong", [21, 254, 300])
def test_an_id_that_is_no_class_is_named(wrong: int) -> None:
    good, bad = np.zeros((2, 2), np.int64), np.array([[0, 0], [wrong, 0]])
    with pytest.raises(BenchError, match=rf"2007_000001\.png: label id {wrong} is not one of the classes 0 to 20"):
        confusion_matrix(bad, good, 21, name="2007_000001.png")
    with pytest.raises(BenchError, match=f"predicted id {wrong}"):
        confusion_matrix(good, bad, 21)


def test_a_negative_label_or_a_predicted_255_is_refused() -> None:
    zero = np.zeros((1, 1), np.int64)
    with pytest.raises(BenchError, match="label id -1"):
        confusion_matrix(zero - 1, zero, 3)
    with pytest.raises(BenchError, match="predicted id 255 is not"):
        confusion_matrix(zero, zero + 255, 3)


def test_maps_of_different_size_are_refused() -> None:
    with pytest.raises(BenchError, match=r"the label map is \(2, 2\), the prediction \(2, 3\)"):
        confusion_matrix(np.zeros((2, 2), np.int64), np.zeros((2, 3), np.int64), 3)
