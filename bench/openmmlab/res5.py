"""The last stage of a ResNet as RoI head, as in C4 detectors. Import after `prepare_openmmlab`."""

from __future__ import annotations

from typing import Any

from mmcv.cnn import build_norm_layer
from mmdet.models.roi_heads.shared_heads import ResLayer
from mmdet.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class Res5ExtraNorm(ResLayer):
    """`layer4` of a ResNet, trained like the backbone, then one more normalization.

    The additional one is MoCo's (He et al., CVPR 2020, arXiv 1911.05722): a batch normalization of the last
    activations, which the box head reads. `layer4` comes from the checkpoint (`bench.openmmlab.build`).

    Args:
        depth: depth of the ResNet, as for the libraries' `ResNet`.
        norm_cfg: config of all its normalizations.
    """

    def __init__(self, depth: int, norm_cfg: dict[str, Any]) -> None:
        super().__init__(depth, stage=3, stride=2, style="pytorch", norm_cfg=norm_cfg, norm_eval=False)
        self.norm = build_norm_layer(norm_cfg, 512 * self.layer4.block.expansion)[1]

    def forward(self, x: Tensor) -> Tensor:
        """Map regions of `layer3` (K, C, 14, 14) to those of `layer4` (K, 2C, 7, 7)."""
        return self.norm(self.layer4(x))
