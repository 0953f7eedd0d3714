"""The benchmarks run, on tiny settings and without any time asserted, and compare what they say they compare."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bench.benchmarks import lightly_step, method_overhead, pretrain_throughput
from bench.benchmarks.method_overhead import SyntheticImages, equalised, synthetic_views, views_in_words
from bench.benchmarks.pil_pipeline import PillowDataset, Shuffled, ViewTransforms, as_views, batches
from bench.benchmarks.rounds import Contestant, Step, compare, machine, measure, start
from bench.benchmarks.trainee import Trainee
from bench.errors import BenchError
from pretrain.data.augment import BYOL_COLOUR_2, MOCO_V2_COLOUR
from pretrain.data.batches import open_images
from pretrain.data.shards import ShardSource
from pretrain.data.views import View, ViewPlan, ViewSpec
from pretrain.methods import all_recipes
from pretrain.recipes import Recipe, override
from pretrain.run.memory import peak_memory_mib

CPU = torch.device("cpu")
TINY = ["batch_size=8", "method.view_size=32", "method.queue=16", "method.hidden=16", "method.dim=8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for k in range(20):
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(root / f"{k:02d}.jpg")
    return root


def tiny(name: str) -> Recipe:
    return override(all_recipes()[name], TINY)


def test_rounds_are_interleaved_and_pipelines_opened_in_each() -> None:
    events: list[str] = []

    def contestant(name: str) -> Contestant:
        @contextmanager
        def opened() -> Iterator[Step]:
            events.append(f"open {name}")
            yield lambda: events.append(name)
            events.append(f"close {name}")

        return Contestant(name, opened)

    seconds = measure([contestant("a"), contestant("b")], CPU, rounds=2, warmup=1, steps=2)
    turn = [event for name in "ab" for event in (f"open {name}", name, name, name, f"close {name}")]
    assert events == turn * 2
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}
    with pytest.raises(BenchError, match="at least 1 round"):
        measure([contestant("a")], CPU, rounds=0, warmup=1, steps=1)


def test_ratios_are_taken_within_rounds() -> None:
    ratio = compare([2.0, 20.0, 300.0], [1.0, 10.0, 100.0])
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 2.0, 3.0)


def test_the_machine_is_described() -> None:
    found = machine(CPU, "bf16")
    assert found["device"] and found["cores"] >= 1 and found["threads"] >= 1
    assert "torch" in found["packages"]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["moco-v2-mini", "densecl-mini"])
def test_throughput_of_all_contestants(folder: Path, recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"data": folder, "recipe": recipe, "settings": TINY, "workers": 0, "device": "cpu"}
    pretrain_throughput.main(**options, rounds=2, warmup=0, steps=1, as_json=True)  # type: ignore[arg-type]
    report = json.loads(capsys.readouterr().out)
    expected = {"ours", "device", "pillow"} | ({"lightly"} - set(report["left_out"]))
    assert set(report["images_per_second"]) == set(report["median"]) == expected
    assert set(report["ours_over"]) == expected - {"ours"}
    for speeds in report["images_per_second"].values():
        assert len(speeds) == 2 and min(speeds) > 0
    ours, device = report["images_per_second"]["ours"], report["images_per_second"]["device"]
    ratios = [a / b for a, b in zip(ours, device, strict=True)]
    assert report["ours_over"]["device"]["median"] == pytest.approx(sum(ratios) / 2)
    assert report["recipe"]["batch_size"] == 8 and report["images"] == 20


def test_throughput_as_text_names_what_is_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lightly_step, "find_spec", lambda name: None)
    pretrain_throughput.main(
        data=folder, settings=TINY, workers=1, device="cpu", rounds=1, warmup=0, steps=1, recipe="moco-v2-mini"
    )
    text = capsys.readouterr().out
    assert "lightly: not compared: lightly is not installed" in text
    assert "ours / it" in text and "pillow" in text and "load before the start" in text
    assert lightly_step.unavailable(all_recipes()["byol-mini"]) == "lightly is not installed"


def test_what_lightly_has_no_match_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lightly_step, "find_spec", lambda name: object())
    asked: list[str] = []
    monkeypatch.setattr(lightly_step, "import_module", asked.append)
    assert lightly_step.unavailable(all_recipes()["densecl-mini"]) is None
    assert "lightly.loss" in asked
    assert "MoCo v2 and DenseCL only" in str(lightly_step.unavailable(all_recipes()["byol-mini"]))

    def broken(name: str) -> None:
        raise ImportError("No module named 'needed'")

    monkeypatch.setattr(lightly_step, "import_module", broken)
    assert "cannot be imported: No module named 'needed'" in str(lightly_step.unavailable(tiny("moco-v2-mini")))


def test_the_pillow_pipeline_makes_the_same_views(folder: Path) -> None:
    source = open_images(folder)
    plan = ViewPlan((ViewSpec("a", 24, (0.2, 1.0), colour=MOCO_V2_COLOUR), ViewSpec("b", 16, (0.5, 1.0))))
    dataset = PillowDataset(source, ViewTransforms(plan))
    loaded = batches(dataset, len(source), batch_size=8, workers=0, device=CPU)
    views = as_views(next(loaded))
    assert [tuple(view.pixels.shape) for view in views] == [(8, 3, 24, 24), (8, 3, 16, 16)]
    assert all(isinstance(view, View) and view.pixels.dtype == torch.float32 for view in views)
    assert all(view.box.shape == (8, 4) and view.flip.shape == view.image_id.shape == (8,) for view in views)
    assert -2.2 < float(views[1].pixels.min()) < 0 < float(views[1].pixels.max()) < 2.7  # normalised
    order = iter(Shuffled(5))
    first, second = ([next(order) for _ in range(5)] for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(5)) and first != second


def test_the_pillow_pipeline_copies_the_plan_without_chance(tmp_path: Path) -> None:
    """With nothing random left, torchvision and our pipeline give the same pixels, but for rounding."""
    pixels = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    source = open_images(tmp_path)
    plan = ViewPlan((ViewSpec("whole", 16, (1.0, 1.0), ratio=(1.0, 1.0), flip=0.0),))
    (view,) = PillowDataset(source, ViewTransforms(plan))[0]
    expected = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - torch.tensor(plan.mean).view(3, 1, 1)) / torch.tensor(
        plan.std
    ).view(3, 1, 1)
    torch.testing.assert_close(view, expected)


def test_what_the_pillow_pipeline_cannot_do(folder: Path) -> None:
    class Posterize:
        pass

    ViewTransforms(ViewPlan((ViewSpec("a", 8, (0.2, 1.0), colour=BYOL_COLOUR_2),)))
    with pytest.raises(BenchError, match="no Posterize"):
        ViewTransforms(ViewPlan((ViewSpec("a", 8, (0.2, 1.0), colour=(Posterize(),)),)))  # type: ignore[arg-type]
    with pytest.raises(BenchError, match="not shards"):
        PillowDataset(ShardSource.__new__(ShardSource), ViewTransforms(ViewPlan((ViewSpec("a", 8, (0.2, 1.0)),))))


@pytest.mark.slow
def test_overhead_of_methods_over_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    method_overhead.main(
        recipes=["moco-v2-mini", "densecl-mini"],
        view_size=64,
        batch_size=16,
        device="cpu",
        rounds=2,
        warmup=0,
        steps=1,
        memory=False,
        as_json=True,
    )
    report = json.loads(capsys.readouterr().out)
    base, dense = report["methods"]
    assert base["recipe"] == "moco-v2-mini" and base["time_over_base"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert dense["views"] == base["views"] == "2 x 64"
    ratios = [a / b for a, b in zip(dense["seconds"], dense["base_seconds"], strict=True)]
    assert len(ratios) == 2 and dense["time_over_base"]["median"] == pytest.approx(sum(ratios) / 2)
    with pytest.raises(BenchError, match="at least two"):
        method_overhead.main(recipes=["moco-v2-mini"])


def test_all_mini_recipes_can_be_made_equal() -> None:
    recipes = method_overhead._chosen(None)
    assert recipes[0].name == "moco-v2-mini" and len({recipe.name for recipe in recipes}) == len(recipes) > 15
    for recipe in recipes:
        equal = equalised(recipe, backbone="resnet34", view_size=128, batch_size=32, precision="fp32")
        assert (equal.backbone, equal.batch_size, equal.precision) == ("resnet34", 32, "fp32"), recipe.name
        assert '"view_size": 128' in json.dumps(equal.to_dict()), recipe.name


def test_views_of_multi_crop_are_told() -> None:
    equal = equalised(all_recipes()["swav-mini"], backbone="resnet18", view_size=96, batch_size=32, precision="fp32")
    assert views_in_words(equal).startswith("2 x 96 + ")


@pytest.mark.slow
def test_memory_and_synthetic_views(tmp_path: Path) -> None:
    recipe = tiny("densecl-mini")
    held = torch.ones(2**28)  # 1 GiB here, which is none of the other process's
    assert 50 < method_overhead._peak_in_own_process(recipe, "cpu") < peak_memory_mib(CPU)
    del held
    source = SyntheticImages(8, 48)
    assert torch.equal(source.decode(3), source.decode(3)) and not torch.equal(source.decode(3), source.decode(4))
    assert source.decode(0).float().std() > 10 and len(source.fingerprint()) == 64
    trainee = Trainee(recipe, source, CPU, tmp_path)
    first, second = synthetic_views(trainee, source)
    assert not torch.equal(first[0].pixels, second[0].pixels)
    before = {name: value.clone() for name, value in trainee.method.state_dict().items()}
    trainee.take(first)
    assert trainee.step == 1
    assert any(not torch.equal(value, before[name]) for name, value in trainee.method.state_dict().items())


def test_a_command_ends_with_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise BenchError("too little of [everything]")

    with pytest.raises(SystemExit) as ended:
        start(fail)
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: too little of [everything]\n"


def test_a_method_is_measured_between_turns_of_the_base_and_leaves_the_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    taken: list[str] = []
    alive: weakref.WeakSet[Trainee] = weakref.WeakSet()

    class Watched(Trainee):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            alive.add(self)

        def take(self, views: Sequence[View], waited: float = 0.0) -> None:
            taken.append(self.recipe.name)

    monkeypatch.setattr(method_overhead, "Trainee", Watched)
    base = method_overhead.Steps(tiny("moco-v2-mini"), CPU, tmp_path, batches=1)
    turns = {"rounds": 2, "warmup": 1, "steps": 1}
    for name in ("densecl-mini", "moco-v1-mini"):
        row = method_overhead.beside(base, tiny(name), CPU, **turns)
        assert (row["recipe"], len(row["seconds"]), len(row["base_seconds"])) == (name, 2, 2)
        assert taken == ["moco-v2-mini", "moco-v2-mini", name, name] * 2 + ["moco-v2-mini"] * 2
        assert [trainee.recipe.name for trainee in alive] == ["moco-v2-mini"]
        taken.clear()
