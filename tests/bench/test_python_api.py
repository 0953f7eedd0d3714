"""DenseBench from Python: the README's lines, and folders that hold files with the names of our packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import densebench
from bench.checkpoints import import_checkpoint
from leaderboard.base.errors import DenseBenchError
from pretrain.exported import read_exported

README = Path(__file__).parents[2] / "README.md"


def test_the_lines_of_the_readme(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"## From Python\n\n```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    small = block.replace("epochs=20", "epochs=1, batch_size=8, precision='fp32', method__queue=32")
    small = small.replace('track="frozen"', 'protocols=["frozen_city_seg_linear"], processes=1')
    assert small.count("batch_size=8") == small.count("processes=1") == 1
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(tiny_data)
    (tmp_path / "images").symlink_to(tiny_data / "pretrain" / "images")
    names: dict[str, object] = {}
    exec(compile(small, str(README), "exec"), names)
    assert isinstance(names["loss"], torch.Tensor) and names["loss"].requires_grad
    table = names["table"]
    assert isinstance(table, pd.DataFrame)
    assert list(zip(table["submission"], table["protocol"], strict=True)) == [
        ("densecl-mini", "frozen_city_seg_linear")
    ]


def test_a_backbone_normalizes_as_its_card_says(tmp_path: Path) -> None:
    folder = import_checkpoint("random:resnet18", name="net", work=tmp_path)
    backbone = densebench.load_backbone(folder)
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (backbone.card.mean, backbone.card.std))
    with torch.no_grad():
        maps = backbone(images)
        expected = read_exported(folder).build().eval().features((images / 255 - mean) / std)
        assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(maps, backbone(images / 255), strict=True))
        swapped = densebench.load_backbone(folder, color_order="BGR")
        order = torch.tensor([2, 1, 0])
        assert all(
            torch.equal(a, b)
            for a, b in zip(
                swapped(images),
                read_exported(folder).build().eval().features((images[:, order] / 255 - mean) / std),
                strict=True,
            )
        )
    assert [tuple(part.shape) for part in maps] == [
        (2, 64, 16, 24),
        (2, 128, 8, 12),
        (2, 256, 4, 6),
        (2, 512, 2, 3),
    ]


def test_files_of_one_name_and_weights_of_a_submission_can_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        submitted = import_checkpoint(f"random:resnet18:{seed}", name=f"net{seed}", work=tmp_path / "densebench-work")
        Path(f"{seed}").mkdir()
        torch.save(read_exported(submitted).tensors, f"{seed}/checkpoint.pth")
    loaded = [densebench.load_backbone(f"{seed}/checkpoint.pth") for seed in range(2)]
    assert [one.card.name for one in loaded] == ["checkpoint", "checkpoint"]
    weights = [one.network.state_dict()["conv1.weight"] for one in loaded]
    assert not torch.equal(*weights)


def test_every_path_may_be_text(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings: dict[str, Any] = {"epochs": 1, "batch_size": 8, "precision": "fp32", "method__queue": 32}
    run = densebench.pretrain("moco-v2-mini", str(tiny_data / "pretrain" / "images"), out="run", **settings)
    assert run == Path("run")
    assert densebench.export("run") == Path("run/export")
    assert densebench.export("run", out="there") == Path("there")
    assert densebench.load_backbone("random:resnet18").card.architecture == "resnet18"
    with pytest.raises(DenseBenchError, match="no-data"):
        densebench.submit("there", name="net", data="no-data", work="work")


def test_a_recipe_and_a_protocol_may_be_files(tmp_path: Path) -> None:
    recipe = Path(__file__).parents[2] / "docs/examples/my_method.py:mine-mini"
    assert isinstance(densebench.build_method(recipe), torch.nn.Module)
    with pytest.raises(DenseBenchError, match=r"none\.py"):
        densebench.submit("there", name="net", data=tmp_path, protocols=[tmp_path / "none.py"], work=tmp_path)


def test_views_are_a_function_of_the_seed(tiny_data: Path) -> None:
    method = densebench.build_method("moco-v2-mini", queue=32)
    files = sorted((tiny_data / "pretrain" / "images").rglob("*.jpg"))[:4]
    one, again = (densebench.make_views(method, files, seed=1) for _ in range(2))
    other = densebench.make_views(method, files, seed=2)
    assert len(one) == 2 and one[0].pixels.shape == (4, 3, 64, 64)
    assert torch.equal(one[0].pixels, again[0].pixels) and not torch.equal(one[0].pixels, other[0].pixels)


def test_a_setting_that_does_not_exist_is_told() -> None:
    with pytest.raises(DenseBenchError, match=r"no setting 'method\.quue'; did you mean method\.queue"):
        densebench.build_method("moco-v2-mini", quue=3)
    with pytest.raises(AttributeError, match="densebench has no 'nothing'"):
        _ = densebench.nothing


def _python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False)


def test_a_folder_with_files_of_the_same_names(tmp_path: Path) -> None:
    (tmp_path / "pretrain.py").write_text("raise SystemExit('mine')\n")
    (tmp_path / "bench").mkdir()
    done = _python(tmp_path, "-m", "densebench", "--version")
    assert (done.returncode, done.stderr) == (0, "")
    hidden = _python(tmp_path, "-c", "import densebench; densebench.build_method")
    assert hidden.returncode == 1
    *_, first, second = hidden.stderr.splitlines()
    assert first == f"ImportError: DenseBench's package 'bench' is hidden by {tmp_path / 'bench'}."
    assert second.startswith("Rename that")
    (tmp_path / "elsewhere").mkdir()
    hidden = subprocess.run(
        [sys.executable, "-m", "densebench", "doctor"],
        cwd=tmp_path / "elsewhere",
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    first, second = hidden.stderr.splitlines()
    assert hidden.returncode == 1 and first.startswith("error: DenseBench's package 'bench' is hidden by ")
    assert "PYTHONPATH" in second
