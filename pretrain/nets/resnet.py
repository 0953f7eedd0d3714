"""ResNets in torchvision's layout, without pooling and classifier, with the map of every stage.

The blocks are torchvision's own, so a state dict has torchvision's names (`conv1.weight`, `layer1.0.bn1.weight`, ...)
less `fc.*`, and weights go both ways without a converter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:  # importing torchvision takes seconds, and listing needs none of it
    from torchvision.models import resnet


class ResNet(nn.Module):
    """A torchvision ResNet without pooling and classifier.

    `width` is the number of channels of the last map: 512 for ResNet-18 and -34, 2048 for deeper ones. Convolutions
    start as in torchvision and in MoCo: Kaiming normal, fan-out.
    """

    def __init__(self, net: resnet.ResNet) -> None:
        super().__init__()
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


def keep_stride_8(backbone: ResNet) -> None:
    """Give layer3 and layer4 the resolution of layer2: all their strides become 1, without dilation."""
    for layer in (backbone.layer3, backbone.layer4):
        for module in layer.modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)


def start_as_identities(backbone: nn.Module) -> None:
    """Start every residual block as the identity: the scale of its last batch norm becomes zero."""
    from torchvision.models import resnet

    for module in backbone.modules():
        if isinstance(module, resnet.BasicBlock | resnet.Bottleneck):
            last = module.bn3 if isinstance(module, resnet.Bottleneck) else module.bn2
            nn.init.zeros_(last.weight)
