"""Runs that start from an exported backbone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import Toy, ToyConfig, toy_recipe, write_images

from leaderboard.records import InitialWeights, group_id
from pretrain.data.batches import ImageSource, open_images
from pretrain.errors import PretrainError
from pretrain.export import export
from pretrain.exported import read_card, read_exported, write_exported
from pretrain.former_hashes import FORMER_HASHES, present_hash
from pretrain.methods import all_recipes
from pretrain.nets.architectures import build_backbone
from pretrain.recipes import SGDConfig, override
from pretrain.run.folder import RunRecord, read_record
from pretrain.run.train import train

RECIPE = toy_recipe(method=ToyConfig(real=True), epochs=1, batch_size=6, optimizer=SGDConfig(lr=1e-3))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ImageSource:
    return open_images(write_images(tmp_path_factory.mktemp("data") / "images", 6))


@pytest.fixture(scope="module")
def first(source: ImageSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported backbone."""
    return export(train(RECIPE, source, tmp_path_factory.mktemp("runs") / "first", seed=1, workers=0))


def with_card(folder: Path, out: Path, **changes: Any) -> Path:
    """A copy of an exported backbone with other facts."""
    start = read_exported(folder)
    write_exported(out, start.tensors, {**start.card.model_dump(), **changes})
    return out


def test_a_run_starts_from_the_given_weights(source: ImageSource, first: Path, tmp_path: Path) -> None:
    """A learning rate of zero leaves them; batch norm's statistics alone move."""
    still = replace(RECIPE, optimizer=SGDConfig(lr=0.0, weight_decay=0.0))
    run = train(still, source, tmp_path / "run", init=first, workers=0)
    start, ended = read_exported(first), read_exported(export(run))
    for name, value in start.tensors.items():
        assert torch.equal(value, ended.tensors[name]) is ("running" not in name and "tracked" not in name), name
    sha256 = start.card.sha256
    assert read_record(run).init == {"name": "toy-seed1", "sha256": sha256}
    said = ended.card.pretraining
    assert said.init == InitialWeights(name="toy-seed1", sha256=sha256)
    assert said.recipe == f"toy (settings {still.sha256[:12]}, from backbone {sha256[:12]})"
    assert said.data_fingerprint is not None
    assert said.group == group_id(still.sha256, said.data_fingerprint, sha256)
    # what makes the folder may be handed over in its place
    same = train(still, source, tmp_path / "same", init=lambda: first, workers=0)
    assert read_card(export(same)).sha256 == ended.card.sha256


def test_another_start_is_another_run(
    source: ImageSource, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(toy: Toy, step: int, total: int) -> None:
        if step == 2:
            raise InterruptedError
        after(toy, step, total)

    after, recipe, run = Toy.after_step, replace(RECIPE, epochs=3), tmp_path / "run"
    settings: dict[str, Any] = {"workers": 0, "log_every": 1, "checkpoint_seconds": 0}
    with monkeypatch.context() as patch:
        patch.setattr(Toy, "after_step", interrupt)
        with pytest.raises(InterruptedError):
            train(recipe, source, run, init=first, **settings)
    second = with_card(export(train(RECIPE, source, tmp_path / "second", seed=2, workers=0)), tmp_path / "other")
    for other, said in ((None, "none"), (second, f"toy-seed2 {read_card(second).sha256[:12]}")):
        with pytest.raises(PretrainError, match=f"another run: starting weights toy-seed1 [0-9a-f]{{12}} -> {said}"):
            train(recipe, source, run, init=other, resume=True, **settings)
    train(recipe, source, run, init=first, resume=True, **settings)
    whole = train(recipe, source, tmp_path / "whole", init=first, **settings)
    assert read_card(export(run)).sha256 == read_card(export(whole)).sha256


def test_a_start_that_does_not_fit_is_refused(source: ImageSource, first: Path, tmp_path: Path) -> None:
    with pytest.raises(PretrainError, match="toy tunes a trained resnet18: name its checkpoint, --init CHECKPOINT"):
        train(replace(RECIPE, needs_init=True), source, tmp_path / "run")
    with pytest.raises(PretrainError, match="give a folder that `densebench export` or an import wrote"):
        train(RECIPE, source, tmp_path / "run", init=tmp_path)
    wider = replace(RECIPE, method=ToyConfig(real=True, backbone="resnet34"))
    with pytest.raises(PretrainError, match=r"holds a resnet18, but recipe toy trains a resnet34"):
        train(wider, source, tmp_path / "run", init=first)
    with pytest.raises(PretrainError, match="expects BGR images"):
        train(RECIPE, source, tmp_path / "run", init=with_card(first, tmp_path / "bgr", color_order="BGR"))
    with pytest.raises(PretrainError, match="do not fill the backbone of Toy"):
        train(toy_recipe(), source, tmp_path / "run", init=first)
    assert not (tmp_path / "run").exists()


def test_another_normalisation_is_said(
    source: ImageSource, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    halves = with_card(first, tmp_path / "halves", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.25))
    train(RECIPE, source, tmp_path / "run", init=halves, workers=0)
    assert "note: toy-seed1 was trained with mean 0.5 0.5 0.5 and std 0.5 0.5 0.25" in capsys.readouterr().err
    train(RECIPE, source, tmp_path / "same", init=first, workers=0)
    assert "note:" not in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in all_recipes() if name.endswith("-mini")])
def test_every_network_like_the_backbone_starts_from_the_weights(name: str) -> None:
    """Among them those that follow it, and the trained one where the exported one follows."""
    method = all_recipes()[name].method.build()
    weights = build_backbone(all_recipes()[name].backbone).state_dict()
    method.start_from(weights)
    networks = dict(method.named_modules()) | {"backbone": method.backbone}
    for key, network in networks.items():
        if type(network) is type(method.backbone):
            found = network.state_dict()
            assert all(torch.equal(found[tensor], value) for tensor, value in weights.items()), key


def test_the_present_hashes_are_those_of_the_recipes() -> None:
    """Of CP2's recipes before blocks began as identities, which is another recipe, not another name of the same."""
    recipes = [override(r, ["method.zero_init_residual=no"]) for n, r in all_recipes().items() if n.startswith("cp2")]
    of_cp2 = {recipe.sha256 for recipe in recipes}
    assert set(FORMER_HASHES.values()) == of_cp2
    assert not of_cp2 & FORMER_HASHES.keys()
    assert present_hash("0" * 64) == "0" * 64


def test_a_run_of_a_former_hash_is_the_same_run(source: ImageSource, tmp_path: Path) -> None:
    """`run.json` without starting weights, written when CP2's hash was another one."""
    new = all_recipes()["cp2-mini"]
    (old,) = (before for before, now in FORMER_HASHES.items() if now == new.sha256)
    run = train(RECIPE, source, tmp_path / "run", workers=0)
    values = json.loads((run / "run.json").read_text())
    del values["init"]
    (run / "run.json").write_text(json.dumps(values))
    record = read_record(run)
    assert record.init is None
    present = RunRecord(**{**values, "recipe_sha256": new.sha256})
    former = RunRecord(**{**values, "recipe_sha256": old})
    assert former.differences(present) == present.differences(former) == []
    assert former.differences(replace(present, recipe_sha256=override(new, ["epochs=3"]).sha256))
    # its checkpoint is still the run's, and the card says the hash of today
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    torch.save({**state, "recipe_sha256": old}, run / "checkpoint.pt")
    (run / "run.json").write_text(json.dumps({**values, "recipe_sha256": old}))
    assert read_card(export(run)).pretraining.recipe_sha256 == new.sha256
