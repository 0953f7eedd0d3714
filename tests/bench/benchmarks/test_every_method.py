"""The committed benchmark: every method once under one budget, and a store that only grows."""

from dataclasses import replace
from pathlib import Path

import pytest
from fake_fine_tuning import instant

from bench.benchmarks.every_method import THREE_SEEDS, Step, comparisons, measure, names, steps, under_budget
from bench.compare.comparison import Comparison
from bench.datasets.synthetic.generate import sort_by_class
from bench.errors import BenchError
from bench.submit import Evaluation, check_data_sets, choose_protocols, plan_runs
from leaderboard.store import ResultStore
from pretrain.methods import METHODS
from pretrain.recipes import Recipe


@pytest.fixture(scope="module")
def some() -> list[Recipe]:
    """Recipes of one training, of several stages, and with a setting that the budget needs."""
    return [under_budget(name) for name in ("moco-v2-mini", "orl-mini", "regioncl-mini")]


def test_every_method_is_there() -> None:
    assert set(names()) == {f"{method.info.id}-mini" for method in METHODS} - {
        "maskdistill-mini",  # trains no backbone
    }
    assert names()[-1] == "supervised-mini"
    assert set(THREE_SEEDS) < set(names())


def test_one_budget_for_all_stages(some: list[Recipe]) -> None:
    for recipe in some:
        trainings = [one for one in (*recipe.stages, recipe) if isinstance(one, Recipe)]
        assert {(one.backbone, one.batch_size, one.precision) for one in trainings} == {("resnet18", 32, "fp32")}


def test_steps_hold_every_cell_once(some: list[Recipe]) -> None:
    cells = [(tuple(recipe.name for recipe in step.recipes), step.seed) for step in steps(some, 2)]
    assert cells == [
        (("moco-v2-mini", "orl-mini"), 0), (("regioncl-mini",), 0), (("moco-v2-mini",), 1), (("moco-v2-mini",), 2)
    ]  # fmt: skip


def test_only_training_with_labels_gets_the_images_sorted_by_class(tiny_data: Path, tmp_path: Path) -> None:
    evaluation = Evaluation((), (), tiny_data, {})
    images, labeled = tiny_data / "pretrain" / "images", tmp_path / "labeled"
    sort_by_class(tiny_data, labeled)
    recipes = [under_budget(name) for name in ("supervised-mini", "simsiam-mini")]
    parts = comparisons(list(steps(recipes, 2)), evaluation, images, labeled, tmp_path / "work")
    first = [(part.recipes[0][0].name, part.images, part.seeds) for part in parts]
    assert first[:2] == [("simsiam-mini", images, (0,)), ("supervised-mini", labeled, (0,))]
    assert {(name, folder) for name, folder, _ in first[2:]} == {("simsiam-mini", images)}
    assert parts[0].data_fingerprint != parts[1].data_fingerprint


@pytest.fixture
def parts(some: list[Recipe], tiny_data: Path, tmp_path: Path) -> list[Comparison]:
    protocols, seeds = choose_protocols("mini", ["mini_voc_seg_fcn"], 1)
    evaluation = Evaluation(tuple(protocols), seeds, tiny_data, check_data_sets(tiny_data, protocols))
    two = [Step((some[0],), seed) for seed in (0, 1)]
    images = tiny_data / "pretrain" / "images"
    return comparisons(two, evaluation, images, images, tmp_path / "work")


def random_rows(comparison: Comparison) -> list[str]:
    """Stands in for the execution: evaluates random initialization alone, in no time."""
    (seed,) = comparison.seeds
    plan = plan_runs(
        f"random:resnet18:{seed}",
        comparison.evaluation,
        name=f"random-{seed}",
        work=comparison.work,
        stored=comparison.store.load(),
    )
    for run in plan.todo:
        instant(run, 1)
    return [f"{seed}: {len(plan.todo)} done"]


def test_results_are_kept_as_they_appear_and_found_again_on_the_same_data(
    parts: list[Comparison], tmp_path: Path
) -> None:
    results = ResultStore(tmp_path / "results")
    failures = measure(parts, results, random_rows)
    assert next(failures) == "0: 1 done"
    assert next(failures) == "1: 1 done"  # the first part's result is there although the second is not finished
    assert len(list(results)) == 1
    assert list(failures) == []
    assert len(list(results)) == 2

    elsewhere = [replace(part, work=tmp_path / "elsewhere") for part in parts]
    assert list(measure(elsewhere, results, random_rows)) == ["0: 0 done", "1: 0 done"]

    evaluation = parts[0].evaluation
    other = {name: ref.model_copy(update={"fingerprint": "0" * 64}) for name, ref in evaluation.datasets.items()}
    changed = replace(parts[0], evaluation=replace(evaluation, datasets=other))
    with pytest.raises(BenchError, match=r"other bytes than those of random.*\.json"):
        next(measure([changed], results, random_rows))
