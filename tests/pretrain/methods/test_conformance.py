"""What holds for every method, listed by itself as soon as its file is there; its own test has the mathematics.

It is listed once and has its recipes; its small recipe trains, logs and exports. With the settings of its small
recipes, on a network from outside: a step has finite scalars, in bfloat16 too; a stopped run goes on exactly;
checkpoints of before are read; two processes train as one.
"""

from __future__ import annotations

import copy
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import gloo
import numpy as np
import pytest
import torch
from geometric import APART
from looping import check_resume, result, train
from safetensors.torch import load_file
from staged import computed
from torch import Tensor, nn
from toy import write_images

from pretrain import methods
from pretrain.data.batches import open_images
from pretrain.data.views import View
from pretrain.export import export
from pretrain.method import Method
from pretrain.methods import METHODS, all_recipes
from pretrain.methods.moco import MoCo
from pretrain.nets.architectures import build_backbone
from pretrain.nets.batchnorm import SplitBatchNorm2d
from pretrain.recipes import Recipe, override
from pretrain.run.train import train as pretrain


def method_of(recipe: Recipe) -> type[Method]:
    """The class that the recipe's config says it builds."""
    return get_type_hints(type(recipe.method).build)["return"]


TRAINING = [method for method in METHODS if method.trains]


def recipes_of(method: type[Method]) -> dict[str, Recipe]:
    return {name: recipe for name, recipe in all_recipes().items() if method_of(recipe) is method}


def test_every_file_is_found_and_methods_are_listed_as_they_were_published() -> None:
    folder = Path(methods.__file__).parent
    found = sorted(module.__name__.rpartition(".")[2] for module in methods._MODULES)
    assert found == sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    first = [module.METHODS[0].info.paper for module in methods._MODULES]
    assert first == sorted(first) and first[0].startswith("arXiv 1512.")
    infos = [replace(MoCo.info, paper=paper) for paper in ("CVPR 2031", "arXiv 2010.00001", "JMLR; arXiv 0912.1234")]
    assert [info.paper for info in sorted(infos, key=methods._published)][1:] == ["arXiv 2010.00001", "CVPR 2031"]


def test_listing_imports_no_slow_library() -> None:
    """Of another process: what `densebench methods` and `recipes` need beyond PyTorch."""
    code = "import sys, pretrain.methods; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in loaded
    assert not {"torchvision", "scipy", "skimage", "pandas", "matplotlib", "mmengine"} & set(loaded)


def test_ids_are_unique() -> None:
    ids = [method.info.id for method in METHODS]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in ids)
    assert len({method.info.name for method in METHODS}) == len(ids)


def test_recipe_names_are_unique() -> None:
    names = [recipe.name for module in methods._MODULES for recipe in module.RECIPES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("method", TRAINING, ids=lambda method: method.info.id)
def test_a_method_has_the_papers_recipe_and_a_small_one(method: type[Method]) -> None:
    recipes = recipes_of(method)
    mini = recipes.pop(f"{method.info.id}-mini")
    assert mini.backbone == "resnet18"
    papers = [recipe for name, recipe in recipes.items() if not name.endswith("-mini")]
    assert papers, "no recipe of the paper"
    usual = {"sfc": "resnet18"}.get(method.info.id, "resnet50")
    assert any(recipe.backbone == usual for recipe in papers)
    for recipe in papers:
        assert recipe.data and recipe.paper
        with torch.device("meta"):
            build_backbone(recipe.backbone)


@pytest.mark.parametrize("recipe", all_recipes().values(), ids=lambda recipe: recipe.name)
def test_a_recipe_can_be_written_and_read_back(recipe: Recipe) -> None:
    assert method_of(recipe) in METHODS
    written = recipe.to_dict()
    assert json.loads(json.dumps(written)) == written


CASES = {
    name: recipe.method for name, recipe in all_recipes().items() if name.endswith("-mini") and not recipe.needs_init
}
"""The settings of the small recipes, each once: of a method that adds to others, one for each of these."""
CHANGES: dict[str, dict[str, Any]] = {
    "pixpro-mini": {"instance_weight": 1.0},
    "swav-mini": {"queue": 16, "queue_start": 1, "freeze_prototypes": 2},
    "dino-mini": {"freeze_last_layer": 2, "teacher_warmup": 4},
    "relicv2-mini": {"background_removal": 0.5},
    "mochi-mini": {"warmup": 0.3},
    "moco-multicrop-mini": {"neighbour_warmup": 0.3},
    # A place that no image fills gives batch norm one value and ReLU 0, up to rounding: its gradient is anyone's.
    "cyborgs-mini": {"regions": 2},
    "r2o-mini": {"images_together": 4},
    "sfc-mini": {"view_size": 64},
}
"""So that what begins later begins within the few steps here, and images are clustered with those of their process."""
N, STEPS = 8, 6
every_case = pytest.mark.parametrize("name", CASES)


class Foreign(nn.Module):
    """Two convolutions of stride 32 in all, which no table knows: images (N, 3, 32 S, 32 S) -> maps (N, 12, S, S)."""

    width = 12

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, self.width, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.norm(self.first(x)).relu())


def build(name: str, folder: Path, seed: int = 0, pictures: Path | None = None) -> Any:
    """The method on a network from outside, in float64, prepared for the `pictures`."""
    source = open_images(pictures or folder / "pictures")
    products = computed(all_recipes()[name], source, folder, Foreign)
    torch.manual_seed(seed)
    method = replace(CASES[name], **CHANGES.get(name, {})).build(Foreign()).double()
    method.products = products
    method.prepare(source, folder)
    return method


def views_of(method: Method, step: int) -> list[View]:
    """Crops of the pictures with random places and flips, in float64; three batches in turns."""
    rng = np.random.default_rng([5, step % 3])
    patches = rng.standard_normal((N, 3, 4, 4)) + rng.standard_normal((N, 3, 1, 1))
    found = []
    for spec in method.plan.specs:
        image = patches.repeat(-(-spec.size // 4), axis=2).repeat(-(-spec.size // 4), axis=3)[
            :, :, : spec.size, : spec.size
        ]
        low = rng.uniform(0, 0.4, (N, 2))
        box = np.concatenate([low, low + rng.uniform(0.3, 0.6, (N, 2))], axis=1)
        box[-1] = APART[len(found) % 2]  # so that two processes average over different numbers
        pixels = torch.from_numpy(image + 0.3 * rng.standard_normal(image.shape))
        found.append(View(pixels, torch.from_numpy(box), torch.from_numpy(rng.random(N) < 0.5), torch.arange(N)))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With pictures, and what methods prepare of them."""
    folder = tmp_path_factory.mktemp("data")
    write_images(folder / "pictures", N, classes=2)
    return folder


@every_case
def test_two_steps_on_a_network_from_outside(name: str, folder: Path) -> None:
    """Named finite scalars, of which `loss` alone is differentiated; only the optimizer's weights get gradients."""
    method = build(name, folder)
    start = copy.deepcopy(method.state_dict())
    networks = [module for module in method.modules() if isinstance(module, Foreign)]
    assert type(method.backbone) is Foreign and method.backbone in networks
    out = method(views_of(method, 0))
    assert [key for key, value in out.items() if value.requires_grad] == ["loss"]
    assert {"loss", "std"} <= out.keys()
    assert all(value.shape == () and value.isfinite() for value in out.values()), out
    assert method.embeddings is not None and method.embeddings.dim() == 2 and not method.embeddings.requires_grad
    out["loss"].backward()
    trained = {key for key, p in method.named_parameters() if p.grad is not None}
    assert trained <= {key for key, p in method.named_parameters() if p.requires_grad}
    method.zero_grad()

    train(method, partial(views_of, method), 2)
    moved = {key for key, value in method.state_dict().items() if not torch.equal(value, start[key])}
    assert any(key.startswith("backbone.") for key in moved)
    assert trained & moved


@every_case
def test_bfloat16_leaves_finite_scalars(name: str, folder: Path) -> None:
    method = build(name, folder).float()
    views = [View(v.pixels.float(), v.box.float(), v.flip, v.image_id) for v in views_of(method, 0)]
    with torch.autocast("cpu", torch.bfloat16):
        out = method(views)
    assert out["loss"].dtype == torch.float32
    out["loss"].backward()
    assert all(value.isfinite() for value in out.values()), out
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


@every_case
def test_a_stopped_run_goes_on_exactly(name: str, folder: Path) -> None:
    """From state dicts, in a method of another seed."""
    plan = build(name, folder)
    check_resume(lambda seed: build(name, folder, seed), partial(views_of, plan), steps=STEPS, stop=STEPS // 2)


@every_case
def test_checkpoints_of_before_momentum_was_one_object_are_read(name: str, folder: Path) -> None:
    method = build(name, folder)
    train(method, partial(views_of, method), 2)
    today = method.state_dict()
    before = {
        re.sub(r"\b(momentum|teacher)\.", r"\1_", key): value
        for key, value in today.items()
        if not key.startswith("teacher.backbone.")
    }
    loaded = build(name, folder, seed=1)
    loaded.load_state_dict(before)
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, today[key]), key


def check_together(rank: int, world: int, folder: Path) -> None:
    own = folder / f"prepared {rank}"
    own.mkdir()
    for name in CASES:
        method = build(name, own, pictures=folder / "pictures")
        torch.save(result(method, partial(views_of, method), rank, world, STEPS), folder / f"{name}-{rank}.pt")


@pytest.fixture(scope="module")
def two_processes(folder: Path) -> Path:
    """Where both left the losses and the state of every case."""
    gloo.run(check_together, 2, folder)
    return folder


@pytest.mark.slow
@every_case
def test_two_gloo_processes_train_as_one(name: str, two_processes: Path) -> None:
    """Batch norm of one process with several parts averages its running statistics, while those of ranks are theirs."""
    method = build(name, two_processes)
    losses, state = result(method, partial(views_of, method), 0, 1, STEPS)
    split = any(isinstance(module, SplitBatchNorm2d) for module in method.modules())
    for rank in range(2):
        their_losses, theirs = torch.load(two_processes / f"{name}-{rank}.pt", weights_only=True)
        assert their_losses == pytest.approx(losses, rel=1e-9)
        assert theirs.keys() == state.keys()
        for key, value in state.items():
            if not (split and key.endswith(("running_mean", "running_var"))):
                torch.testing.assert_close(theirs[key], value, rtol=1e-7, atol=1e-9, msg=key)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "pictures", 16, classes=2)


@pytest.mark.slow
@pytest.mark.parametrize("method", TRAINING, ids=lambda method: method.info.id)
def test_the_small_recipe_trains_logs_and_exports(method: type[Method], pictures: Path, tmp_path: Path) -> None:
    """Two steps of the real loop on 16 pictures of noise."""
    name = f"{method.info.id}-mini"
    recipe = all_recipes()[name]
    trainings = ["", *(f"stages.{stage.name}." for stage in recipe.stages if isinstance(stage, Recipe))]
    shorter = ("epochs=1", "batch_size=8", "schedule.warmup_epochs=0")
    recipe = override(recipe, [training + setting for training in trainings for setting in shorter])
    run = pretrain(recipe, open_images(pictures), tmp_path / name, workers=0, log_every=1)
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
