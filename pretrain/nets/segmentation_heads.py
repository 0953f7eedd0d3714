"""Segmentation heads that are pretrained together with their backbone and exported next to it.

Modules and tensors have MMSegmentation's names (`ASPPHead`, `FCNHead`), so that a fine-tuning loads them as they are.
Batch norm follows every convolution; `bn_splits` is that of `architectures.build_backbone`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretrain.nets.batchnorm import SplitBatchNorm2d


class ConvNormReLU(nn.Module):
    """Convolution without bias, batch norm, ReLU; the map keeps its size."""

    def __init__(self, width: int, channels: int, kernel: int, *, dilation: int = 1, bn_splits: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(width, channels, kernel, padding=padding, dilation=dilation, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        self.bn = nn.BatchNorm2d(channels) if bn_splits == 1 else SplitBatchNorm2d(channels, splits=bn_splits)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, width, H, W) -> (N, channels, H, W)."""
        return self.bn(self.conv(x)).relu()


class ASPPHead(nn.Module):
    """Atrous spatial pyramid pooling: parallel convolutions of several dilations and the image's mean, then a 3x3.

    Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation, 2017, arXiv 1706.05587. A dilation of 1
    is a 1x1 convolution, any other a 3x3.
    """

    def __init__(self, width: int, channels: int, dilations: tuple[int, ...], *, bn_splits: int = 1) -> None:
        super().__init__()
        self.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvNormReLU(width, channels, 1, bn_splits=bn_splits))
        self.aspp_modules = nn.ModuleList(
            ConvNormReLU(width, channels, 1 if d == 1 else 3, dilation=d, bn_splits=bn_splits) for d in dilations
        )
        self.bottleneck = ConvNormReLU((1 + len(dilations)) * channels, channels, 3, bn_splits=bn_splits)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, width, H, W) -> (N, channels, H, W)."""
        pooled = self.image_pool(x).expand(-1, -1, *x.shape[2:])
        return self.bottleneck(torch.cat((pooled, *(module(x) for module in self.aspp_modules)), dim=1))


class FCNHead(nn.Module):
    """Two 3x3 convolutions, and a third over the concatenation of their output and the input.

    Long et al., Fully Convolutional Networks for Semantic Segmentation, CVPR 2015, arXiv 1411.4038.
    """

    def __init__(self, width: int, channels: int, *, bn_splits: int = 1) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            ConvNormReLU(width, channels, 3, bn_splits=bn_splits),
            ConvNormReLU(channels, channels, 3, bn_splits=bn_splits),
        )
        self.conv_cat = ConvNormReLU(width + channels, channels, 3, bn_splits=bn_splits)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, width, H, W) -> (N, channels, H, W)."""
        return self.conv_cat(torch.cat((x, self.convs(x)), dim=1))
