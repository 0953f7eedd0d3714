"""Formats of methods and libraries whose backbone is a ViT."""

from __future__ import annotations

from typing import Final

from bench.checkpoints.formats.base import TIMM_VIT, Format


def _vit(
    name: str,
    keys: str,
    marks: tuple[str, ...],
    source: str,
    layout: str,
    *,
    network: str = "the only one",
    license: str = "",
) -> Format:
    return Format(name, keys, marks, network, source, (layout,), "patches", "none", "LayerNorm", license=license)


TRANSFORMERS: Final[tuple[Format, ...]] = (
    _vit(
        "I-JEPA",
        "target_encoder.module.blocks.0.attn.qkv.weight (no class token)",
        (r"^target_encoder\.", r"^predictor\."),
        "ijepa@339f110 src/train.py",
        TIMM_VIT,
        network="target_encoder (momentum)",
        license="CC-BY-NC-4.0",
    ),
    _vit(
        "MSN",
        "target_encoder.module.blocks.0.attn.qkv.weight, prototypes",
        (r"^target_encoder\.", r"^prototypes$"),
        "msn@5474d5f src/msn_train.py, logistic_eval.py",
        TIMM_VIT,
        network="target_encoder (momentum)",
    ),
    _vit(
        "DINOv3",
        "storage_tokens, rope_embed.periods, blocks.0.ls1.gamma",
        (),
        "dinov3@6876159 dinov3/models/vision_transformer.py",
        "DINOv3's own names",
        license="DINOv3 License",
    ),
    _vit(
        "Hugging Face transformers (DINOv3)",
        "layer.0.attention.q_proj.weight, embeddings.register_tokens",
        (),
        "transformers@015e687 models/dinov3_vit/modeling_dinov3_vit.py",
        "Hugging Face's DINOv3 names (transformers)",
        license="DINOv3 License",
    ),
    _vit(
        "Franca",
        "teacher.backbone.blocks.0.0.mlp.w12.weight",
        (r"(^|\.)teacher\.", r"(^|\.)blocks\.\d+\.\d+\.mlp\.w12\."),
        "Franca@24f8c60 franca/hub/backbones.py, models/vision_transformer.py",
        TIMM_VIT,
        license="RAIL-AMS (research only)",
    ),
    _vit(
        "DINOv2 or another that it trained",
        "blocks.0.ls1.gamma, mask_token (in training: teacher.backbone.blocks.0.0.ls1.gamma)",
        (r"(^|\.)blocks\.\d+\.(\d+\.)?ls1\.gamma$", r"(^|\.)mask_token$"),
        "dinov2@027a9ac dinov2/models/vision_transformer.py",
        TIMM_VIT,
    ),
    _vit(
        "MAE",
        "model.cls_token, model.decoder_embed.weight",
        (r"(^|\.)decoder_embed\.",),
        "mae models_mae.py",
        TIMM_VIT,
    ),
    _vit("timm or a released ViT", "blocks.0.attn.qkv.weight", (), "timm 1.0 models/vision_transformer.py", TIMM_VIT),
    _vit(
        "torchvision (ViT)",
        "encoder.layers.encoder_layer_0.self_attention.in_proj_weight",
        (),
        "torchvision 0.29 models/vision_transformer.py",
        "torchvision's ViT names",
    ),
    _vit(
        "Hugging Face transformers (ViT)",
        "vit.encoder.layer.0.attention.attention.query.weight",
        (),
        "transformers models/vit/modeling_vit.py",
        "Hugging Face's ViT names (transformers)",
    ),
    _vit(
        "OpenMMLab (ViT)",
        "state_dict.backbone.layers.0.attn.qkv.weight",
        (),
        "mmpretrain models/backbones/vision_transformer.py",
        "OpenMMLab's ViT names",
    ),
)
