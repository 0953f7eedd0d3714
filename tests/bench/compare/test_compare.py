"""Comparing: one budget for all, every cell once, nothing finished is lost."""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_fine_tuning import instant

from bench.checkpoints.importing import random_backbone
from bench.cli import run
from bench.cli.comparing import _check_labels
from bench.compare import rates
from bench.compare.budget import Budget, common_budget, crops_of, under
from bench.compare.comparison import Comparison, execute
from bench.compare.grid import GivenCell, PretrainedCell, RandomCell
from bench.compare.pretraining import PretrainingRun
from bench.compare.report import ProgressLines, cost_table, costs, print_comparison
from bench.errors import BenchError
from bench.executors.base import LocalExecutor
from bench.submit import Evaluation, check_data_sets, choose_protocols
from leaderboard.records import RANDOM_METHOD, Cost, Pretraining, ProbeReport, Result, result_key
from leaderboard.store import ResultStore
from pretrain.data.batches import open_images
from pretrain.errors import PretrainError
from pretrain.exported import read_exported, write_exported
from pretrain.methods import all_recipes
from pretrain.outside import find_written, load_methods
from pretrain.recipes import Recipe, StepSchedule, settings_of

NAMES = ("moco-v2-mini", "simsiam-mini")
BUDGET = Budget("resnet18", 64, 16, 8)
COST = Cost(seconds=60, images_per_second=10, device="a processor [/x]", processes=1, peak_memory_mib=100)


@pytest.fixture
def comparison(tiny_data: Path, tmp_path: Path) -> Comparison:
    protocols, seeds = choose_protocols("mini", ["mini_voc_seg_fcn", "mini_city_seg_fcn"], 1)
    images = tiny_data / "pretrain" / "images"
    return Comparison(
        recipes=tuple((under(all_recipes()[name], BUDGET), None) for name in NAMES),
        seeds=(0, 1),
        images=images,
        data_fingerprint=open_images(images).fingerprint(),
        init=None,
        evaluation=Evaluation(tuple(protocols), seeds, tiny_data, check_data_sets(tiny_data, protocols)),
        work=tmp_path,
    )


def train(run: PretrainingRun, threads: int) -> None:
    """Stands in for a pretraining: weights that are random and the run's own, with the card that an export has."""
    with (run.folder.parent / "trainings").open("a") as lines:
        lines.write(f"{run.key}\n")
    recipe = find_written(run.recipe_file, run.method_file)
    _, fingerprint, seed = recipe.sha256, open_images(run.images).fingerprint(), run.seed
    (cell,) = [c for c in Comparison(((recipe, None),), (seed,), run.images, fingerprint, None, NOTHING, run.out).cells(
        seed
    ) if isinstance(c, PretrainedCell)]  # fmt: skip
    number = int(hashlib.sha256(run.key.encode()).hexdigest()[:8], 16)
    random = read_exported(random_backbone("resnet18", seed=number, name="random", work=run.folder / "random"))
    facts = random.card.model_dump(exclude={"schema_version", "parameters", "sha256", "stem", "norm", "stride_style"})
    pretraining = Pretraining.known(
        recipe=recipe.name, recipe_sha256=recipe.sha256, group=cell.group, data_fingerprint=fingerprint, seed=seed,
        epochs=recipe.epochs, image_views=recipe.epochs * 16 * 2, cost=COST,
    )  # fmt: skip
    write_exported(
        run.exported,
        random.tensors,
        facts | {"name": run.key, "method": recipe.name, "pretraining": pretraining},
        where=run.exported,
    )


def fails_for_simsiam(run: PretrainingRun, threads: int) -> None:
    if "simsiam" in run.key:
        raise RuntimeError("out of luck")
    train(run, threads)


NOTHING = Evaluation((), (), Path(), {})


def compared(comparison: Comparison, pretrain=train) -> list[str]:
    return execute(comparison, ProgressLines(2), LocalExecutor(2), pretrain=pretrain, transfer=instant)


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_every_cell_once_and_nothing_again(comparison: Comparison, capsys) -> None:
    assert compared(comparison) == []
    trainings, runs = lines_of(comparison.work / "compare" / "trainings"), lines_of(comparison.work / "executions")
    cells = comparison.all_cells()
    assert sorted(trainings) == sorted(cell.name for cell in cells if isinstance(cell, PretrainedCell))
    assert len(cells) == 2 * 3 and len(runs) == len(set(runs)) == 2 * len(cells)
    assert {r.card.pretraining.seed for r in comparison.results()} == {0, 1}
    assert len({r.card.sha256 for r in comparison.results()}) == len(cells)

    shutil.rmtree(comparison.work / "pretraining")  # the weights are gone, the results are not
    shutil.rmtree(comparison.work / "checkpoints")
    assert compared(comparison) == []
    assert lines_of(comparison.work / "compare" / "trainings") == trainings
    assert lines_of(comparison.work / "executions") == runs

    print_comparison(comparison, ["one thing"])
    printed = capsys.readouterr().out
    assert "moco-v2-mini" in printed and "failed: one thing" in printed and "3 finished already" in printed
    assert COST.device in printed
    columns, rows = cost_table(costs(comparison))
    assert [dict(zip(columns, row, strict=True))["pretraining min"] for row in rows] == ["1.0", "1.0"]


def test_settings_are_chosen_for_each_backbone_by_a_sweep_of_its_own(comparison: Comparison, capsys) -> None:
    protocols, _ = choose_protocols("fair", ["fair_mini_voc_seg_fcn"], 2)
    evaluation = replace(comparison.evaluation, protocols=tuple(protocols), seeds=(0, 1))
    fair = replace(comparison, recipes=comparison.recipes[:1], seeds=(0,), evaluation=evaluation)
    assert compared(fair) == []
    runs = lines_of(fair.work / "executions")
    assert len(runs) == len(set(runs)) == 2 * (5 + 2)
    own = fair.results()
    assert len(own) == 4 and not any(result.held_out for result in own)
    for result in own:
        assert result.sweep is not None
        tried = [fair.store.find(one.key) for one in result.sweep.tried]
        assert [one.card.sha256 for one in tried if one is not None] == 5 * [result.card.sha256]
    assert compared(fair) == [] and lines_of(fair.work / "executions") == runs
    print_comparison(fair, [])
    assert "fair_mini_voc_seg_fcn" in capsys.readouterr().out


def test_only_results_of_the_evaluation_s_own_runs_count(comparison: Comparison) -> None:
    """Others of the same backbone, in the same work folder, are on other data, under other protocols, or seeds."""
    trial = replace(comparison, recipes=comparison.recipes[:1], seeds=(rates.SEED,), anchors=False)
    assert compared(trial) == []
    found = [with_probe(result) for result in trial.results()]
    shared = replace(trial, work=trial.work / "shared")
    for one in (*found, *(other for result in found for other in elsewhere(result))):
        shared.store.add(one)
    assert len(found) == 2 and len(shared.store.load()[0]) == 8
    assert {result.key for result in shared.results()} == {result.key for result in found}
    assert costs(shared)[0].evaluation_minutes == 2 * 30 / 60
    assert rates._held_out(shared, *shared.recipes[0]) == 40
    again = found[0].card.model_copy(update={"sha256": "0" * 64})  # of one probe alone, of weights trained elsewhere
    shared.store.add(found[0].model_copy(update={"card": again, "key": "1" * 64}))
    assert rates._held_out(shared, *shared.recipes[0]) == 40


def with_probe(result: Result) -> Result:
    """The result as that of a probe of half a minute."""
    report = ProbeReport(
        backbone_tensors=120, head_parameters=1, channels=768, training_cells=1, chosen=0.1,
        images_evaluated=result.dataset.val_images, candidates={"0.1": 40.0, "1": 30.0},
    )  # fmt: skip
    errors = {result.protocol.headline: 0.5}
    return result.model_copy(
        update={"training": None, "probe": report, "standard_errors": errors, "wall_seconds": 30.0}
    )


def elsewhere(result: Result) -> Iterator[Result]:
    """The result as one on other data, under another version of the protocol, and with another seed."""
    data = result.dataset.model_copy(update={"fingerprint": "0" * 64})
    version = result.protocol.model_copy(update={"sha256": "0" * 64, "version": 9})
    for change in ({"dataset": data}, {"protocol": version}, {"seed": 99}):
        other = result.model_copy(update=change)
        key = result_key(other.card.sha256, other.protocol.sha256, other.dataset.fingerprint, other.seed)
        yield other.model_copy(update={"key": key})


@pytest.mark.slow
def test_only_what_is_missing_is_done(comparison: Comparison) -> None:
    compared(comparison)
    results = ResultStore(comparison.work / "results")
    lost = next(r for r in results if r.card.method == "moco-v2-mini")
    (results.folder / lost.file_name).unlink()
    before = len(lines_of(comparison.work / "executions"))
    compared(comparison)
    assert lines_of(comparison.work / "executions")[before:] == [lost.key]
    assert len(lines_of(comparison.work / "compare" / "trainings")) == 4
    (results.folder / lost.file_name).write_text("{}")
    (problem,) = compared(comparison)
    assert lost.file_name in problem and len(lines_of(comparison.work / "executions")) == before + 1


@pytest.mark.slow
def test_a_failure_stops_nothing_else_and_is_tried_again(comparison: Comparison) -> None:
    failures = compared(comparison, fails_for_simsiam)
    assert len(failures) == 2 and all("simsiam" in text and "out of luck" in text for text in failures)
    assert {r.card.method for r in comparison.results()} == {"moco-v2-mini", "random initialisation"}
    assert compared(comparison) == []
    assert len(comparison.results()) == 12


@pytest.mark.slow
def test_what_was_submitted_before_keeps_its_name(comparison: Comparison) -> None:
    random_backbone("resnet18", seed=1, name="mine", work=comparison.work)
    assert compared(comparison) == []
    names = {r.card.pretraining.seed: r.card.name for r in comparison.results() if r.card.method == RANDOM_METHOD}
    assert names == {0: "random-resnet18-seed0", 1: "mine"}


def test_another_budget_is_another_cell(comparison: Comparison) -> None:
    other = replace(
        comparison, recipes=tuple((under(all_recipes()[name], replace(BUDGET, views=12)), None) for name in NAMES)
    )
    ours, theirs = ({cell.name for cell in one.all_cells()} for one in (comparison, other))
    assert ours & theirs == {"random-resnet18-seed0", "random-resnet18-seed1"}


def test_a_checkpoint_to_continue_stands_beside_once(comparison: Comparison, tmp_path: Path) -> None:
    start = read_exported(random_backbone("resnet18", seed=5, name="given", work=tmp_path / "given"))
    continued = replace(comparison, init=start)
    cells = continued.all_cells()
    assert [cell.name for cell in cells if isinstance(cell, GivenCell)] == ["given"]
    assert sum(isinstance(cell, RandomCell) for cell in cells) == 2
    assert not {c.name for c in cells if isinstance(c, PretrainedCell)} & {c.name for c in comparison.all_cells()}
    assert not [c for c in replace(continued, anchors=False).all_cells() if not isinstance(c, PretrainedCell)]


@pytest.mark.parametrize("name", [n for n, r in all_recipes().items() if n.endswith("-mini") and r.epochs])
def test_every_small_recipe_has_the_budget(name: str) -> None:
    recipe = all_recipes()[name]
    fair = under(recipe, Budget("resnet18", 96, 32, 36), rate=2)
    shown = sum(one.epochs * crops_of(one) for one in _trainings(fair))
    assert abs(shown - 36) <= (crops_of(fair) // 2 if fair.stages else 0)
    for before, after in zip(_trainings(recipe), _trainings(fair), strict=True):
        assert (after.backbone, after.batch_size) == ("resnet18", 32)
        assert max(spec.size for spec in after.method.build().plan.specs if spec.trained) == 96
        assert after.optimizer.lr == pytest.approx(2 * before.optimizer.lr * 32 / before.batch_size)
    settings = settings_of(fair)
    changed = {key.rpartition(".")[2] for key, value in settings_of(recipe).items() if settings[key] != value}
    sides = {"view_size", "small_size", "local_size", "whole_size", "patch_size"}
    assert changed <= {"batch_size", "epochs", "first_epoch", "lr", "milestones", *sides}


def _trainings(recipe: Recipe) -> list[Recipe]:
    return [one for one in (*recipe.stages, recipe) if isinstance(one, Recipe)]


def test_the_trainings_of_a_recipe_share_the_budget_as_their_own_epochs_do() -> None:
    orl = under(all_recipes()["orl-mini"], Budget("resnet18", 64, 32, 40))
    assert [(one.epochs, crops_of(one)) for one in _trainings(orl)] == [(6, 2), (5, 6)]
    assert [stage.name for stage in orl.stages] == ["proposals", "image-level", "neighbors", "pairs"]
    with pytest.raises(BenchError, match="8 crops of each image in one epoch of each training: give --views at least"):
        under(all_recipes()["orl-mini"], Budget("resnet18", 64, 32, 7))


def test_rounds_go_on_with_one_another_and_their_learning_rate_falls_at_the_same_place() -> None:
    """CYBORGS' three rounds of three epochs are one training whose learning rate falls after seven of nine."""
    budget = Budget("resnet18", 64, 32, 26)
    rounds = _trainings(under(all_recipes()["cyborgs-mini"], budget))
    assert [(one.epochs, one.first_epoch) for one in rounds] == [(4, 0), (5, 4), (4, 9)]
    falls = {one.schedule.milestones[0] for one in rounds if isinstance(one.schedule, StepSchedule)}
    assert falls == {10}
    schedule = under(all_recipes()["moco-v1-mini"], budget).schedule
    assert isinstance(schedule, StepSchedule) and schedule.milestones == (8, 11)


def test_a_short_training_reaches_its_rate() -> None:
    """BYOL warms up for 10 of its 300 epochs; the small recipes for one, which is less than a third."""
    for views, warmup in ((36, 6.0), (160, 10.0)):
        recipe = under(all_recipes()["byol-imagenet-300ep"], Budget("resnet18", 64, 32, views))
        assert (recipe.epochs, recipe.schedule.warmup_epochs) == (views // 2, pytest.approx(warmup))
        assert max(recipe.schedule.factor(step, 10, recipe.epochs) for step in range(10 * recipe.epochs)) > 0.9
    small = all_recipes()["simclr-mini"]
    assert under(small, Budget("resnet18", 64, 32, 26)).schedule == small.schedule


def test_the_documented_method_takes_the_budget(tmp_path: Path) -> None:
    file = Path(__file__).parents[3] / "docs/examples/my_method.py"
    recipe = under(load_methods(file).recipes["mine-mini"], Budget("resnet34", 48, 8, 4))
    assert (recipe.backbone, recipe.batch_size, recipe.epochs) == ("resnet34", 8, 2)
    assert [spec.size for spec in recipe.method.build().plan.specs] == [48, 48]
    other = tmp_path / "other.py"
    other.write_text(file.read_text().replace("view_size", "side"))
    with pytest.raises(BenchError, match="give the side of the crops that name in the dataclass of the method's"):
        under(load_methods(other).recipes["mine-mini"], Budget("resnet34", 48, 8, 4))


def test_what_differs_must_be_chosen() -> None:
    small: list[Recipe] = [all_recipes()["moco-v2-mini"], all_recipes()["pixpro-mini"]]
    with pytest.raises(BenchError, match=r"differ in resolution \(moco-v2-mini 64, pixpro-mini 96\).*--resolution"):
        common_budget(small, views=40, batch_size=64)
    with pytest.raises(BenchError, match="differ in batch"):
        common_budget(small, views=40, resolution=64)
    assert common_budget(small, views=40, resolution=64, batch_size=64) == Budget("resnet18", 64, 64, 40)
    with pytest.raises(BenchError, match="at least 6"):
        under(all_recipes()["dino-mini"], Budget("resnet18", 64, 64, 4))
    with pytest.raises(BenchError, match="maskdistill-mini trains no backbone"):
        under(all_recipes()["maskdistill-mini"], Budget("vit_tiny_patch8_64", 64, 64, 4))
    with pytest.raises(BenchError, match="--views is 0"):
        Budget("resnet18", 64, 64, 0)


def test_a_supervised_anchor_needs_a_folder_for_each_class(tiny_data: Path, tmp_path: Path, capsys) -> None:
    images = tiny_data / "pretrain" / "images"
    mini = all_recipes()["supervised-mini"]
    _check_labels([all_recipes()["moco-v2-mini"]], open_images(images))
    assert "no supervised anchor: name the recipe supervised-mini, too" in capsys.readouterr().out
    with pytest.raises(PretrainError, match="lies in no folder; training with labels"):
        _check_labels([mini], open_images(images))
    for name in ("cat", "dog"):
        shutil.copytree(images, tmp_path / name)
    _check_labels([mini], open_images(tmp_path))
    assert capsys.readouterr().out == ""


def test_trainings_and_evaluations_use_the_device_and_the_threads(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    used: list[object] = []
    monkeypatch.setattr("bench.compare.comparison.execute", lambda *given: used.append(given[2]) or [])
    monkeypatch.setattr("bench.compare.report.print_comparison", lambda *_: None)
    images, work = str(tiny_data / "pretrain" / "images"), str(tmp_path)
    line = ["compare", "moco-v2-mini", "--images", images, "--data", str(tiny_data), "--work", work]
    assert run([*line, "--device", "cpu", "--threads", "2", "--processes", "3"]) == 0
    assert used == [LocalExecutor(processes=3, threads=2, device="cpu")]
    capsys.readouterr()
    for options, words in (
        (["--device", "gpu"], "'gpu' is not a device: use cuda, cuda:N or cpu"),
        (["--threads", "0"], "--threads is 0: give 1 or more"),
    ):
        assert run([*line, *options]) == 1
        assert words in capsys.readouterr().err


def test_four_arms_in_one_comparison(comparison: Comparison) -> None:
    """Random, the checkpoint as it is, the checkpoint continued, and the method from random weights."""
    init = read_exported(random_backbone("resnet18", seed=9, name="public", work=comparison.work))
    method = comparison.recipes[:1]
    four = replace(comparison, recipes=method, init=init, scratch=True)
    cells = four.cells(0)
    assert [type(cell) for cell in cells] == [PretrainedCell, PretrainedCell, RandomCell, GivenCell]
    continued, scratch = cells[:2]
    assert isinstance(continued, PretrainedCell) and isinstance(scratch, PretrainedCell)
    assert continued.label == "moco-v2-mini-from-public" and scratch.label == "moco-v2-mini"
    assert scratch == replace(comparison, recipes=method).cells(0)[0]  # the same run as without the checkpoint
    assert continued.group != scratch.group
    assert four.training(continued).init == init.folder and four.training(scratch).init is None
    assert len(four.cells(1)) == 3  # the unchanged checkpoint stands there once
    assert replace(four, scratch=False).cells(0)[0].name != scratch.name
