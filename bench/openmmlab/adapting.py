"""Adapts a protocol's model to a backbone for which its config was not written.

Configs name the OpenMMLab libraries' `ResNet`. A deeper or wider ResNet than theirs, or a network of timm with maps of
strides 4, 8, 16 and 32, replaces it directly: necks and heads read the same stages. A transformer has maps of one
resolution: where ResNets have a feature pyramid network, a detector gets its levels from the last map by the simple
feature pyramid of ViTDet (see `bench.openmmlab.backbones`), and a segmentation head reads the last map. Everything else
is as the config says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.errors import BenchError
from bench.patches import patch_stride
from pretrain.nets.architectures import Architecture, find_architecture

DEPTHS = {f"resnet{depth}": depth for depth in (18, 34, 50, 101, 152)}
"""Depths of the ResNets that the OpenMMLab libraries have, by our names."""


def with_backbone(model: Mapping[str, Any], architecture: str, protocol: str, *, synchronised: bool) -> dict[str, Any]:
    """A config's `model`, slots unfilled, for a backbone of this architecture.

    Args:
        model: the `model` of the config.
        architecture: the architecture on the card.
        protocol: the protocol's id, for messages.
        synchronized: whether several processes share the batch's statistics.

    Raises:
        BenchError: a part of the model cannot take it.
    """
    one, given = find_architecture(architecture), model["backbone"]
    if one.name in DEPTHS or given["type"] != "ResNet":
        return dict(model)
    backbone = {"type": "DenseBenchBackbone", "architecture": one.name, "synchronised": synchronised}
    if len(set(one.strides)) == 1:
        return {**model, "backbone": {**backbone, "out_indices": (3,)}, **_neck_and_heads(model, one, protocol)}
    if {"strides", "dilations"} & given.keys():
        what = "divides" if "num_stages" in given else "dilates"
        raise BenchError(f"{protocol} {what} its backbone, which is not possible with {one.name}; {_KNOWN}")
    return {**model, "backbone": {**backbone, "out_indices": given["out_indices"]}}


_KNOWN = f"submit one of {', '.join(DEPTHS)}"


def _neck_and_heads(model: Mapping[str, Any], one: Architecture, protocol: str) -> dict[str, Any]:
    width, neck = one.channels[-1], model.get("neck")
    if model["type"] == "ImageClassifier":  # which reads the last map of any network
        return {}
    heads = {name: model[name] for name in ("decode_head", "auxiliary_head") if name in model}
    if heads and neck is None:
        return {name: {**head, **_reading_the_last(head, width)} for name, head in heads.items()}
    if neck is None or neck["type"] not in ("FPN", "RetinaPyramid"):
        raise BenchError(f"{protocol} reads stages that {one.name} does not have; {_KNOWN}")
    pyramid = {
        "type": "SimplePyramid",
        "in_channels": width,
        "stride": patch_stride(one.strides[-1]),
        "out_channels": neck["out_channels"],
        "strides": [4 * 2 ** (neck.get("start_level", 0) + level) for level in range(neck["num_outs"])],
        "norm_cfg": neck["norm_cfg"],
    }
    return {"neck": pyramid}


def _reading_the_last(head: Mapping[str, Any], width: int) -> dict[str, Any]:
    if isinstance(head["in_index"], (list, tuple)):
        return {"in_channels": [width], "in_index": (0,)}
    return {"in_channels": width, "in_index": 0}
