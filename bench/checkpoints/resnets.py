"""ResNets: which one a file holds, as its tensors show, and how variants are recognized."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from typing_extensions import override

from bench.checkpoints.families import Architecture, Family, architecture, input_channels, optional
from leaderboard.base.printable import printable, printable_name
from pretrain.nets.architectures import ARCHITECTURES, ResNetArchitecture

_TABLE = {one.name: one for one in ARCHITECTURES.values() if isinstance(one, ResNetArchitecture)}
RESNETS = tuple(_TABLE)
"""Names of the ResNets that can be imported."""

_OTHER_DEPTHS = {("basic", (1, 1, 1, 1)): "ResNet-10", ("bottleneck", (2, 2, 2, 2)): "ResNet-26"}
"""Further depths that a message may name although they cannot be imported."""


@dataclass(frozen=True)
class Structure:
    """Block type of a ResNet-like network, and the blocks in each stage, as its tensor names show."""

    block: Literal["basic", "bottleneck"]
    blocks: tuple[int, int, int, int]
    """Number of different block indices in layer1 to layer4; 0 for a missing stage."""

    @property
    def depth_name(self) -> str:
        """Usual name of this structure (wide networks have the same), or its block counts where it has none."""
        for one in _TABLE.values():
            if (one.block, one.blocks) == (self.block, self.blocks):
                return one.name
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


class ResNets(Family):
    """He et al., CVPR 2016, arXiv 1512.03385; wide ones arXiv 1605.07146. Exported with torchvision's names."""

    name = "ResNet"
    like_parts = re.compile(
        r"^(conv\d*|bn\d*|norm\d*|gn\d*|stem|layer\d+|layers?|res\d|stages?|blocks?|downsample|se|attnpool|patch_embed)\."
    )
    not_counted = " (BN counters not counted)"

    @override
    def nearest(self, tensors: Mapping[str, Tensor]) -> Architecture:
        """The nearest ResNet of the same block type; if several fit equally (a half-saved file), the smallest."""
        block = structure(tensors).block
        found = {name for name in tensors if not optional(name)}

        def differences(one: Architecture) -> tuple[int, int]:
            names = {name for name in one.shapes if not optional(name)}
            return len(found ^ names), sum(tuple(tensors[name].shape) != one.shapes[name] for name in found & names)

        return min((architecture(one.name) for one in _TABLE.values() if one.block == block), key=differences)

    @override
    def stage(self, name: str) -> str:
        """One of `stem`, `layer1`, ..., `layer4`."""
        return name.split(".", 1)[0] if name.startswith("layer") else "stem"

    @override
    def has_all_blocks(self, tensors: Mapping[str, Tensor], expected: Architecture) -> bool:
        return structure(tensors).blocks == _TABLE[expected.name].blocks

    @override
    def explain(
        self,
        tensors: Mapping[str, Tensor],
        siblings: Collection[str],
        expected: Architecture,
        missing: Collection[str],
        wrong: Mapping[str, tuple[int, ...]],
    ) -> list[str]:
        found = [_stem(tensors, siblings), _depth(tensors, expected), _width(wrong, expected), _blocks(tensors)]
        if missing and not any(name.endswith(".running_var") for name in tensors):
            found.append(
                "it has no BatchNorm statistics (running_mean, running_var): GroupNorm, or saved without buffers"
            )
        return [text for text in found if text]

    @override
    def notes(self, tensors: Mapping[str, Tensor], expected: Architecture) -> list[str]:
        if _TABLE[expected.name].block == "basic":
            return []
        return [
            "not visible in the weights: the stride's place and blurs before it; the card will say `pytorch` (on the "
            "3x3 convolution, no blur), so do not import a Caffe-style network (MSRA, detectron2's R-50.pkl), and name "
            "one that blurs (--architecture resnetaa50 or resnetblur50)"
        ]


RESNET = ResNets()


def _stem(tensors: Mapping[str, Tensor], siblings: Collection[str]) -> str | None:
    conv1 = tensors.get("conv1.weight")
    deep = next((n for n in siblings if re.match(r"(stem\.\d|conv1\.\d|conv[23]\.weight)", n)), None)
    if deep is not None:
        return (
            f"deep stem (it has `{printable_name(deep)}`; three 3x3 convolutions: ResNet-C/D, V1c, V1d); "
            "only the 7x7 stem is supported"
        )
    if conv1 is None:
        return None
    if conv1.ndim != 4:
        return f"conv1.weight has {conv1.ndim} dimensions instead of 4"
    _, channels, height, width = conv1.shape
    if (height, width) != (7, 7) and channels == 3:
        return (
            f"conv1 is {height}x{width}: a stem for small images (CIFAR) or a deep one; only the 7x7 stem is supported"
        )
    return input_channels(channels)


def _depth(tensors: Mapping[str, Tensor], expected: Architecture) -> str | None:
    found, wanted = structure(tensors), _TABLE[expected.name].blocks
    if found.blocks == wanted:
        return None
    absent = [f"layer{index}" for index, count in enumerate(found.blocks, start=1) if count == 0]
    text = f"it has {found.block} blocks {found.blocks}, {expected.name} has {wanted}"
    partial = any(0 < have < want for have, want in zip(found.blocks, wanted, strict=True))
    if absent and partial:
        return f"half-saved file: {', '.join(absent)} is missing and another stage is incomplete: {text}"
    if absent:
        return f"missing stage {', '.join(absent)}: {text}; a network cut after an earlier stage cannot be imported"
    if all(have <= want for have, want in zip(found.blocks, wanted, strict=True)):
        return f"wrong depth or half-saved file: {text} ({found.depth_name})"
    return f"wrong depth: {text}; this is {found.depth_name}, and only {', '.join(RESNETS)} are supported"


def _width(wrong: Mapping[str, tuple[int, ...]], expected: Architecture) -> str | None:
    pairs = [(name, shape, expected.shapes[name]) for name, shape in wrong.items() if name.startswith("layer")]
    convolutions = [pair for pair in pairs if len(pair[1]) == len(pair[2]) == 4]
    for name, shape, want in convolutions:
        if ".conv2." in name and shape[1] < want[1] and shape[0] >= want[0]:
            return f"grouped convolutions (ResNeXt): `{name}` is {shape}, {expected.name} has {want}"
    for name, shape, want in convolutions:
        if shape[0] != want[0]:
            ratio = shape[0] / want[0]
            kind = "a wider network (Wide-ResNet, x2, x4)" if ratio > 1 else "a narrower network"
            return f"{kind}: `{name}` has {shape[0]} channels, {ratio:g} times the {want[0]} of {expected.name}"
    return None


def _blocks(tensors: Mapping[str, Tensor]) -> str | None:
    if any(name.endswith(".downsample.1.weight") and tensor.ndim == 4 for name, tensor in tensors.items()):
        return "average-pooling shortcuts (`downsample.1` is a convolution: ResNet-D, V1d)"
    inside = {match[1] for name in tensors if (match := re.match(r"layer\d\.\d+\.([A-Za-z_]+)", name))}
    unknown = sorted(inside - {"conv", "bn", "downsample"})
    if unknown:
        kind = "squeeze-and-excitation" if {"se", "se_module"} & set(unknown) else "other"
        return f"{kind} blocks: the residual blocks have parts named {printable(', '.join(unknown), 200)}"
    return None
