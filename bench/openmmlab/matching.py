"""Assigns objects to anchors and regions by detectron2's rule. Import after `prepare_openmmlab`.

mmdet's `MaxIoUAssigner` differs in anchors with the largest overlap of an object, where this overlap is small: it
leaves out those below a minimum, and it assigns the others to that object even if they overlap another one more.
"""

from __future__ import annotations

from typing import Any

from mmdet.models.task_modules.assigners import AssignResult, BaseAssigner
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor

BACKGROUND, IGNORED = 0, -1
"""Special values in mmdet's `AssignResult.gt_inds`, besides the numbers of objects, which begin with 1."""


@TASK_UTILS.register_module()
class Detectron2Assigner(BaseAssigner):
    """Assigns each box the object that it overlaps most (the first of several), or background, or nothing.

    Args:
        background: a box of a smaller IoU is background.
        foreground: a box of at least this IoU gets the object; one in between gets nothing.
        best_anchors: whether the boxes that overlap an object most get an object, too, however small their IoU.
    """

    def __init__(self, background: float, foreground: float, best_anchors: bool) -> None:
        self.background, self.foreground, self.best_anchors = background, foreground, best_anchors

    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        **_: Any,
    ) -> AssignResult:
        """Match `pred_instances.priors` (N, 4) with `gt_instances.bboxes` (G, 4), as x1, y1, x2, y2.

        Ignored regions (COCO's crowds) are not used: detectron2 does not read them in training.
        """
        return self.match(bbox_overlaps(gt_instances.bboxes, pred_instances.priors), gt_instances.labels)

    def match(self, overlaps: Tensor, labels: Tensor) -> AssignResult:
        """Match boxes given IoUs (G, N) and the objects' labels (G,)."""
        objects, boxes = overlaps.shape
        numbers = labels.new_full((boxes,), BACKGROUND)
        classes = labels.new_full((boxes,), IGNORED)
        if not objects or not boxes:
            return AssignResult(objects, numbers, overlaps.new_zeros(boxes), classes)
        most, nearest = overlaps.max(dim=0)
        learns = most >= self.foreground
        if self.best_anchors:
            learns |= (overlaps == overlaps.max(dim=1, keepdim=True).values).any(dim=0)
        numbers[most >= self.background] = IGNORED
        numbers[learns] = nearest[learns] + 1
        classes[learns] = labels[nearest[learns]]
        return AssignResult(objects, numbers, most, classes)
