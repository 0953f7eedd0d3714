"""Networks of timm (an optional package) as backbones, through one adapter.

It works for any model that timm can cut after its last map and that has, for images of any size, maps of strides 4, 8,
16 and 32, or blocks with maps of one stride, of which four are taken evenly (transformers such as DINOv3's). Both are
tested with shapes alone before a network counts as an architecture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.errors import PretrainError

STRIDES = (4, 8, 16, 32)
_TRIED = (65, 98)
"""Height and width of the images with which a network is tested: no network was designed for them, and they are not
whole cells."""
_WITHOUT_TIMM = "networks of timm need an optional package: pip install 'densebench[timm]'"
Triple = tuple[float, float, float]


class NoSuchModelError(PretrainError):
    """timm is not installed, or has no model of this name."""


class TimmBackbone(nn.Module):
    """A model of timm without the layers after its last map.

    Its parts are the modules of the model itself, so that the tensors of the state dict have timm's names, and weights
    can be exchanged without a converter.

    Args:
        model: the pruned model, with timm's `forward_intermediates`.
        taken: indices of its maps with the strides 4, 8, 16 and 32, or of four blocks.
        width: channels of the last of these maps.
        patch: side of the patches of a transformer with maps of one stride, which takes whole patches alone; None for
            other networks.
    """

    pads = False
    """Whether images are padded at the bottom and at the right to multiples of 32, with 0, the mean color after
    normalization: the model would ignore pixels beyond whole cells (ConvNeXt, VGG). The maps are cropped again."""

    def __init__(self, model: nn.Module, taken: tuple[int, ...], width: int, patch: int | None = None) -> None:
        super().__init__()
        self.__dict__["_model"] = model  # not a submodule: all tensor names would begin with its name
        self._modules, self._parameters, self._buffers = model._modules, model._parameters, model._buffers
        self._non_persistent_buffers_set = model._non_persistent_buffers_set
        self._taken, self.width, self.patch = taken, width, patch

    def train(self, mode: bool = True) -> TimmBackbone:
        """Set the mode as for any module, and also that of the model, which checks its own."""
        self.model.training = mode
        super().train(mode)
        return self

    @property
    def model(self) -> Any:
        """The model of timm."""
        return self.__dict__["_model"]

    def features(self, x: Tensor) -> list[Tensor]:
        """The maps of strides 4, 8, 16, 32 of images (N, 3, H, W), sides rounded up; of a transformer, those after each
        quarter of its blocks, each through its final norm."""
        sides = x.shape[2:]
        options = {} if self.patch is None else {"norm": True}
        if self.pads:
            x = F.pad(x, (0, -sides[1] % STRIDES[-1], 0, -sides[0] % STRIDES[-1]))
        maps: list[Tensor] = self.model.forward_intermediates(
            x, indices=list(self._taken), output_fmt="NCHW", intermediates_only=True, **options
        )
        if self.pads:
            maps = [m[..., : -(-sides[0] // s), : -(-sides[1] // s)] for m, s in zip(maps, STRIDES, strict=True)]
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """The last map (N, width, h, w) of images (N, 3, H, W): h is ceil(H / 32), or H / patch."""
        return self.features(x)[-1]


@dataclass(frozen=True)
class TimmFacts:
    """Facts about a model, from timm and from its layers."""

    channels: tuple[int, int, int, int]
    strides: tuple[int, int, int, int]
    stem: str
    """Kernel of the first convolution, e.g. `3x3`."""
    norm: Literal["BN", "GN", "LN", "none"]
    """Kind of most of its normalization layers."""
    stride_style: Literal["pytorch", "none"]
    pads: bool
    """Whether images are padded; see `TimmBackbone`."""
    input_size: int
    """Side in pixels of the images with which timm's weights were trained."""
    mean: Triple
    std: Triple
    """Input standard deviation of timm's weights, for pixel values in [0, 1]."""
    behind: frozenset[str]
    """Names of tensors of the whole model that a backbone does not have: the classifier and what only it uses."""


def build_timm(name: str) -> TimmBackbone:
    """A freshly initialized backbone of the timm model called `name`; draws from PyTorch's global generator.

    Raises:
        PretrainError: see `timm_facts`.
    """
    network = _pruned(name)
    network.pads = timm_facts(name).pads
    return network


@cache
def timm_facts(name: str) -> TimmFacts:
    """Facts about a backbone made from the timm model `name`.

    Raises:
        NoSuchModelError: timm is not installed or has no such model.
        PretrainError: the model cannot be a backbone here.
    """
    timm = _timm()
    if "." in name or not timm.is_model(name):
        nearest = get_close_matches(name, timm.list_models(), n=3, cutoff=0.6)
        raise NoSuchModelError(
            f"timm's nearest are {', '.join(nearest)}" if nearest else "timm has none of a like name"
        )
    with torch.device("meta"):
        network = _pruned(name)
        strides = STRIDES if network.patch is None else (network.patch,) * 4
        tried = _TRIED if network.patch is None else (4 * network.patch, 6 * network.patch)
        wanted = [tuple(-(-side // stride) for side in tried) for stride in strides]
        network.pads = network.patch is None and not _fits(network, tried, wanted)
        maps = _tried(name, network, tried)
        whole = timm.create_model(name, pretrained=False).state_dict().keys()
    if [tuple(m.shape[2:]) for m in maps] != wanted:
        raise PretrainError(f"{name} cannot be a backbone here: its maps do not have the strides that it promises")
    one, two, three, four = (m.shape[1] for m in maps)
    stem = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    config = timm.get_pretrained_cfg(name)
    return TimmFacts(
        channels=(one, two, three, four),
        strides=strides,
        stem="x".join(map(str, stem.kernel_size)),
        norm=_norm(network),
        stride_style="pytorch" if isinstance(network.model, timm.models.ResNet) else "none",
        pads=network.pads,
        input_size=config.input_size[-1],
        mean=config.mean,
        std=config.std,
        behind=frozenset(whole - network.state_dict().keys()),
    )


def with_synchronised_norms(network: nn.Module) -> nn.Module:
    """`network` with every batch norm synchronized among processes; timm has norms with an activation of their own."""
    if not isinstance(network, TimmBackbone):
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    from timm.layers import convert_sync_batchnorm

    for name, child in network.named_children():
        network.add_module(name, convert_sync_batchnorm(child))
    return network


def _timm() -> Any:
    try:
        import timm  # the import takes seconds
    except ImportError as error:
        raise NoSuchModelError(_WITHOUT_TIMM) from error
    return timm


def _pruned(name: str) -> TimmBackbone:
    """The model without the layers after its last map."""
    create, options = _timm().create_model, {"pretrained": False, "features_only": True, "feature_cls": "getter"}
    getter = create(name, **options)
    if getattr(getter.model, "dynamic_img_size", True) is False:  # a Swin's windows would fit one size only
        getter = create(name, dynamic_img_size=True, **options)
    info = getter.feature_info
    found = dict(zip(info.reduction(), getter.out_indices, strict=True))  # the last map of each stride
    if found.keys() >= set(STRIDES):
        return TimmBackbone(getter.model, tuple(found[stride] for stride in STRIDES), info.channels()[-1])
    patch = getattr(getattr(getter.model, "patch_embed", None), "patch_size", None)
    if len(found) > 1 or not isinstance(patch, tuple) or not isinstance(getattr(getter.model, "norm", None), nn.Module):
        strides = ", ".join(map(str, info.reduction()))
        raise PretrainError(f"{name} cannot be a backbone here: its maps have strides {strides}, not 4, 8, 16, 32")
    return _transformer(name, create)


def _transformer(name: str, create: Callable[..., Any]) -> TimmBackbone:
    """A transformer that keeps its final norm, unlike timm's own cut models."""
    model = create(name, pretrained=False)
    if getattr(model, "dynamic_img_size", True) is False:
        model = create(name, pretrained=False, dynamic_img_size=True)
    quarter = len(model.blocks) // 4
    taken = tuple(quarter * n - 1 for n in range(1, 5))
    model.prune_intermediate_layers(list(taken), prune_norm=False, prune_head=True)
    return TimmBackbone(model, taken, model.embed_dim, model.patch_embed.patch_size[0])


def _fits(network: TimmBackbone, size: tuple[int, int], wanted: list[tuple[int, ...]]) -> bool:
    """Whether the network takes an image of this height and width as it is, and its maps have the `wanted` sizes."""
    try:
        return [tuple(m.shape[2:]) for m in network.features(torch.empty(1, 3, *size))] == wanted
    except Exception:  # whole cells are needed, by a Swin for instance, or it is no backbone: the next trial tells
        return False


def _tried(name: str, network: TimmBackbone, size: tuple[int, int]) -> list[Tensor]:
    """The network's maps of a test image of this height and width, on the network's device."""
    try:
        return network.features(torch.empty(1, 3, *size))
    except Exception as error:  # a model of timm for one image size may raise any error
        raise PretrainError(
            f"{name} cannot be a backbone here: it does not take images of {size[0]} x {size[1]} ({error})"
        ) from error


def _norm(network: nn.Module) -> Literal["BN", "GN", "LN", "none"]:
    kinds: tuple[tuple[Literal["BN", "GN", "LN"], type[nn.Module]], ...] = (
        ("BN", nn.modules.batchnorm._BatchNorm),
        ("GN", nn.GroupNorm),
        ("LN", nn.LayerNorm),
    )
    modules = list(network.modules())
    counts = {kind: sum(isinstance(module, layer) for module in modules) for kind, layer in kinds}
    most = max(counts, key=lambda kind: counts[kind])
    return most if counts[most] else "none"
