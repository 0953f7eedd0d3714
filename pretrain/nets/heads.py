"""Projection and prediction heads.

They start with PyTorch's defaults (uniform within 1 / sqrt(fan-in)), as in the MoCo code. The DenseCL code builds on
OpenSelfSup, which draws other initial weights: `init_openselfsup`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import nn


def mlp_head(width: int, hidden: int, dim: int) -> nn.Sequential:
    """Vectors (N, width) -> (N, dim): linear, ReLU, linear, with biases (MoCo v2, arXiv 2003.04297)."""
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, dim))


def dense_head(width: int, hidden: int, dim: int) -> nn.Sequential:
    """Maps (N, width, H, W) -> (N, dim, H, W): the same perceptron at every cell (DenseCL, CVPR 2021)."""
    return nn.Sequential(nn.Conv2d(width, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, dim, 1))


def norm_head(
    *widths: int,
    bias: bool = False,
    last_bias: bool = False,
    last_norm: Literal["none", "scale", "plain"] = "none",
    dense: bool = False,
) -> nn.Sequential:
    """A perceptron with batch norm: vectors (N, widths[0]) -> (N, widths[-1]).

    Every layer but the last is linear (with `bias`), batch norm, ReLU; the last is linear (with `last_bias`) and then
    `last_norm`: none, batch norm with a scale but no shift, or plain batch norm without either. With `dense` it is the
    same perceptron at every cell of maps (N, widths[0], H, W).

        BYOL        norm_head(2048, 4096, 256, bias=True), predictor norm_head(256, 4096, 256, bias=True)
        SimCLR      norm_head(2048, 2048, 128, last_norm="scale")
        SimSiam     norm_head(2048, 2048, 2048, 2048, last_norm="plain"), predictor norm_head(2048, 512, 2048,
                    last_bias=True)
        SwAV        norm_head(2048, 2048, 128, bias=True, last_bias=True)
    """

    def linear(inputs: int, outputs: int, bias: bool) -> nn.Module:
        return nn.Conv2d(inputs, outputs, 1, bias=bias) if dense else nn.Linear(inputs, outputs, bias=bias)

    def norm(width: int, *, affine: bool = True) -> nn.Module:
        return nn.BatchNorm2d(width, affine=affine) if dense else nn.BatchNorm1d(width, affine=affine)

    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths[:-1]):
        layers += [linear(inputs, outputs, bias), norm(outputs), nn.ReLU(inplace=True)]
    layers.append(linear(widths[-2], widths[-1], last_bias))
    if last_norm != "none":
        last = norm(widths[-1], affine=last_norm == "scale")
        if last_norm == "scale":
            last.get_parameter("bias").requires_grad_(False)  # it stays zero
        layers.append(last)
    return nn.Sequential(*layers)


def init_openselfsup(backbone: nn.Module | None, head: nn.Module) -> None:
    """Redraw the weights as OpenSelfSup does for MoCo v2 and DenseCL.

    Backbone convolutions: Kaiming normal with fan-in (PyTorch's MoCo: fan-out). Linear layers of the head: the same,
    with zero biases. The 1x1 convolutions of a dense head are not touched there, so they keep PyTorch's default.
    A backbone that was given to the method keeps its weights: None.
    """
    for module in () if backbone is None else backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
