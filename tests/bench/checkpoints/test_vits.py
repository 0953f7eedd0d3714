"""Vision Transformers in the key layouts of real releases, made at run time from our own names."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import torchvision
from synthetic_nets import StateDict, with_prefix
from torch import Tensor

from bench.checkpoints import Inspection, import_checkpoint, inspect_checkpoint
from bench.checkpoints.formats import FORMATS
from bench.checkpoints.inspection import read_backbone
from bench.errors import BenchError
from pretrain.exported import read_card, read_exported
from pretrain.nets.architectures import ViTArchitecture, build_backbone, find_architecture, tensor_shapes, vit_name
from pretrain.nets.vit import VisionTransformer

Save = Callable[..., Path]


def small_state(name: str, seed: int = 0) -> StateDict:
    """Random values, one an output channel, of a ViT: little memory, few bytes."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.rand((*shape[:-1], 1) if len(shape) > 1 else shape, generator=generator).expand(shape)
        for key, shape in tensor_shapes(name).items()
    }


def filled(inspection: Inspection, tensors: Mapping[str, Tensor]) -> VisionTransformer:
    """The network that a file holds, in evaluation mode."""
    network = build_backbone(str(inspection.architecture)).eval()
    network.load_state_dict(dict(tensors))
    assert isinstance(network, VisionTransformer)
    return network


def vit(name: str) -> ViTArchitecture:
    found = find_architecture(name)
    assert isinstance(found, ViTArchitecture)
    return found


def timm_state(name: str) -> StateDict:
    """Random values, as `small_state` has them, of a network of timm."""
    timm = pytest.importorskip("timm", reason="timm is not installed")
    with torch.device("meta"):
        state = timm.create_model(name, num_classes=0).state_dict()
    return {key: torch.rand(len(t), *[1] * (t.ndim - 1)).expand(t.shape) for key, t in state.items()}


@pytest.fixture(scope="module")
def tiny() -> StateDict:
    return small_state("vit_tiny_patch16")


def renamed(state: Mapping[str, Tensor], rules: list[tuple[str, str]]) -> StateDict:
    """Every rule is tried on every name; of a name with `{qkv}` a tensor is cut into three."""
    found: StateDict = {}
    for name, tensor in state.items():
        for pattern, words in rules:
            name = re.sub(pattern, words, name)
        if "{qkv}" in name:
            for one, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                found[name.replace("{qkv}", one)] = part
        else:
            found[name] = tensor
    return found


HUGGING_FACE = [
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^reg_token$", "embeddings.register_tokens"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.", "encoder.layer."),
    (r"\.attn\.qkv\.", ".attention.attention.{qkv}."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
]
HUGGING_FACE_VIT = [
    *HUGGING_FACE,
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
]
HUGGING_FACE_DINOV2 = [*HUGGING_FACE, (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1")]
TORCHVISION = [
    (r"^cls_token$", "class_token"),
    (r"^pos_embed$", "encoder.pos_embedding"),
    (r"^patch_embed\.proj\.", "conv_proj."),
    (r"^norm\.", "encoder.ln."),
    (r"^blocks\.(\d+)\.", r"encoder.layers.encoder_layer_\1."),
    (r"\.norm([12])\.", r".ln_\1."),
    (r"\.attn\.qkv\.", ".self_attention.in_proj_"),
    (r"\.attn\.proj\.", ".self_attention.out_proj."),
]
TORCHVISION_OLD = [*TORCHVISION, (r"\.fc1\.", ".linear_1."), (r"\.fc2\.", ".linear_2.")]
TORCHVISION_NEW = [*TORCHVISION, (r"\.fc1\.", ".0."), (r"\.fc2\.", ".3.")]
OPENMMLAB = [
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^norm\.", "ln1."),
    (r"^blocks\.", "layers."),
    (r"\.norm([12])\.", r".ln\1."),
    (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
    (r"\.mlp\.fc2\.", ".ffn.layers.1."),
]
MMSEG = [*OPENMMLAB, (r"\.attn\.qkv\.", ".attn.attn.in_proj_"), (r"\.attn\.proj\.", ".attn.attn.out_proj.")]
CHUNKS = [(r"^blocks\.(\d)\.", r"blocks.0.\1."), (r"^blocks\.(1\d)\.", r"blocks.1.\1.")]

GATED = [(r"\.mlp\.fc1\.", ".mlp.w12."), (r"\.mlp\.fc2\.", ".mlp.w3.")]
GATED_HUGGING_FACE = [(r"\.mlp\.fc1\.", ".mlp.weights_in."), (r"\.mlp\.fc2\.", ".mlp.weights_out.")]


@pytest.mark.parametrize(
    ("rules", "prefix", "name"),
    [
        ([], "", "vit_tiny_patch16"),  # timm, ours
        ([], "module.backbone.", "vit_tiny_patch16_nocls"),  # I-JEPA-like
        ([], "backbone.", "vit_tiny_patch8_96"),  # solo-learn
        ([(r"^norm\.", "fc_norm.")], "", "vit_tiny_patch16_384"),  # MAE's fine-tuned networks
        ([(r"^reg_token$", "register_tokens")], "", "vit_tiny_patch14_518_reg4_ls"),  # DINOv2
        (CHUNKS, "teacher.backbone.", "vit_tiny_patch14_ls"),  # DINOv2's training
        ([(r"\.ls([12])\.gamma$", r".gamma_\1")], "module.backbone.", "vit_tiny_patch16_ls"),  # iBOT with layer scale
        ([*CHUNKS, *GATED], "module.backbone.", "vit_tiny_patch14_518_ls_swiglu"),  # Franca, DINOv2's ViT-g
        ([*HUGGING_FACE_DINOV2, *GATED_HUGGING_FACE], "", "vit_tiny_patch14_518_ls_swiglu"),
        (HUGGING_FACE_VIT, "vit.", "vit_tiny_patch16"),
        (HUGGING_FACE_DINOV2, "", "vit_tiny_patch14_reg4_ls"),
        (TORCHVISION_OLD, "", "vit_tiny_patch16"),
        (TORCHVISION_NEW, "module.", "vit_tiny_patch16"),
        (OPENMMLAB, "backbone.", "vit_tiny_patch16"),
        (MMSEG, "backbone.", "vit_tiny_patch16"),
    ],
)
def test_every_naming(save: Save, rules: list[tuple[str, str]], prefix: str, name: str) -> None:
    state = small_state(name)
    path = save({"state_dict": with_prefix(renamed(state, rules), prefix), "epoch": 3})
    inspection, tensors = read_backbone(path)
    assert not inspection.problems
    assert (inspection.architecture, inspection.location, inspection.prefix) == (name, "state_dict", prefix)
    assert inspection.filled == len(state) == len(tensors)
    assert not inspection.left_over
    assert all(torch.equal(tensors[key], tensor) for key, tensor in state.items())


MOCO_V3 = ["base_encoder", "momentum_encoder"]
WRITTEN: dict[str, Callable[[StateDict], Mapping[str, object]]] = {
    "DINO": lambda s: {"student": with_prefix(s, "module.backbone."), "teacher": with_prefix(s, "backbone.")},
    "DINOv2": lambda s: small_state("vit_tiny_patch14_ls") | {"mask_token": torch.ones(1, 192)},
    "CP2": lambda s: {
        f"module.{e}.{part}": t
        for e in ("encoder_q", "encoder_k")
        for part, t in (with_prefix(s, "backbone.") | {"decode_head.bottleneck.conv.weight": torch.ones(2, 2)}).items()
    },
    "Franca": lambda s: {
        "teacher": with_prefix(
            renamed(small_state("vit_tiny_patch14_ls_swiglu"), [*CHUNKS, *GATED]), "module.backbone."
        ),
    },
    "MAE": lambda s: {"model": small_state("vit_small_patch16") | {"decoder_embed.weight": torch.ones(2, 2)}},
    "MoCo v3": lambda s: {
        "state_dict": {f"module.{e}.{n}": t for e in MOCO_V3 for n, t in small_state("vit_small_patch16").items()}
    },
    "I-JEPA": lambda s: {
        "encoder": s,
        "target_encoder": dict(s),
        "predictor": {"predictor_pos_embed": torch.ones(1, 4, 4)},
    },
    "MSN": lambda s: {"encoder": s, "target_encoder": dict(s), "prototypes": torch.ones(8, 2)},
    "OpenMMLab (ViT)": lambda s: with_prefix(renamed(s, OPENMMLAB), "backbone."),
    "Hugging Face": lambda s: renamed(s, HUGGING_FACE_VIT),
    "torchvision (ViT)": lambda s: renamed(s, TORCHVISION_NEW),
    "timm or a released ViT": lambda s: s,
}


@pytest.mark.parametrize("name", WRITTEN)
def test_every_format_is_called_by_its_name(save: Save, tiny: StateDict, name: str) -> None:
    inspection = inspect_checkpoint(save(WRITTEN[name](tiny)))
    assert not inspection.problems
    assert (inspection.written_by or "").startswith(name)
    known = [form.name for form in FORMATS if any("ViT names" in layout for layout in form.layouts)]
    assert all(one.startswith(tuple(WRITTEN)) for one in known)


def test_what_is_joined_names_its_parts(save: Save, tiny: StateDict) -> None:
    inspection = inspect_checkpoint(save(renamed(tiny, HUGGING_FACE_VIT)))
    (row,) = (row for row in inspection.rows if row.name == "blocks.3.attn.qkv.bias")
    parts = [f"encoder.layer.3.attention.attention.{one}.bias" for one in ("query", "key", "value")]
    assert row.source == " + ".join(parts)


def test_dinos_teacher_goes_before_its_student(save: Save, tiny: StateDict) -> None:
    student = small_state("vit_tiny_patch16", seed=1)
    head = {f"head.{n}": torch.ones(2, 2) for n in ("mlp.0.weight", "last_layer.weight_g")}
    file = {
        "student": with_prefix(student | head, "module.backbone.") | {"module.head.mlp.0.weight": torch.ones(2, 2)},
        "teacher": with_prefix(tiny | head, "backbone."),
        "dino_loss": {"center": torch.ones(1, 8)},
    }
    inspection, tensors = read_backbone(save(file))
    assert not inspection.problems
    assert (inspection.location, inspection.prefix) == ("teacher", "backbone.")
    assert torch.equal(tensors["blocks.11.mlp.fc2.bias"], tiny["blocks.11.mlp.fc2.bias"])
    assert any("authors of DINO, iBOT and EsViT evaluate the teacher" in note for note in inspection.notes)


def test_ijepas_target_encoder_goes_before_the_trained_one(save: Save) -> None:
    encoder, target = (small_state("vit_tiny_patch16_nocls", seed) for seed in (0, 1))
    predictor = {"predictor_pos_embed": torch.ones(1, 196, 4), "predictor_blocks.0.attn.qkv.weight": torch.ones(12, 4)}
    file = {"encoder": encoder, "predictor": predictor, "target_encoder": target}
    inspection = inspect_checkpoint(save({key: with_prefix(value, "module.") for key, value in file.items()}))
    assert not inspection.problems
    assert (inspection.architecture, inspection.location) == ("vit_tiny_patch16_nocls", "target_encoder")


def test_msns_target_encoder_goes_before_the_trained_one(save: Save, tiny: StateDict) -> None:
    encoder = small_state("vit_tiny_patch16", seed=1)
    file = {"encoder": with_prefix(encoder, "module."), "target_encoder": with_prefix(tiny, "module.")}
    inspection, tensors = read_backbone(save(file | {"prototypes": torch.ones(8, 2)}))
    assert (inspection.location, inspection.prefix, inspection.problems) == ("target_encoder", "module.", ())
    assert torch.equal(tensors["norm.bias"], tiny["norm.bias"])
    assert any("the authors of MSN evaluate the target encoder" in note for note in inspection.notes)
    assert not any(".228" in note for note in inspection.notes)  # its prototypes are not SwAV's


def test_what_serves_the_pretraining_alone_is_left(save: Save, tiny: StateDict) -> None:
    decoder = with_prefix(small_state("vit_tiny_patch16", seed=1), "decoder_")
    decoder |= {"decoder_embed.weight": torch.ones(2, 2), "decoder_pred.weight": torch.ones(2, 2)}
    extra = {"mask_token": torch.ones(1, 1, 192), "masked_embed": torch.ones(1, 192)}
    path = save({"model": tiny | decoder | extra})
    inspection = inspect_checkpoint(path, architecture="vit_tiny_patch16")
    assert not inspection.problems
    assert {g.what: len(g.names) for g in inspection.left_over} == {
        "projection, prediction or task head": len(decoder),
        "for pretraining alone": 2,
    }


def sines(width: int, first: str) -> Tensor:
    """Fixed positions of 14 x 14 patches: sine and cosine of row and column, MoCo v3 the row `first`, MAE the column;
    the class token has none. Written out from the formula."""
    rows = torch.zeros(1, 197, width)
    quarter = width // 4
    omega = 10000.0 ** -(torch.arange(quarter) / quarter)
    for r in range(14):
        for c in range(14):
            a, b = (r, c) if first == "row" else (c, r)
            parts = [f(place * omega) for place in (a, b) for f in (torch.sin, torch.cos)]
            rows[0, 1 + 14 * r + c] = torch.cat(parts)
    return rows


@pytest.mark.parametrize(("first", "name"), [("row", "vit_small_patch16_heads12"), ("column", "vit_small_patch16")])
def test_moco_v3s_small_vit_has_twelve_heads(save: Save, first: str, name: str) -> None:
    query = small_state("vit_small_patch16") | {"pos_embed": sines(384, first)}
    copy = small_state("vit_small_patch16", seed=1) | {"pos_embed": sines(384, first)}
    state = with_prefix(query, "module.base_encoder.") | with_prefix(copy, "module.momentum_encoder.")
    state |= {"module.base_encoder.head.0.weight": torch.ones(2, 2), "module.predictor.0.weight": torch.ones(2, 2)}
    inspection = inspect_checkpoint(save({"state_dict": state}))
    assert not inspection.problems
    assert (inspection.architecture, inspection.prefix) == (name, "module.base_encoder.")
    assert any("heads" in note for note in inspection.notes)
    assert vit(name).heads == (12 if first == "row" else 6)


@pytest.mark.parametrize(("size", "heads"), [("small", 6), ("tiny", 3)])
def test_a_vit_with_twelve_heads_is_named(save: Save, size: str, heads: int) -> None:
    path, other = save(small_state(f"vit_{size}_patch14_reg4_ls_nobias")), f"vit_{size}_patch14_reg4_ls_heads12_nobias"
    (note,) = (note for note in inspect_checkpoint(path).notes if "heads" in note)
    assert f"{heads} are taken" in note and f"--architecture {other})" in note
    inspection = inspect_checkpoint(path, architecture=other)
    assert (inspection.architecture, inspection.problems) == (other, ())
    assert not any("are taken" in note for note in inspection.notes)


@pytest.mark.parametrize("extra", ["decoder_embed.weight", "momentum_encoder.norm.bias"])
def test_a_tiny_vit_of_a_method_that_has_none_must_be_named(save: Save, tiny: StateDict, extra: str) -> None:
    """MAE-Lite's has 12 heads and the tensors of one with 3; its code writes MAE's names, or those of MoCo v3."""
    path = save({"model": with_prefix(tiny, "base_encoder.") | {extra: torch.ones(2)}})
    assert "say --architecture vit_tiny_patch16 or vit_tiny_patch16_heads12" in problems(path)
    for name in ("vit_tiny_patch16", "vit_tiny_patch16_heads12"):
        inspection = inspect_checkpoint(path, architecture=name)
        assert (inspection.architecture, inspection.problems) == (name, ())


def test_an_exported_vit_has_the_heads_of_its_card(tmp_path: Path) -> None:
    folder = import_checkpoint("random:vit_tiny_patch16_heads12", name="r", work=tmp_path)
    inspection = inspect_checkpoint(folder)
    assert (inspection.architecture, inspection.problems) == ("vit_tiny_patch16_heads12", ())
    assert "12 attention heads, as the file next to the weights says" in inspection.notes


@pytest.mark.parametrize(("said", "named"), [(3, 12), (12, 3)])
def test_an_exported_vit_is_no_other_than_its_card_says(tmp_path: Path, said: int, named: int) -> None:
    """The number of parameters is the same: nothing else would notice, and the card's recipe is of its own network."""
    card, other = (f"vit_tiny_patch16{'_heads12' if heads == 12 else ''}" for heads in (said, named))
    folder = import_checkpoint(f"random:{card}", name="r", work=tmp_path)
    (problem,) = inspect_checkpoint(folder, architecture=other).problems
    assert f"card.json says {card}, --architecture says {other}: leave it out" in problem
    with pytest.raises(BenchError, match=f"card.json says {card}, --architecture says {other}"):
        import_checkpoint(folder, name="mine", work=tmp_path / "work", architecture=other)
    same = import_checkpoint(folder, name="mine", work=tmp_path / "work", architecture=f"{card}_224")
    assert read_card(same).architecture == card
    alone = shutil.copy(folder / "backbone.safetensors", tmp_path)
    renamed = import_checkpoint(alone, name="mine", work=tmp_path / "other", architecture=other)
    assert read_card(renamed).architecture == other


HUB: list[tuple[dict[str, object], str, str]] = [
    ({"model_type": "vit", "num_attention_heads": 12, "hidden_act": "gelu"}, "vit_tiny_patch16_heads12", ""),
    ({"model_type": "vit", "num_attention_heads": 3, "hidden_act": "quick_gelu"}, "vit_tiny_patch16", "is quick_gelu"),
    ({"num_attention_heads": 5}, "vit_tiny_patch16", "5 attention heads, which cannot share a width of 192"),
    ({"num_attention_heads": 0}, "vit_tiny_patch16", "0 attention heads"),
    ({"num_attention_heads": [1, 2, 4, 8], "hidden_act": None}, "vit_tiny_patch16", ""),
    ({"model_args": {"num_heads": 12, "img_size": 224, "drop_path_rate": 0.1}}, "vit_tiny_patch16_heads12", ""),
    ({"model_args": {"act_layer": "GELU"}}, "vit_tiny_patch16", ""),
    ({"model_args": {"act_layer": "quick_gelu"}}, "vit_tiny_patch16", "is quick_gelu"),
    ({"model_args": {"norm_layer": "rmsnorm", "act_layer": "gelu"}}, "vit_tiny_patch16", "network (norm_layer): not"),
    ({"model_args": {"num_heads": "12"}}, "vit_tiny_patch16", "network (num_heads): not"),
    ({"model_args": None}, "vit_tiny_patch16", ""),
]


@pytest.mark.parametrize(("config", "name", "problem"), HUB)
def test_what_a_configuration_says_of_a_vit(
    save: Save, tiny: StateDict, config: dict[str, object], name: str, problem: str
) -> None:
    path = save(tiny, "pytorch_model.bin")
    path.with_name("config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224"} | config))
    inspection = inspect_checkpoint(path)
    assert inspection.architecture == name
    assert len(inspection.problems) == bool(problem) and problem in "".join(inspection.problems)
    caller = inspect_checkpoint(path, architecture="vit_tiny_patch16_heads4")
    assert caller.architecture == "vit_tiny_patch16_heads4"  # what the caller names goes first


def test_networks_with_the_tensors_of_a_vit_that_compute_something_else_are_noted(save: Save, tiny: StateDict) -> None:
    fine_tuned = inspect_checkpoint(save(renamed(tiny, [(r"^norm\.", "fc_norm.")]))).notes
    assert any("`fc_norm`" in note and "mean of the patches" in note for note in fine_tuned)
    assert not any("fc_norm" in note for note in inspect_checkpoint(save(tiny)).notes)
    notes = inspect_checkpoint(save(small_state("vit_tiny_patch16_nocls_nobias"))).notes
    assert any("--architecture" in note and "vit_base_patch16_rpn_224" in note for note in notes)


@pytest.mark.slow
def test_a_vit_with_norms_after_its_layers_is_named(save: Save) -> None:
    path = save(timm_state("vit_base_patch16_rpn_224"))
    named = inspect_checkpoint(path, architecture="vit_base_patch16_rpn_224")
    assert (named.architecture, named.problems) == ("vit_base_patch16_rpn_224", ())


def test_patches_with_positions_and_a_class_token_without(save: Save) -> None:
    """timm's networks with registers (`no_embed_class`)."""
    state = small_state("vit_tiny_patch14_reg4_ls")
    alone = state | {"pos_embed": state["pos_embed"][:, 1:]}
    inspection, tensors = read_backbone(save(alone))
    assert (inspection.architecture, inspection.problems) == ("vit_tiny_patch14_reg4_ls", ())
    assert not tensors["pos_embed"][:, 0].any()
    assert torch.equal(tensors["pos_embed"][:, 1:], alone["pos_embed"])


def test_torchvisions_network_computes_the_same_after_the_import(save: Save, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.VisionTransformer(64, 16, 12, 3, 192, 768).eval()
    for parameter in theirs.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    folder = import_checkpoint(save(theirs.state_dict()), name="tv", work=tmp_path)
    exported = read_exported(folder)
    assert exported.card.architecture == "vit_tiny_patch16_64"
    assert (exported.card.stem, exported.card.norm, exported.card.stride_style) == ("16x16", "LN", "none")
    ours = exported.build().eval()
    assert isinstance(ours, VisionTransformer)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        patches = theirs._process_input(x)
        expected = theirs.encoder(torch.cat([theirs.class_token.expand(2, -1, -1), patches], 1))
        torch.testing.assert_close(ours.tokens(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, {"init_values": 0.1, "reg_tokens": 4, "no_embed_class": True}, {"class_token": False, "global_pool": "avg"}],
)
def test_timms_network_computes_the_same_after_the_import(save: Save, options: dict[str, object]) -> None:
    timm = pytest.importorskip("timm.models.vision_transformer", reason="timm is not installed")
    torch.manual_seed(0)
    sizes = {"img_size": 64, "embed_dim": 192, "depth": 12, "num_heads": 3, "fc_norm": False}
    theirs = timm.VisionTransformer(**sizes, **options).eval()
    for parameter in theirs.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    ours = filled(*read_backbone(save(theirs.state_dict())))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours.tokens(x), theirs.forward_features(x), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ViT", "Dinov2", "Dinov2WithRegisters"])
def test_transformers_networks_compute_the_same_after_the_import(save: Save, kind: str) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=192, num_attention_heads=3, num_hidden_layers=12, image_size=64, patch_size=16, layer_norm_eps=1e-6,
        intermediate_size=768, mlp_ratio=4,
    )  # fmt: skip
    theirs = getattr(transformers, f"{kind}Model")(config).eval()
    for parameter in theirs.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    ours = filled(*read_backbone(save(theirs.state_dict())))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours.tokens(x), theirs(x).last_hidden_state, rtol=1e-5, atol=1e-5)


# --- refusals -----------------------------------------------------------------------------------------------------


def problems(path: Path) -> str:
    found = inspect_checkpoint(path).problems
    assert found
    return "\n".join(found)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("rope.freqs", "rotary position embeddings (DINOv3"),
        ("blocks.0.attn.relative_position_bias_table", "relative position embeddings (BEiT"),
        ("dist_token", "a distillation token"),
        ("norm_pre.weight", "a norm before the blocks (CLIP)"),
        ("blocks.0.mlp.fc1_g.weight", "perceptrons whose gates are a matrix of their own"),
        ("blocks.0.attn.q_norm.weight", "normalised queries and keys"),
        ("attn_pool.latent", "an attention pool (SigLIP"),
    ],
)
def test_variants_that_compute_something_else(save: Save, tiny: StateDict, extra: str, words: str) -> None:
    state = tiny | {extra: torch.rand(2, 2)}
    if extra == "rope.freqs":
        del state["pos_embed"]
    if extra == "attn_pool.latent":
        del state["cls_token"]
    assert f"it has {words}" in problems(save({"model": state}))


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("encoder.blocks.0.residual1.fn.q_proj.weight", "a CAPI"),
        ("layer.0.attention.q_proj.weight", "a part of a DINOv3"),
        ("visual.transformer.resblocks.0.attn.in_proj_weight", "a Vision Transformer of CLIP"),
        ("downsample_layers.0.0.weight", "a ConvNeXt"),
        ("features.1.0.layer_scale", "a ConvNeXt"),
        ("layers.0.blocks.0.attn.qkv.weight", "a Swin Transformer"),
    ],
)
def test_networks_that_are_named(save: Save, key: str, words: str) -> None:
    assert f"this looks like {words}" in problems(save({key: torch.rand(2, 2)}))


def test_other_sizes(save: Save, tiny: StateDict) -> None:
    deep = tiny | {name.replace("blocks.0.", "blocks.12."): t for name, t in tiny.items() if "blocks.0." in name}
    assert "13 blocks of width 192, which is none of the usual sizes (tiny 192 x 12" in problems(save(deep))
    oblong = tiny | {"pos_embed": torch.rand(1, 1 + 14 * 15, 192)}
    assert "211 positions are no square" in problems(save(oblong))
    grey = tiny | {"patch_embed.proj.weight": torch.rand(192, 1, 16, 16)}
    assert "takes 1 input channel(s) (grey images)" in problems(save(grey))
    oblong = tiny | {"patch_embed.proj.weight": torch.rand(192, 3, 16, 8)}
    assert "patches of 16 x 8 pixels" in problems(save(oblong))
    flat = tiny | {"patch_embed.proj.weight": torch.rand(192, 768)}
    assert "has 2 dimensions instead of 4" in problems(save(flat))


def test_half_saved_files(save: Save, tiny: StateDict) -> None:
    message = problems(save({name: t for name, t in tiny.items() if not name.startswith("blocks.11.")}))
    assert "half-saved file: it has 11 of 12 blocks" in message
    assert "138 of 150 tensors of vit_tiny_patch16 are filled; 12 missing" in message
    one = {name: t for name, t in tiny.items() if name != "blocks.4.norm2.bias"}
    assert "half-saved or half-renamed file: 149 of 150" in problems(save(one))
    part = renamed(tiny, HUGGING_FACE_VIT)
    del part["encoder.layer.2.attention.attention.key.weight"]
    assert "`blocks.2.attn.qkv.weight` (in block 2)" in problems(save(part))


def test_names_of_vits_are_what_they_say() -> None:
    for name in ("vit_base_patch14_518_ls", "vit_tiny_patch16_reg4_ls_heads6_nocls_nobias_swiglu"):
        one = vit(name)
        heads = one.heads if "heads" in name else None
        assert name == vit_name(
            name.split("_")[1],
            one.patch,
            pixels=one.input_size,
            registers=one.registers,
            layer_scale=one.layer_scale,
            heads=heads,
            class_token=one.class_token,
            qkv_bias=one.qkv_bias,
            gated=one.gated,
        )
    assert find_architecture("vit_base_patch16_224") == find_architecture("vit_base_patch16")  # timm's name


@pytest.mark.parametrize("name", ["vit_base_patch016", "vit_base_patch14_100"])
def test_random_vits_have_one_name_each(name: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"no backbone|cannot be a backbone"):
        import_checkpoint(f"random:{name}", name="r", work=tmp_path)


def test_random_vits_depend_on_the_seed_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = import_checkpoint("random:vit_tiny_patch16:1", name="r", work=tmp_path / "a")
    torch.manual_seed(6)
    second = import_checkpoint("random:vit_tiny_patch16:1", name="r", work=tmp_path / "b")
    other = import_checkpoint("random:vit_tiny_patch16:2", name="r", work=tmp_path / "c")
    assert first.name == second.name != other.name
    torch.manual_seed(5)
    assert torch.equal(before, torch.get_rng_state())
