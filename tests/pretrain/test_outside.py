"""Methods from files and installed packages."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy import write_images

from pretrain import outside
from pretrain.data.batches import ImageSource, open_images
from pretrain.errors import PretrainError
from pretrain.export import export
from pretrain.exported import read_card
from pretrain.methods import METHODS, all_recipes
from pretrain.outside import every_method, every_recipe, find_anywhere, identity, load_methods, outside_of
from pretrain.run.folder import read_record
from pretrain.run.train import train

FILE = Path(__file__).parents[2] / "docs/examples/my_method.py"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ImageSource:
    return open_images(write_images(tmp_path_factory.mktemp("data") / "images", 4))


@pytest.fixture
def fresh() -> Iterator[None]:
    outside.installed.cache_clear()
    yield
    outside.installed.cache_clear()


def changed(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    """A copy of the example with other text."""
    text = FILE.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "changed.py").write_text(text)
    return tmp_path / "changed.py"


def test_the_command_pretrains_a_file(source: ImageSource, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "densebench", "pretrain", f"{FILE}:mine-mini", "--data", str(source.root)]
    done = subprocess.run(
        [*command, "--work", "work", "--set", "batch_size=2"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / "work/pretraining/mine-mini-seed0"
    method = load_methods(FILE)
    record = read_record(run)
    assert record.method_file == {"name": "my_method.py", "sha256": method.sha256}
    assert (record.batch_size, record.method) == (2, "My method")
    card = read_card(export(run))
    said = f"mine-mini (settings {record.recipe_sha256[:12]}, file my_method.py {method.sha256[:12]})"
    assert card.pretraining.recipe == said
    assert card.pretraining.recipe_sha256 == record.recipe_sha256


def test_a_changed_file_is_another_run(source: ImageSource, tmp_path: Path) -> None:
    recipe = find_anywhere(f"{FILE}:mine-mini")
    run = train(recipe, source, tmp_path / "run", workers=0)
    other = find_anywhere(f"{changed(tmp_path, ('A method in', 'This method in'))}:mine-mini")
    assert other.sha256 == recipe.sha256 and identity(other) != identity(recipe)
    with pytest.raises(PretrainError, match=r"another run: file of the method my_method.py .* -> changed.py [^;]*\."):
        train(other, source, run, workers=0)
    assert train(find_anywhere(f"{FILE}:mine-mini"), source, run, workers=0) == run


def test_recipes_of_densebench_are_found_and_are_its_own() -> None:
    recipe = find_anywhere("moco-v2-mini")
    assert recipe == all_recipes()["moco-v2-mini"]
    assert outside_of(recipe) is None and identity(recipe) == recipe.sha256
    with pytest.raises(PretrainError, match="did you mean moco-v2-mini"):
        find_anywhere("moco-mini")


def test_a_file_without_the_recipe_names_its_own() -> None:
    with pytest.raises(PretrainError, match=r"my_method.py has no recipe 'xyz': choose one of mine-mini, mine-large"):
        find_anywhere(f"{FILE}:xyz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([("METHODS =", "OTHERS =")], "states no METHODS: a tuple"),
        ([("(MyMethod,)", "[MyMethod]")], "states no METHODS: a tuple"),
        ([("(MyMethod,)", "(MyConfig,)")], "states no METHODS: a tuple"),
        ([("RECIPES =", "OTHERS =")], "states no RECIPES: a tuple"),
        ([('"mine-large"', '"mine-mini"')], "the recipe name 'mine-mini' is taken"),
        ([('"mine-large"', '"densecl-mini"')], "the recipe name 'densecl-mini' is taken"),
        ([('"mine",', '"densecl",')], "the method name 'densecl' is taken"),
        ([("from torch import Tensor", "import no_such_module")], "cannot be run: ModuleNotFoundError"),
        ([("size: int = 32", "size: int = = 32")], "cannot be run: SyntaxError"),
        (
            [("A method", "One method")],
            r"has several recipes: write .*changed.py:NAME with one of mine-mini, mine-large",
        ),
    ],
)
def test_a_file_that_cannot_serve_is_explained(tmp_path: Path, changes: list[tuple[str, str]], message: str) -> None:
    file = changed(tmp_path, *changes)
    with pytest.raises(PretrainError, match=message):
        find_anywhere(str(file))
    with pytest.raises(PretrainError, match="No such file"):
        find_anywhere(str(tmp_path / "missing.py"))


def test_an_installed_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    """As pip leaves it: a module, and its metadata with an entry point."""
    (tmp_path / "their_methods.py").write_text(FILE.read_text())
    info = tmp_path / "theirs-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[densebench.methods]\ntheirs = their_methods\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert [method.info.id for method in every_method()] == [*(method.info.id for method in METHODS), "mine"]
    assert list(every_recipe())[-2:] == ["mine-mini", "mine-large"]
    found = outside_of(find_anywhere("mine-large"))
    assert found is not None
    assert (found.name, found.sha256) == ("theirs 1.2/their_methods.py", load_sha256(FILE))
    with pytest.raises(PretrainError, match="the method name 'mine' is taken"):
        load_methods(changed(tmp_path, ("A method", "Another method")))

    outside.installed.cache_clear()
    (info / "entry_points.txt").write_text("[densebench.methods]\ntheirs = no_such_module\n")
    with pytest.raises(PretrainError, match=r"theirs 1.2 \(entry point theirs = no_such_module\) cannot be loaded"):
        every_recipe()


def load_sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_settings_of_an_outside_recipe_are_json() -> None:
    values = find_anywhere(f"{FILE}:mine-large").to_dict()
    assert json.loads(json.dumps(values)) == values and values["method"]["type"] == "MyConfig"
