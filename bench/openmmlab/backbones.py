"""Modules that the OpenMMLab libraries lack: our networks as backbones, and ViTDet's pyramid. Import after
`prepare_openmmlab`.
"""

from __future__ import annotations

from typing import Any

from mmcv.cnn import ConvModule, build_norm_layer
from mmdet.registry import MODELS as MMDET_MODELS
from mmseg.registry import MODELS as MMSEG_MODELS
from torch import Tensor, nn

from bench.patches import features
from pretrain.nets.architectures import build_backbone
from pretrain.nets.timm_models import with_synchronised_norms


@MMDET_MODELS.register_module()
@MMSEG_MODELS.register_module()
class DenseBenchBackbone(nn.Module):
    """A network of `pretrain.nets.architectures`, with maps for necks and heads."""

    def __init__(self, architecture: str, out_indices: tuple[int, ...], synchronised: bool = False) -> None:
        super().__init__()
        network = build_backbone(architecture)
        self.network: nn.Module = with_synchronised_norms(network) if synchronised else network
        self.out_indices = out_indices

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps with the indices `out_indices`, of the network's four, for normalized images (N, 3, H, W)."""
        maps = features(self.network, x)
        return tuple(maps[i] for i in self.out_indices)


@MMDET_MODELS.register_module()
@MMSEG_MODELS.register_module()
class SimplePyramid(nn.Module):
    """The simple feature pyramid of ViTDet (Li et al., ECCV 2022, arXiv 2203.16527): levels from one map, finer ones by
    transposed convolutions, coarser ones by max-pooling, then a 1x1 and a 3x3 convolution each.

    Args:
        in_channels: channels of the map.
        stride: stride of the map in input pixels.
        out_channels: channels of every level.
        strides: strides of the levels: `stride` times or divided by powers of two.
        norm_cfg: the norm after each convolution; ViTDet's is a layer norm over channels.
    """

    def __init__(
        self, in_channels: int, stride: int, out_channels: int, strides: list[int], norm_cfg: dict[str, Any]
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        for wanted in strides:
            layers: list[nn.Module] = []
            channels, now = in_channels, stride
            while now > wanted:
                if channels != in_channels:  # between two of them
                    layers += [build_norm_layer(norm_cfg, channels)[1], nn.GELU()]
                layers.append(nn.ConvTranspose2d(channels, channels // 2, 2, 2))
                channels, now = channels // 2, now // 2
            while now < wanted:
                layers.append(nn.MaxPool2d(2, 2))
                now *= 2
            layers.append(ConvModule(channels, out_channels, 1, norm_cfg=norm_cfg, act_cfg=None))
            layers.append(ConvModule(out_channels, out_channels, 3, padding=1, norm_cfg=norm_cfg, act_cfg=None))
            self.levels.append(nn.Sequential(*layers))

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The levels of the last of `maps` (N, in_channels, h, w), in the order of `strides`."""
        return tuple(level(maps[-1]) for level in self.levels)
