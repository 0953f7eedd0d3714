"""Recipes of several stages: train, compute something of every image from that, train with it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, cast

import gloo
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy import Toy, ToyConfig, processes_context, toy_recipe, write_images

from pretrain.data.batches import ImageSource, open_images
from pretrain.data.views import View
from pretrain.errors import PretrainError
from pretrain.export import export
from pretrain.exported import read_card
from pretrain.method import Method
from pretrain.recipe_files import config_types, recipe_from
from pretrain.recipes import ComputeStage, Recipe, SGDConfig, StepSchedule, override
from pretrain.run import folder as runs
from pretrain.run.folder import read_record
from pretrain.run.processes import Process
from pretrain.run.stages import StageResult, _computed
from pretrain.run.train import train


@dataclass(frozen=True)
class Labels:
    """A number for every image: the mean of the trained network's map of a plain picture, by the image's place."""

    name: str = "labels"
    scale: float = 1.0
    after: tuple[str, ...] = ()
    """Products that it is to find."""

    def compute(self, method: Method, source: ImageSource, product: Path) -> None:
        assert not method.training and not torch.is_grad_enabled()
        assert tuple(method.products) == self.after and all(path.is_file() for path in method.products.values())
        table = np.lib.format.open_memmap(product, mode="w+", dtype=np.float32, shape=(len(source), 3))
        for index in range(len(source)):
            picture = torch.full((1, 3, 16, 16), index / len(source))
            table[index] = (self.scale * method.backbone(picture).mean() + torch.rand(3) * 0.1).numpy()
        table.flush()


@dataclass(frozen=True)
class LabelledConfig(ToyConfig):
    labels: tuple[str, ...] = field(default=("labels",))

    def build(self) -> Labelled:
        return Labelled(self)


class Labelled(Toy):
    """Toy, whose views should also be near the label of their image."""

    config: LabelledConfig

    def prepare(self, source: ImageSource, folder: Path) -> None:
        tables = [np.load(self.products[name], mmap_mode="r") for name in self.config.labels]
        self.table = torch.from_numpy(sum(np.array(table) for table in tables))

    def forward(self, views: Sequence[View]) -> dict[str, Tensor]:
        scalars = super().forward(views)
        outputs = self.head(self.backbone(views[0].pixels).mean((2, 3)))
        scalars["loss"] = scalars["loss"] + (outputs - self.table[views[0].image_id]).square().mean()
        return scalars


SETTINGS: dict[str, Any] = {"workers": 0, "log_every": 1, "checkpoint_seconds": 0, "device": "cpu"}
FIRST = toy_recipe(name="first", epochs=1, batch_size=6)


def staged(*stages: Recipe | ComputeStage, **changes: Any) -> Recipe:
    settings = {"name": "staged", "method": LabelledConfig(), "epochs": 1, "batch_size": 6}
    return toy_recipe(**(settings | changes), stages=stages or (FIRST, Labels()))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "images", 12)


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(staged(), open_images(images), tmp_path_factory.mktemp("runs") / "whole", **SETTINGS)


def ends(run: Path) -> dict[str, Any]:
    """Weights of every stage, and the products' bytes."""
    found: dict[str, Any] = {}
    for file in sorted(run.rglob("checkpoint.pt")):
        for key, value in torch.load(file, weights_only=True)["method"].items():
            found[f"{file.relative_to(run)} {key}"] = value.tolist()
    return found | {str(file.relative_to(run)): file.read_bytes() for file in run.rglob("product")}


def test_every_stage_has_its_folder_and_is_recorded(images: Path, whole: Path) -> None:
    first, labels = sorted((whole / "stages").iterdir())
    assert first.name.startswith("1-first-") and labels.name.startswith("2-labels-")
    assert read_record(first).recipe == json.loads(json.dumps(FIRST.to_dict()))
    table = np.load(labels / "product")
    assert table.shape == (12, 3) and len(np.unique(table)) > 12
    said = json.loads((whole / "stages.json").read_text())
    assert [stage["name"] for stage in said] == ["first", "labels"]
    assert said[1] == json.loads((labels / "stage.json").read_text())
    assert all(len(stage["sha256"]) == 64 and stage["seconds"] > 0 for stage in said)


def test_the_product_decides_what_follows(images: Path, whole: Path, tmp_path: Path) -> None:
    other = train(staged(FIRST, Labels(scale=-4.0)), open_images(images), tmp_path / "other", **SETTINGS)
    loss = [json.loads((run / "log.jsonl").read_text().splitlines()[0])["scalars"]["loss"] for run in (whole, other)]
    assert loss[0] != loss[1]


class InterruptionError(Exception):
    pass


def interrupted_at(count: int, patch: pytest.MonkeyPatch) -> None:
    """Stop at the `count`-th of all moments that change what lies in the folder or the method."""
    left = [count]

    def stops(function: Callable[..., Any]) -> Callable[..., Any]:
        def stopping(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise InterruptionError
            return function(*args, **kwargs)

        return stopping

    patch.setattr(Toy, "after_step", stops(Toy.after_step))
    patch.setattr(Labels, "compute", stops(Labels.compute))
    patch.setattr(os, "replace", stops(os.replace))
    patch.setattr(Path, "replace", stops(Path.replace))


def test_a_run_that_stops_at_any_moment_continues(
    images: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, source, moments = ends(whole), open_images(images), 0
    for count in range(1, 100):
        run = tmp_path / str(count)
        with monkeypatch.context() as patch:
            interrupted_at(count, patch)
            try:
                train(staged(), source, run, **SETTINGS)
                break
            except InterruptionError:
                moments += 1
        train(staged(), source, run, resume=True, **SETTINGS)
        assert ends(run) == expected, count
    assert moments > 12


def killed(images: Path, out: Path, moment: str) -> None:
    """Trains and kills itself, while it computes or in the last stage."""

    def dies(*args: Any) -> None:
        if moment == "computing":
            args[3].write_bytes(b"half of it")
        os.kill(os.getpid(), signal.SIGKILL)

    if moment == "computing":
        Labels.compute = dies  # type: ignore[method-assign, assignment]
    else:
        Labelled.after_step = dies  # type: ignore[method-assign, assignment]
    train(staged(), open_images(images), out, **SETTINGS)


@pytest.mark.parametrize("moment", ["computing", "last stage"])
def test_a_killed_run_continues(images: Path, whole: Path, tmp_path: Path, moment: str) -> None:
    process = processes_context().Process(target=killed, args=(images, tmp_path / "run", moment))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    with pytest.raises(PretrainError, match="unfinished run: add --resume"):
        train(staged(), open_images(images), tmp_path / "run", **SETTINGS)
    train(staged(), open_images(images), tmp_path / "run", resume=True, **SETTINGS)
    assert ends(tmp_path / "run") == ends(whole)


@dataclass(frozen=True)
class Slow:
    """Writes its product in two parts with a pause between them, and a mark beside the stage's folder."""

    name: str = "slow"

    def compute(self, method: Method, source: ImageSource, product: Path) -> None:
        for text, file in (("mark ", product.parent.with_name("marks")), ("half ", product), ("whole", product)):
            with file.open("a") as open_file:
                open_file.write(text)
            time.sleep(0.2)


def computed_slowly(folder: Path, both: Barrier, found: SimpleQueue[StageResult]) -> None:
    both.wait(60)
    process = Process(torch.device("cpu"))
    found.put(_computed(Slow(), folder, "0" * 64, cast(ImageSource, None), process, nn.Identity, {}))  # type: ignore[arg-type]


def test_a_run_waits_for_the_stage_that_another_computes(tmp_path: Path) -> None:
    context = processes_context()
    both, found, folder = context.Barrier(2), context.SimpleQueue(), tmp_path / "1-slow"
    runs = [context.Process(target=computed_slowly, args=(folder, both, found)) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0, 0]
    assert found.get() == found.get()
    assert (tmp_path / "marks").read_text() == "mark "
    assert {file.name: file.read_text() for file in folder.iterdir() if file.name != "stage.json"} == {
        "product": "half whole"
    }


def test_a_product_whose_hash_was_not_taken_is_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(product: Path) -> str:
        raise InterruptionError

    def computed() -> StageResult:
        source, process = cast(ImageSource, None), Process(torch.device("cpu"))
        return _computed(Slow(), tmp_path / "1-slow", "0" * 64, source, process, nn.Identity, {})  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("pretrain.run.stages.file_sha256", stops)
        with pytest.raises(InterruptionError):
            computed()
    result = computed()
    assert (tmp_path / "marks").read_text() == "mark "
    assert result.seconds > 0.6, "those of the computation are lost"
    assert sorted(file.name for file in (tmp_path / "1-slow").iterdir()) == ["product", "stage.json"]
    assert computed() == result


@pytest.mark.parametrize(("left", "least"), [("1000\n", 1000), ("nan", 0), ("-5", 0), ("a thousand", 0)])
def test_the_seconds_of_an_interrupted_stage_count(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str, least: float
) -> None:
    """Where the file that tells them is damaged, the stage is finished all the same."""

    def stops(labels: Labels, method: Method, source: ImageSource, product: Path) -> None:
        product.write_bytes(b"half of it")
        time.sleep(0.05)
        raise InterruptionError

    with monkeypatch.context() as patch:
        patch.setattr(Labels, "compute", stops)
        with pytest.raises(InterruptionError):
            train(staged(Labels()), open_images(images), tmp_path, **SETTINGS)
    (seconds,) = tmp_path.rglob("product.seconds")
    assert 0.05 < float(seconds.read_text()) < 100
    seconds.write_text(left)
    train(staged(Labels()), open_images(images), tmp_path, resume=True, **SETTINGS)
    (stage,) = json.loads((tmp_path / "stages.json").read_text())
    assert least < stage["seconds"] < least + 100
    assert not seconds.exists()


def test_stages_are_shared_as_far_as_they_are_equal(
    images: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A longer last training takes all from the first run; other labels take its training."""
    source, stages, computed, trained = open_images(images), tmp_path / "stages", [], []
    compute, save = Labels.compute, runs.RunFolder.save

    def counted(self: Labels, *args: Any) -> None:
        computed.append(self.scale)
        compute(self, *args)

    def saved(self: runs.RunFolder, *args: Any) -> None:
        trained.append(self.folder.name[:7])
        save(self, *args)

    monkeypatch.setattr(Labels, "compute", counted)
    monkeypatch.setattr(runs.RunFolder, "save", saved)
    train(staged(), source, tmp_path / "a", stages=stages, **SETTINGS)
    assert computed == [1.0] and "1-first" in trained
    trained.clear()
    train(staged(epochs=2), source, tmp_path / "b", stages=stages, **SETTINGS)
    train(staged(FIRST, Labels(scale=2.0)), source, tmp_path / "c", stages=stages, **SETTINGS)
    assert computed == [1.0, 2.0] and set(trained) == {"b", "c"}
    train(staged(replace(FIRST, epochs=2), Labels()), source, tmp_path / "d", stages=stages, **SETTINGS)
    train(staged(), source, tmp_path / "e", stages=stages, seed=1, **SETTINGS)
    assert computed == [1.0, 2.0, 1.0, 1.0]
    assert len(list(stages.iterdir())) == 7


def staged_on_a_rank(rank: int, world: int, folder: Path) -> None:
    final: dict[str, Tensor] = {}
    compute, after = Labels.compute, Labelled.after_step

    def computed(labels: Labels, *args: Any) -> None:
        assert rank == 0  # the others wait for its file
        compute(labels, *args)

    def after_step(method: Labelled, step: int, total: int) -> None:
        after(method, step, total)
        final.update({name: value.clone() for name, value in method.state_dict().items()}, table=method.table)

    Labels.compute = computed  # type: ignore[method-assign]
    Labelled.after_step = after_step  # type: ignore[method-assign]
    train(staged(), open_images(folder / "images"), folder / "run", **SETTINGS)
    torch.save(final, folder / f"rank{rank}.pt")


def test_two_processes_share_the_stages(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 12)
    gloo.run(staged_on_a_rank, 2, tmp_path)
    ends = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]) or "running" in name, name  # batch norm's buffers are each rank's own
    assert np.array_equal(ends[0]["table"], np.load(next((tmp_path / "run").rglob("product"))))
    stages = json.loads((tmp_path / "run/stages.json").read_text())
    assert [stage["name"] for stage in stages] == ["first", "labels"]


def test_a_damaged_product_is_named(images: Path, tmp_path: Path) -> None:
    source, stages = open_images(images), tmp_path / "stages"
    train(staged(), source, tmp_path / "a", stages=stages, **SETTINGS)
    (product,) = stages.rglob("product")
    product.write_bytes(b"other")
    with pytest.raises(PretrainError, match=r"is not what stage labels left: delete .*2-labels-"):
        train(staged(epochs=2), source, tmp_path / "b", stages=stages, **SETTINGS)


def test_a_stage_may_continue_the_one_before(images: Path, tmp_path: Path) -> None:
    """Three trainings, each from the weights before, the later ones with what was computed between; all in the card."""
    still: dict[str, Any] = {"optimizer": SGDConfig(lr=0.0, weight_decay=0.0), "batch_size": 12, "epochs": 1}
    real = ToyConfig(real=True)
    first = toy_recipe(name="first", method=real, epochs=1, batch_size=6, optimizer=SGDConfig(lr=1e-3))
    second = toy_recipe(name="second", method=LabelledConfig(real=True), from_stage=True, **still)
    both = LabelledConfig(real=True, labels=("labels", "more"))
    more = Labels(name="more", after=("labels",))
    recipe = staged(first, Labels(), second, more, method=both, from_stage=True, **still)
    run = train(recipe, open_images(images), tmp_path / "run", **SETTINGS)
    weights = [
        torch.load(file, weights_only=True)["method"]["backbone.conv1.weight"]
        for file in (*sorted(run.glob("stages/*/checkpoint.pt")), run / "checkpoint.pt")
    ]
    assert len(weights) == 3 and all(torch.equal(weights[0], other) for other in weights[1:])
    card = read_card(export(run)).pretraining
    assert [stage.name for stage in card.stages] == ["first", "labels", "second", "more"]
    assert card.init is None
    crops = len(read_record(run).views)
    assert [stage.image_views for stage in card.stages] == [12 * crops, 0, 12 * crops, 0]
    assert (card.epochs, card.image_views) == (1, 36 * crops)


@dataclass(frozen=True)
class WideConfig(ToyConfig):
    """With another head."""

    def build(self) -> Toy:
        method = Toy(self)
        method.head = nn.Linear(4, 5)
        method.memory = torch.zeros(5)
        return method


def test_stages_may_be_one_training(images: Path, tmp_path: Path) -> None:
    """Three epochs in stages of one and two leave what three at once do: weights, heads, buffers, optimizer's state."""
    source, schedule = open_images(images), StepSchedule(milestones=(2,), warmup_epochs=1.5)
    once = toy_recipe(name="once", epochs=3, batch_size=6, schedule=schedule)
    first, last = replace(once, name="first", epochs=1), replace(once, name="last", epochs=2, from_stage=True)
    runs = [
        train(recipe, source, tmp_path / recipe.name, **SETTINGS)
        for recipe in (once, replace(last, stages=(first,), first_epoch=1))
    ]
    whole, parts = (torch.load(run / "checkpoint.pt", weights_only=True) for run in runs)
    for name, value in whole["method"].items():
        assert torch.equal(value, parts["method"][name]) or name == "steps", name
    buffers = [state["optimizer"]["state"][0]["momentum_buffer"] for state in (whole, parts)]
    assert torch.equal(*buffers)
    other = replace(first, method=WideConfig())
    with pytest.raises(PretrainError, match="last goes on with the networks of the stage before it, which are others"):
        train(replace(last, stages=(other,), first_epoch=1), source, tmp_path / "other", **SETTINGS)


def test_what_cannot_be_a_list_of_stages() -> None:
    for stages, changes, message in (
        ((Labels(),), {"from_stage": True}, "no stage before staged trains a backbone"),
        ((replace(FIRST, from_stage=True),), {}, "no stage before first trains"),
        (
            (replace(FIRST, optimizer=SGDConfig(lr=1.0)),),
            {"first_epoch": 1, "from_stage": True},
            "staged goes on with the training of first: give both the same optimizer and schedule",
        ),
        (
            (replace(FIRST, schedule=StepSchedule(milestones=(1,))),),
            {"first_epoch": 1, "from_stage": True},
            "staged goes on with the training of first: give both the same optimizer and schedule",
        ),
        (
            (FIRST,),
            {"first_epoch": 1, "from_stage": True},
            "the rate of a CosineSchedule depends on the length of the whole: give both a StepSchedule",
        ),
        ((FIRST,), {"first_epoch": 1}, "first_epoch is at least 0, and above 0 only with from_stage"),
        ((Labels(), Labels()), {}, "'labels' cannot be the name of one stage"),
        ((Labels(name="a/b"),), {}, "'a/b' cannot be the name"),
        ((replace(FIRST, stages=(Labels(),)),), {}, "has stages of its own"),
    ):
        with pytest.raises(PretrainError, match=message):
            staged(*stages, **changes)  # type: ignore[misc]


def test_stages_are_part_of_the_recipe() -> None:
    recipe = staged()
    assert recipe_from(json.loads(json.dumps(recipe.to_dict())), config_types([recipe])) == recipe
    assert recipe.sha256 != staged(FIRST, Labels(scale=2.0)).sha256 != replace(recipe, stages=()).sha256


def test_a_stage_is_set_by_its_name() -> None:
    recipe = override(staged(), ["stages.first.epochs=3", "stages.first.optimizer.lr=0.5", "stages.labels.scale=2"])
    first, labels = recipe.stages
    assert isinstance(first, Recipe) and first == replace(FIRST, epochs=3, optimizer=replace(FIRST.optimizer, lr=0.5))
    assert labels == Labels(scale=2.0) and replace(recipe, stages=staged().stages) == staged()
    for wrong in ("stages.second.epochs=3", "stages.first.scale=1", "stages=none", "stages.first=2"):
        with pytest.raises(PretrainError, match="has no setting"):
            override(staged(), [wrong])


def test_a_first_stage_computes_with_the_run_s_own_start(images: Path, tmp_path: Path) -> None:
    train(staged(Labels()), open_images(images), tmp_path / "run", **SETTINGS)
    (product,) = (tmp_path / "run").rglob("product")
    assert np.load(product).shape == (12, 3)


def test_a_stage_by_itself_says_what_it_lacks(images: Path, tmp_path: Path) -> None:
    with pytest.raises(PretrainError, match="first starts from a stage before it"):
        train(replace(FIRST, from_stage=True), open_images(images), tmp_path / "run", **SETTINGS)
