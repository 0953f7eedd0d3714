"""The documentation: its commands and Python lines work, and the site is built without a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cyclopts import CycloptsError
from guides import ROOT, blocks, commands

from bench.checkpoints import import_checkpoint
from bench.cli import app

DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_is_understood(document: Path) -> None:
    for command in [c for block in blocks(document, "sh") for c in commands(block)]:
        app.parse_args(command, print_error=False, exit_on_error=False)  # raises for a command or option that is not


def test_a_command_that_is_not_fails() -> None:
    for command in (["subit", "x"], ["submit", "x", "--name", "n", "--data", "d", "--trak", "mini"]):
        with pytest.raises(CycloptsError):
            app.parse_args(command, print_error=False, exit_on_error=False)


def test_commands_are_found_in_a_text() -> None:
    text = "# densebench\na=1\ntorchrun --x densebench pretrain \\\n  m --data d  # why\npip install densebench"
    assert commands(text) == [["pretrain", "m", "--data", "d"]]


def test_an_exported_backbone_is_read_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    folder = import_checkpoint("random:resnet18", name="exported", work=tmp_path)
    (tmp_path / "exported").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for example in blocks(ROOT / "docs/exports.md", "python"):
        exec(compile(example, "exports.md", "exec"), names)

    from mmengine.config import ConfigDict
    from mmengine.registry import MODELS, init_default_scope

    from bench.openmmlab.prepare import prepare_openmmlab

    prepare_openmmlab()
    init_default_scope("mmdet")
    theirs = MODELS.build(ConfigDict(names["backbone"]))
    # Its own loader (`init_weights`) unpickles, which our processes forbid: the names decide whether it would fill all.
    theirs.load_state_dict(torch.load("backbone.pth", weights_only=True)["state_dict"])
    assert all(parameter.requires_grad for parameter in theirs.parameters())


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "dummy", "--fail-on-warning", "--keep-going"]
    built = subprocess.run([*command, ROOT / "docs", tmp_path], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
