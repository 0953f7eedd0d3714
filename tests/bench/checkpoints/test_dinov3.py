"""DINOv3's ViTs in the key layouts of the authors' files and of transformers, made at run time from timm's names."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from synthetic_nets import StateDict, with_prefix

from bench.checkpoints import import_checkpoint, inspect_checkpoint
from bench.checkpoints.dinov3 import DINOv3
from bench.checkpoints.inspection import read_backbone
from pretrain.exported import read_exported
from pretrain.nets.architectures import tensor_shapes

pytest.importorskip("timm", reason="timm is an optional package")
Save = Callable[..., Path]
NAME = "vit_tiny_patch16_dinov3_qkvb"


@pytest.fixture(scope="module")
def state() -> StateDict:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(shape, generator=generator) for name, shape in tensor_shapes(NAME).items()}


def of_the_authors(state: StateDict) -> StateDict:
    """Names of facebookresearch/dinov3: one bias of queries, keys (zero) and values, its mask, periods, mask token."""
    periods = torch.tensor([100 ** (n / 16) for n in range(16)], dtype=torch.bfloat16)
    found: StateDict = {"mask_token": torch.ones(1, 192), "rope_embed.periods": periods}
    for name, tensor in state.items():
        if name.endswith(".q_bias"):
            values = state[name.replace("q_bias", "v_bias")]
            found[name.replace("q_bias", "qkv.bias")] = torch.cat([tensor, torch.zeros_like(tensor), values])
            found[name.replace("q_bias", "qkv.bias_mask")] = torch.ones(3 * len(tensor))
        elif not name.endswith(".v_bias"):
            found[re.sub(r"gamma_([12])", r"ls\1.gamma", name).replace("reg_token", "storage_tokens")] = tensor
    return found


def of_transformers(state: StateDict) -> StateDict:
    """Names of transformers' DINOv3ViTModel: queries, keys and values apart."""
    found: StateDict = {"embeddings.mask_token": torch.ones(1, 1, 192)}
    for name, tensor in state.items():
        name = re.sub(r"^(cls_token)", r"embeddings.\1", name.replace("reg_token", "embeddings.register_tokens"))
        name = name.replace("patch_embed.proj", "embeddings.patch_embeddings").replace("blocks.", "layer.")
        name = re.sub(r"gamma_([12])", r"layer_scale\1.lambda1", name)
        name = re.sub(r"attn\.([qv])_bias", r"attention.\1_proj.bias", name).replace("attn.proj", "attention.o_proj")
        name = name.replace("mlp.fc1", "mlp.up_proj").replace("mlp.fc2", "mlp.down_proj")
        if "attn.qkv" in name:
            for one, part in zip("qkv", tensor.chunk(3), strict=True):
                found[name.replace("attn.qkv", f"attention.{one}_proj")] = part
        else:
            found[name] = tensor
    return found


@pytest.mark.parametrize(
    ("rename", "prefix", "written_by"),
    [
        (of_the_authors, "", "DINOv3"),
        (of_the_authors, "teacher.backbone.", "DINOv3"),
        (of_transformers, "", "Hugging Face transformers (DINOv3)"),
    ],
)
def test_every_tensor_is_filled(
    save: Save, state: StateDict, rename: Callable[[StateDict], StateDict], prefix: str, written_by: str
) -> None:
    inspection, tensors = read_backbone(save(with_prefix(rename(state), prefix)))
    assert inspection.problems == ()
    assert (inspection.architecture, inspection.prefix, inspection.written_by) == (NAME, prefix, written_by)
    assert {group.what for group in inspection.left_over} == {"for pretraining alone"}
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in state.items())


def test_the_parts_of_a_tensor_are_named(save: Save, state: StateDict) -> None:
    rows = {row.name: row.source for row in inspect_checkpoint(save(of_the_authors(state))).rows}
    assert rows["blocks.3.attn.q_bias"] == rows["blocks.3.attn.v_bias"] == "blocks.3.attn.qkv.bias"
    rows = {row.name: row.source for row in inspect_checkpoint(save(of_transformers(state))).rows}
    assert rows["blocks.3.mlp.fc1.bias"] == "layer.3.mlp.up_proj.bias"
    assert rows["blocks.3.attn.qkv.weight"] == " + ".join(f"layer.3.attention.{one}_proj.weight" for one in "qkv")


def test_the_import_is_proven(save: Save, state: StateDict, tmp_path: Path) -> None:
    exported = read_exported(import_checkpoint(save(of_the_authors(state)), name="a", work=tmp_path))
    card = exported.card
    assert (card.stem, card.norm, card.stride_style, card.mean) == ("16x16", "LN", "none", (0.485, 0.456, 0.406))
    assert all(torch.equal(tensor, state[name]) for name, tensor in exported.build().state_dict().items())


def test_gated_perceptrons_under_both_names(state: StateDict) -> None:
    """Gates, the values that they multiply, and the second matrix."""
    block = {f"blocks.0.mlp.fc{n}.weight": torch.full((2, 2), float(i)) for i, n in enumerate(("1_g", "1_x", "2"))}
    family = DINOv3()
    of_hugging_face = {name.replace("fc1_x", "up"): tensor for name, tensor in block.items()}
    assert family.assemble(of_hugging_face).keys() == block.keys()
    assert family.parts("blocks.0.mlp.fc1_x.weight") == ("blocks.0.mlp.up.weight",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rope_embed.periods": torch.arange(16.0)}, "periods of its rotations are not those"),
        ({"rope_embed.periods": torch.ones(8)}, "periods of its rotations are not those"),
        ({"blocks.2.attn.qkv.bias": torch.ones(576)}, "its keys have a bias"),
        ({"patch_embed.proj.weight": torch.rand(192, 1, 16, 16)}, "grey images"),
        ({"norm.weight": torch.rand(200)}, "it has 12 blocks of width 200"),
        ({"blocks.5.norm1.bias": None}, "1 missing: `blocks.5.norm1.bias` (in block 5)"),
        ({"blocks.5.norm3.bias": torch.ones(192)}, "look like parts of the backbone"),
    ],
)
def test_what_does_not_fit_is_said(
    save: Save, state: StateDict, change: dict[str, torch.Tensor | None], words: str
) -> None:
    changed = {name: tensor for name, tensor in (of_the_authors(state) | change).items() if tensor is not None}
    assert words in "\n".join(inspect_checkpoint(save(changed)).problems)
