"""`densebench pretrain` as a user types it: starting from an untrusted checkpoint."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet18

from bench.cli import run
from bench.datasets import check
from bench.probes.runner import run_probe
from bench.protocols import Protocol, load_protocol
from leaderboard.records import DatasetReference
from pretrain.exported import read_card, read_exported
from pretrain.run.folder import read_record
from pretrain.run.probing import read_probes

METHOD = Path(__file__).parents[2] / "docs/examples/my_method.py"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images and a checkpoint as torchvision users save theirs."""
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "images" / f"{index}.png")
    torch.manual_seed(0)
    torch.save({"state_dict": resnet18().state_dict()}, tmp_path / "their weights.pth.tar")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "densebench-work"


def test_it_starts_from_any_checkpoint(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["pretrain", f"{METHOD}:mine-mini", "--data", "images", "--init"]
    assert run([*line, "their weights.pth.tar"]) == 0, capsys.readouterr().err
    (imported,) = (work / "checkpoints").glob("*")
    card = read_card(imported)
    assert (card.name, card.architecture) == ("their-weights", "resnet18")
    first = work / "pretraining" / "mine-mini-seed0-from-their-weights"
    assert read_record(first).init == {"name": "their-weights", "sha256": card.sha256}

    # an exported folder is taken as it is
    assert run(["export", str(first)]) == 0
    assert run([*line, str(first / "export")]) == 0
    second = read_record(work / "pretraining" / "mine-mini-seed0-from-mine-mini-seed0-from-their-weights")
    assert second.init == {"name": "mine-mini-seed0", "sha256": read_card(first / "export").sha256}
    assert [imported] == list((work / "checkpoints").glob("*"))


def test_what_cannot_be_a_start_is_explained(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["pretrain", "cp2-quick-mini", "--data", "images"]
    assert run(line) == 1
    assert "cp2-quick-mini tunes a trained resnet18: name its checkpoint, --init CHECKPOINT" in capsys.readouterr().err
    assert run([*line, "--init", "missing.pth"]) == 1
    assert "missing.pth" in capsys.readouterr().err
    assert run([*line, "--init", "random:resnet50"]) == 1
    assert "holds a resnet50, but recipe cp2-quick-mini trains a resnet18" in capsys.readouterr().err


def test_a_run_is_probed_on_the_data_sets_that_are_there(
    work: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def quick(
        protocol: Protocol,
        checkpoint: Path,
        data: Path,
        dataset: DatasetReference,
        seed: int,
        out: Path,
        *,
        features: Path,
    ) -> Any:
        assert features == checkpoint / "features"  # goes with the rest of the probe
        backbone = read_exported(checkpoint)
        seen.append((protocol.id, backbone.card.name, backbone.card.architecture, out.parent))
        value = float(backbone.tensors["conv1.weight"].abs().mean())
        return SimpleNamespace(
            protocol=protocol.reference(), dataset=dataset, metrics={"mIoU": value}, standard_errors={"mIoU": 0.5}
        )

    monkeypatch.setattr("bench.probes.runner.run_probe", quick)
    line = ["pretrain", f"{METHOD}:mine-mini", "--data", "images", "--probe", str(only_cityscapes(work, tiny_data))]
    assert run(line) == 0
    folder = work / "pretraining" / "mine-mini-seed0"
    assert "probe after epoch 1: City seg linear mIoU " in capsys.readouterr().err
    probes = read_probes(folder)
    assert [(x.step, x.probe) for x in probes] == [(0, "City seg linear mIoU"), (1, "City seg linear mIoU")]
    where = Path("densebench-work") / "pretraining" / "mine-mini-seed0" / "probe"
    assert seen == [("frozen_city_seg_linear", f"step{step}", "resnet18", where) for step in (0, 1)]
    assert not where.exists()
    assert run(["export", str(folder)]) == 0
    exported = float(read_exported(folder / "export").tensors["conv1.weight"].abs().mean())
    assert probes[1].value == exported != probes[0].value


def only_cityscapes(work: Path, data: Path) -> Path:
    root = work.parent / "labelled"
    root.mkdir()
    (root / "cityscapes").symlink_to(data / "cityscapes")
    return root


@pytest.mark.slow
def test_the_last_probe_is_what_submit_measures(work: Path, tiny_data: Path) -> None:
    root = only_cityscapes(work, tiny_data)
    assert run(["pretrain", f"{METHOD}:mine-mini", "--data", "images", "--probe", str(root)]) == 0
    folder = work / "pretraining" / "mine-mini-seed0"
    assert run(["export", str(folder)]) == 0
    protocol, data = load_protocol("frozen_city_seg_linear"), check(root, "cityscapes").reference()
    result = run_probe(protocol, folder / "export", root, data, 0, work / "again")
    last = read_probes(folder)[-1]
    assert (last.value, last.standard_error) == (result.metrics["mIoU"], result.standard_errors["mIoU"])
    assert data.fingerprint.startswith(last.data)


def test_what_cannot_be_probed_is_said_before_the_training(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["pretrain", f"{METHOD}:mine-mini", "--data", "images"]
    for more, words in (
        (["--probe", "images"], "none of voc2012_seg, cityscapes can be used"),
        (["--every", "2"], "give both, or none"),
        (["--probe", "images", "--every", "0"], "images"),
    ):
        assert run([*line, *more]) == 1
        assert words in capsys.readouterr().err
    assert not (work / "pretraining").exists()


def test_a_run_is_repeated_from_its_record(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["pretrain", "--data", "images"]
    assert run([*line, f"{METHOD}:mine-mini", "--set", "batch_size=2", "--out", "first"]) == 0
    again = [*line, "--config", "first/run.json", "--out", "second"]
    assert run(again) == 1
    assert "method.type: 'MyConfig' is not known; a method from outside needs its FILE.py" in capsys.readouterr().err
    assert run([*again, str(METHOD)]) == 0
    first, second = (read_record(Path(folder)) for folder in ("first", "second"))
    assert first == second and first.batch_size == 2
    assert run([*again, "moco-v2-mini"]) == 1
    assert "both name a recipe: leave one out" in capsys.readouterr().err
    assert run(line) == 1
    assert "name a RECIPE" in capsys.readouterr().err
