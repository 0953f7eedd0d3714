"""DINOv3's Vision Transformers (Simeoni et al. 2025, arXiv 2508.10104), exported with timm's names and built by timm.

Positions enter by rotations of queries and keys, whose periods are fixed. Keys have no bias: where a file stores one
bias for queries, keys and values, its middle third is zero.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor
from typing_extensions import override

from bench.checkpoints.families import Architecture, architecture_of_timm, input_channels
from bench.checkpoints.naming import Layout
from bench.checkpoints.vits import VisionTransformers, can_join

_SIZES: Mapping[str, tuple[int, int, int]] = {
    "tiny": (192, 12, 0),
    "small": (384, 12, 0),
    "small_plus": (384, 12, 1),
    "base": (768, 12, 0),
    "large": (1024, 24, 0),
    "huge_plus": (1280, 32, 1),
}
"""Width, number of blocks, and whether the perceptrons are gated, by timm's name of the size."""
_BASE, _HEAD = 100, 64
"""Base of the periods, and channels of an attention head, of all released networks."""


class DINOv3(VisionTransformers):
    """ViTs with rotary positions, registers and layer scales."""

    name = "DINOv3"
    unused = re.compile(r"(^|\.)(mask_token|local_cls_norm\.\w+|rope_embed\.periods|bias_mask)$")

    @override
    def nearest(self, tensors: Mapping[str, Tensor]) -> Architecture:
        found = _signature(tensors)
        size = min(_SIZES, key=lambda name: sum(abs(a - b) for a, b in zip(_SIZES[name], found, strict=True)))
        biased = size == "tiny" or any(name.endswith((".attn.q_bias", ".attn.qkv.bias")) for name in tensors)
        name = f"vit_{size}_patch16_dinov3{'_qkvb' if biased else ''}"
        return architecture_of_timm(name)

    @override
    def parts(self, name: str) -> tuple[str, ...]:
        if name.endswith((".attn.q_bias", ".attn.v_bias")):
            return (f"{name[:-6]}qkv.bias",)
        if ".mlp.fc1" in name:
            return (re.sub(r"\.fc1(_x)?\.", ".up.", name),)
        return super().parts(name)

    @override
    def assemble(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Join queries, keys and values; take the biases of queries and values from one in which keys have none."""
        tensors: dict[str, Tensor] = {}
        gated = any(".mlp.fc1_g." in name for name in found)
        for name, tensor in super().assemble(found).items():
            if name.endswith(".attn.qkv.bias") and tensor.ndim == 1 and can_join(tensor) and _keys_have_none(tensor):
                tensors[f"{name[:-8]}q_bias"], _, tensors[f"{name[:-8]}v_bias"] = tensor.chunk(3)
            else:
                tensors[name.replace(".mlp.up.", ".mlp.fc1_x." if gated else ".mlp.fc1.")] = tensor
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
        projection = tensors.get("patch_embed.proj.weight")
        if projection is not None and projection.ndim == 4 and (channels := input_channels(projection.shape[1])):
            found.append(channels)
        if any(name.endswith((".attn.qkv.bias", ".attn.k_bias")) for name in tensors):
            found.append("its keys have a bias, which DINOv3's released networks do not have")
        if _signature(tensors) not in _SIZES.values():
            width, depth, gated = _signature(tensors)
            kind = "gated " if gated else ""
            found.append(
                f"it has {depth} blocks of width {width} with {kind}perceptrons: only DINOv3's sizes "
                f"{', '.join(_SIZES)} are supported, and only whole files"
            )
        return found

    @override
    def notes(self, tensors: Mapping[str, Tensor], expected: Architecture) -> list[str]:
        return [
            "not visible in the weights: networks of satellite images (SAT-493M) expect --mean .430 .411 .296 "
            "--std .213 .156 .143"
        ]

    @override
    def check_unused(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Problem if the periods of the rotations are not those of the released networks, rounded to bfloat16."""
        wanted = torch.tensor([float(_BASE) ** (4 * n / _HEAD) for n in range(_HEAD // 4)])
        for name, tensor in tensors.items():
            if not name.endswith("rope_embed.periods"):
                continue
            if tensor.shape != wanted.shape or not torch.allclose(tensor.float(), wanted, rtol=2**-7, atol=0):
                return [f"the periods of its rotations are not those of DINOv3's released networks (base {_BASE})"]
        return []


_FAMILY = DINOv3()
DINOV3_LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "DINOv3's own names",
        {"patch_embed": "patch_embed", "blocks": "blocks", "norm": "norm"},
        (
            (r"\.ls([12])\.gamma$", r".gamma_\1"),
            (r"\.mlp\.w1\.", ".mlp.fc1_g."),
            (r"\.mlp\.w2\.", ".mlp.fc1_x."),
            (r"\.mlp\.w3\.", ".mlp.fc2."),
        ),
        _FAMILY,
        {"cls_token": "cls_token", "storage_tokens": "reg_token"},
        r"rope_embed\.periods$",
    ),
    Layout(
        "Hugging Face's DINOv3 names (transformers)",
        {"embeddings": "", "layer": "layer", "model": "", "norm": "norm"},
        (
            (r"^register_tokens$", "reg_token"),
            (r"^patch_embeddings\.", "patch_embed.proj."),
            (r"^layer\.(\d+)\.", r"blocks.\1."),
            (r"\.attention\.([qkv])_proj\.weight$", r".attn.\1.weight"),
            (r"\.attention\.([qkv])_proj\.bias$", r".attn.\1_bias"),
            (r"\.attention\.o_proj\.", ".attn.proj."),
            (r"\.layer_scale([12])\.lambda1$", r".gamma_\1"),
            (r"\.mlp\.gate_proj\.", ".mlp.fc1_g."),
            (r"\.mlp\.up_proj\.", ".mlp.up."),
            (r"\.mlp\.down_proj\.", ".mlp.fc2."),
        ),
        _FAMILY,
        anchor=r"embeddings\.patch_embeddings\.weight$",
    ),
)


def _signature(tensors: Mapping[str, Tensor]) -> tuple[int, int, int]:
    """Width, number of blocks, and whether the perceptrons are gated (0 or 1)."""
    norm = tensors.get("norm.weight")
    blocks = {match[1] for name in tensors if (match := re.match(r"blocks\.(\d{1,4})\.", name))}
    width = norm.shape[0] if norm is not None and norm.ndim else 384
    return width, len(blocks), int(any(".mlp.fc1_g." in name for name in tensors))


def _keys_have_none(bias: Tensor) -> bool:
    return len(bias) % 3 == 0 and not bool(bias.chunk(3)[1].any())
