"""What holds for every method: it is listed once, has its recipes, and its small recipe trains, logs and exports."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_type_hints

import pytest
import torch
from safetensors.torch import load_file
from toy import write_images

from pretrain import methods
from pretrain.data.batches import open_images
from pretrain.export import export
from pretrain.method import Method
from pretrain.methods import METHODS, all_recipes
from pretrain.methods.moco import MoCo
from pretrain.nets.architectures import build_backbone
from pretrain.recipes import Recipe, override
from pretrain.run.train import train

IDS = {
    *("moco-v1", "moco-v2", "simclr", "simsiam", "byol", "swav", "mochi", "relicv2", "dino", "moco-v2-plus"),
    *("s-moco-v2-plus", "byol-sgd", "moco-multicrop", "densecl", "densesiam", "lc-loss", "regioncl", "cp2", "pixpro"),
    *("slotcon", "vicregl", "detcon"),
}
"""The names by which methods are known; a new method adds its own."""


def method_of(recipe: Recipe) -> type[Method]:
    """The class that the recipe's config says it builds."""
    return get_type_hints(type(recipe.method).build)["return"]


def recipes_of(method: type[Method]) -> dict[str, Recipe]:
    return {name: recipe for name, recipe in all_recipes().items() if method_of(recipe) is method}


def test_every_file_is_found_and_methods_are_listed_as_they_were_published() -> None:
    folder = Path(methods.__file__).parent
    found = sorted(module.__name__.rpartition(".")[2] for module in methods._MODULES)
    assert found == sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    first = [module.METHODS[0].info.paper for module in methods._MODULES]
    assert first == sorted(first) and first[0].startswith("arXiv 1911.")
    infos = [replace(MoCo.info, paper=paper) for paper in ("CVPR 2031", "arXiv 2010.00001", "JMLR; arXiv 0912.1234")]
    assert [info.paper for info in sorted(infos, key=methods._published)][1:] == ["arXiv 2010.00001", "CVPR 2031"]


def test_listing_imports_no_slow_library() -> None:
    """Of another process: what `densebench methods` and `recipes` need beyond PyTorch."""
    code = "import sys, pretrain.methods; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in loaded
    assert not {"torchvision", "scipy", "skimage", "pandas", "matplotlib", "mmengine"} & set(loaded)


def test_ids_are_unique_and_known() -> None:
    ids = [method.info.id for method in METHODS]
    assert len(set(ids)) == len(ids)
    assert set(ids) <= IDS
    assert len({method.info.name for method in METHODS}) == len(ids)


def test_recipe_names_are_unique() -> None:
    names = [recipe.name for module in methods._MODULES for recipe in module.RECIPES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.info.id)
def test_a_method_has_the_papers_recipe_and_a_small_one(method: type[Method]) -> None:
    recipes = recipes_of(method)
    mini = recipes.pop(f"{method.info.id}-mini")
    assert mini.backbone == "resnet18"
    papers = [recipe for name, recipe in recipes.items() if not name.endswith("-mini")]
    assert papers, "no recipe of the paper"
    assert any(recipe.backbone == "resnet50" for recipe in papers)
    for recipe in papers:
        assert recipe.data and recipe.paper
        with torch.device("meta"):
            build_backbone(recipe.backbone)


@pytest.mark.parametrize("recipe", all_recipes().values(), ids=lambda recipe: recipe.name)
def test_a_recipe_can_be_written_and_read_back(recipe: Recipe) -> None:
    assert method_of(recipe) in METHODS
    written = recipe.to_dict()
    assert json.loads(json.dumps(written)) == written


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "pictures", 16)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.info.id)
def test_the_small_recipe_trains_logs_and_exports(method: type[Method], pictures: Path, tmp_path: Path) -> None:
    """Two steps of the real loop on 16 pictures of noise."""
    name = f"{method.info.id}-mini"
    recipe = override(all_recipes()[name], ["epochs=1", "batch_size=8", "schedule.warmup_epochs=0"])
    run = train(recipe, open_images(pictures), tmp_path / name, workers=0, log_every=1)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    for line in lines:
        scalars = line["scalars"]
        assert all(value is not None and math.isfinite(value) for value in scalars.values()), scalars
        assert {"loss", "std", "rank"} <= set(scalars)
    backbone = load_file(export(run) / "backbone.safetensors")
    assert set(backbone) == set(build_backbone(recipe.backbone).state_dict())
    torch.manual_seed(0)
    built = recipe.method.build()
    assert type(built) is method
    before = built.backbone.state_dict()
    assert any(not torch.equal(value, before[key]) for key, value in backbone.items())
