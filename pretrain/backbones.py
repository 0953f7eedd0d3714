"""Backbones: ResNets in torchvision's layout, without the classifier, with the map of every stage.

The blocks are torchvision's own, so a state dict has torchvision's names (`conv1.weight`, `layer1.0.bn1.weight`, ...)
less `fc.*`, and weights go both ways without a converter.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet

from pretrain.errors import PretrainError

ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet101")
_BUILDERS = {
    "resnet18": resnet.resnet18,
    "resnet34": resnet.resnet34,
    "resnet50": resnet.resnet50,
    "resnet101": resnet.resnet101,
}
STRIDES = (4, 8, 16, 32)
"""Input pixels per cell of C2, C3, C4 and C5."""


class SplitBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that treats a batch of N as `splits` batches of N / splits, as that many devices would.

    In training, slice g (images gN/G to (g+1)N/G - 1) is normalised with its own mean and variance, and the running
    statistics become the mean of those that the slices alone would have given. In evaluation it is plain batch norm.

    Raises `PretrainError` in training if N is not a multiple of `splits`.
    """

    def __init__(self, num_features: int, *, splits: int) -> None:
        super().__init__(num_features)
        self.splits = splits

    def forward(self, input: Tensor) -> Tensor:
        """Normalise `input` (N, C, H, W)."""
        if not self.training:
            return super().forward(input)
        n = len(input)
        if n % self.splits:
            raise PretrainError(
                f"a batch of {n} images cannot be cut into {self.splits} equal parts for batch norm; "
                "choose a batch size per process that is a multiple of bn_splits"
            )
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            raise PretrainError("split batch norm needs running statistics; build it with track_running_stats=True")
        means = self.running_mean.repeat(self.splits, 1)
        variances = self.running_var.repeat(self.splits, 1)
        parts = [
            F.batch_norm(part, mean, variance, self.weight, self.bias, True, self.momentum or 0.0, self.eps)
            for part, mean, variance in zip(input.chunk(self.splits), means, variances, strict=True)
        ]
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.copy_(means.mean(0))
            self.running_var.copy_(variances.mean(0))
        return torch.cat(parts)


class ResNet(nn.Module):
    """A torchvision ResNet without pooling and classifier.

    `width` is the number of channels of the last map: 512 for ResNet-18 and -34, 2048 for ResNet-50 and -101.
    Convolutions start as in torchvision and in MoCo: Kaiming normal, fan-out.
    """

    def __init__(self, name: str, *, bn_splits: int = 1) -> None:
        super().__init__()
        if name not in _BUILDERS:
            raise PretrainError(f"there is no backbone {name!r}; choose one of {', '.join(ARCHITECTURES)}")
        if bn_splits < 1:
            raise PretrainError(f"bn_splits must be at least 1, not {bn_splits}")
        norm = nn.BatchNorm2d if bn_splits == 1 else partial(SplitBatchNorm2d, splits=bn_splits)
        net = _BUILDERS[name](weights=None, norm_layer=norm)
        self.conv1: nn.Module = net.conv1
        self.bn1: nn.Module = net.bn1
        self.relu: nn.Module = net.relu
        self.maxpool: nn.Module = net.maxpool
        self.layer1: nn.Module = net.layer1
        self.layer2: nn.Module = net.layer2
        self.layer3: nn.Module = net.layer3
        self.layer4: nn.Module = net.layer4
        self.width: int = net.fc.in_features

    def features(self, x: Tensor) -> list[Tensor]:
        """The maps C2, C3, C4, C5 of images (N, 3, H, W): strides 4, 8, 16, 32, sides rounded up."""
        c1 = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        c2 = self.layer1(c1)
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return [c2, c3, c4, self.layer4(c4)]

    def forward(self, x: Tensor) -> Tensor:
        """The map C5 (N, width, ceil(H / 32), ceil(W / 32)) of images (N, 3, H, W)."""
        return self.features(x)[-1]


def build_backbone(name: str, *, bn_splits: int = 1) -> ResNet:
    """A freshly initialised backbone, drawn from PyTorch's global generator.

    `bn_splits` > 1 emulates the batch norm of that many devices on one (see `SplitBatchNorm2d`).
    Raises `PretrainError` for a name outside `ARCHITECTURES`.
    """
    return ResNet(name, bn_splits=bn_splits)
