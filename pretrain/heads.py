"""Projection heads.

None of them has batch norm. They start with PyTorch's defaults (uniform within 1 / sqrt(fan-in)), as in the MoCo code.
The DenseCL code builds on OpenSelfSup, which draws other initial weights: `init_openselfsup`.
"""

from __future__ import annotations

from torch import nn


def mlp_head(width: int, hidden: int, dim: int) -> nn.Sequential:
    """Vectors (N, width) -> (N, dim): linear, ReLU, linear, with biases (MoCo v2, arXiv 2003.04297)."""
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, dim))


def dense_head(width: int, hidden: int, dim: int) -> nn.Sequential:
    """Maps (N, width, H, W) -> (N, dim, H, W): the same perceptron at every cell (DenseCL, CVPR 2021)."""
    return nn.Sequential(nn.Conv2d(width, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, dim, 1))


def init_openselfsup(backbone: nn.Module, head: nn.Module) -> None:
    """Redraw the weights as OpenSelfSup does for MoCo v2 and DenseCL.

    Backbone convolutions: Kaiming normal with fan-in (PyTorch's MoCo: fan-out). Linear layers of the head: the same,
    with zero biases. The 1x1 convolutions of a dense head are not touched there, so they keep PyTorch's default.
    """
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            nn.init.zeros_(module.bias)
