"""Two backbones that follow objects together, from exported folders to the file of values."""

import json
from pathlib import Path

import pytest
import torch
from guides import ROOT, blocks, commands
from moving_squares import write_videos

from bench.checkpoints import import_checkpoint
from bench.cli import run
from bench.fusion import FUSION, fuse
from bench.protocols import load_protocol


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    work = tmp_path_factory.mktemp("work")
    return [import_checkpoint(f"random:resnet18:{seed}", name=f"random-{seed}", work=work) for seed in (0, 1)]


def test_the_command_fuses_and_compares(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_videos(tmp_path)
    command = ["fuse", *map(str, folders), "--data", str(tmp_path), "--out", str(tmp_path / "fused"), "--parts"]
    assert run(command) == 0
    record = json.loads((tmp_path / "fused" / FUSION).read_text())
    assert record["protocol"]["sha256"] == load_protocol("frozen_davis17_sfc").sha256
    assert record["weight"] == 1.75
    assert (record["fine"]["name"], record["semantic"]["name"]) == ("random-0", "random-1")
    printed = capsys.readouterr().out.splitlines()
    for line, name in zip(printed, ("fused", "fine", "semantic"), strict=False):
        assert line.startswith(f"{name:8}  J&F {record['metrics'][name]['J&F']:.1f}")
    difference = record["metrics"]["fused"]["J&F"] - record["metrics"]["fine"]["J&F"]
    assert f"(fused {difference:+.1f}, standard error" in printed[1]


@pytest.mark.slow
def test_a_weight_of_0_leaves_the_second_backbone(folders: list[Path], tmp_path: Path) -> None:
    write_videos(tmp_path, ("a",))
    protocol = load_protocol("frozen_davis17_crw")
    values = {m.name: m for m in fuse(*folders, protocol, tmp_path, tmp_path / "out", weight=0.0, parts=True)}
    assert values["fused"].metrics == values["semantic"].metrics
    assert torch.equal(*(torch.tensor(values[name].shares.metrics["J&F"]) for name in ("fused", "semantic")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--protocol", "frozen_voc_seg_knn"], "frozen_voc_seg_knn follows no objects through videos"),
        (["--weight", "-1"], "is a number of at least 0"),
        ([], "davis2017 in"),
    ],
)
def test_what_cannot_be_fused(
    options: list[str], message: str, folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fuse", *map(str, folders), "--data", str(tmp_path), "--out", str(tmp_path / "out"), *options]) == 1
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) <= 3
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_guide_of_videos_runs(folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands one after the other, as a reader types them."""
    monkeypatch.chdir(tmp_path)
    write_videos(tmp_path / "data")
    for name, folder in zip(("sfc", "moco-v2"), folders, strict=True):
        (tmp_path / name).mkdir()
        (tmp_path / name / "export").symlink_to(folder)
    done = [command for block in blocks(ROOT / "docs/videos.md", "sh") for command in commands(block)]
    assert [command[0] for command in done] == ["data", "submit", "fuse"]
    for command in done:
        assert run(command) == 0, command
    assert list((tmp_path / "densebench-work" / "results").glob("moco-v2--frozen_davis17_crw*.json"))
