"""The arrows between the rooms: cli -> bench -> {pretrain, leaderboard}; pretrain -> leaderboard.records alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OPENMMLAB = {"mmcv", "mmdet", "mmengine", "mmseg"}


def imports(file: Path) -> Iterator[str]:
    """Full names of all modules that `file` imports, at any depth."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""


def files(room: str) -> list[Path]:
    found = sorted((ROOT / room).rglob("*.py"))
    assert found
    return found


def top(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize("file", files("leaderboard"), ids=str)
def test_leaderboard_stands_alone(file: Path) -> None:
    assert not {top(name) for name in imports(file)} & {"bench", "pretrain", "torch", "torchvision", *OPENMMLAB}


@pytest.mark.parametrize("file", files("pretrain"), ids=str)
def test_pretrain_knows_only_the_card(file: Path) -> None:
    names = set(imports(file))
    assert not {top(name) for name in names} & {"bench", "transfer_configs", *OPENMMLAB}
    assert {name for name in names if top(name) == "leaderboard"} <= {"leaderboard.records"}


@pytest.mark.parametrize("file", files("bench"), ids=str)
def test_openmmlab_has_one_door(file: Path) -> None:
    names = {top(name) for name in imports(file)}
    assert (
        not any(name.startswith("bench.cli") for name in imports(file))
        or "cli" in file.parts
        or file.name == "__main__.py"
    )
    if "openmmlab" not in file.parts:
        assert not names & OPENMMLAB


@pytest.mark.parametrize("file", files("transfer_configs"), ids=str)
def test_configs_are_pure_data(file: Path) -> None:
    assert not list(imports(file))
