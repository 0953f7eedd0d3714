import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from rich.console import Console
from safetensors.torch import save_file
from synthetic_nets import StateDict, trained_like, with_prefix
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from bench.checkpoints import Inspection, import_checkpoint, inspect_checkpoint
from bench.checkpoints.inspection import read_backbone
from bench.checkpoints.rendering import render
from bench.errors import BenchError

Save = Callable[..., Path]


def text(inspection: Inspection, *, verbose: bool = False) -> str:
    console = Console(width=200, force_terminal=False)
    with console.capture() as captured:
        console.print(render(inspection, verbose=verbose))
    return captured.get()


def left_over(inspection: Inspection) -> dict[str, int]:
    return {group.what: len(group.names) for group in inspection.left_over}


def problems(path: Path) -> str:
    inspection = inspect_checkpoint(path)
    assert inspection.problems
    shown = text(inspection)
    assert "cannot be imported" in shown
    return "\n".join(inspection.problems)


# --- layouts of real releases -------------------------------------------------------------------------------------


def test_moco_v2(save: Save, resnet18_state: StateDict, other_state: StateDict) -> None:
    state = {}
    for side, tensors in (("q", resnet18_state), ("k", other_state)):
        state |= with_prefix(tensors, f"module.encoder_{side}.")
        state |= {f"module.encoder_{side}.fc.{i}.{n}": torch.ones(2, 2) for i in (0, 2) for n in ("weight", "bias")}
    state |= {"module.queue": torch.ones(128, 8), "module.queue_ptr": torch.zeros(1, dtype=torch.int64)}
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.03}]}
    path = save({"epoch": 200, "arch": "resnet18", "state_dict": state, "optimizer": optimizer}, "moco.pth.tar")
    inspection, tensors = read_backbone(path)
    assert not inspection.problems
    assert (inspection.location, inspection.prefix, inspection.architecture) == (
        "state_dict",
        "module.encoder_q.",
        "resnet18",
    )
    assert inspection.filled == len(inspection.rows) == len(resnet18_state)
    assert left_over(inspection) == {
        "projection, prediction or task head": 4,
        "another network (momentum, `state_dict.module.encoder_k.`)": len(other_state) + 4,
        "queue": 2,
        "optimizer state": 1,
    }
    assert all(torch.equal(tensors[name], resnet18_state[name]) for name in resnet18_state)
    key = inspect_checkpoint(path, prefix="module.encoder_k")
    assert key.prefix == "module.encoder_k."
    assert not key.problems


def test_densecl_training_checkpoint(save: Save, resnet18_state: StateDict, other_state: StateDict) -> None:
    state = with_prefix(resnet18_state, "encoder_q.0.") | with_prefix(other_state, "encoder_k.0.")
    state |= with_prefix(resnet18_state, "backbone.")
    state |= {f"encoder_q.1.mlp{d}.{i}.weight": torch.ones(2, 2) for d in ("", "2") for i in (0, 2)}
    state |= {"queue": torch.ones(2, 2), "queue2": torch.ones(2, 2)}
    inspection = inspect_checkpoint(save({"meta": {"epoch": 1}, "state_dict": state}))
    assert not inspection.problems
    assert inspection.prefix == "encoder_q.0."
    assert "`state_dict.backbone.` holds the same weights as `state_dict.encoder_q.0.`" in inspection.notes
    assert left_over(inspection)["projection, prediction or task head"] == 4
    assert left_over(inspection)["queue"] == 2


@pytest.mark.parametrize(
    "nesting",
    [(), ("model",), ("student",), ("network",), ("classy_state_dict", "base_model", "model", "trunk")],
)
@pytest.mark.parametrize("prefix", ["", "module.pre.", "_feature_blocks.", "online_backbone.", "module.net."])
def test_nesting_and_prefixes(save: Save, resnet18_state: StateDict, nesting: tuple[str, ...], prefix: str) -> None:
    content: object = with_prefix(resnet18_state, prefix)
    for key in reversed(nesting):
        content = {key: content, "epoch": 1}
    inspection = inspect_checkpoint(save(content))
    assert not inspection.problems
    assert (inspection.location, inspection.prefix) == (".".join(nesting), prefix)
    assert not inspection.left_over


def test_lightly_positional_names(save: Save, resnet18_state: StateDict) -> None:
    net = torchvision.models.resnet18()
    net.load_state_dict(resnet18_state, strict=False)
    state = with_prefix(torch.nn.Sequential(*list(net.children())[:-1]).state_dict(), "backbone.")
    state["projection_head.layers.0.weight"] = torch.ones(2, 2)
    inspection, tensors = read_backbone(save({"state_dict": state}))
    assert not inspection.problems
    assert inspection.prefix == "backbone."
    assert inspection.format is not None and inspection.format.startswith("positional names")
    assert all(torch.equal(tensors[name], resnet18_state[name]) for name in resnet18_state)


def test_swav_is_told_about_its_std(save: Save, resnet18_state: StateDict) -> None:
    state = with_prefix(resnet18_state, "module.") | {"module.prototypes.weight": torch.ones(30, 8)}
    inspection = inspect_checkpoint(save(state))
    assert not inspection.problems
    assert inspection.input["std"] == (0.228, 0.224, 0.225)
    assert any(".228" in note for note in inspection.notes)
    assert left_over(inspection) == {"projection, prediction or task head": 1}
    wrapped = inspect_checkpoint(save({"other": state}))
    assert not wrapped.input and any("as SwAV's files" in note for note in wrapped.notes)
    of_solo_learn = with_prefix(resnet18_state, "backbone.") | {"prototypes.weight_g": torch.ones(30, 1)}
    inspection = inspect_checkpoint(save({"state_dict": of_solo_learn}))
    assert not inspection.input and not any(".228" in note for note in inspection.notes)


def test_safetensors_and_legacy(save: Save, resnet18_state: StateDict, tmp_path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in resnet18_state.items()}, tmp_path / "net.safetensors")
    legacy = save(resnet18_state, "legacy.pth", _use_new_zipfile_serialization=False)
    for path, kind in ((tmp_path / "net.safetensors", "safetensors"), (legacy, "torch legacy")):
        inspection = inspect_checkpoint(path)
        assert (inspection.container, inspection.architecture, inspection.problems) == (kind, "resnet18", ())


@pytest.mark.parametrize("name", ["resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2"])
def test_larger_networks(save: Save, name: str) -> None:
    state = trained_like(getattr(torchvision.models, name))
    inspection = inspect_checkpoint(save(state))
    assert (inspection.architecture, inspection.problems) == (name, ())
    assert left_over(inspection) == {"classifier": 2}
    backbone = sum(p.numel() for n, p in getattr(torchvision.models, name)().named_parameters() if "fc" not in n)
    assert inspection.parameters == backbone


def test_counters_are_optional(save: Save, resnet18_state: StateDict) -> None:
    state = {name: tensor for name, tensor in resnet18_state.items() if "num_batches" not in name}
    inspection = inspect_checkpoint(save(state))
    assert not inspection.problems
    assert {row.status for row in inspection.rows} == {"filled", "absent, not needed"}


@pytest.mark.parametrize(
    ("dtype", "words"),
    [(torch.float16, "without loss"), (torch.bfloat16, "without loss"), (torch.float64, "rounded")],
)
def test_other_precisions_are_said(save: Save, resnet18_state: StateDict, dtype: torch.dtype, words: str) -> None:
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in resnet18_state.items()}
    inspection = inspect_checkpoint(save(state))
    assert not inspection.problems
    assert any(str(dtype).removeprefix("torch.") in note and words in note for note in inspection.notes)


def test_an_untrained_file_is_said(save: Save) -> None:
    inspection = inspect_checkpoint(save(torchvision.models.resnet18().state_dict()))
    assert not inspection.problems
    assert any("looks untrained" in note for note in inspection.notes)
    shown = text(inspection)
    assert "warning: no BatchNorm statistic" in shown and "note: warning" not in shown


def test_a_partly_untrained_file_is_said(save: Save, resnet18_state: StateDict) -> None:
    state = dict(resnet18_state)
    state["bn1.running_mean"] = torch.zeros(64)
    state["bn1.running_var"] = torch.ones(64)
    inspection = inspect_checkpoint(save(state))
    assert any("1 of 20 BatchNorm layers" in note for note in inspection.notes)


# --- refusals -----------------------------------------------------------------------------------------------------


def test_deep_stem_of_openmmlab(save: Save, resnet18_state: StateDict) -> None:
    state = {name: t for name, t in resnet18_state.items() if not name.startswith(("conv1.", "bn1."))}
    state |= {f"stem.{i}.weight": torch.randn(32, 3, 3, 3) for i in (0, 3, 6)}
    message = problems(save({"state_dict": with_prefix(state, "backbone.")}))
    assert "deep stem (it has `stem.0.weight`" in message
    assert "5 missing: `conv1.weight`, `bn1.weight`, `bn1.bias`, ... (in stem)" in message


def test_deep_stem_of_timm(save: Save, resnet18_state: StateDict) -> None:
    state = {name: t for name, t in resnet18_state.items() if not name.startswith("conv1.")}
    state |= {f"conv1.{i}.weight": torch.randn(32, 3, 3, 3) for i in (0, 3, 6)}
    assert "deep stem (it has `conv1.0.weight`" in problems(save(state))


def test_deep_stem_of_clip(save: Save, resnet18_state: StateDict) -> None:
    state = resnet18_state | {
        "conv1.weight": torch.randn(32, 3, 3, 3),
        "conv2.weight": torch.randn(32, 32, 3, 3),
        "attnpool.positional_embedding": torch.randn(50, 8),
    }
    message = problems(save(state))
    assert "deep stem (it has `conv2.weight`" in message
    assert "2 tensor(s) look like parts of the backbone that resnet18 lacks" in message


def test_small_image_stem(save: Save, resnet18_state: StateDict) -> None:
    message = problems(save(resnet18_state | {"conv1.weight": torch.randn(64, 3, 3, 3)}))
    assert "conv1 is 3x3: a stem for small images" in message
    assert "`conv1.weight` is (64, 3, 3, 3), expected (64, 3, 7, 7)" in message


@pytest.mark.parametrize(("channels", "meaning"), [(1, "grey images"), (2, "Sobel"), (6, "something else")])
def test_stem_of_other_channels(save: Save, resnet18_state: StateDict, channels: int, meaning: str) -> None:
    message = problems(save(resnet18_state | {"conv1.weight": torch.randn(64, channels, 7, 7)}))
    assert f"takes {channels} input channel(s) ({meaning}" in message


@pytest.mark.parametrize(
    ("block", "depth", "words"),
    [
        (BasicBlock, [1, 1, 1, 1], "ResNet-10"),
        (BasicBlock, [2, 3, 2, 2], r"basic blocks \(2, 3, 2, 2\)"),
        (Bottleneck, [2, 2, 2, 2], "ResNet-26"),
        (Bottleneck, [3, 4, 24, 3], r"this is bottleneck blocks \(3, 4, 24, 3\)"),
    ],
)
def test_wrong_depth(save: Save, block: type, depth: list[int], words: str) -> None:
    message = problems(save(trained_like(lambda: ResNet(block, depth))))
    assert re.search(words, message)
    assert "wrong depth" in message


@pytest.mark.parametrize("stage", ["layer1", "layer4"])
def test_missing_stage(save: Save, resnet18_state: StateDict, stage: str) -> None:
    message = problems(save({name: t for name, t in resnet18_state.items() if not name.startswith(stage)}))
    assert f"missing stage {stage}" in message
    assert f"(in {stage})" in message


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_half_loaded(save: Save, resnet18_state: StateDict, kept: float) -> None:
    names = list(resnet18_state)
    part = {name: resnet18_state[name] for name in names[: int(len(names) * kept)]}
    message = problems(save(part))
    filled = sum(not name.endswith("num_batches_tracked") for name in part)
    assert "half-saved" in message
    assert f"{filled} of 100 tensors of resnet18 are filled" in message


def test_single_missing_tensor(save: Save, resnet18_state: StateDict) -> None:
    state = dict(resnet18_state)
    del state["layer3.1.bn2.running_mean"]
    message = problems(save(state))
    assert "half-saved or half-renamed file: 99 of 100" in message
    assert "`layer3.1.bn2.running_mean` (in layer3)" in message


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (lambda: ResNet(Bottleneck, [3, 4, 6, 3], width_per_group=192), "a wider network.*3 times the 64 of resnet50"),
        (lambda: ResNet(BasicBlock, [2, 2, 2, 2], norm_layer=lambda c: torch.nn.GroupNorm(8, c)), "GroupNorm"),
    ],
)
def test_other_kinds_of_resnet(save: Save, net: Callable[[], ResNet], words: str) -> None:
    assert re.search(words, problems(save(trained_like(net))))


def test_grouped_convolutions(save: Save) -> None:
    state = trained_like(torchvision.models.resnext50_32x4d)
    assert "grouped convolutions (ResNeXt)" in problems(save(state))


def test_squeeze_and_excitation(save: Save, resnet18_state: StateDict) -> None:
    message = problems(save(resnet18_state | {"layer1.0.se.fc1.weight": torch.randn(4, 64, 1, 1)}))
    assert "squeeze-and-excitation blocks: the residual blocks have parts named se" in message
    assert "`layer1.0.se.fc1.weight`" in message


def test_average_pooling_shortcuts(save: Save, resnet18_state: StateDict) -> None:
    state = {
        n.replace("downsample.1", "downsample.2").replace("downsample.0", "downsample.1"): t
        for n, t in resnet18_state.items()
    }
    assert "average-pooling shortcuts" in problems(save(state))


def test_files_of_our_own_are_said_to_be(save: Save, resnet18_state: StateDict, tmp_path: Path) -> None:
    file = save({"method": with_prefix(resnet18_state, "backbone.")})
    assert not [note for note in inspect_checkpoint(file).notes if "pretraining run" in note]
    (file.parent / "run.json").touch()
    assert [note for note in inspect_checkpoint(file).notes if "`densebench export` of its folder" in note]
    folder = import_checkpoint("random:resnet18", name="net", work=tmp_path / "work")
    assert "card.json says what it is and is taken over: net, random initialisation" in inspect_checkpoint(folder).notes


def test_a_tensor_of_no_known_part_beside_the_backbone_is_said(save: Save, resnet18_state: StateDict) -> None:
    state = {f"backbone.{name}": value for name, value in resnet18_state.items()}
    more = {"backbone.adapter.0.bias": torch.zeros(3), "backbone.fc.bias": torch.zeros(3), "mask_token": torch.zeros(3)}
    found = inspect_checkpoint(save(state | more))
    assert not found.problems and left_over(found)["unknown, beside the backbone's own"] == 1
    assert [note for note in found.notes if "no known part (backbone.adapter.0.bias): if its network" in note]
    assert not [note for note in inspect_checkpoint(save(state)).notes if "no known part" in note]


def test_unexplained_tensor_in_the_backbone(save: Save, resnet18_state: StateDict) -> None:
    message = problems(save(with_prefix(resnet18_state | {"layer5.0.conv1.weight": torch.randn(2, 2, 1, 1)}, "m.")))
    assert "1 tensor(s) look like parts of the backbone that resnet18 lacks: `m.layer5.0.conv1.weight`" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_figures_that_are_not_finite(save: Save, resnet18_state: StateDict, value: float) -> None:
    damaged = resnet18_state["layer2.0.conv1.weight"].clone()
    damaged[0, 0, 0, 0] = value
    message = problems(save(resnet18_state | {"layer2.0.conv1.weight": damaged}))
    assert "`layer2.0.conv1.weight` has 1 of 73728 values that are not finite" in message


def test_float64_beyond_the_range_of_float32(save: Save, resnet18_state: StateDict) -> None:
    huge = resnet18_state["bn1.weight"].double()
    huge[3] = 1e300
    assert "`bn1.weight` has 1 of 64 values" in problems(save(resnet18_state | {"bn1.weight": huge}))


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_constant_weights(save: Save, resnet18_state: StateDict, value: float) -> None:
    wiped = torch.full_like(resnet18_state["layer4.1.conv2.weight"], value)
    message = problems(save(resnet18_state | {"layer4.1.conv2.weight": wiped}))
    assert f"`layer4.1.conv2.weight` is constant (every value is {value:g})" in message


def test_negative_variance(save: Save, resnet18_state: StateDict) -> None:
    message = problems(save(resnet18_state | {"bn1.running_var": torch.linspace(-1, 1, 64)}))
    assert "`bn1.running_var` has negative variances (lowest -1)" in message


def test_many_problems_are_cut_short(save: Save, resnet18_state: StateDict) -> None:
    state = {name: t * float("nan") if t.is_floating_point() else t for name, t in resnet18_state.items()}
    message = problems(save(state))
    assert len(message.splitlines()) == 4
    assert "and 97 more tensors" in message


def test_integer_weights(save: Save, resnet18_state: StateDict) -> None:
    quantised = (resnet18_state["conv1.weight"] * 100).to(torch.int8)
    assert "`conv1.weight` has the type torch.int8" in problems(save(resnet18_state | {"conv1.weight": quantised}))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mobilenet_v3_small", "a MobileNetV3"),
        ("efficientnet_b0", "an EfficientNet"),
        ("densenet121", "a DenseNet"),
        ("vgg11", "a VGG"),
        ("alexnet", "an AlexNet"),
        ("inception_v3", "an Inception"),
        ("swin_t", "a Swin"),
    ],
)
def test_networks_of_other_families(save: Save, name: str, words: str) -> None:
    with torch.device("meta"):
        options = {"init_weights": False} if name == "inception_v3" else {}
        net = getattr(torchvision.models, name)(**options)
    state = {key: torch.zeros(()).expand(t.shape) for key, t in net.state_dict().items()}
    message = problems(save(state))
    assert words in message
    assert "only plain ResNets (resnet18, resnet34, resnet50, resnet101, resnet152, " in message


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("teacher.backbone.blocks.0.attn.qkv.weight", "an unusual Vision Transformer (ViT) or a part of one"),
        ("patch_embed.proj.weight", "an unusual Vision Transformer (ViT) or a part of one"),
        ("embedder.embedder.convolution.weight", "Hugging Face names"),
        ("module._flat_param", "FSDP with flattened parameters"),
        ("weights", "no known network was found among the 1 tensors"),
    ],
)
def test_names_of_other_families(save: Save, key: str, words: str) -> None:
    assert words in problems(save({"model": {key: torch.ones(2)}}))


def test_a_prefix_where_there_is_no_network(save: Save) -> None:
    with pytest.raises(BenchError, match="no network was found"):
        inspect_checkpoint(save({"weight": torch.ones(2)}), prefix="module.")


def test_a_folder_without_the_hand_off(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"a folder without backbone\.safetensors"):
        inspect_checkpoint(tmp_path)


# --- what is shown ------------------------------------------------------------------------------------------------


def test_rendering_and_json(save: Save, resnet18_state: StateDict) -> None:
    path = save({"state_dict": with_prefix(resnet18_state, "module.") | {"module.fc.weight": torch.ones(2, 2)}})
    before = sorted(path.parent.iterdir())
    inspection = inspect_checkpoint(path)
    short, full = text(inspection), text(inspection, verbose=True)
    for part in (
        "`module.`",
        "under `state_dict`",
        "resnet18",
        "11,176,512",
        inspection.sha256,
        "every tensor is filled",
    ):
        assert part in short
    assert "layer3.1.bn2.bias" not in short
    assert "layer3.1.bn2.bias" in full and "state_dict.module.layer3.1.bn2.bias" in full and "64x3x7x7" in full
    data = json.loads(json.dumps(inspection.to_dict()))
    assert data["importable"] is True and data["filled"] == 120 and len(data["rows"]) == 120
    assert data["rows"][0] == {
        "name": "conv1.weight",
        "shape": [64, 3, 7, 7],
        "status": "filled",
        "source": "state_dict.module.conv1.weight",
        "found_shape": [64, 3, 7, 7],
        "dtype": "float32",
        "stage": "stem",
    }
    assert sorted(path.parent.iterdir()) == before


def test_names_with_markup_are_shown_as_they_are(save: Save, resnet18_state: StateDict) -> None:
    path = save(with_prefix(resnet18_state, "[red].") | {"[bold]x[/]": torch.ones(2)})
    shown = text(inspect_checkpoint(path), verbose=True)
    assert "[red].layer1.0.conv1.weight" in shown and "[bold]x[/]" in shown


def test_the_real_file_of_imgsim() -> None:
    """The self-supervised ResNet-50 inside the wheel `imgsim` 0.1.2 (MIT)."""
    where = os.environ.get("DENSEBENCH_IMGSIM")
    if not where:
        pytest.skip("set DENSEBENCH_IMGSIM to imgsim/model.pth from the wheel imgsim 0.1.2")
    inspection = inspect_checkpoint(Path(where))
    assert (inspection.architecture, inspection.prefix, inspection.problems) == ("resnet50", "module.pre.", ())
    assert inspection.filled == 318
    assert left_over(inspection) == {"classifier": 2}
