"""Exports to other libraries: they load strictly there, compute the same, and are imported again bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bench.checkpoints import import_checkpoint
from bench.cli import run
from bench.errors import BenchError
from bench.exports import FORMS, find_form, write_form
from pretrain.exported import ExportedBackbone, read_exported
from pretrain.nets.architectures import find_architecture

RESNET, BOTTLENECK, VIT = "resnet18", "resnet50", "vit_tiny_patch16"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ExportedBackbone]:
    """Random networks whose norms have statistics of their own, so that no two tensors are alike."""
    work, found = tmp_path_factory.mktemp("exported"), {}
    for name in (RESNET, BOTTLENECK, VIT):
        folder = import_checkpoint(f"random:{name}", name=name, work=work)
        plain = read_exported(folder)
        torch.manual_seed(0)
        tensors = {k: torch.rand_like(v) + 0.5 if v.ndim == 1 else v for k, v in plain.tensors.items()}
        found[name] = ExportedBackbone(folder, plain.card, tensors)
    return found


def written(form: str, backbone: ExportedBackbone, folder: Path) -> Path:
    write_form(backbone, find_form(form), folder)
    return folder


def readme_lines(folder: Path, **names: Any) -> dict[str, Any]:
    """The names after the README's lines were executed with `names`."""
    exec((folder / "README.md").read_text().partition("```python\n")[2].partition("```")[0], names)
    return names


@pytest.mark.parametrize("architecture", [RESNET, BOTTLENECK, VIT])
@pytest.mark.parametrize("form", [form.name for form in FORMS])
def test_what_is_written_is_imported_again(
    form: str, architecture: str, exported: dict[str, ExportedBackbone], tmp_path: Path
) -> None:
    backbone = exported[architecture]
    if architecture == VIT and form in ("mmdet", "detectron2", "lightly"):
        with pytest.raises(BenchError, match="this format is for ResNets; choose another --format"):
            written(form, backbone, tmp_path / form)
        assert not (tmp_path / form).exists()
        return
    folder = written(form, backbone, tmp_path / form)
    files = [path for path in folder.iterdir() if path.suffix in (".pth", ".pkl", ".safetensors")]
    again = read_exported(import_checkpoint(files[0], name="again", work=tmp_path))
    assert again.tensors.keys() == backbone.tensors.keys()
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in backbone.tensors.items())
    assert again.card.architecture == architecture


@pytest.mark.parametrize(
    ("form", "architecture"),
    [("torchvision", RESNET), ("torchvision", VIT), ("timm", RESNET), ("timm", VIT), ("lightly", RESNET)],
)
def test_its_readme_loads_it_and_it_computes_the_same(
    form: str, architecture: str, exported: dict[str, ExportedBackbone], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "timm":
        pytest.importorskip("timm")
    backbone = exported[architecture]
    monkeypatch.chdir(written(form, backbone, tmp_path / form))
    names = readme_lines(Path())
    network: nn.Module = names["network" if form != "lightly" else "backbone"]
    side = 64 if architecture == RESNET else 224
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs: Tensor = network.eval()(pixels).flatten(1)
        ours = backbone.build().eval()
        expected = ours(pixels).mean((2, 3)) if architecture == RESNET else class_token(ours, pixels)
    torch.testing.assert_close(theirs, expected, rtol=1e-4, atol=1e-4)


def class_token(network: nn.Module, pixels: Tensor) -> Tensor:
    """The final class token (N, C) of a ViT."""
    found: list[Tensor] = []
    handle = network.norm.register_forward_hook(lambda module, given, result: found.append(result))
    network(pixels)
    handle.remove()
    return found[-1][:, 0]


def test_a_network_of_bgr_is_written_for_rgb(exported: dict[str, ExportedBackbone], tmp_path: Path) -> None:
    backbone = exported[RESNET]
    changes = {"color_order": "BGR", "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    bgr = ExportedBackbone(backbone.folder, backbone.card.model_copy(update=changes), backbone.tensors)
    folder = written("timm", bgr, tmp_path / "timm")
    weights = load_file(folder / "model.safetensors")
    assert torch.equal(weights["conv1.weight"], backbone.tensors["conv1.weight"][:, [2, 1, 0]])
    settings = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    assert (settings["mean"], settings["std"]) == ([0.3, 0.2, 0.1], [0.6, 0.5, 0.4])
    assert "mean 0.3, 0.2, 0.1 and standard deviation 0.6, 0.5, 0.4" in (folder / "README.md").read_text()


def test_where_a_library_normalizes_it_is_told_how(exported: dict[str, ExportedBackbone], tmp_path: Path) -> None:
    """Pixels are in [0, 255] there; the defaults of detectron2 are those of its own weights, in BGR."""
    backbone = exported[RESNET]
    changes = {"color_order": "BGR", "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    bgr = ExportedBackbone(backbone.folder, backbone.card.model_copy(update=changes), backbone.tensors)
    lines = readme_lines(written("mmdet", bgr, tmp_path / "mmdet"))
    wanted = {"mean": [76.5, 51.0, 25.5], "std": [153.0, 127.5, 102.0]}
    assert lines["data_preprocessor"] == {**wanted, "bgr_to_rgb": True} and lines["backbone"]["depth"] == 18
    cfg = MagicMock()
    readme_lines(written("detectron2", bgr, tmp_path / "detectron2"), cfg=cfg)
    assert cfg.INPUT.FORMAT == "RGB"
    assert wanted == {"mean": cfg.MODEL.PIXEL_MEAN, "std": cfg.MODEL.PIXEL_STD}


def test_names_of_other_libraries(exported: dict[str, ExportedBackbone], tmp_path: Path) -> None:
    """Some names as the libraries' code has them (transformers 5, detectron2 0.6)."""
    hugging_face = load_file(written("huggingface", exported[BOTTLENECK], tmp_path / "r") / "model.safetensors")
    assert {
        "embedder.embedder.convolution.weight",
        "embedder.embedder.normalization.running_var",
        "encoder.stages.0.layers.0.layer.2.convolution.weight",
        "encoder.stages.3.layers.2.layer.0.normalization.bias",
        "encoder.stages.1.layers.0.shortcut.convolution.weight",
    } <= hugging_face.keys()
    vit = load_file(written("huggingface", exported[VIT], tmp_path / "v") / "model.safetensors")
    assert {
        "embeddings.cls_token",
        "embeddings.position_embeddings",
        "embeddings.patch_embeddings.projection.weight",
        "encoder.layer.0.attention.attention.query.weight",
        "encoder.layer.11.attention.output.dense.bias",
        "encoder.layer.3.layernorm_after.weight",
        "layernorm.bias",
    } <= vit.keys()


def test_what_a_library_does_not_have_is_refused(exported: dict[str, ExportedBackbone], tmp_path: Path) -> None:
    wide = find_architecture("wide_resnet50_2")
    for form in ("mmdet", "huggingface"):
        with pytest.raises(BenchError, match=r"cannot hold wide_resnet50_2: .*; choose another --format"):
            find_form(form).files(wide, {}, exported[BOTTLENECK].card)
    with pytest.raises(BenchError, match="there is no format 'onnx': choose one of torchvision, timm"):
        find_form("onnx")


def test_the_command(exported: dict[str, ExportedBackbone], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = exported[RESNET].folder
    assert run(["export", str(folder), "--format", "mmdet", "--out", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"backbone.pth", "README.md"}
    text = (tmp_path / "out/README.md").read_text()
    assert "frozen_stages=-1" in text and "| architecture | resnet18 |" in text
    assert run(["export", str(folder), "--format", "keras"]) == 1
    assert "choose one of" in capsys.readouterr().err
    named = ["export", str(folder), "--format", "timm", "--out", str(tmp_path / "named")]
    assert run([*named, "--name", "other"]) == 0
    assert "# other\n" in (tmp_path / "named/README.md").read_text()
    assert read_exported(folder).card == exported[RESNET].card
    assert run([*named, "--name", "no name"]) == 1
    assert "name 'no name'" in capsys.readouterr().err
    assert run([*named, "--unfinished"]) == 1
    assert "--unfinished is of runs" in capsys.readouterr().err


def test_the_folder_that_one_is_in(
    exported: dict[str, ExportedBackbone], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(exported[RESNET].folder, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    assert run(["export", ".", "--format", "timm"]) == 0
    assert (tmp_path / "here-timm/README.md").is_file()
