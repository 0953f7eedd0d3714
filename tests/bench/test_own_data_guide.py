"""The commands of the guide on own data, as a new user types them, and the table that they end with."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from guides import ROOT, blocks, commands
from own_data import coco_data

from bench.cli import run
from bench.datasets.own.description import DESCRIPTION, Description, read_own
from leaderboard.store import ResultStore
from pretrain.nets.architectures import build_backbone

GUIDE = ROOT / "docs" / "own-data.md"
SHORT = {
    "compare": ["--seeds", "1", "--views", "2", "--batch", "4", "--set", "method.queue=16", "--set", "precision=fp32"],
    "submit": ["--seeds", "1"],
}
"""What is made shorter; probes alone."""


def test_the_description_in_the_guide_is_one(tmp_path: Path) -> None:
    (whole,) = blocks(GUIDE, "yaml")
    (tmp_path / DESCRIPTION).write_text(whole)
    said = read_own(tmp_path).said
    assert isinstance(said, Description) and said.classes == {3: "bolt", 7: "nut", 20: "washer"}


@pytest.mark.slow
def test_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights, a checkpoint, the checkpoint continued and a method from random weights, in a table of these
    data alone."""
    monkeypatch.chdir(tmp_path)
    (coco_data(tmp_path / "my-parts") / DESCRIPTION).unlink()
    for name in ("public", "another"):
        torch.save(build_backbone("resnet18").state_dict(), f"{name}.pth")
    for command in [c for block in blocks(GUIDE, "sh") for c in commands(block)]:
        kept = command
        if "--seeds" in command:
            kept = command[: command.index("--seeds")]
        probes = ["--protocol", "custom_seg_knn"] if command[0] in SHORT else []
        words = [*kept, *SHORT.get(command[0], []), *probes]
        assert run(words) == 0, words
    results = list(ResultStore(Path("densebench-work/results")))
    assert {result.protocol.id for result in results} == {"custom_seg_knn"}
    fingerprint = results[0].dataset.fingerprint
    with Path("leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["track"] for row in rows} == {f"custom-my-parts-{fingerprint[:4]}"}
    labels = sorted(row["submission"] for row in rows)
    assert [label.split("-")[0] for label in labels] == ["another", "moco", "moco", "public", "random"]
    assert sum("from-public" in label for label in labels) == 1
    assert Path("page/index.html").read_text().count(f"custom-my-parts-{fingerprint[:4]}") > 0
