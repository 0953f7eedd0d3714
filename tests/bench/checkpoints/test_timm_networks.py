"""Networks of timm in the key layouts of real files, made at run time from timm's own names."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from synthetic_nets import StateDict, with_prefix
from torch import Tensor

from bench.checkpoints import import_checkpoint, inspect_checkpoint
from bench.checkpoints.families import architecture
from bench.checkpoints.inspection import read_backbone
from bench.checkpoints.timm_networks import ConvNeXts, EfficientNets
from bench.cli import run
from bench.errors import BenchError
from pretrain.exported import read_exported
from pretrain.nets.architectures import build_backbone

timm = pytest.importorskip("timm", reason="timm is an optional package")
Save = Callable[..., Path]


def trained(module: torch.nn.Module) -> StateDict:
    """Its state dict with other values in each tensor: batch norm's among them."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(t.shape, generator=generator) if t.is_floating_point() else torch.tensor(7)
        for name, t in module.state_dict().items()
    }


def whole(name: str) -> StateDict:
    return trained(timm.create_model(name, pretrained=False))


def former(name: str) -> str:
    """torchvision's name of a MobileNetV2's tensor as it was before convolution and norm were one module."""
    name = re.sub(r"(features\.1\.conv\.)(\d)\.(?=[a-z])", lambda m: f"{m[1]}{int(m[2]) + 2}.", name)
    name = re.sub(r"(features\.1\.conv\.)0\.(\d)\.", r"\1\2.", name)
    name = re.sub(r"(features\.(?!1\.)\d+\.conv\.)([23])\.(?=[a-z])", lambda m: f"{m[1]}{int(m[2]) + 4}.", name)
    return re.sub(r"\.conv\.(\d)\.(\d)\.", lambda m: f".conv.{3 * int(m[1]) + int(m[2])}.", name)


def assert_filled(path: Path, called: str, wanted: StateDict) -> None:
    inspection, tensors = read_backbone(path)
    assert inspection.problems == ()
    assert inspection.architecture == called
    assert tensors.keys() == architecture(called).shapes.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, wanted[name].reshape(tensor.shape)), name


@pytest.mark.parametrize("old", [False, True])
def test_torchvisions_mobilenet_computes_the_same(save: Save, old: bool) -> None:
    net = torchvision.models.mobilenet_v2().eval()
    net.load_state_dict(trained(net))
    state = {former(name) if old else name: tensor for name, tensor in net.state_dict().items()}
    inspection, tensors = read_backbone(save({"state_dict": with_prefix(state, "module.")}))
    assert (inspection.architecture, inspection.problems) == ("mobilenetv2_100", ())
    assert str(inspection.written_by).startswith("torchvision (MobileNetV2)")
    assert [group.what for group in inspection.left_over] == ["the classifier and what it alone reads"]
    ours = build_backbone("mobilenetv2_100").eval()
    ours.load_state_dict(dict(tensors))
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(ours(x), net.features[:18](x))


def flat(name: str) -> str:
    """EfficientNet-PyTorch's name of a tensor of timm's EfficientNet-Lite0 or B0."""
    first = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    module, *rest = name.split(".")
    if module != "blocks":
        return ".".join([first[module], *rest])
    stage, number, layer, *end = rest
    before = sum((1, 2, 2, 3, 3, 4, 1)[: int(stage)])
    first_block = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    others = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
    others |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}
    if layer == "se":
        layer, end = end[0].replace("conv", "_se"), end[1:]
    else:
        layer = (first_block if stage == "0" else others)[layer]
    return ".".join(["_blocks", str(before + int(number)), layer, *end])


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_b0"])
def test_efficientnet_pytorchs_names_are_of_tensorflows_padding(save: Save, name: str) -> None:
    state = whole(name)
    assert_filled(save({flat(key): tensor for key, tensor in state.items()}), f"tf_{name}", state)


def test_timms_own_names_and_what_no_tensor_shows(save: Save) -> None:
    state = whole("efficientnet_lite0")
    path = save(with_prefix(state, "backbone."))
    assert_filled(path, "efficientnet_lite0", state)
    assert any("tf_efficientnet_lite0" in note for note in inspect_checkpoint(path).notes)


def of_convnext(name: str) -> str:
    name = re.sub(r"^stem\.", "downsample_layers.0.", name)
    name = re.sub(r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1.", name)
    name = name.replace(".blocks.", ".").replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
    return name.replace("head.norm.", "norm.").replace("head.fc.", "head.")


def of_transformers(name: str) -> str:
    name = name.replace("stem.0.", "convnext.embeddings.patch_embeddings.")
    name = name.replace("stem.1.", "convnext.embeddings.layernorm.")
    name = name.replace("head.norm.", "convnext.layernorm.").replace("head.fc.", "classifier.")
    name = name.replace("stages.", "convnext.encoder.stages.").replace(".downsample.", ".downsampling_layer.")
    name = name.replace(".blocks.", ".layers.").replace("conv_dw", "dwconv").replace(".norm.", ".layernorm.")
    return name.replace("mlp.fc", "pwconv").replace(".gamma", ".layer_scale_parameter")


def of_dinov3(name: str) -> str:
    """transformers' name of a tensor of DINOv3's ConvNeXt."""
    name = re.sub(r"^stem\.", "stages.0.downsample_layers.", name).replace("head.norm.", "layer_norm.")
    name = name.replace(".downsample.", ".downsample_layers.").replace(".blocks.", ".layers.")
    name = name.replace("conv_dw", "depthwise_conv").replace(".norm.", ".layer_norm.")
    return name.replace("mlp.fc", "pointwise_conv")


@pytest.mark.parametrize("rename", [str, of_convnext, of_transformers, of_dinov3])
def test_convnexts(save: Save, rename: Callable[[str], str]) -> None:
    state = whole("convnext_atto")
    assert_filled(save({rename(key): tensor for key, tensor in state.items()}), "convnext_atto", state)


@pytest.mark.slow
def test_torchvisions_convnext_computes_the_same(save: Save) -> None:
    net = torchvision.models.convnext_tiny().eval()
    inspection, tensors = read_backbone(save(net.state_dict()))
    assert (inspection.architecture, inspection.problems) == ("convnext_tiny", ())
    ours = build_backbone("convnext_tiny").eval()
    ours.load_state_dict(dict(tensors))
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), net.features(x))


@pytest.mark.parametrize(
    ("family", "names"),
    [
        (EfficientNets(tensorflow=False), ["mobilenetv2_035", "efficientnet_lite1"]),
        (EfficientNets(tensorflow=True), ["tf_efficientnet_b1"]),
        (ConvNeXts(), ["convnextv2_atto"]),
    ],
)
def test_members_are_told_apart(family: EfficientNets | ConvNeXts, names: list[str]) -> None:
    for name in names:
        with torch.device("meta"):
            state: dict[str, Tensor] = build_backbone(name).state_dict()
        assert family.members[family.signature(state)] == name
        assert family.nearest(state).name == name


def test_the_import_is_proven_and_fed_as_timm_says(save: Save, tmp_path: Path) -> None:
    state = whole("efficientnet_lite0")
    path = save({flat(key): tensor for key, tensor in state.items()})
    exported = read_exported(import_checkpoint(path, name="a", work=tmp_path))
    assert (exported.card.mean, exported.card.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert (exported.card.stem, exported.card.norm, exported.card.stride_style) == ("3x3", "BN", "none")
    assert all(torch.equal(tensor, state[name]) for name, tensor in exported.build().state_dict().items())
    with pytest.raises(BenchError, match="already in"):
        import_checkpoint(path, name="a", work=tmp_path, mean=(0.4, 0.4, 0.4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks.2.0.conv_pw.weight": None}, "1 missing: `blocks.2.0.conv_pw.weight`"),
        ({"blocks.2.0.se.conv_reduce.weight": torch.ones(8, 96, 1, 1)}, "none of the networks that are known here"),
        ({"conv_stem.weight": torch.rand(16, 1, 3, 3)}, "grey images"),
        ({"bn1.other": torch.ones(16)}, "look like parts of the backbone"),
    ],
)
def test_what_does_not_fit_is_said(save: Save, change: dict[str, Tensor | None], message: str) -> None:
    state = {name: tensor for name, tensor in (whole("mobilenetv2_050") | change).items() if tensor is not None}
    assert message in "\n".join(inspect_checkpoint(save(state)).problems)


def test_without_timm_the_extra_is_named(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(whole("mobilenetv2_050"))
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    architecture.cache_clear()
    monkeypatch.setattr(
        "pretrain.nets.architectures.timm_facts",
        __import__("pretrain.nets.timm_models", fromlist=["x"]).timm_facts.__wrapped__,
    )
    with pytest.raises(BenchError, match=r"looks like mobilenetv2_050: .*pip install 'densebench\[timm\]'"):
        inspect_checkpoint(path)


def test_a_network_that_no_tensor_shows_is_named(
    save: Save, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The padding of an EfficientNet, and a network that is not recognized."""
    lite, tiny = whole("efficientnet_lite0"), whole("resnet10t")
    path = save(with_prefix(lite, "backbone."))
    folder = import_checkpoint(path, name="a", work=tmp_path, architecture="tf_efficientnet_lite0")
    exported = read_exported(folder)
    assert exported.card.architecture == "tf_efficientnet_lite0"
    assert all(torch.equal(tensor, lite[name]) for name, tensor in exported.tensors.items())
    inspection = inspect_checkpoint(path, architecture="tf_efficientnet_lite0")
    assert not any("not visible" in note for note in inspection.notes)
    assert "tf_efficientnet_lite0 was named by the caller" in inspection.notes
    assert inspect_checkpoint(save(tiny), architecture="resnet10t").problems == ()
    more = inspect_checkpoint(save(tiny | {"layer1.0.se.weight": torch.ones(2)}), architecture="resnet10t").problems
    assert "look like parts of the backbone that resnet10t lacks: `layer1.0.se.weight`" in "".join(more)
    assert run(["inspect", str(path), "--architecture", "mobilenetv2_100"]) == 1
    message = "no network in the file has all tensors of mobilenetv2_100: leave --architecture out"
    assert message in " ".join(capsys.readouterr().err.split())
    with pytest.raises(BenchError, match="there is no backbone 'resnet51'"):
        inspect_checkpoint(path, architecture="resnet51")
    with pytest.raises(BenchError, match="random weights have no other architecture to declare"):
        import_checkpoint("random:resnet18", name="r", work=tmp_path, architecture="resnet50")


@pytest.mark.parametrize("name", ["resnetaa50", "resnetblur50"])
def test_a_blur_that_no_tensor_shows_is_noted(save: Save, name: str) -> None:
    path = save(whole(name))
    assert "name one that blurs (--architecture resnetaa50 or resnetblur50)" in "".join(inspect_checkpoint(path).notes)
    named = inspect_checkpoint(path, architecture=name)
    assert (named.architecture, named.problems) == (name, ())


def test_changes_of_a_declared_network_are_refused(tmp_path: Path) -> None:
    save_file(whole("resnet18"), tmp_path / "model.safetensors")
    for arguments, refused in (({"act_layer": "silu"}, True), ({"num_heads": 3}, True), ({"in_chans": 3}, False)):
        config = {"architecture": "resnet18", "model_args": arguments}
        (tmp_path / "config.json").write_text(json.dumps(config))
        problems = inspect_checkpoint(tmp_path / "model.safetensors").problems
        assert [f"change the network ({next(iter(arguments))})" in one for one in problems] == [True] * refused


def test_any_network_that_is_declared_beside_its_weights(tmp_path: Path) -> None:
    folder = import_checkpoint("random:resnet10t", name="a", work=tmp_path)
    again = import_checkpoint(folder, name="a", work=tmp_path / "other")
    assert read_exported(again).card.architecture == "resnet10t"
    state = whole("resnet10t")
    save_file(state, tmp_path / "model.safetensors")
    assert inspect_checkpoint(tmp_path / "model.safetensors").problems != ()
    (tmp_path / "config.json").write_text('{"architecture": "resnet10t.c3_in1k"}')
    assert_filled(tmp_path / "model.safetensors", "resnet10t", state)
    save_file(
        {k: v for k, v in state.items() if k != "bn1.weight"} | {"bn1.other": torch.ones(1)},
        tmp_path / "model.safetensors",
    )
    problems = "".join(inspect_checkpoint(tmp_path / "model.safetensors").problems)
    assert "1 missing: `bn1.weight`" in problems
    assert "look like parts of the backbone that resnet10t lacks: `bn1.other`" in problems
