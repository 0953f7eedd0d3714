"""A comparison: recipes under one budget, pretrained with several seeds and evaluated alike.

It works seed by seed, so that every method has a first value early. A run with a finished result is never repeated,
even when its weights are gone; a pretraining that was killed continues from its last checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from bench.compare.grid import Cell, GivenCell, PretrainedCell, RandomCell, is_complete, pretrained_cells, results_of
from bench.compare.pretraining import PretrainingRun, pretrain_and_export
from bench.executors.base import Executor, LocalExecutor
from bench.jobs import Outcome, TransferRun, evaluate
from bench.stages import run_in_stages
from bench.submit import Evaluation, plan_runs
from leaderboard.base.files import make_folder, write_atomic
from leaderboard.records import Result
from leaderboard.store import ResultStore
from pretrain.exported import ExportedBackbone, is_exported, read_card
from pretrain.recipes import Recipe


@dataclass(frozen=True)
class Comparison:
    """A comparison: everything that its results depend on."""

    recipes: tuple[tuple[Recipe, Path | None], ...]
    """The recipes under the budget, each with the file of its method if that is the user's own, else None."""
    seeds: tuple[int, ...]
    """Seeds of the pretraining."""
    images: Path
    data_fingerprint: str
    """Fingerprint of the images for pretraining."""
    init: ExportedBackbone | None
    """Backbone from which every pretraining starts; None for random initialization."""
    evaluation: Evaluation
    work: Path
    anchors: bool = True
    """Whether random initialization (one network per seed) and the unchanged `init` are evaluated, too."""
    scratch: bool = False
    """Whether every method also starts from random weights where there is an `init`."""

    def cells(self, seed: int) -> list[Cell]:
        """The cells of this pretraining seed; the unchanged `init` belongs to the first seed."""
        init = None if self.init is None else self.init.card
        starts = [init, None] if self.scratch and init is not None else [init]
        cells: list[Cell] = [
            cell for start in starts for cell in pretrained_cells(self.recipes, seed, self.data_fingerprint, start)
        ]
        if self.anchors:
            architectures = dict.fromkeys(recipe.backbone for recipe, _ in self.recipes)
            cells += [RandomCell(architecture, seed) for architecture in architectures]
            cells += [GivenCell(init)] if init is not None and seed == self.seeds[0] else []
        return cells

    def all_cells(self) -> list[Cell]:
        """The cells of all seeds."""
        return [cell for seed in self.seeds for cell in self.cells(seed)]

    @property
    def store(self) -> ResultStore:
        """Result store of the work folder, with the results of this comparison and others."""
        return ResultStore(self.work / "results")

    def results(self) -> list[Result]:
        """The results of this comparison, each once."""
        stored, _ = self.store.load()
        found = {
            result.key: result for cell in self.all_cells() for result in results_of(cell, stored, self.evaluation)
        }
        return list(found.values())

    def training(self, cell: PretrainedCell) -> PretrainingRun:
        """The cell's pretraining."""
        return PretrainingRun(
            key=cell.name,
            folder=self.work / "compare" / cell.name,
            recipe_file=self.work / "compare" / cell.name / "recipe.json",
            method_file=cell.method_file,
            seed=cell.seed,
            images=self.images,
            init=None if self.init is None or cell.init is None else self.init.folder,
            out=self.work / "pretraining" / cell.name,
        )


class Reporter(Protocol):
    """An object that is told about the progress."""

    def begins(self, comparison: Comparison, seed: int, missing: Sequence[Cell]) -> None:
        """A seed begins, in which these cells lack results."""
        ...

    def trained(self, outcome: Outcome[PretrainingRun]) -> None:
        """A pretraining ended."""
        ...

    def evaluated(self, outcome: Outcome[TransferRun]) -> None:
        """A run of the evaluation ended."""
        ...


def execute(
    comparison: Comparison,
    reporter: Reporter,
    executor: Executor | None = None,
    *,
    processes: int | None = None,
    pretrain: Callable[[PretrainingRun, int], None] = pretrain_and_export,
    transfer: Callable[[TransferRun, int], None] = evaluate,
) -> list[str]:
    """Do the remaining work of `comparison` by `executor` (default: `processes` of this machine, see `LocalExecutor`).

    First come the pretrainings of a seed, then the evaluation of what they gave; an executor that takes all at once
    gets all seeds together. Returns one line for each failure. A failure stops nothing else, and repeating the command
    tries it again. A run whose result file cannot be used is a failure, too.

    Raises:
        BenchError: a checkpoint is not usable.
        FileError: the work folder cannot be written.
        Queued: the runs are queued elsewhere, and nobody waits for them.
    """
    executor = executor or LocalExecutor(processes)
    failures: list[str] = []
    for seeds in [comparison.seeds] if executor.at_once else [(seed,) for seed in comparison.seeds]:
        stored = comparison.store.load()
        missing: list[Cell] = []
        for seed in seeds:
            of_seed = [c for c in comparison.cells(seed) if not is_complete(c, stored[0], comparison.evaluation)]
            reporter.begins(comparison, seed, of_seed)
            missing += of_seed
        failed = _pretrain(comparison, missing, reporter, executor, pretrain)
        failures += failed.values()
        runs = [
            run
            for cell in missing
            if cell.name not in failed
            for run in plan_runs(
                _checkpoint(comparison, cell),
                comparison.evaluation,
                name=_known_name(comparison, cell) or cell.name,
                work=comparison.work,
                stored=stored,
            ).todo
        ]
        run_all = partial(executor.run_all, finished=reporter.evaluated, execute=transfer)
        outcomes = run_in_stages(runs, run_all, reporter.evaluated)
        failures += [_failure(outcome) for outcome in outcomes if outcome.failure]
    return failures + [str(file) for file in comparison.store.load()[1]]


def _pretrain(
    comparison: Comparison,
    cells: Sequence[Cell],
    reporter: Reporter,
    executor: Executor,
    execute: Callable[[PretrainingRun, int], None],
) -> dict[str, str]:
    """Pretrain the cells that have no backbone yet; return the failures by the name of the cell."""
    waiting = []
    for cell in cells:
        if not isinstance(cell, PretrainedCell) or is_exported(comparison.training(cell).exported):
            continue
        run = comparison.training(cell)
        make_folder(run.folder)
        write_atomic(run.recipe_file, json.dumps(cell.recipe.to_dict(), indent=2) + "\n")
        waiting.append(run)
    outcomes = executor.run_all(waiting, finished=reporter.trained, execute=execute)
    return {o.run.key: f"{o.run.key}: {o.failure}" for o in outcomes if o.failure}


def _known_name(comparison: Comparison, cell: Cell) -> str | None:
    """Name under which the cell's backbone was imported before, e.g. by `submit`: one checkpoint has one name."""
    folders = (comparison.work / "checkpoints").glob("[!.]*")
    cards = [read_card(folder) for folder in sorted(folders) if is_exported(folder)]
    return next((card.name for card in cards if cell.made(card)), None)


def _failure(outcome: Outcome[TransferRun]) -> str:
    run = outcome.run
    return f"{read_card(run.checkpoint).name}, {run.protocol}, seed {run.seed}: {outcome.failure}"


def _checkpoint(comparison: Comparison, cell: Cell) -> str | Path:
    """The checkpoint as it would be given to `submit`."""
    if isinstance(cell, PretrainedCell):
        return comparison.training(cell).exported
    if isinstance(cell, RandomCell):
        return f"random:{cell.architecture}:{cell.seed}"
    assert comparison.init is not None
    return comparison.init.folder
