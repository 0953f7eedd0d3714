"""The ResNets that can be imported, and how their tensors reveal which one a file holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, cast, get_args

from torch import Tensor

from pretrain.nets.architectures import ARCHITECTURES as TABLE
from pretrain.nets.architectures import ResNetArchitecture, parameter_count, tensor_shapes

ArchitectureName = Literal["resnet18", "resnet34", "resnet50", "resnet101"]
ARCHITECTURES: tuple[ArchitectureName, ...] = get_args(ArchitectureName)

_OTHER_DEPTHS = {
    ("basic", (1, 1, 1, 1)): "ResNet-10",
    ("bottleneck", (2, 2, 2, 2)): "ResNet-26",
} | {(one.block, one.blocks): one.name for one in TABLE.values() if isinstance(one, ResNetArchitecture)}
"""Names of depths that a message may give, those that cannot be imported among them; wide ones share theirs."""


@dataclass(frozen=True)
class Architecture:
    """One backbone: tensor names and shapes are torchvision's, without the classifier `fc`."""

    name: ArchitectureName
    block: Literal["basic", "bottleneck"]
    blocks: tuple[int, int, int, int]
    """Residual blocks in layer1 to layer4."""
    shapes: Mapping[str, tuple[int, ...]]
    """Every tensor of the state dict, BN statistics and counters among them."""
    parameters: int
    """Number of learnable parameters."""


@cache
def architecture(name: ArchitectureName) -> Architecture:
    """The named backbone."""
    found = cast(ResNetArchitecture, TABLE[name])
    return Architecture(name, found.block, found.blocks, tensor_shapes(name), parameter_count(name))


@dataclass(frozen=True)
class Structure:
    """What the tensor names of a ResNet-like network say: the block type and the blocks present in each stage."""

    block: Literal["basic", "bottleneck"]
    blocks: tuple[int, int, int, int]
    """Number of different block indices in layer1 to layer4; 0 for a missing stage."""

    @property
    def depth_name(self) -> str:
        """The usual name of this structure, or its block counts where it has none."""
        for candidate in map(architecture, ARCHITECTURES):
            if (candidate.block, candidate.blocks) == (self.block, self.blocks):
                return candidate.name
        return _OTHER_DEPTHS.get((self.block, self.blocks), f"{self.block} blocks {self.blocks}")


def structure(tensors: Mapping[str, Tensor]) -> Structure:
    """The structure of a state dict with torchvision names."""
    present: list[set[int]] = [set(), set(), set(), set()]
    bottleneck = False
    for name in tensors:
        match = re.match(r"layer([1-4])\.(\d+)\.(conv3\.)?", name)
        if match:
            present[int(match[1]) - 1].add(int(match[2]))
            bottleneck = bottleneck or match[3] is not None
    first, second, third, fourth = (len(indices) for indices in present)
    return Structure("bottleneck" if bottleneck else "basic", (first, second, third, fourth))


def nearest(tensors: Mapping[str, Tensor]) -> Architecture:
    """The architecture of the same block type that `tensors` fill with the fewest tensors missing or left over.

    Ties (a half-loaded file may fit several depths) go to the smaller network.
    """
    block = structure(tensors).block
    same = [candidate for candidate in map(architecture, ARCHITECTURES) if candidate.block == block]
    found = {name for name in tensors if not optional(name)}
    return min(same, key=lambda a: len(found ^ {name for name in a.shapes if not optional(name)}))


def optional(name: str) -> bool:
    """Whether a file may lack this tensor: BN's counter of batches is not used by any network here."""
    return name.endswith(".num_batches_tracked")


def stage(name: str) -> str:
    """The part of the network to which a tensor belongs: `stem`, `layer1`, ..., `layer4`."""
    return name.split(".", 1)[0] if name.startswith("layer") else "stem"
