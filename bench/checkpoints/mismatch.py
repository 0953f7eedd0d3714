"""Explains why a file does not fit, in words that tell its owner what to do."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import islice

from bench.checkpoints.families import Family
from bench.checkpoints.resnets import RESNETS
from leaderboard.base.printable import printable_name
from pretrain.nets.architectures import VIT_SIZES

_SUPPORTED = (
    f"only plain ResNets ({', '.join(RESNETS)}), Vision Transformers ({', '.join(VIT_SIZES)}), MobileNetV2, "
    "EfficientNets, ConvNeXts, DINOv3, and networks of timm that --architecture or a config.json names are supported"
)

_SEARCHED = 10_000
"""The mark of another family is searched in at most this many names."""
_FOREIGN: tuple[tuple[str, str], ...] = (
    # The first pattern that a tensor name matches names the architecture; order matters where they overlap.
    (r"(^|\.)(relative_position_bias_table$|layers\.\d+\.blocks\.\d+\.attn\.qkv\.)", "a Swin Transformer"),
    (r"(^|\.)transformer\.resblocks\.\d+\.", "a Vision Transformer of CLIP (it has a norm before the blocks)"),
    (r"(^|\.)layer\.\d+\.attention\.q_proj\.", "a part of a DINOv3"),
    (r"(^|\.)blocks\.\d+\.residual[12]\.", "a CAPI (rotary position embeddings, RMS norms)"),
    (r"(^|\.)(downsample_layers\.\d+|stages\.\d+\.\d+\.dwconv|stages\.\d+\.blocks\.\d+\.conv_dw)\.", "a ConvNeXt"),
    (r"(^|\.)features\.\d+\.\d+\.layer_scale$", "a ConvNeXt"),
    (r"(^|\.)(cls_token|patch_embed\.proj\.weight|pos_embed)$", "an unusual Vision Transformer (ViT) or a part of one"),
    (r"(^|\.)blocks\.\d+\.attn\.", "an unusual Vision Transformer (ViT) or a part of one"),
    (r"(^|\.)(encoder\.layer|layers)\.\d+\.(attn|attention)\.", "a transformer of another kind"),
    (r"(^|\.)embedder\.embedder\.convolution\.weight$", "a part of a ResNet with Hugging Face names"),
    (r"(^|\.)_?flat_param(_\d+)?$", "a checkpoint of FSDP with flattened parameters; save its full state dict"),
    (r"(^|\.)res\d_\d+_branch\d", "a Caffe ResNet (MSRA, R-50.pkl: folded BatchNorm, stride on the 1x1, BGR)"),
    (r"(^|[./])block\d/unit\d+/[abc]/", "a BiT ResNet (GroupNorm before standardized convolutions)"),
    (r"(^|\.)features\.\d+\.conv\.\d+\.", "a MobileNetV2"),
    (r"(^|\.)features\.\d+(\.\d+)?\.block\.", "a MobileNetV3 or an EfficientNet"),
    (r"(^|\.)_?blocks\.\d+\.(_depthwise_conv|\d+\.conv_dw|conv_dw)\.", "an EfficientNet or a MobileNet"),
    (r"(^|\.)denseblock\d+\.", "a DenseNet"),
    (r"(^|\.)Mixed_\d[a-z]\.", "an Inception network"),
    (r"(^|\.)features\.\d+\.weight$", "a VGG or an AlexNet"),
)


def foreign(names: Collection[str], top_level: Collection[str]) -> str:
    """The problem text for a file in which nothing looks like a known network."""
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
    return f"no known network was found among the {len(names)} tensors{nested} (they start with {shown}); {_SUPPORTED}"


def summarise(names: Collection[str], family: Family) -> str:
    """A few names, and the parts of the network in which all of them lie, for messages."""
    ordered = list(names)
    stages = list(dict.fromkeys(family.stage(name) for name in ordered))
    shown = ", ".join(f"`{printable_name(name)}`" for name in ordered[:3])
    return f"{shown}{', ...' if len(ordered) > 3 else ''} (in {', '.join(stages)})"
