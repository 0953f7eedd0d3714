"""Imports between the packages: {densebench, cli} -> bench -> {pretrain, leaderboard}.

pretrain -> leaderboard.{records, base}.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OPENMMLAB = {"mmcv", "mmdet", "mmengine", "mmseg"}
PRETRAIN = (
    ("errors", "settings", "suggestions", "former_hashes"),
    ("parts", "optim"),
    ("nets", "data"),
    ("exported", "method"),
    ("recipes", "norm_rescale", "discovery"),
    ("methods", "recipe_files"),
    ("outside",),
    ("run",),
    ("export",),
)
"""Packages and modules of `pretrain`, the lowest layer first: each may import what lies below it."""


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


def within(name: str, *packages: str) -> bool:
    """Whether `name` is one of these packages of `leaderboard`, or lies in one."""
    return any(f"{name}.".startswith(f"leaderboard.{package}.") for package in packages)


@pytest.mark.parametrize("file", files("leaderboard"), ids=str)
def test_leaderboard_stands_alone(file: Path) -> None:
    assert not {top(name) for name in imports(file)} & {"bench", "pretrain", "torch", "torchvision", *OPENMMLAB}


@pytest.mark.parametrize("file", files("pretrain"), ids=str)
def test_pretrain_knows_only_records_and_the_base_layer(file: Path) -> None:
    names = set(imports(file))
    assert not {top(name) for name in names} & {"bench", "transfer_configs", *OPENMMLAB}
    assert not [name for name in names if top(name) == "leaderboard" and not within(name, "records", "base")]


@pytest.mark.parametrize("file", files("pretrain"), ids=str)
def test_pretrain_has_layers(file: Path) -> None:
    layer = {name: number for number, names in enumerate(PRETRAIN) for name in names}
    own = file.relative_to(ROOT / "pretrain").with_suffix("").parts[0]
    if own == "__init__":
        assert not list(imports(file))
        return
    others = {name.split(".")[1] for name in imports(file) if name.startswith("pretrain.")} - {own}
    assert not {other for other in others if layer[other] >= layer[own]}


@pytest.mark.parametrize("file", files("leaderboard/base"), ids=str)
def test_the_base_layer_needs_only_pydantic_and_rich(file: Path) -> None:
    names = set(imports(file))
    assert {top(name) for name in names} <= {*sys.stdlib_module_names, "pydantic", "rich", "leaderboard"}
    assert not [name for name in names if top(name) == "leaderboard" and not within(name, "base")]


@pytest.mark.parametrize("file", [*files("leaderboard"), *files("pretrain"), *files("bench")], ids=str)
def test_all_print_through_the_console_that_neutralises(file: Path) -> None:
    text = file.read_text()
    assert "rich.console.Console(" not in text.replace("(rich.console.Console)", "")
    if re.search(r"\bConsole\(", text):
        assert not re.search(r"from rich(\.console)? import .*\bConsole\b", text)


@pytest.mark.parametrize("file", files("leaderboard/records"), ids=str)
def test_records_need_only_the_base_layer(file: Path) -> None:
    names = set(imports(file))
    assert {top(name) for name in names} <= {*sys.stdlib_module_names, "pydantic", "pydantic_core", "leaderboard"}
    assert not [name for name in names if top(name) == "leaderboard" and not within(name, "records", "base")]


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


@pytest.mark.parametrize("file", files("densebench"), ids=str)
def test_the_python_interface_is_on_top(file: Path) -> None:
    assert not {top(name) for name in imports(file)} & OPENMMLAB
    assert file.name == "__main__.py" or not any(name.startswith("bench.cli") for name in imports(file))


@pytest.mark.parametrize("file", [*files("leaderboard"), *files("pretrain"), *files("bench")], ids=str)
def test_nothing_is_built_on_the_python_interface(file: Path) -> None:
    assert "densebench" not in {top(name) for name in imports(file)}


@pytest.mark.parametrize("file", files("transfer_configs"), ids=str)
def test_configs_are_computed_by_pure_functions_of_their_own(file: Path) -> None:
    allowed = {"transfer_configs"} | ({"typing", "collections"} if "parts" in file.parts else set())
    assert {top(name) for name in imports(file)} <= allowed
