"""Recipes: overriding, hashing and listing."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from toy import ToyConfig, toy_recipe

from pretrain.errors import PretrainError
from pretrain.methods import all_recipes
from pretrain.recipes import AdamWConfig, CosineSchedule, Recipe, SGDConfig, StepSchedule, find_recipe, override


def test_settings_reach_their_fields_with_their_types() -> None:
    changed = override(
        toy_recipe(),
        ["epochs=7", "method.scale=0.1, 1", "method.limit=5", "optimizer.nesterov=true", "optimizer.lr=1e-3"],
    )
    changed = override(changed, ["schedule.per=step", "precision=bf16", "method.limit=none"])
    assert changed == toy_recipe(
        epochs=7,
        method=ToyConfig(scale=(0.1, 1.0), limit=None),
        optimizer=SGDConfig(lr=1e-3, nesterov=True),
        schedule=CosineSchedule(per="step"),
        precision="bf16",
    )
    assert isinstance(changed.method.scale[1], float)  # type: ignore[attr-defined]
    assert toy_recipe() == override(toy_recipe(), [])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("optimizer.learning_rate=1", "no setting 'optimizer.learning_rate'"),
        ("scale=1", "did you mean .*method.scale"),
        ("qqq=1", "there are name, method.backbone"),
        ("method=toy", "no setting 'method'"),
        ("epochs", "key=value"),
        ("epochs=many", r"epochs=many: must be a whole number \(now 3\)"),
        ("epochs=0", "at least 1"),
        ("batch_size=-4", "at least 1"),
        ("name=a/b", "no recipe name"),
    ],
)
def test_a_wrong_setting_is_explained(setting: str, message: str) -> None:
    with pytest.raises(PretrainError, match=message):
        override(toy_recipe(), [setting])


def test_the_hash_follows_every_setting_and_no_prose() -> None:
    base = toy_recipe()
    assert base.sha256 == toy_recipe(paper="another", expected="x", data="y", cost="z").sha256
    assert base.sha256 == toy_recipe(optimizer=SGDConfig(lr=0.05, momentum=0.9)).sha256
    assert toy_recipe(optimizer=SGDConfig(lr=1)).sha256 == toy_recipe(optimizer=SGDConfig(lr=1.0)).sha256
    settings = ["epochs=4", "batch_size=5", "precision=bf16", "name=b", "method.size=8", "method.scale=0.3,1"]
    settings += ["method.limit=1", "optimizer.lr=1", "optimizer.nesterov=true", "schedule.final=0.1"]
    hashes = {override(base, [setting]).sha256 for setting in settings}
    hashes |= {base.sha256, replace(base, schedule=StepSchedule((1,))).sha256}
    assert len(hashes) == len(settings) + 2


def test_a_field_added_later_counts_once_it_is_used() -> None:
    """Hashes written into run folders and cards stay those of their recipes."""
    base = toy_recipe()
    for setting in ("optimizer.clip_norm=1", "optimizer.fixed_lr=head.,backbone.", "schedule.warmup_start=0.1"):
        changed = override(base, [setting])
        assert changed.sha256 != base.sha256
    assert changed.schedule.factor(0, 1, 1) == 1
    assert override(base, ["optimizer.fixed_lr=head.,backbone."]).optimizer.fixed_lr == ("head.", "backbone.")


@pytest.mark.parametrize(
    ("name", "sha256"),
    [
        ("moco-v2-imagenet-200ep", "b804d976fe0cf9d0f44a277498121b85794ab0d5cba39743b0c9502f18bdec2a"),
        ("byol-mini", "9b1d1a84878fd294a0f915a89aa1f59a35d0977ec0c8f6ae4e2d7736b54f2b65"),
        ("byol-sgd-imagenet-200ep", "33734ec570e291154812358180edd8f5ee4e62ef1e27f8ed7e1f5cdc21aad3de"),
        ("lc-loss-imagenet-200ep", "177be151103cd24dfc68a20b70ea1307660c9320527eb57b499e8c753c43a90c"),
        ("detcon-mini", "75982faadc546859f8daa0fd1c395f15de9d07f2ca16c0e354c7b4a9a7420009"),
        ("dino-mini", "08297faf3e7c28df79a2cff5322f0a7ea6a8df7f0656a6158b3b1a030bb4c6fe"),
        ("swav-imagenet-200ep-batch256", "2c890a9585d4fc124c43cf3a1c84be4d17038c927f3ba1f2786748824cbc585b"),
        ("cp2-quick-imagenet-20ep", "f246d981fe2636bc8d1c92405773a0b040fa38a309f3600824f7d1daf5049807"),
    ],
)
def test_recipes_whose_methods_got_settings_keep_their_hashes(name: str, sha256: str) -> None:
    assert all_recipes()[name].sha256 == sha256


def test_a_recipe_is_plain_json() -> None:
    values = toy_recipe().to_dict()
    assert json.loads(json.dumps(values)) == values
    assert values["optimizer"] == {
        "type": "SGDConfig",
        "lr": 0.05,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "nesterov": False,
        "exclude_norm_bias": False,
        "clip_norm": None,
        "clip_each": False,
        "fixed_lr": [],
    }
    assert {item.name for item in fields(Recipe)} | {"type"} == values.keys()


def test_an_unknown_recipe_names_the_nearest() -> None:
    recipes = {"moco-v2-mini": toy_recipe(), "densecl-mini": toy_recipe()}
    assert find_recipe(recipes, "densecl-mini") is recipes["densecl-mini"]
    with pytest.raises(PretrainError, match="did you mean moco-v2-mini"):
        find_recipe(recipes, "moco-mini")
    with pytest.raises(PretrainError) as far:
        find_recipe(recipes, "xyz")
    assert str(far.value) == "no recipe 'xyz'; `densebench recipes` lists all"


@pytest.mark.parametrize("recipe", all_recipes().values(), ids=lambda recipe: recipe.name)
def test_every_published_recipe_can_be_written_and_changed(recipe: Recipe) -> None:
    assert json.dumps(recipe.to_dict())
    assert override(recipe, ["epochs=1", "optimizer.lr=0.5"]).optimizer.lr == 0.5
    assert recipe.data and recipe.paper


def test_the_rate_follows_the_number_of_clusters() -> None:
    r2o = all_recipes()["r2o-imagenet-300ep"]
    for key in ("method.clusters", "schedule.clusters"):
        changed = override(r2o, [f"{key}=64,4"]).to_dict()
        assert changed["method"]["clusters"] == changed["schedule"]["clusters"] == [64, 4]
    both = ["method.clusters=64,4", "schedule.clusters=128,4"]
    for settings in (both, both[::-1]):
        changed = override(r2o, settings).to_dict()
        assert (changed["method"]["clusters"], changed["schedule"]["clusters"]) == ([64, 4], [128, 4])
    assert override(all_recipes()["r2o-mini"], ["method.clusters=6,2"]).to_dict()["method"]["clusters"] == [6, 2]


def test_what_runs_over_the_whole_training_cannot_begin_again_in_each_round() -> None:
    cyborgs = all_recipes()["cyborgs-mini"]
    with pytest.raises(
        PretrainError, match=r"method.momentum_schedule changes would begin again in each: it must be co"
    ):
        override(cyborgs, ["method.momentum_schedule=cosine"])
    adamw = AdamWConfig(lr=1e-3, weight_decay=0.04, final_weight_decay=0.4)
    stages = tuple(replace(one, optimizer=adamw) if isinstance(one, Recipe) else one for one in cyborgs.stages)
    with pytest.raises(PretrainError, match=r"what optimizer.final_weight_decay changes would begin again"):
        replace(cyborgs, optimizer=adamw, stages=stages)


def test_the_rounds_of_one_training_change_together() -> None:
    settings = ["epochs=2", "optimizer.lr=0.5", "method.temperature=0.3", "method.masks=other"]
    settings += ["schedule.milestones=3,5", "schedule.warmup_epochs=0.5"]
    recipe = override(all_recipes()["cyborgs-mini"], settings)
    rounds = [stage.to_dict() for stage in (*recipe.stages, recipe) if isinstance(stage, Recipe)]
    assert [(r["epochs"], r["first_epoch"]) for r in rounds] == [(2, 0), (2, 2), (2, 4)]
    assert {(r["optimizer"]["lr"], r["method"]["temperature"]) for r in rounds} == {(0.5, 0.3)}
    assert all((r["schedule"]["milestones"], r["schedule"]["warmup_epochs"]) == ([3, 5], 0.5) for r in rounds)
    assert [r["method"]["masks"] for r in rounds] == ["masks-0", "masks-1", "other"]
    one = override(all_recipes()["cyborgs-mini"], ["stages.round-1.epochs=3"])
    assert next(stage.epochs for stage in one.stages if isinstance(stage, Recipe)) == 3
