"""hotcoco beside pycocotools on detections like a detector's, of real annotations."""

from pathlib import Path

import numpy as np
import pytest

from bench.benchmarks.coco_evaluation import ANNOTATIONS, KINDS, _moved, compare


@pytest.mark.slow
def test_equal_on_five_thousand_detections_of_real_objects(shared_data: Path) -> None:
    found = compare(shared_data / ANNOTATIONS, count=5000, rounds=1)
    assert set(found) == set(KINDS)
    for one in found.values():
        values = one["values"]
        assert values["densebench"] == pytest.approx(values["pycocotools"], abs=1e-12)
        assert values["hotcoco"] == pytest.approx(values["pycocotools"], abs=1e-12)
        assert one["largest_difference"] < 1e-12 and set(one["seconds"]) == set(values)
        assert 5 < values["pycocotools"]["AP"] < 95 and len(values["pycocotools"]) >= 5


@pytest.mark.parametrize(("x", "y"), [(2, 1), (-2, -1), (0, 3), (5, 0), (-9, 2)])
def test_masks_are_moved(x: int, y: int) -> None:
    mask = (np.random.default_rng(0).random((4, 5)) < 0.5).astype(np.uint8)
    expected = np.zeros_like(mask)
    for row, column in zip(*np.nonzero(mask), strict=True):
        if 0 <= row + y < 4 and 0 <= column + x < 5:
            expected[row + y, column + x] = 1
    np.testing.assert_array_equal(_moved(mask, x, y), expected)
