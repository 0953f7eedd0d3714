"""The only table of architectures: the meaning of each name, and the network that it builds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pretrain.errors import PretrainError
from pretrain.nets.batchnorm import SplitBatchNorm2d, split_norms
from pretrain.nets.resnet import ResNet, start_as_identities
from pretrain.nets.timm_models import STRIDES, NoSuchModelError, TimmBackbone, build_timm, timm_facts
from pretrain.nets.vit import VisionTransformer

Backbone = ResNet | VisionTransformer | TimmBackbone
"""A network built here. Methods take any module that maps images (N, 3, H, W) to a map (N, width, h, w) and has an
attribute `width`."""


@dataclass(frozen=True)
class Architecture:
    """Facts about a backbone, by its name: torchvision's name for ResNets, timm's for all others."""

    name: str
    channels: tuple[int, int, int, int]
    """Channels of the four maps that `features` returns: C2 to C5 of a ResNet, four evenly spaced blocks of a ViT."""
    strides: tuple[int, int, int, int]
    """Input pixels per cell of these maps, in each direction."""
    stem: str
    """The first convolution: `7x7`, or the patches `16x16`."""
    norm: Literal["BN", "GN", "LN", "none"]
    """Kind of most of its normalization layers."""
    stride_style: Literal["pytorch", "none"]
    """Place of the stride in bottleneck blocks: `pytorch` for the 3x3 convolution; `none` without such blocks."""
    input_size: int = 224
    """Side in pixels of the images for which it was designed."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Standard deviation of the usual input normalization, for pixel values in [0, 1]."""


@dataclass(frozen=True)
class ResNetArchitecture(Architecture):
    """A residual network of He et al. (CVPR 2016, arXiv 1512.03385), or a wide one (arXiv 1605.07146)."""

    block: Literal["basic", "bottleneck"] = "basic"
    blocks: tuple[int, int, int, int] = (2, 2, 2, 2)
    """Numbers of residual blocks in layer1 to layer4."""
    inner_width: int = 64
    """Channels of the first stage's 3x3 convolutions; 128 in torchvision's `wide_*_2`."""

    def build(self, *, bn_splits: int) -> ResNet:
        """A freshly initialized network."""
        from torchvision.models import resnet  # takes seconds, and only a network needs it

        norm = nn.BatchNorm2d if bn_splits == 1 else partial(SplitBatchNorm2d, splits=bn_splits)
        block = resnet.BasicBlock if self.block == "basic" else resnet.Bottleneck
        return ResNet(resnet.ResNet(block, list(self.blocks), width_per_group=self.inner_width, norm_layer=norm))


@dataclass(frozen=True)
class ViTArchitecture(Architecture):
    """A vision transformer (arXiv 2010.11929); `vit_name` explains its name."""

    heads: int = 3
    depth: int = 12
    patch: int = 16
    registers: int = 0
    layer_scale: bool = False
    class_token: bool = True
    qkv_bias: bool = True
    gated: bool = False

    def build(self, *, bn_splits: int) -> VisionTransformer:
        """A freshly initialized network; it has no batch norm to split."""
        return VisionTransformer(
            self.channels[-1],
            self.heads,
            depth=self.depth,
            patch=self.patch,
            grid=self.input_size // self.patch,
            registers=self.registers,
            layer_scale=self.layer_scale,
            class_token=self.class_token,
            qkv_bias=self.qkv_bias,
            gated=self.gated,
        )


@dataclass(frozen=True)
class TimmArchitecture(Architecture):
    """A network of timm that is not in the table (see `timm_models`)."""

    pads: bool = False
    """Whether images are padded to whole cells; see `TimmBackbone`."""
    behind: frozenset[str] = frozenset()
    """Names of tensors after the last map, those of the classifier, which a file may hold with the backbone."""

    def build(self, *, bn_splits: int) -> TimmBackbone:
        """A freshly initialized network. Raises `PretrainError` if its batch norm were to be split."""
        if bn_splits > 1 and self.norm == "BN":
            raise PretrainError(f"the batch norm of {self.name} cannot be split: set bn_splits to 1")
        return build_timm(self.name)


VIT_SIZES: Mapping[str, tuple[int, int, int]] = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
    "giant": (1536, 40, 24),
}
"""Width, depth and heads of the usual sizes (arXiv 2010.11929, 2012.12877; the giant is DINOv2's, 2304.07193)."""
_LONGEST_NAME = 80
_VIT_NAME = re.compile(
    rf"vit_(?P<size>{'|'.join(VIT_SIZES)})_patch(?P<patch>\d+)(?:_(?P<pixels>\d+))?(?:_reg(?P<registers>\d+))?"
    r"(?P<layer_scale>_ls)?(?:_heads(?P<heads>\d+))?(?P<class_token>_nocls)?(?P<qkv_bias>_nobias)?"
    r"(?P<gated>_swiglu)?"
)


def vit_name(
    size: str,
    patch: int,
    *,
    pixels: int = 224,
    registers: int = 0,
    layer_scale: bool = False,
    heads: int | None = None,
    class_token: bool = True,
    qkv_bias: bool = True,
    gated: bool = False,
) -> str:
    """The only name of a ViT; usual properties are left out.

    Args:
        size: a key of `VIT_SIZES`.
        patch: side of a patch in pixels.
        pixels: side of the images to which the position embedding belongs.
        registers, layer_scale, class_token, qkv_bias, gated: see `VisionTransformer`.
        heads: the number of heads, where it is not that of its size (MoCo v3's ViT-S has 12).

    >>> vit_name("base", 14, pixels=518, layer_scale=True)
    'vit_base_patch14_518_ls'
    """
    parts = [
        (f"_{pixels}", pixels != 224),
        (f"_reg{registers}", registers > 0),
        ("_ls", layer_scale),
        (f"_heads{heads}", heads is not None and heads != VIT_SIZES[size][2]),
        ("_nocls", not class_token),
        ("_nobias", not qkv_bias),
        ("_swiglu", gated),
    ]
    return f"vit_{size}_patch{patch}" + "".join(part for part, said in parts if said)


def _named_vit(name: str) -> ViTArchitecture | None:
    """The ViT to which `vit_name` gives this name, with plausible sizes; None if there is none."""
    match = _VIT_NAME.fullmatch(name)
    if match is None or len(name) > _LONGEST_NAME:
        return None
    size, patch, pixels = match["size"], int(match["patch"]), int(match["pixels"] or 224)
    width, depth, usual_heads = VIT_SIZES[size]
    registers, heads = int(match["registers"] or 0), int(match["heads"] or usual_heads)
    layer_scale, class_token, qkv_bias = bool(match["layer_scale"]), not match["class_token"], not match["qkv_bias"]
    gated = bool(match["gated"])
    sensible = 4 <= patch <= 64 and patch <= pixels <= 4096 and pixels % patch == 0 and registers <= 64
    if not sensible or heads < 1 or width % heads:
        return None
    one_name = vit_name(
        size,
        patch,
        pixels=pixels,
        registers=registers,
        layer_scale=layer_scale,
        heads=heads,
        class_token=class_token,
        qkv_bias=qkv_bias,
        gated=gated,
    )
    if name != one_name:
        return None
    return ViTArchitecture(
        name,
        (width,) * 4,
        (patch,) * 4,
        f"{patch}x{patch}",
        "LN",
        "none",
        pixels,
        heads=heads,
        depth=depth,
        patch=patch,
        registers=registers,
        layer_scale=layer_scale,
        class_token=class_token,
        qkv_bias=qkv_bias,
        gated=gated,
    )


def _resnet(
    name: str, block: Literal["basic", "bottleneck"], blocks: tuple[int, int, int, int], inner_width: int = 64
) -> ResNetArchitecture:
    widest = 512 if block == "basic" else 2048
    channels = (widest // 8, widest // 4, widest // 2, widest)
    return ResNetArchitecture(
        name, channels, STRIDES, "7x7", "BN", "pytorch", block=block, blocks=blocks, inner_width=inner_width
    )


_RESNETS = (
    _resnet("resnet18", "basic", (2, 2, 2, 2)),
    _resnet("resnet34", "basic", (3, 4, 6, 3)),
    _resnet("resnet50", "bottleneck", (3, 4, 6, 3)),
    _resnet("resnet101", "bottleneck", (3, 4, 23, 3)),
    _resnet("resnet152", "bottleneck", (3, 8, 36, 3)),
    _resnet("resnet200", "bottleneck", (3, 24, 36, 3)),
    _resnet("wide_resnet50_2", "bottleneck", (3, 4, 6, 3), inner_width=128),
    _resnet("wide_resnet101_2", "bottleneck", (3, 4, 23, 3), inner_width=128),
)
_VITS = (
    "vit_tiny_patch16", "vit_small_patch16", "vit_base_patch16", "vit_large_patch16", "vit_small_patch8",
    "vit_base_patch8", "vit_small_patch14", "vit_base_patch14", "vit_large_patch14",
)  # fmt: skip
_TABLE: tuple[ResNetArchitecture | ViTArchitecture, ...] = (*_RESNETS, *filter(None, map(_named_vit, _VITS)))
ARCHITECTURES: Mapping[str, ResNetArchitecture | ViTArchitecture] = {one.name: one for one in _TABLE}
"""The architectures that lists and messages name; further ViTs have a name by `vit_name`."""


def find_architecture(name: str) -> ResNetArchitecture | ViTArchitecture | TimmArchitecture:
    """The architecture called `name`: of the table, by `vit_name`, or timm's.

    Raises:
        PretrainError: there is none; the message lists similar names.
    """
    found = ARCHITECTURES.get(name) or _named_vit(name.removesuffix("_224"))  # timm's plain ViTs end with their size
    if found is not None:
        return found
    try:
        facts = timm_facts(name)
    except NoSuchModelError as error:
        nearest = get_close_matches(name, ARCHITECTURES, n=3, cutoff=0.6) or list(ARCHITECTURES)
        raise PretrainError(f"there is no backbone {name!r}; choose one of {', '.join(nearest)} ({error})") from error
    return TimmArchitecture(name, **vars(facts))


def build_backbone(name: str, *, bn_splits: int = 1) -> Backbone:
    """A freshly initialized backbone, drawn from PyTorch's global generator.

    `bn_splits` > 1 emulates the batch norm of that many devices on one (see `SplitBatchNorm2d`); a ViT has none.
    Raises `PretrainError` for a name outside `ARCHITECTURES`.
    """
    if bn_splits < 1:
        raise PretrainError(f"bn_splits must be at least 1, not {bn_splits}")
    return find_architecture(name).build(bn_splits=bn_splits)


def backbone_for(
    name: str, given: nn.Module | None, *, bn_splits: int = 1, zero_init_residual: bool = False
) -> nn.Module:
    """The backbone of a method: `given`, or built by `name` and then, on demand, with residual blocks as identities.

    `given` is any module that maps images (N, 3, H, W) to maps (N, width, h, w); it is used itself, keeps its weights,
    and has its plain 2d batch norms split in place where `bn_splits` > 1. Raises `PretrainError` as `build_backbone`,
    or if `given` does not say its width.
    """
    if given is None:
        built = build_backbone(name, bn_splits=bn_splits)
        if zero_init_residual:
            start_as_identities(built)
        return built
    width_of(given)
    return split_norms(given, bn_splits) if bn_splits > 1 else given


def width_of(backbone: nn.Module) -> int:
    """Channels of the map that a backbone returns.

    Raises:
        PretrainError: it does not say.
    """
    width = getattr(backbone, "width", None)
    if not isinstance(width, int) or width < 1:
        raise PretrainError(
            f"the backbone {type(backbone).__name__} must map images (N, 3, H, W) to maps (N, width, h, w) and have an "
            f"attribute `width`, a positive whole number; it is {width!r}"
        )
    return width


def stages_of(backbone: nn.Module, pixels: Tensor) -> list[Tensor]:
    """The maps of all stages of a backbone, the finest first, or its only one."""
    features: Callable[[Tensor], list[Tensor]] | None = getattr(backbone, "features", None)
    return [backbone(pixels)] if features is None else features(pixels)


def stage_widths(backbone: nn.Module) -> list[int]:
    """Channels of the maps of all stages."""
    training = backbone.training
    with torch.no_grad():
        widths = [maps.shape[1] for maps in stages_of(backbone.eval(), torch.zeros(1, 3, 64, 64))]
    backbone.train(training)
    return widths


@cache
def tensor_shapes(name: str) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of all tensors of an architecture's state dict, batch norm's counters among them."""
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in build_backbone(name).state_dict().items()}


@cache
def parameter_count(name: str) -> int:
    """Number of learnable parameters of an architecture."""
    with torch.device("meta"):
        return sum(p.numel() for p in build_backbone(name).parameters())


def forward_operations(name: str) -> int:
    """Floating-point operations of an architecture for one image of its `input_size`, forward.

    Counted by PyTorch on the built network: convolutions, matrix products and attention, a multiplication and an
    addition as two (papers often count them as one).
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = build_backbone(name).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            side = find_architecture(name).input_size
            network(torch.empty(1, 3, side, side))
    return int(counter.get_total_flops())
