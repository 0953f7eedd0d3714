"""What the multi-crop study does in segmentation and mmseg does not (Van Gansbeke et al., NeurIPS 2021, 2106.05967).

Import after `prepare_openmmlab`.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor, uint8
from torch.nn.functional import interpolate


@TRANSFORMS.register_module()
class ScaleAndRotate(BaseTransform):
    """Turns and scales the picture and its label maps about their middle; their size stays.

    Pixels are interpolated by cubic polynomials, labels take the nearest. What nothing covers is black, of label 0.

    Args:
        degrees: the angle is drawn uniformly from -`degrees` to `degrees`.
        ratios: range from which the scale is drawn uniformly.
    """

    def __init__(self, degrees: float, ratios: tuple[float, float]) -> None:
        self.degrees, self.ratios = degrees, ratios

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change `img` and the maps of labels."""
        height, width = results["img"].shape[:2]
        angle, ratio = np.random.uniform(-self.degrees, self.degrees), np.random.uniform(*self.ratios)
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, ratio)
        results["img"] = cv2.warpAffine(results["img"], turn, (width, height), flags=cv2.INTER_CUBIC)
        for name in results.get("seg_fields", []):
            results[name] = cv2.warpAffine(results[name], turn, (width, height), flags=cv2.INTER_NEAREST)
        return results


@MODELS.register_module()
class LabelResizingSegmenter(EncoderDecoder):
    """Resizes predicted labels to the image's own size, each pixel from the nearest one; mmseg resizes scores."""

    def postprocess_result(self, seg_logits: Tensor, data_samples: list[Any]) -> list[Any]:
        """Put the labels of scores (N, C, H, W) into the samples, as `pred_sem_seg`."""
        labels = seg_logits.argmax(dim=1, keepdim=True).to(uint8)
        for one, sample in zip(labels, data_samples, strict=True):
            resized = interpolate(one[None], size=sample.ori_shape, mode="nearest")[0]
            sample.set_data({"pred_sem_seg": PixelData(data=resized.long())})
        return data_samples
