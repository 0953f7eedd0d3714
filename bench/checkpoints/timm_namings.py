"""Naming styles of the networks that are exported with timm's names: MobileNetV2, EfficientNets, ConvNeXts."""

from __future__ import annotations

import re

import torch
from torch import nn

from bench.checkpoints.families import architecture
from bench.checkpoints.naming import Layout
from bench.checkpoints.timm_networks import ConvNeXts, EfficientNets, NamedNetwork
from pretrain.errors import PretrainError
from pretrain.nets.architectures import VIT_SIZES, TimmArchitecture, find_architecture

_CONVNEXT, _EFFICIENTNET, _TENSORFLOW = ConvNeXts(), EfficientNets(tensorflow=False), EfficientNets(tensorflow=True)
_MOBILENET_V2 = (1, 2, 3, 4, 3, 3, 1)
"""Numbers of blocks of the seven stages."""
FLAT_EFFICIENTNETS: dict[str, tuple[int, ...]] = {
    "B0, Lite0": (1, 2, 2, 3, 3, 4, 1),
    "Lite1, Lite2": (1, 3, 3, 4, 4, 5, 1),
    "B1, B2": (2, 3, 3, 4, 4, 5, 2),
    "Lite3": (1, 3, 3, 5, 5, 6, 1),
    "B3": (2, 3, 3, 5, 5, 6, 2),
    "Lite4": (1, 4, 4, 6, 6, 8, 1),
    "B4": (2, 4, 4, 6, 6, 8, 2),
}
"""Numbers of blocks of the seven stages: those of B0 times each size's depth, rounded up; Lite keeps first and last."""
Rules = tuple[tuple[str, str], ...]


def _stages(blocks: tuple[int, ...], first: int, before: str) -> Rules:
    """Rules from a flat count of blocks, which starts at `first` after the pattern `before`, to timm's stages."""
    places = [(stage, number) for stage, count in enumerate(blocks) for number in range(count)]
    return tuple(
        (rf"^{before}{flat}\.", f"blocks.{stage}.{number}.") for flat, (stage, number) in enumerate(places, start=first)
    )


def _mobilenet(name: str, first: tuple[str, ...], others: tuple[str, ...], anchor: str) -> Layout:
    """Layout of torchvision's `features` of a MobileNetV2. The convolutions of a block, each followed by its norm, are
    at `first` in the first block, which does not expand, and at `others` in the other blocks."""
    one = zip(first, ("conv_dw", "bn1", "conv_pw", "bn2"), strict=True)
    more = zip(others, ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"), strict=True)
    return Layout(
        name,
        {"features": "", "classifier": "classifier"},
        (
            (r"^0\.0\.", "conv_stem."),
            (r"^0\.1\.", "bn1."),
            (r"^18\.0\.", "conv_head."),
            (r"^18\.1\.", "bn2."),
            (r"^classifier\.1\.", "classifier."),
            *_stages(_MOBILENET_V2, 1, ""),
            *((rf"^blocks\.0\.0\.conv\.{theirs}\.(?=[a-z])", f"blocks.0.0.{ours}.") for theirs, ours in one),
            *((rf"\.conv\.{theirs}\.(?=[a-z])", f".{ours}.") for theirs, ours in more),
        ),
        _EFFICIENTNET,
        anchor=anchor,
    )


def _flat(sizes: str, blocks: tuple[int, ...]) -> Layout:
    """Layout of EfficientNet-PyTorch's names, which number the blocks over all stages; the first does not expand."""
    return Layout(
        f"EfficientNet-PyTorch's names ({sizes})",
        {
            "_conv_stem": "conv_stem",
            "_bn0": "bn1",
            "_blocks": "blocks",
            "_conv_head": "conv_head",
            "_bn1": "bn2",
            "_fc": "classifier",
        },
        (
            *_stages(blocks, 0, r"blocks\."),
            (r"^(blocks\.0\.\d+)\._bn([12])\.", r"\1.bn\2."),
            (r"^(blocks\.0\.\d+)\._project_conv\.", r"\1.conv_pw."),
            (r"\._expand_conv\.", ".conv_pw."),
            (r"\._depthwise_conv\.", ".conv_dw."),
            (r"\._project_conv\.", ".conv_pwl."),
            *((rf"\._bn{n}\.", f".bn{n + 1}.") for n in range(3)),
            (r"\._se_(reduce|expand)\.", r".se.conv_\1."),
        ),
        _TENSORFLOW,
        anchor=rf"_blocks\.{sum(blocks) - 1}\._project_conv\.weight$",
    )


TIMM_LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "timm's EfficientNet and MobileNet names",
        {module: module for module in ("conv_stem", "bn1", "blocks", "conv_head", "bn2", "classifier")},
        (),
        _EFFICIENTNET,
        anchor=r"conv_stem\.weight$",
    ),
    _mobilenet(
        "torchvision's MobileNetV2 names",
        (r"0\.0", r"0\.1", "1", "2"),
        (r"0\.0", r"0\.1", r"1\.0", r"1\.1", "2", "3"),
        r"features\.1\.conv\.0\.0\.weight$",
    ),
    _mobilenet(
        "torchvision's former MobileNetV2 names",
        ("0", "1", "3", "4"),
        ("0", "1", "3", "4", "6", "7"),
        r"features\.1\.conv\.0\.weight$",
    ),
    *(_flat(sizes, blocks) for sizes, blocks in FLAT_EFFICIENTNETS.items()),
    Layout(
        "timm's ConvNeXt names",
        {module: module for module in ("stem", "stages", "head")},
        (),
        _CONVNEXT,
        anchor=r"stages\.0\.blocks\.0\.conv_dw\.weight$",
    ),
    Layout(
        "ConvNeXt's own names",
        {"downsample_layers": "", "stages": "stages", "norm": "head.norm", "head": "head.fc"},
        (
            (r"^0\.", "stem."),
            (r"^([123])\.", r"stages.\1.downsample."),
            (r"^stages\.(\d)\.(\d+)\.(?!\d)", r"stages.\1.blocks.\2."),
            (r"\.dwconv\.", ".conv_dw."),
            (r"\.pwconv([12])\.", r".mlp.fc\1."),
        ),
        _CONVNEXT,
        anchor=r"stages\.0\.0\.dwconv\.weight$",
    ),
    Layout(
        "torchvision's ConvNeXt names",
        {"features": "", "classifier": "classifier"},
        (
            (r"^0\.", "stem."),
            *((rf"^{2 * stage}\.", f"stages.{stage}.downsample.") for stage in (1, 2, 3)),
            *((rf"^{2 * stage + 1}\.(\d+)\.", rf"stages.{stage}.blocks.\1.") for stage in range(4)),
            (r"\.block\.0\.", ".conv_dw."),
            (r"\.block\.2\.", ".norm."),
            (r"\.block\.3\.", ".mlp.fc1."),
            (r"\.block\.5\.", ".mlp.fc2."),
            (r"\.layer_scale$", ".gamma"),
            (r"^classifier\.0\.", "head.norm."),
            (r"^classifier\.2\.", "head.fc."),
        ),
        _CONVNEXT,
        anchor=r"features\.1\.0\.layer_scale$",
    ),
    Layout(
        "Hugging Face's ConvNeXt names (transformers)",
        {"embeddings": "", "encoder": "", "layernorm": "head.norm"},
        (
            (r"^patch_embeddings\.", "stem.0."),
            (r"^layernorm\.", "stem.1."),
            (r"\.downsampling_layer\.", ".downsample."),
            (r"^stages\.(\d)\.layers\.", r"stages.\1.blocks."),
            (r"\.dwconv\.", ".conv_dw."),
            (r"\.layernorm\.", ".norm."),
            (r"\.pwconv([12])\.", r".mlp.fc\1."),
            (r"\.layer_scale_parameter$", ".gamma"),
        ),
        _CONVNEXT,
        anchor=r"encoder\.stages\.0\.layers\.0\.dwconv\.weight$",
    ),
    Layout(
        "Hugging Face's DINOv3 ConvNeXt names (transformers)",
        {"stages": "stages", "layer_norm": "head.norm"},
        (
            (r"^stages\.0\.downsample_layers\.", "stem."),
            (r"^stages\.(\d)\.downsample_layers\.", r"stages.\1.downsample."),
            (r"^stages\.(\d)\.layers\.", r"stages.\1.blocks."),
            (r"\.depthwise_conv\.", ".conv_dw."),
            (r"\.layer_norm\.", ".norm."),
            (r"\.pointwise_conv([12])\.", r".mlp.fc\1."),
        ),
        _CONVNEXT,
        anchor=r"stages\.0\.layers\.0\.depthwise_conv\.weight$",
    ),
)


def declared_layouts(name: str | None) -> tuple[Layout, ...]:
    """The naming of a network of timm that a file is declared to hold; none if it is not one that can be imported, or a
    plain ViT, which the other namings read."""
    try:
        found = find_architecture(name) if name else None
    except PretrainError:
        return ()
    if not isinstance(found, TimmArchitecture) or _is_plain_vit(found.name):
        return ()
    names = architecture(found.name).shapes
    modules = {own: own for own in (key.split(".")[0] for key in (*names, *found.behind) if "." in key)}
    alone = {key: key for key in names if "." not in key}
    anchor = re.escape(next(key for key in names if "." in key)) + "$"
    return (Layout(f"timm's names ({found.name})", modules, (), NamedNetwork(found.name), alone, anchor),)


def _is_plain_vit(name: str) -> bool:
    """Whether the timm model `name` computes what a ViT of `pretrain.nets.vit` does, with tensors of the same names."""
    import timm

    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False)
    if type(model) is not timm.models.VisionTransformer or model.attn_pool is not None:
        return False
    block = model.blocks[0]
    return (
        (model.embed_dim, len(model.blocks)) in {(width, depth) for width, depth, _ in VIT_SIZES.values()}
        and isinstance(model.norm_pre, nn.Identity)
        and type(block) is timm.models.vision_transformer.Block
        and isinstance(block.attn.q_norm, nn.Identity)
        and (type(block.norm1), block.norm1.eps) == (timm.layers.LayerNorm, 1e-6)
        and type(block.mlp) is timm.layers.Mlp
        and isinstance(block.mlp.act, nn.GELU)
        and block.mlp.act.approximate == "none"
    )
