"""Matching against plain loops over its rule, and its two differences from mmdet's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.openmmlab import prepare_openmmlab

prepare_openmmlab()

from mmdet.models.task_modules.assigners import MaxIoUAssigner  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

from bench.openmmlab.matching import Detectron2Assigner  # noqa: E402

RPN = {"background": 0.3, "foreground": 0.7, "best_anchors": True}
REGIONS = {"background": 0.5, "foreground": 0.5, "best_anchors": False}


def expected(overlaps: list[list[float]], background: float, foreground: float, best_anchors: bool) -> list[int]:
    """The number of each box's object, from 1; 0 background, -1 nothing."""
    boxes = len(overlaps[0]) if overlaps else 0
    numbers = []
    for box in range(boxes):
        column = [row[box] for row in overlaps]
        nearest = column.index(max(column))
        number = nearest + 1 if max(column) >= foreground else -1 if max(column) >= background else 0
        if best_anchors and any(row[box] == max(row) for row in overlaps):
            number = nearest + 1
        numbers.append(number)
    return numbers


shares = st.sampled_from([0.0, 0.1, 0.25, 0.29, 0.3, 0.45, 0.5, 0.6, 0.7, 0.71, 1.0])
matrices = st.tuples(st.integers(1, 4), st.integers(1, 6)).flatmap(
    lambda shape: st.lists(st.lists(shares, min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0])
)


@settings(max_examples=50)
@given(matrices, st.sampled_from([RPN, REGIONS]))
def test_each_box_learns_what_the_rule_says(overlaps: list[list[float]], rule: dict[str, float]) -> None:
    labels = torch.arange(len(overlaps)) + 5
    found = Detectron2Assigner(**rule).match(torch.tensor(overlaps, dtype=torch.float64), labels)
    numbers = expected(overlaps, **rule)
    assert found.gt_inds.tolist() == numbers
    assert found.labels.tolist() == [number + 4 if number > 0 else -1 for number in numbers]
    assert found.max_overlaps.tolist() == [max(column) for column in zip(*overlaps, strict=True)]


def test_boxes_are_compared_by_their_iou() -> None:
    objects = InstanceData(bboxes=torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]]), labels=torch.tensor([3, 4]))
    boxes = InstanceData(priors=torch.tensor([[0.0, 0, 10, 5], [0, 0, 10, 4], [21, 20, 31, 30]]))
    assert Detectron2Assigner(**REGIONS).assign(boxes, objects, objects).gt_inds.tolist() == [1, 0, 2]


def test_without_objects_all_is_background() -> None:
    nothing = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    boxes = InstanceData(priors=torch.tensor([[0.0, 0, 10, 5]]))
    found = Detectron2Assigner(**RPN).assign(boxes, nothing)
    assert (found.gt_inds.tolist(), found.labels.tolist()) == ([0], [-1])
    assert Detectron2Assigner(**RPN).assign(InstanceData(priors=torch.zeros(0, 4)), nothing).gt_inds.tolist() == []


@pytest.mark.parametrize(
    ("overlaps", "ours", "mmdet"),
    [
        ([[0.2, 0.1]], [1, 0], [0, 0]),  # the best anchor of an object, below mmdet's least overlap
        ([[0.9, 0.1], [0.8, 0.1]], [1, 0], [2, 0]),  # an anchor that is the best of two objects
    ],
)
def test_the_differences_from_mmdet(overlaps: list[list[float]], ours: list[int], mmdet: list[int]) -> None:
    values, labels = torch.tensor(overlaps), torch.arange(len(overlaps))
    with DefaultScope.overwrite_default_scope("mmdet"):  # whatever was built before in this process
        theirs = MaxIoUAssigner(pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3)
    assert Detectron2Assigner(**RPN).match(values, labels).gt_inds.tolist() == ours
    assert theirs.assign_wrt_overlaps(values, labels).gt_inds.tolist() == mmdet
