"""Boxes and masks of a file that do not belong together."""

from collections.abc import Callable

import pytest

from bench.datasets.coco_masks import Mask
from bench.datasets.coco_objects import Box, CocoImage, CocoObject
from bench.datasets.coco_units import report_units
from bench.datasets.report import Findings, Problem

IMAGE = CocoImage(1, "1.jpg", 120, 80)
BOXES: list[Box] = [(10 + 3 * n, 5 + 2 * n, 30, 20 + n) for n in range(10)]


def found(box: Callable[[Box], Box], mask: Callable[[Box], Box] = lambda b: b, *, changed: int = 10) -> list[Problem]:
    """What is said of ten objects of which `changed` have other numbers than they should."""
    objects = []
    for number, right in enumerate(BOXES, 1):
        written, (x, y, w, h) = (box(right), mask(right)) if number <= changed else (right, right)
        polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
        outline = Mask([list(polygon)], (x, y, x + w, y + h))
        objects.append(CocoObject(number, IMAGE, 1, written, 600.0, False, False, outline))
    findings = Findings()
    report_units(objects, "train.json", findings)
    return list(findings.problems())


def same(box: Box) -> Box:
    return box


def divided(box: Box) -> Box:
    x, y, w, h = box
    return x / 120, y / 80, w / 120, h / 80


def test_what_belongs_together_is_no_problem() -> None:
    assert found(same) == []
    assert found(lambda b: (b[0] + 2, b[1] - 2, b[2] - 2, b[3] + 4)) == []  # drawn loosely


@pytest.mark.parametrize(
    ("box", "mask", "meaning"),
    [
        (lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]), same, "boxes look like [x1, y1, x2, y2];"),
        (
            lambda b: (b[0] + b[2] / 2, b[1] + b[3] / 2, b[2], b[3]),
            same,
            "boxes look like [center x, center y, width, ",
        ),
        (
            lambda b: (b[1], b[0], b[3], b[2]),
            same,
            "boxes look like [y, x, height, width] or polygons look like [y0, x0",
        ),
        (same, divided, "polygons look divided by the image's size;"),
    ],
)
def test_other_meanings_of_a_whole_file_are_named(
    box: Callable[[Box], Box], mask: Callable[[Box], Box], meaning: str
) -> None:
    (problem,) = found(box, mask)
    assert problem.severity == "error"
    assert meaning in problem.message
    assert "masks lie elsewhere than their boxes, such as annotation " in problem.message


@pytest.mark.parametrize("mask", [same, divided])
def test_boxes_divided_by_the_size(mask: Callable[[Box], Box]) -> None:
    (problem,) = found(divided, mask)
    assert problem.severity == "error"
    assert problem.message.startswith("train.json: 10 of 10 boxes lie within their image's first pixel")


def test_masks_of_other_objects() -> None:
    (problem,) = found(lambda b: (70 + b[0] / 3, 50, 10, 9))
    assert problem.severity == "error"
    assert (
        "10 of 10 masks lie elsewhere than their boxes, such as annotation 1: they are not of the same"
        in problem.message
    )


def test_a_few_are_counted() -> None:
    (problem,) = found(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]), changed=4)
    assert problem.severity == "warning"
    assert problem.message.startswith("train.json: ") and " of 10 masks lie elsewhere" in problem.message
