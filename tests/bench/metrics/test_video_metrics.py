"""J and F against the definition, pixel by pixel."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bench.metrics.video import Mask, boundary, contour_accuracy, jaccard, near, statistics

SIZE = (6, 150)  # .008 of the diagonal is 1.2 pixels: boundaries match within 2
masks = arrays(np.bool_, SIZE, elements=st.booleans(), fill=st.just(False))


def plain_boundary(mask: Mask) -> set[tuple[int, int]]:
    height, width = mask.shape
    found = set()
    for y in range(height):
        for x in range(width):
            steps = [(0, 1), (1, 0), (1, 1)]
            inside = [(y + dy, x + dx) for dy, dx in steps if y + dy < height and x + dx < width]
            if any(mask[y, x] != mask[there] for there in inside):
                found.add((y, x))
    return found


def plain_f(truth: Mask, predicted: Mask) -> float:
    a, b = plain_boundary(truth), plain_boundary(predicted)
    radius = math.ceil(0.008 * math.sqrt(truth.shape[0] ** 2 + truth.shape[1] ** 2))

    def matched(points: set[tuple[int, int]], others: set[tuple[int, int]]) -> float:
        return sum(any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in others) for y, x in points)

    if not a or not b:
        return float(not a and not b)
    precision, recall = matched(b, a) / len(b), matched(a, b) / len(a)
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


@given(masks, masks)
@settings(max_examples=20, deadline=None)
def test_j_and_f_are_the_definition(truth: Mask, predicted: Mask) -> None:
    assert set(zip(*map(list, np.nonzero(boundary(truth))), strict=True)) == plain_boundary(truth)
    assert contour_accuracy(truth, predicted) == pytest.approx(plain_f(truth, predicted), abs=1e-12)
    union = int((truth | predicted).sum())
    assert jaccard(truth, predicted) == pytest.approx((truth & predicted).sum() / union if union else 1)


def test_bounds() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:40] = True
    empty, full = np.zeros_like(mask), np.ones_like(mask)
    assert jaccard(mask, mask) == contour_accuracy(mask, mask) == 1
    assert jaccard(mask, ~mask) == 0
    assert jaccard(empty, empty) == contour_accuracy(empty, empty) == 1
    assert jaccard(mask, empty) == contour_accuracy(mask, empty) == contour_accuracy(empty, mask) == 0
    assert contour_accuracy(full, empty) == 1  # neither has a boundary
    assert not boundary(full).any()


def test_a_straight_boundary_may_be_off_by_the_tolerance() -> None:
    """8 pixels at DAVIS' size of 480 x 854."""

    def half(columns: int) -> Mask:
        return np.broadcast_to(np.arange(854) < columns, (480, 854))

    assert [contour_accuracy(half(400), half(400 + shift)) for shift in (-8, 8, -9, 9)] == [1, 1, 0, 0]


def test_the_disk_is_euclidean() -> None:
    point = np.zeros((9, 9), bool)
    point[4, 4] = True
    y, x = np.mgrid[:9, :9] - 4
    assert np.array_equal(near(point, 3), x**2 + y**2 <= 9)
    assert not near(np.zeros_like(point), 3).any()


def test_statistics_over_frames() -> None:
    """Four quarters with both edges: of 9 frames 1 to 3, 3 to 5, 5 to 7 and 7 to 9; recall is strictly above a half."""
    values = np.array([1.0, 0.8, 0.9, 0.5, 0.4, 0.6, 0.2, 0.1, 0.3])
    found = statistics(values)
    assert found.mean == pytest.approx(values.mean())
    assert found.recall == pytest.approx(4 / 9)
    assert found.decay == pytest.approx(0.9 - 0.2)
    one = statistics(np.array([0.7]))
    assert (one.mean, one.recall, one.decay) == (0.7, 1, 0)
