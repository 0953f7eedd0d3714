"""Recipes read back from JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toy import ToyConfig, toy_recipe, write_images

from pretrain.data.batches import open_images
from pretrain.errors import PretrainError
from pretrain.methods import all_recipes
from pretrain.recipe_files import config_types, read_recipe, recipe_from
from pretrain.recipes import AdamWConfig, LARSConfig, Recipe, StepSchedule, override
from pretrain.run.train import train

TYPES = config_types([*all_recipes().values(), toy_recipe()])


@pytest.mark.parametrize("recipe", all_recipes().values(), ids=lambda recipe: recipe.name)
def test_every_recipe_is_read_back(recipe: Recipe) -> None:
    again = recipe_from(json.loads(json.dumps(recipe.to_dict())), TYPES)
    assert again == recipe
    assert again.to_dict() == recipe.to_dict()


@pytest.mark.parametrize(
    "recipe",
    [
        toy_recipe(method=ToyConfig(limit=4, scale=(0.5, 1.0))),
        toy_recipe(optimizer=LARSConfig(lr=1, fixed_lr=("head.", "x")), schedule=StepSchedule((1, 2))),
        toy_recipe(optimizer=AdamWConfig(lr=0.1, final_weight_decay=0.4), needs_init=True),
    ],
    ids=["numbers", "LARS", "AdamW"],
)
def test_every_kind_of_setting_is_read_back(recipe: Recipe) -> None:
    again = recipe_from(json.loads(json.dumps(recipe.to_dict())), TYPES)
    assert again == recipe and again.sha256 == recipe.sha256


def test_whole_numbers_serve_as_numbers_and_defaults_may_be_left_out() -> None:
    values = toy_recipe().to_dict()
    values["optimizer"]["lr"] = 1
    del values["optimizer"]["momentum"], values["paper"], values["needs_init"]
    again = recipe_from(values, TYPES)
    assert again == override(toy_recipe(), ["optimizer.lr=1"])
    assert isinstance(again.optimizer.lr, float)


ABSENT = object()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epochs", "3", r"^epochs: must be a whole number, not \"3\""),
        ("epochs", True, "^epochs: must be a whole number, not true"),
        ("epochs", 2.5, "^epochs: must be a whole number"),
        ("epochs", 0, "epochs is 0, but must be at least 1"),
        ("epochs", ABSENT, "^epochs is missing"),
        ("name", 3, "^name: must be text"),
        ("precision", "fp8", "^precision: must be one of fp32, bf16"),
        ("optimizer.lr", "fast", "^optimizer.lr: must be a finite number"),
        ("optimizer.lr", float("nan"), "^optimizer.lr: must be a finite number"),
        ("optimizer.nesterov", 1, "^optimizer.nesterov: must be true or false"),
        ("optimizer.clip_norm", "x", "^optimizer.clip_norm: must be a finite number.* or must be null"),
        ("optimizer.fixed_lr", "head", "^optimizer.fixed_lr: must be a list"),
        ("optimizer.fixed_lr", [1], r"^optimizer.fixed_lr\[0\]: must be text"),
        ("optimizer.lr_", 1, "^optimizer.lr_: SGDConfig has no such setting; did you mean lr"),
        ("optimizer.type", ABSENT, "^optimizer.type is missing"),
        ("optimizer.type", "SGD", "^optimizer.type: 'SGD' is not known; .*there are SGDConfig"),
        ("optimizer.type", "CosineSchedule", "^optimizer.type: 'CosineSchedule' cannot stand here"),
        ("method.type", "SGDConfig", "^method.type: 'SGDConfig' cannot stand here"),
        ("method.type", "MyConfig", "a method from outside needs its FILE.py"),
        ("method.scale", [0.2], "^method.scale: must be a list of 2"),
        ("method", "toy", "^method: must be an object with its type"),
        ("schedule", None, "^schedule: "),
    ],
)
def test_what_is_wrong_is_named_by_its_key(tmp_path: Path, key: str, value: Any, message: str) -> None:
    values = toy_recipe().to_dict()
    *path, last = key.split(".")
    part = values
    for name in path:
        part = part[name]
    if value is ABSENT:
        del part[last]
    else:
        part[last] = value
    with pytest.raises(PretrainError, match=message):
        recipe_from(values, TYPES)


def test_a_run_holds_its_recipe(tmp_path: Path) -> None:
    recipe = toy_recipe(epochs=1)
    run = train(recipe, open_images(write_images(tmp_path / "images", 4)), tmp_path / "run", workers=0)
    assert read_recipe(run / "run.json", [toy_recipe()]) == recipe
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    assert read_recipe(tmp_path / "recipe.json", [toy_recipe()]) == recipe


def test_files_that_hold_no_recipe_are_named(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    for text, message in ((None, "No such file"), ("{", "is not JSON"), ("[]", "must be an object"), ("{}", "type is")):
        if text is not None:
            file.write_text(text)
        with pytest.raises(PretrainError, match=rf"x\.json:? .*{message}"):
            read_recipe(file, [])
