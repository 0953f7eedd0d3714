"""MobileNetV2, EfficientNets and ConvNeXts: which network of timm a file holds. They are exported with timm's names."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from bench.checkpoints.families import Architecture, Family, architecture, architecture_of_timm, input_channels

Signature = tuple[int, ...]
"""What distinguishes the members of a family: blocks of each stage, then channels and kinds of layers."""


_EFFICIENTNETS: Mapping[str, Signature] = {
    "mobilenetv2_035": (1, 2, 3, 4, 3, 3, 1, 16, 112, 0),
    "mobilenetv2_050": (1, 2, 3, 4, 3, 3, 1, 16, 160, 0),
    "mobilenetv2_075": (1, 2, 3, 4, 3, 3, 1, 24, 240, 0),
    "mobilenetv2_100": (1, 2, 3, 4, 3, 3, 1, 32, 320, 0),
    "mobilenetv2_110d": (1, 3, 4, 5, 4, 4, 1, 32, 352, 0),
    "mobilenetv2_120d": (1, 3, 5, 6, 5, 5, 1, 32, 384, 0),
    "mobilenetv2_140": (1, 2, 3, 4, 3, 3, 1, 48, 448, 0),
    "efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1, 32, 320, 0),
    "efficientnet_lite1": (1, 3, 3, 4, 4, 5, 1, 32, 320, 0),
    "efficientnet_lite2": (1, 3, 3, 4, 4, 5, 1, 32, 352, 0),
    "efficientnet_lite3": (1, 3, 3, 5, 5, 6, 1, 32, 384, 0),
    "efficientnet_lite4": (1, 4, 4, 6, 6, 8, 1, 32, 448, 0),
    "efficientnet_b0": (1, 2, 2, 3, 3, 4, 1, 32, 320, 1),
    "efficientnet_b1": (2, 3, 3, 4, 4, 5, 2, 32, 320, 1),
    "efficientnet_b2": (2, 3, 3, 4, 4, 5, 2, 32, 352, 1),
    "efficientnet_b3": (2, 3, 3, 5, 5, 6, 2, 40, 384, 1),
    "efficientnet_b4": (2, 4, 4, 6, 6, 8, 2, 48, 448, 1),
    "efficientnet_b5": (3, 5, 5, 7, 7, 9, 3, 48, 512, 1),
    "efficientnet_b6": (3, 6, 6, 8, 8, 11, 3, 56, 576, 1),
    "efficientnet_b7": (4, 7, 7, 10, 10, 13, 4, 64, 640, 1),
}
_CONVNEXTS: Mapping[str, Signature] = {
    "atto": (2, 2, 6, 2, 320, 4),
    "femto": (2, 2, 6, 2, 384, 4),
    "pico": (2, 2, 6, 2, 512, 4),
    "nano": (2, 2, 8, 2, 640, 4),
    "tiny": (3, 3, 9, 3, 768, 2),
    "small": (3, 3, 27, 3, 768, 2),
    "base": (3, 3, 27, 3, 1024, 2),
    "large": (3, 3, 27, 3, 1536, 2),
}
_LARGEST = 2**16
"""Most values of a layer scale: no network has as many channels."""


class TimmNetworks(Family):
    """A family of networks of timm, distinguished by a signature that names and shapes of tensors give."""

    first: ClassVar[str]
    """Name of the tensor whose shape shows the number of input channels."""
    members: Mapping[Signature, str]
    """Timm's name of each member, by its signature."""

    @abstractmethod
    def signature(self, tensors: Mapping[str, Tensor]) -> Signature:
        """Signature of a network with these tensors; it has as many values as those of the members."""

    @override
    def nearest(self, tensors: Mapping[str, Tensor]) -> Architecture:
        """The member whose signature differs least."""
        found = self.signature(tensors)

        def difference(signature: Signature) -> int:
            return sum(abs(one - two) for one, two in zip(found, signature, strict=True))

        name = self.members[min(self.members, key=difference)]
        return architecture_of_timm(name)

    @override
    def explain(
        self,
        tensors: Mapping[str, Tensor],
        siblings: Collection[str],
        expected: Architecture,
        missing: Collection[str],
        wrong: Mapping[str, tuple[int, ...]],
    ) -> list[str]:
        stem, found = tensors.get(self.first), self.signature(tensors)
        channels = input_channels(stem.shape[1]) if stem is not None and stem.ndim == 4 else None
        reasons = [channels] if channels else []
        if found not in self.members:
            known = ", ".join(sorted(set(self.members.values())))
            reasons.append(f"it is none of the networks that are known here ({known}), or a part of one is missing")
        return reasons


class EfficientNets(TimmNetworks):
    """MobileNetV2 (Sandler et al., CVPR 2018, arXiv 1801.04381) and EfficientNets, Lite or not (Tan and Le, ICML 2019,
    arXiv 1905.11946): inverted residuals in seven stages.

    Args:
        tensorflow: whether the files hold weights that were trained with TensorFlow, whose padding is asymmetric.
    """

    name = "MobileNetV2 or EfficientNet"
    first = "conv_stem.weight"
    like_parts = re.compile(r"^_?(conv\w*|bn\d*|blocks|stem|features)\.")

    def __init__(self, *, tensorflow: bool) -> None:
        self.tensorflow = tensorflow
        self.members = {
            signature: f"tf_{name}" if tensorflow and name.startswith("efficientnet") else name
            for name, signature in _EFFICIENTNETS.items()
        }

    @override
    def signature(self, tensors: Mapping[str, Tensor]) -> Signature:
        """Blocks of the seven stages, channels of the stem and of the last map, squeeze-and-excitation (0 or 1)."""
        stem, last = tensors.get(self.first), tensors.get("blocks.6.0.conv_pwl.weight")
        return (
            *_count_blocks(tensors, r"blocks\.(\d)\.(\d+)\.", 7),
            stem.shape[0] if stem is not None and stem.ndim else 32,
            last.shape[0] if last is not None and last.ndim else 320,
            int(any(".se." in name for name in tensors)),
        )

    @override
    def stage(self, name: str) -> str:
        """One of `stem`, `blocks.0`, ..., `blocks.6`."""
        return ".".join(name.split(".")[:2]) if name.startswith("blocks.") else "stem"

    @override
    def block(self, name: str) -> str:
        return ".".join(name.split(".")[:3]) if name.startswith("blocks.") else "stem"

    @override
    def is_member(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether all blocks lie in stages; otherwise the stages are unknown, or the network is of another kind."""
        blocks = [name for name in tensors if name.startswith("blocks.")]
        return bool(blocks) and all(re.match(r"blocks\.\d+\.\d+\.", name) for name in blocks)

    @override
    def notes(self, tensors: Mapping[str, Tensor], expected: Architecture) -> list[str]:
        if self.tensorflow or not expected.name.startswith("efficientnet"):
            return []
        return [
            f"not visible in the weights: the padding; {expected.name} pads as PyTorch does, tf_{expected.name}, whose "
            f"tensors timm calls the same, as TensorFlow does: name that one with --architecture tf_{expected.name}"
        ]


class ConvNeXts(TimmNetworks):
    """ConvNeXt (Liu et al., CVPR 2022, arXiv 2201.03545) and ConvNeXt V2 (Woo et al., CVPR 2023, arXiv 2301.00808)."""

    name = "ConvNeXt"
    unused = re.compile(r"^norms\.3\.(weight|bias)$")  # DINOv3's second name of the norm after the last map
    first = "stem.0.weight"
    like_parts = re.compile(r"^(stem|stages|downsample\w*|norm\w*|features|embeddings|encoder)\.")
    members: Mapping[Signature, str] = {
        **{(*signature, 0): f"convnext_{size}" for size, signature in _CONVNEXTS.items()},
        **{(*signature, 1): f"convnextv2_{size}" for size, signature in _CONVNEXTS.items()},
        (3, 3, 27, 3, 2048, 2, 0): "convnext_xlarge",
        (3, 3, 27, 3, 2816, 2, 1): "convnextv2_huge",
    }

    @override
    def signature(self, tensors: Mapping[str, Tensor]) -> Signature:
        """Blocks of the four stages, channels of the last map, dimensions of an MLP's weight (2, or 4 for a 1x1
        convolution), response normalization (0, or 1 for V2)."""
        last, mlp = tensors.get("stages.3.blocks.0.conv_dw.weight"), tensors.get("stages.0.blocks.0.mlp.fc1.weight")
        return (
            *_count_blocks(tensors, r"stages\.(\d)\.blocks\.(\d+)\.", 4),
            last.shape[0] if last is not None and last.ndim else 768,
            mlp.ndim if mlp is not None else 2,
            int(any(".grn." in name for name in tensors)),
        )

    @override
    def assemble(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The exported tensors; torchvision's layer scales lose two dimensions of size 1."""
        return {
            name: tensor.flatten() if name.endswith(".gamma") and tensor.ndim == 3 and _is_plain(tensor) else tensor
            for name, tensor in found.items()
        }

    @override
    def stage(self, name: str) -> str:
        """One of `stem`, `stages.0`, ..., `stages.3`."""
        return ".".join(name.split(".")[:2]) if name.startswith("stages.") else "stem"

    @override
    def block(self, name: str) -> str:
        return ".".join(name.split(".")[:4]) if name.startswith("stages.") else "stem"

    @override
    def is_member(self, tensors: Mapping[str, Tensor]) -> bool:
        return any(re.match(r"stages\.\d\.blocks\.\d+\.conv_dw\.", name) for name in tensors)


class NamedNetwork(Family):
    """The one network of timm that a configuration next to the file names."""

    name = "network of timm"
    like_parts = re.compile(r"(?!)")

    def __init__(self, declared: str) -> None:
        self.declared = declared

    @override
    def nearest(self, tensors: Mapping[str, Tensor]) -> Architecture:
        return architecture(self.declared)

    @override
    def stage(self, name: str) -> str:
        """Name of the top module."""
        return name.split(".", 1)[0]

    @override
    def explain(
        self,
        tensors: Mapping[str, Tensor],
        siblings: Collection[str],
        expected: Architecture,
        missing: Collection[str],
        wrong: Mapping[str, tuple[int, ...]],
    ) -> list[str]:
        return []


def _count_blocks(tensors: Mapping[str, Tensor], place: str, stages: int) -> list[int]:
    """Blocks of each stage; the two groups of `place` are stage and number."""
    found = {(int(match[1]), match[2]) for name in tensors if (match := re.match(place, name))}
    return [sum(one == stage for one, _ in found) for stage in range(stages)]


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and tensor.device.type == "cpu" and tensor.numel() <= _LARGEST
