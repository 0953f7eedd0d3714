"""Why a file does not fit: the nearest explanation in words that its owner can act on."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from itertools import islice

from torch import Tensor

from bench.checkpoints.architectures import ARCHITECTURES, Architecture, stage, structure
from bench.checkpoints.layouts import Candidate
from leaderboard.base.printable import printable, printable_name

_SUPPORTED = "only plain ResNets (" + ", ".join(ARCHITECTURES) + ") are supported"

_SEARCHED = 10_000
"""Names among which the mark of another family is looked for."""
_FOREIGN: tuple[tuple[str, str], ...] = (
    # The first pattern that a tensor name matches names the architecture; order matters where they overlap.
    (r"(^|\.)relative_position_bias_table$", "a Swin Transformer"),
    (r"(^|\.)(cls_token|patch_embed\.proj\.weight|pos_embed)$", "a Vision Transformer (ViT), not supported yet"),
    (r"(^|\.)(blocks|encoder\.layer|layers)\.\d+\.(attn|attention)\.", "a transformer (ViT?), not supported yet"),
    (r"(^|\.)downsample_layers\.\d+\.|(^|\.)stages\.\d+\.\d+\.dwconv\.", "a ConvNeXt"),
    (r"(^|\.)embedder\.embedder\.convolution\.weight$", "a ResNet with Hugging Face names; save it with timm names"),
    (r"(^|\.)_?flat_param(_\d+)?$", "a checkpoint of FSDP with flattened parameters; save its full state dict"),
    (r"(^|/)block_group_\d", "a ResNet with Haiku names (JAX)"),
    (r"(^|\.)features\.\d+\.conv\.\d+\.", "a MobileNetV2"),
    (r"(^|\.)features\.\d+(\.\d+)?\.block\.", "a MobileNetV3 or an EfficientNet"),
    (r"(^|\.)_?blocks\.\d+\.(_depthwise_conv|\d+\.conv_dw|conv_dw)\.", "an EfficientNet or a MobileNet"),
    (r"(^|\.)denseblock\d+\.", "a DenseNet"),
    (r"(^|\.)Mixed_\d[a-z]\.", "an Inception network"),
    (r"(^|\.)features\.\d+\.weight$", "a VGG or an AlexNet"),
)


def foreign(names: Collection[str], top_level: Collection[str]) -> str:
    """The problem text for a file in which nothing looks like a ResNet."""
    for pattern, what in _FOREIGN:
        example = next((name for name in islice(names, _SEARCHED) if re.search(pattern, name)), None)
        if example is not None:
            return f"this looks like {what} (it has `{printable_name(example)}`); {_SUPPORTED}"
    shown = ", ".join(map(printable_name, islice(names, 4)))
    nested = (
        f" under the keys {', '.join(map(printable_name, islice(top_level, 6)))}"
        if top_level and set(top_level) - set(names)
        else ""
    )
    return f"no ResNet was found among the {len(names)} tensors{nested} (they start with {shown}); {_SUPPORTED}"


def explain(
    candidate: Candidate,
    siblings: Collection[str],
    expected: Architecture,
    missing: Collection[str],
    wrong: Mapping[str, tuple[int, ...]],
) -> list[str]:
    """What is different about the network, most telling first; an empty list if names and shapes alone differ.

    Args:
        candidate: the network of the file.
        siblings: every name of the file that starts with the network's prefix, without that prefix.
        expected: the nearest supported architecture.
        missing: expected tensors that it lacks.
        wrong: tensors of another shape than expected, with the shape that the file has.
    """
    tensors = candidate.tensors
    found = [_stem(tensors, siblings), _depth(tensors, expected), _width(wrong, expected), _blocks(tensors)]
    if missing and not any(name.endswith(".running_var") for name in tensors):
        found.append("it has no BatchNorm statistics (running_mean, running_var): GroupNorm, or saved without buffers")
    return [text for text in found if text]


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
    if channels != 3:
        usual = {1: "grey images", 2: "Sobel gradients"}.get(channels, "something else than RGB")
        return f"the stem takes {channels} input channel(s) ({usual}); the benchmark feeds 3"
    if (height, width) != (7, 7):
        return (
            f"conv1 is {height}x{width}: a stem for small images (CIFAR) or a deep one; only the 7x7 stem is supported"
        )
    return None


def _depth(tensors: Mapping[str, Tensor], expected: Architecture) -> str | None:
    found = structure(tensors)
    if found.blocks == expected.blocks:
        return None
    absent = [f"layer{index}" for index, count in enumerate(found.blocks, start=1) if count == 0]
    text = f"it has {found.block} blocks {found.blocks}, {expected.name} has {expected.blocks}"
    partial = any(0 < have < want for have, want in zip(found.blocks, expected.blocks, strict=True))
    if absent and partial:
        return f"half-saved file: {', '.join(absent)} is missing and another stage is incomplete: {text}"
    if absent:
        return f"missing stage {', '.join(absent)}: {text}; a network cut after an earlier stage cannot be imported"
    if all(have <= want for have, want in zip(found.blocks, expected.blocks, strict=True)):
        return f"wrong depth or half-saved file: {text} ({found.depth_name})"
    return f"wrong depth: {text}; this is {found.depth_name}, and {_SUPPORTED}"


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


def summarise(names: Collection[str]) -> str:
    """A few names and how they spread over the network, for messages."""
    ordered = list(names)
    stages = list(dict.fromkeys(stage(name) for name in ordered))
    shown = ", ".join(f"`{printable_name(name)}`" for name in ordered[:3])
    return f"{shown}{', ...' if len(ordered) > 3 else ''} (in {', '.join(stages)})"
