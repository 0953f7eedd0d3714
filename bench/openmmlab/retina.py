"""RetinaNet (Lin et al., ICCV 2017, arXiv 1708.02002) as detectron2 trains and evaluates it, where mmdet differs.

Import after `prepare_openmmlab`. The losses of both are sums over anchors, divided by a number of positive anchors:
detectron2 by its moving average, which images with few of them change little, mmdet by that of the batch. mmdet
normalizes all levels of the pyramid, detectron2 not the two on top of it; mmdet clips boxes to their image before
non-maximum suppression, detectron2 after it.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from mmcv.cnn import ConvModule
from mmdet.models.dense_heads import RetinaHead
from mmdet.models.necks import FPN
from mmdet.registry import MODELS
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor

FIRST_POSITIVES, KEPT = 50.0, 0.9
"""Positive anchors per image with which the moving average begins (detectron2: 100 for the two images of a GPU), and
the share of it that an iteration keeps."""


@MODELS.register_module()
class RetinaPyramid(FPN):
    """A feature pyramid whose levels beyond the backbone's are convolutions without norm, P7 one of relu(P6).

    Args:
        add_extra_convs: P6 is a convolution of C5 (`on_input`), or of P5 (`on_output`).
        kwargs: the other arguments of mmdet's `FPN`.
    """

    def __init__(self, add_extra_convs: Literal["on_input", "on_output"] = "on_input", **kwargs: Any) -> None:
        super().__init__(add_extra_convs=add_extra_convs, relu_before_extra_convs=True, **kwargs)
        stages = len(self.lateral_convs)
        for level in range(stages, self.num_outs):
            first = level == stages and add_extra_convs == "on_input"
            channels = self.in_channels[-1] if first else self.out_channels
            self.fpn_convs[level] = ConvModule(channels, self.out_channels, 3, stride=2, padding=1, act_cfg=None)


class ClippingLast:
    """A head of mmdet that clips boxes to their image after non-maximum suppression."""

    def _bbox_post_process(self, results: InstanceData, cfg: Any, *args: Any, **kwargs: Any) -> InstanceData:
        """Suppress overlapping boxes as they were predicted, then clip them to their image and drop those outside."""
        kept: InstanceData = super()._bbox_post_process(  # type: ignore[misc]
            results, cfg, *args, **kwargs
        )
        meta = kwargs["img_meta"]
        kept.bboxes = _clipped(kept.bboxes, *meta["ori_shape" if kwargs.get("rescale") else "img_shape"][:2])
        sides = kept.bboxes[:, 2:] - kept.bboxes[:, :2]
        inside: InstanceData = kept[(sides > 0).all(dim=1)]
        return inside


@MODELS.register_module()
class Detectron2RetinaHead(ClippingLast, RetinaHead):
    """RetinaNet's head, whose losses are divided by a moving average of the number of positive anchors.

    The average is one of the head's buffers, so that a run that continues has it. Where several processes share the
    batch, it is that of the whole batch, as on one device.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.register_buffer("positives_per_image", torch.tensor(FIRST_POSITIVES, dtype=torch.float64))

    def get_targets(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """What mmdet's head gives; the number of positive anchors, by which losses are divided, is the average."""
        labels, *others, _ = super().get_targets(*args, **kwargs)
        images = len(labels[0])
        found = sum((level < self.num_classes).sum() for level in labels)
        positives = reduce_mean(found.double()).clamp(min=1)
        self.positives_per_image.mul_(KEPT).add_(positives / images, alpha=1 - KEPT)
        return labels, *others, float(self.positives_per_image) * images


def _clipped(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes (N, 4) as x1, y1, x2, y2 within an image."""
    return boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))
