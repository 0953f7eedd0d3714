"""The commands of the guides, one after the other, as a reader types them, on small data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from guides import ROOT, blocks, commands

from bench.cli import run
from pretrain.nets.architectures import build_backbone

OTHER = {"epochs=100": "epochs=1", "my-method": "moco-v2-800ep"}
"""What is made shorter, or has another name here."""
FINE_TUNING = ("mini", "paper", "fair", "heads")
"""Tracks whose submissions are left out, as are tables of them and training on ImageNet: tests of their own cover
them."""


@pytest.mark.slow
def test_the_guides_run(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(tiny_data)
    (tmp_path / "images").symlink_to(tiny_data / "pretrain" / "images")
    tensors = {f"module.encoder_q.{name}": tensor for name, tensor in build_backbone("resnet18").state_dict().items()}
    torch.save({"state_dict": tensors}, "moco_v2_800ep_pretrain.pth.tar")
    done = []
    for guide in ("evaluate", "pretrain", "exports", "table", "statistics"):
        for command in [c for block in blocks(ROOT / f"docs/{guide}.md", "sh") for c in commands(block)]:
            fine_tunes = command[0] == "submit" and any(track in command for track in FINE_TUNING)
            if fine_tunes or "imagenet/train" in command or command[:2] == ["leaderboard", "beside"]:
                continue
            words = [OTHER.get(word, word) for word in command]
            if words[0] == "pretrain":
                words += ["--set", "batch_size=8", "--set", "precision=fp32", "--set", "method.queue=32"]
                words += ["--work", "densebench-work"]
            if "densebench-work/results/RESULT.json" in words:
                result = next(Path("densebench-work/results").glob("*linear*.json"))
                words[words.index("densebench-work/results/RESULT.json")] = str(result)
            if words[0] == "watch":
                words.append("--once")
            assert run(words) == 0, words
            done.append(words[0])
    assert {"inspect", "data", "submit", "leaderboard", "verify", "pretrain", "watch", "export", "plan"} <= set(done)
