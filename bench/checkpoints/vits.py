"""Vision Transformers: which one a file holds, as its tensors show, and how variants are recognized."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from math import isqrt

import torch
from torch import Tensor
from typing_extensions import override

from bench.checkpoints.families import Architecture, Family, architecture, input_channels
from leaderboard.base.printable import printable_name
from pretrain.errors import PretrainError
from pretrain.nets.architectures import VIT_SIZES, ViTArchitecture, find_architecture, vit_name

_BLOCK = re.compile(r"blocks\.(\d{1,4})\.")
_LARGEST = 2**26
"""Most values of a tensor that is joined from others: three times the square of the widest ViT's width is less."""

_VARIANTS = (
    (r"(^|\.)rope\w*\.", "rotary position embeddings (DINOv3, CAPI, EVA-02)"),
    (r"(^|\.)(relative_position_bias|rel_pos)", "relative position embeddings (BEiT, SAM)"),
    (r"(^|\.)(dist_token|distillation_token)$", "a distillation token (DeiT's distilled models)"),
    (r"(^|\.)(norm_pre|pre_norm|ln_pre|pre_layrnorm|pre_layernorm)\.", "a norm before the blocks (CLIP)"),
    (r"\.mlp\.(w1|fc1_g)\.", "perceptrons whose gates are a matrix of their own (EVA-02)"),
    (r"\.attn\.(q_norm|k_norm)\.", "normalised queries and keys"),
    (r"(^|\.)attn_pool\.", "an attention pool (SigLIP, whose GELU is the approximation by tanh)"),
    (r"\.attn\.(q_bias|v_bias)$", "attention with a bias of queries and values alone (BEiT)"),
)  # fmt: skip
"""Patterns of tensor names that show a variant which computes something else, each with its description."""


_TINY_WITH_12_HEADS = ("MAE", "MoCo v3")
"""Methods whose authors have no ViT-Tiny, while MAE-Lite's code, which writes the same names, has one of 12 heads."""


class VisionTransformers(Family):
    """ViTs (Dosovitskiy et al., ICLR 2021, arXiv 2010.11929), exported with timm's names."""

    name = "Vision Transformer (ViT)"
    like_parts = re.compile(
        r"^(norm\w*|ln\w*|pre\w*|patch_embed|blocks|layers|encoder|embeddings|rope\w*|rel\w*|dist\w*|storage\w*)(\.|$)"
    )
    unused = re.compile(r"(^|\.)(mask_token|masked_embed|mask_embed)$")

    @override
    def nearest(self, tensors: Mapping[str, Tensor]) -> Architecture:
        """The ViT with the width, depth, patch and options that the tensors show; for unusual sizes the nearest one."""
        width, patch = _width_and_patch(tensors)
        depth = len(_blocks(tensors))
        size = min(VIT_SIZES, key=lambda name: (abs(VIT_SIZES[name][0] - width), abs(VIT_SIZES[name][1] - depth)))
        positions = tensors.get("pos_embed")
        rows = positions.shape[1] if positions is not None and positions.ndim == 3 else 0
        registers = tensors.get("reg_token")
        class_token = "cls_token" in tensors or isqrt(rows) ** 2 != rows
        pixels = patch * isqrt(max(0, rows - class_token)) or 224
        try:
            return architecture(
                vit_name(
                    size,
                    patch,
                    pixels=pixels,
                    registers=registers.shape[1] if registers is not None and registers.ndim == 3 else 0,
                    layer_scale=any(name.endswith(".ls1.gamma") for name in tensors),
                    heads=12 if width == 384 and _has_positions_of_moco_v3(positions) else None,
                    class_token=class_token,
                    qkv_bias=any(name.endswith(".attn.qkv.bias") for name in tensors),
                    gated=_is_gated(tensors),
                )
            )
        except PretrainError:  # no network has these sizes
            return architecture(vit_name(size, 16))

    @override
    def stage(self, name: str) -> str:
        """One of `tokens`, `block 0`, `block 1`, ..., `norm`."""
        match = _BLOCK.match(name)
        if match is None:
            return "norm" if name.startswith("norm.") else "tokens"
        return f"block {int(match[1])}"

    @override
    def is_member(self, tensors: Mapping[str, Tensor]) -> bool:
        return any(re.match(r"blocks\.\d+\.(attn|norm1|mlp)\.", name) for name in tensors)

    @override
    def parts(self, name: str) -> tuple[str, ...]:
        """The parts of a tensor: queries, keys and values are three matrices in Hugging Face's files, one here."""
        return tuple(name.replace(".attn.qkv.", f".attn.{one}.") for one in "qkv") if ".attn.qkv." in name else (name,)

    @override
    def assemble(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Join queries, keys and values; give the class token a position of zero where only patches have positions."""
        tensors = dict(found)
        for name in found:
            if ".attn.q." not in name:
                continue
            joined = name.replace(".attn.q.", ".attn.qkv.")
            parts = [found[part] for part in self.parts(joined) if part in found]
            if len(parts) == 3 and all(map(can_join, parts)) and len({(p.shape, p.dtype) for p in parts}) == 1:
                tensors = {key: value for key, value in tensors.items() if key not in self.parts(joined)}
                tensors[joined] = torch.cat(parts)
        positions = tensors.get("pos_embed")
        if "cls_token" in tensors and positions is not None and positions.ndim == 3 and can_join(positions):
            rows = positions.shape[1]
            positions_of_patches_alone = isqrt(rows) ** 2 == rows  # timm's option `no_embed_class`, with registers
            if positions_of_patches_alone:
                tensors["pos_embed"] = torch.cat([torch.zeros_like(positions[:, :1]), positions], 1)
        return tensors

    @override
    def explain(
        self,
        tensors: Mapping[str, Tensor],
        siblings: Collection[str],
        expected: Architecture,
        missing: Collection[str],
        wrong: Mapping[str, tuple[int, ...]],
    ) -> list[str]:
        found = []
        for pattern, what in _VARIANTS:
            example = next((name for name in siblings if re.search(pattern, name)), None)
            if example is not None:
                found.append(f"it has {what}: `{printable_name(example)}`; only plain ViTs are supported")
        projection = tensors.get("patch_embed.proj.weight")
        if projection is not None and projection.ndim != 4:
            found.append(f"patch_embed.proj.weight has {projection.ndim} dimensions instead of 4")
        elif projection is not None and (channels := input_channels(projection.shape[1])):
            found.append(channels)
        elif projection is not None and projection.shape[2] != projection.shape[3]:
            found.append(
                f"patches of {projection.shape[2]} x {projection.shape[3]} pixels; only square ones are supported"
            )
        found += _size(tensors, expected)
        positions = tensors.get("pos_embed")
        if not found and positions is None:
            found.append(
                "it has no position embedding `pos_embed`: if it is a DINOv3 or another network of timm, name it with "
                "--architecture (vit_small_patch16_dinov3, ...)"
            )
        elif not found and positions is not None and "pos_embed" in wrong and positions.ndim == 3:
            found.append(
                f"its {positions.shape[1]} positions are no square of patches and a class token: "
                "only ViTs of square images are supported"
            )
        return found

    @override
    def undecided(self, expected: Architecture, method: str | None) -> list[str]:
        if method not in _TINY_WITH_12_HEADS or not expected.name.startswith("vit_tiny"):
            return []
        return [
            f"the weights do not show whether this ViT-Tiny of {method} has 3 heads, or 12 as MAE-Lite's (arXiv "
            f"2205.14443): say --architecture {expected.name} or {with_heads(expected, 12).name}"
        ]

    @override
    def notes(self, tensors: Mapping[str, Tensor], expected: Architecture) -> list[str]:
        one, found = vit(expected), []
        if expected.name.startswith("vit_small") and one.heads == 12:
            found.append("fixed positions in MoCo v3's order: 12 heads, as its ViT-S has, where others have 6")
        elif expected.name.startswith(("vit_tiny", "vit_small")):
            whose = "MAE-Lite's ViT-Tiny has" if expected.name.startswith("vit_tiny") else "MoCo v3's ViT-S has"
            found.append(
                f"not visible in the weights: the number of heads; {one.heads} are taken, {whose} 12 "
                f"(--architecture {with_heads(expected, 12).name})"
            )
        if not one.class_token and not one.qkv_bias:
            found.append(
                "not visible in the weights: whether the norms of a block follow its layers, as in timm's "
                "vit_base_patch16_rpn_224, which has neither class token nor this bias (--architecture names it)"
            )
        return found


VIT = VisionTransformers()


def vit(one: Architecture) -> ViTArchitecture:
    """The ViT that `one` is."""
    found = find_architecture(one.name)
    assert isinstance(found, ViTArchitecture), one.name
    return found


def with_heads(one: Architecture, heads: int) -> Architecture:
    """The ViT `one` with another number of heads.

    Raises:
        PretrainError: they do not share its width equally.
    """
    found = vit(one)
    return architecture(
        vit_name(
            one.name.split("_")[1],
            found.patch,
            pixels=found.input_size,
            registers=found.registers,
            layer_scale=found.layer_scale,
            heads=heads,
            class_token=found.class_token,
            qkv_bias=found.qkv_bias,
            gated=found.gated,
        )
    )


def _width_and_patch(tensors: Mapping[str, Tensor]) -> tuple[int, int]:
    projection = tensors.get("patch_embed.proj.weight")
    if projection is None or projection.ndim != 4:
        return 384, 16
    return projection.shape[0], projection.shape[2]


def _blocks(tensors: Mapping[str, Tensor]) -> set[str]:
    return {match[1] for name in tensors if (match := _BLOCK.match(name))}


def _is_gated(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a perceptron's first matrix has twice as many rows as its second has columns."""
    first, second = (tensors.get(f"blocks.0.mlp.fc{n}.weight") for n in (1, 2))
    if first is None or second is None or first.ndim != 2 or second.ndim != 2:
        return False
    return first.shape[0] == 2 * second.shape[1]


def _size(tensors: Mapping[str, Tensor], expected: Architecture) -> list[str]:
    """Messages about an unusual width or depth."""
    width, depth = _width_and_patch(tensors)[0], len(_blocks(tensors))
    usual_width, usual_depth = (
        expected.shapes["norm.weight"][0],
        len({n for n in expected.shapes if n.endswith("norm1.bias")}),
    )
    if width == usual_width and depth <= usual_depth:
        return [f"half-saved file: it has {depth} of {usual_depth} blocks"] if depth < usual_depth else []
    known = ", ".join(f"{name} {width} x {depth}" for name, (width, depth, _) in VIT_SIZES.items())
    return [f"it has {depth} blocks of width {width}, which is none of the usual sizes ({known})"]


def can_join(tensor: Tensor) -> bool:
    """Whether a tensor is plain and small enough to be cut and joined."""
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return plain and 1 <= tensor.ndim <= 3 and tensor.numel() <= _LARGEST


def _has_positions_of_moco_v3(positions: Tensor | None) -> bool:
    """Whether the first half of the channels are sines and cosines of the row (MoCo v3), not of the column (MAE).

    This is read at the class token, whose position is zero, and at the first two patches of the first row.
    """
    if positions is None or positions.ndim != 3 or positions.shape[1] < 3 or not can_join(positions):
        return False
    none, first, second = positions[0, :3].float()
    half = len(first) // 2
    return bool(
        not none.any()
        and torch.equal(first[:half], second[:half])
        and torch.equal(first, torch.cat([torch.zeros(half // 2), torch.ones(half // 2)]).repeat(2))
    )
