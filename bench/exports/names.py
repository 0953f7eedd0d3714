"""Names of tensors in other libraries, from those of an exported backbone (torchvision's for ResNets, timm's for ViTs).

Each table is the inverse of a naming style that `bench.checkpoints.layouts` reads, so that what is written here can be
imported again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

Rules = Sequence[tuple[str, str]]
"""Regular expressions and what replaces them, applied in this order."""

DETECTRON2: Rules = (
    (r"^(conv1|bn1)\.", r"stem.\1."),
    *((rf"^layer{n}\.", f"res{n + 1}.") for n in (1, 2, 3, 4)),
    (r"\bbn(\d)\.", r"conv\1.norm."),
    (r"\bdownsample\.0\.", "shortcut."),
    (r"\bdownsample\.1\.", "shortcut.norm."),
)
"""Rules for detectron2/modeling/backbone/resnet.py.

Names are stem.conv1.norm.weight, res2.0.conv1.weight, res2.0.shortcut.weight.
"""

POSITIONAL: Rules = (
    (r"^conv1\.", "0."),
    (r"^bn1\.", "1."),
    *((rf"^layer{n}\.", f"{n + 3}.") for n in (1, 2, 3, 4)),
)
"""Rules for `nn.Sequential` of a torchvision ResNet's children, as in lightly's examples; 2 is ReLU, 3 the pooling."""

HUGGING_FACE_RESNET: Rules = (
    (r"^conv1\.", "embedder.embedder.convolution."),
    (r"^bn1\.", "embedder.embedder.normalization."),
    *((rf"^layer{n}\.(\d+)\.", rf"encoder.stages.{n - 1}.layers.\1.") for n in (1, 2, 3, 4)),
    *((rf"\.conv{n}\.", f".layer.{n - 1}.convolution.") for n in (1, 2, 3)),
    *((rf"\.bn{n}\.", f".layer.{n - 1}.normalization.") for n in (1, 2, 3)),
    (r"\.downsample\.0\.", ".shortcut.convolution."),
    (r"\.downsample\.1\.", ".shortcut.normalization."),
)
"""Rules for `ResNetModel` of transformers/models/resnet/modeling_resnet.py."""

TORCHVISION_VIT: Rules = (
    (r"^cls_token$", "class_token"),
    (r"^pos_embed$", "encoder.pos_embedding"),
    (r"^patch_embed\.proj\.", "conv_proj."),
    (r"^norm\.", "encoder.ln."),
    (r"^blocks\.(\d+)\.", r"encoder.layers.encoder_layer_\1."),
    (r"\.norm([12])\.", r".ln_\1."),
    (r"\.attn\.qkv\.", ".self_attention.in_proj_"),
    (r"\.attn\.proj\.", ".self_attention.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
)
"""Rules for torchvision/models/vision_transformer.py."""

HUGGING_FACE_VIT: Rules = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.(\d+)\.", r"encoder.layer.\1."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.(query|key|value)\.", r".attention.attention.\1."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
"""Rules for `ViTModel` of transformers/models/vit/modeling_vit.py; queries, keys and values are three matrices."""


def renamed(tensors: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    """The tensors under the names that `rules` give them."""
    named = {}
    for name, tensor in tensors.items():
        for pattern, words in rules:
            name = re.sub(pattern, words, name)
        named[name] = tensor
    return named


def split_attention(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each joined matrix or bias of queries, keys and values (3 D, ...) as three of (D, ...)."""
    split = {}
    for name, tensor in tensors.items():
        if ".attn.qkv." in name:
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                split[name.replace(".qkv.", f".{part}.")] = rows.contiguous()
        else:
            split[name] = tensor
    return split
