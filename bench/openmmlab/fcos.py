"""FCOS (Tian et al., ICCV 2019, arXiv 1904.01355) as AdelaiDet trains and evaluates it, where mmdet differs.

Import after `prepare_openmmlab`. AdelaiDet's overlaps are those of areas to which 1 is added, in cells of the level; it
keeps the candidates of a level by class and centerness together (mmdet: by class alone), and scores by the root of
their product. As detectron2, it clips boxes after non-maximum suppression.
"""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.dense_heads import FCOSHead
from mmdet.registry import MODELS
from torch import Tensor, nn

from bench.openmmlab.retina import ClippingLast


@MODELS.register_module()
class SmoothedGIoULoss(nn.Module):
    """1 - GIoU (Rezatofighi et al., CVPR 2019), where the IoU is (intersection + 1) / (union + 1)."""

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor, avg_factor: float | Tensor) -> Tensor:
        """The sum over boxes `pred` and `target` (N, 4) times `weight` (N,), divided by `avg_factor`.

        Boxes are x1, y1, x2, y2; those of a row overlap.
        """
        lower, upper = torch.max(pred[:, :2], target[:, :2]), torch.min(pred[:, 2:], target[:, 2:])
        hull = (torch.max(pred[:, 2:], target[:, 2:]) - torch.min(pred[:, :2], target[:, :2])).prod(dim=1)
        shared = (upper - lower).prod(dim=1)
        union = (pred[:, 2:] - pred[:, :2]).prod(dim=1) + (target[:, 2:] - target[:, :2]).prod(dim=1) - shared
        giou = (shared + 1) / (union + 1) - (hull - union) / hull
        return ((1 - giou) * weight).sum() / avg_factor


@MODELS.register_module()
class AdelaiFCOSHead(ClippingLast, FCOSHead):
    """FCOS's head with AdelaiDet's candidates and scores.

    Args:
        least_score: candidates have a probability of their class above it.
        kwargs: arguments of mmdet's `FCOSHead`.
    """

    def __init__(self, least_score: float, **kwargs: Any) -> None:
        self.least_score = least_score
        super().__init__(**kwargs)

    def predict_by_feat(
        self, cls_scores: list[Tensor], bbox_preds: list[Tensor], score_factors: list[Tensor], **kwargs: Any
    ) -> Any:
        """As mmdet's head for one score of each class, the root of the product of class and centerness."""
        scores = [self._joint(*pair) for pair in zip(cls_scores, score_factors, strict=True)]
        return super().predict_by_feat(scores, bbox_preds, score_factors=None, **kwargs)

    def _joint(self, cls_score: Tensor, centerness: Tensor) -> Tensor:
        """What the sigmoid turns into the score (N, C, H, W); 0 where the class is too improbable."""
        of_class = cls_score.sigmoid()
        joint = (of_class * centerness.sigmoid()).sqrt().logit()
        return torch.where(of_class > self.least_score, joint, -torch.inf)
