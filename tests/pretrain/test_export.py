"""A run's backbone and card: complete, exact, and the same bytes every time."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torchvision.models import resnet18
from toy import Toy, ToyConfig, toy_recipe, write_images

from bench.checkpoints import inspect_checkpoint
from bench.cli import run as command
from leaderboard.base.errors import FileError
from leaderboard.records import Card, group_id, read_card_json
from leaderboard.records.extras import Curves
from pretrain.data.batches import open_images
from pretrain.errors import PretrainError
from pretrain.export import export
from pretrain.nets.architectures import build_backbone
from pretrain.recipes import SGDConfig
from pretrain.run.naming import as_line
from pretrain.run.train import train

RECIPE = toy_recipe(
    method=ToyConfig(real=True, size=32, scale=(0.2, 1.0)), epochs=2, optimizer=SGDConfig(lr=1e-3), precision="bf16"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    return train(RECIPE, open_images(write_images(folder / "pictures")), folder / "run", seed=2, workers=0)


def card_of(folder: Path) -> Card:
    return read_card_json((folder / "card.json").read_bytes())


def test_torchvision_loads_it_and_nothing_is_lost(run: Path, tmp_path: Path) -> None:
    tensors = load_file(export(run, tmp_path / "out") / "backbone.safetensors")
    missing, unexpected = resnet18().load_state_dict(tensors, strict=False)
    assert missing == ["fc.weight", "fc.bias"] and not unexpected
    trained = torch.load(run / "checkpoint.pt", weights_only=True)["method"]
    for name, value in tensors.items():
        assert torch.equal(value, trained[f"backbone.{name}"]), name
        assert value.is_contiguous() and value.dtype == (
            torch.int64 if name.endswith("num_batches_tracked") else torch.float32
        )
    fresh = Toy(RECIPE.method).backbone.state_dict()  # type: ignore[arg-type]
    assert not torch.equal(tensors["conv1.weight"], fresh["conv1.weight"])


def test_its_curves_are_those_of_the_log(run: Path, tmp_path: Path) -> None:
    folder = export(run, tmp_path / "out")
    curves = Curves.model_validate_json((folder / "curves.json").read_bytes(), strict=True)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert curves.sha256 == card_of(folder).sha256
    (loss,) = [curve for curve in curves.curves if curve.name == "loss"]
    assert loss.steps == tuple(line["step"] for line in lines)
    assert loss.values == pytest.approx([line["scalars"]["loss"] for line in lines], rel=1e-4)
    assert {curve.name for curve in curves.curves} <= {name for line in lines for name in line["scalars"]}


def test_the_card_tells_what_was_done(run: Path) -> None:
    folder = export(run)
    assert folder == run / "export"
    card = card_of(folder)
    data = (folder / "backbone.safetensors").read_bytes()
    assert card.sha256 == hashlib.sha256(data).hexdigest()
    assert card.parameters == sum(p.numel() for p in resnet18().parameters()) - 512 * 1000 - 1000
    assert (card.name, card.method, card.architecture) == ("toy-seed2", "Toy", "resnet18")
    assert (card.mean, card.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    seen = card.pretraining
    assert seen.recipe == f"toy (settings {RECIPE.sha256[:12]})"
    assert (seen.data, seen.images, seen.epochs, seen.effective_batch) == ("pictures", 18, 2, 4)
    assert seen.image_views == 2 * 4 * 4 * 2  # epochs x steps x batch x views
    assert (seen.crops, seen.resolution, seen.seed, seen.labels) == ("2x32 (area 0.2-1)", 32, 2, "none")
    assert (seen.recipe_sha256, seen.init, seen.stages) == (RECIPE.sha256, None, ())
    assert seen.data_fingerprint is not None
    assert seen.group == group_id(RECIPE.sha256, seen.data_fingerprint, None)
    assert seen.data_fingerprint == open_images(run.parent / "pictures").fingerprint()
    assert card.source.sha256 == hashlib.sha256((run / "checkpoint.pt").read_bytes()).hexdigest()
    assert (card.source.format, card.source.file, card.source.key_prefix) == (
        "densebench run",
        "checkpoint.pt",
        "backbone.",
    )


def test_a_run_of_any_data_and_method_file_can_be_exported(run: Path, tmp_path: Path) -> None:
    """Its record has the name of a folder as earlier versions wrote it, and a long file name."""
    copy, record = tmp_path / "run", json.loads((run / "run.json").read_text())
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("export"))
    method_file = {"name": "m" * 240 + ".py", "sha256": "5" * 64}
    (copy / "run.json").write_text(json.dumps(record | {"data_name": " bilder_\udce4", "method_file": method_file}))
    seen = card_of(export(copy)).pretraining
    assert seen.data == r"bilder_\udce4"
    assert seen.recipe is not None and seen.recipe.endswith(f".py {'5' * 12})")
    assert (as_line(""), as_line("straße\u200e")) == ("unnamed", "straße\u200e")


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    first, second = export(run, tmp_path / "a"), export(run, tmp_path / "b", name="another-name")
    again = export(run, tmp_path / "a")
    assert (first / "backbone.safetensors").read_bytes() == (second / "backbone.safetensors").read_bytes()
    assert card_of(again) == card_of(second).model_copy(update={"name": "toy-seed2"})
    assert card_of(second).name == "another-name"


def test_views_of_several_kinds_are_told_apart() -> None:
    from pretrain.export import _crops

    large, small = {"size": 224, "scale": [0.14, 1.0]}, {"size": 96, "scale": [0.05, 0.14]}
    assert _crops([large, large, small, small, small]) == "2x224 (area 0.14-1) + 3x96 (area 0.05-0.14)"


class InterruptionError(Exception):
    pass


def test_an_unfinished_run_is_exported_only_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    after = Toy.after_step

    def interrupt(toy: Toy, step: int, total: int) -> None:
        if step == 7:
            raise InterruptionError
        after(toy, step, total)

    monkeypatch.setattr(Toy, "after_step", interrupt)
    source = open_images(write_images(tmp_path / "images"))
    with pytest.raises(InterruptionError):
        train(RECIPE, source, tmp_path / "run", workers=0, log_every=2, checkpoint_seconds=0)
    with pytest.raises(PretrainError, match="not finished: continue it with --resume"):
        export(tmp_path / "run")
    seen = card_of(export(tmp_path / "run", unfinished=True)).pretraining
    assert (seen.epochs, seen.image_views, seen.group) == (6 / 4, 6 * 4 * 2, None)
    (tmp_path / "run" / "checkpoint.pt").unlink()
    with pytest.raises(PretrainError, match="before its first checkpoint"):
        export(tmp_path / "run", unfinished=True)


def spoil(method: dict[str, Any], key: str, value: torch.Tensor | None) -> None:
    if value is None:
        del method[key]
    else:
        method[key] = value


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("backbone.layer3.0.conv1.weight", None, "not hold a complete resnet18"),
        ("backbone.conv1.weight", torch.zeros(64, 3, 3, 3), "not hold a complete resnet18"),
        ("backbone.fc.weight", torch.zeros(1), "not hold a complete resnet18"),
        ("backbone.bn1.weight", torch.full((64,), torch.nan), "bn1.weight holds values that are not finite"),
    ],
)
def test_what_is_no_whole_backbone_is_refused(
    run: Path, tmp_path: Path, key: str, value: torch.Tensor | None, message: str
) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    for file in ("run.json", "finished.json"):
        (copy / file).write_bytes((run / file).read_bytes())
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    spoil(state["method"], key, value)
    torch.save(state, copy / "checkpoint.pt")
    with pytest.raises(PretrainError, match=message):
        export(copy)
    assert not (copy / "export").exists()


def test_wrong_folders_and_names_are_explained(run: Path, tmp_path: Path) -> None:
    with pytest.raises(PretrainError, match=r"is not a pretraining run: it has no run.json"):
        export(tmp_path)
    with pytest.raises(PretrainError, match=r"not valid: name"):
        export(run, tmp_path / "out", name="a/b")
    (tmp_path / "file").touch()
    with pytest.raises(PretrainError, match=r"file is a file: give the folder of a pretraining run .with --format"):
        export(tmp_path / "file")
    with pytest.raises(FileError, match="cannot make the folder"):
        export(run, tmp_path / "file" / "out")
    (tmp_path / "run.json").write_text('{"format": 1}')
    with pytest.raises(PretrainError, match="another version of densebench"):
        export(tmp_path)


def test_a_vit_and_what_the_bench_says_to_it(tmp_path: Path) -> None:
    """Its card names its patches and norm, and the bench imports it."""
    recipe = toy_recipe(method=ToyConfig(real=True, backbone="vit_tiny_patch16"), epochs=1, batch_size=2)
    run = train(recipe, open_images(write_images(tmp_path / "pictures", 2)), tmp_path / "run", workers=0)
    folder = export(run)
    card = card_of(folder)
    assert (card.architecture, card.stem, card.norm) == ("vit_tiny_patch16", "16x16", "LN")
    assert set(load_file(folder / "backbone.safetensors")) == set(build_backbone("vit_tiny_patch16").state_dict())
    inspection = inspect_checkpoint(folder)
    assert (inspection.architecture, inspection.problems) == ("vit_tiny_patch16", ())


def test_a_format_leaves_an_export_that_is_there_as_it_is(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("export"))
    monkeypatch.chdir(tmp_path)
    line = ["export", "run", "--format", "torchvision"]
    assert command([*line, "--out", "theirs", "--name", "theirs"]) == 0
    assert "exported" not in capsys.readouterr().out and not Path("run/export").exists()
    assert "# theirs\n" in Path("theirs/README.md").read_text()

    assert command(["export", "run", "--name", "mine"]) == 0
    before = {file.name: file.read_bytes() for file in Path("run/export").iterdir()}
    for more in (["--out", "both", "--name", "both"], [], ["--name", "other"]):
        capsys.readouterr()
        assert command([*line, *more]) == 0
        out = capsys.readouterr().out
        assert "exported" not in out and ("kept: " in out) == ("--out" not in more)
        assert {file.name: file.read_bytes() for file in Path("run/export").iterdir()} == before
    assert "# both\n" in Path("both/README.md").read_text()
    assert "# other\n" in Path("run/export-torchvision/README.md").read_text()
    assert torch.load("both/backbone.pth").keys() == load_file("run/export/backbone.safetensors").keys()

    shutil.rmtree("run/export")
    assert command(line) == 0
    assert "exported: run/export" in capsys.readouterr().out and card_of(Path("run/export")).name == "toy-seed2"
