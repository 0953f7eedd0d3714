"""Chooses learning rates with an equal budget: every method tries the same multiples of its own rate.

Each is trained for the whole budget with a separate seed, and its frozen backbone is probed. The score on training
images that the probe holds out decides, never the validation images. These runs stay in `compare/rates` of the work
folder and do not appear in the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from statistics import fmean

from bench.compare.budget import Budget, under
from bench.compare.comparison import Comparison, Reporter, execute
from bench.compare.grid import results_of
from bench.errors import BenchError
from bench.executors.base import Executor
from bench.submit import Evaluation
from leaderboard.records import ProbeReport
from pretrain.recipes import Recipe

SEED = 1000
"""Pretraining seed of these runs, which no row of a table has."""


@dataclass(frozen=True)
class Tried:
    """Result of one multiple of a recipe's learning rate."""

    recipe: str
    rate: float
    """Factor by which the recipe's learning rate is multiplied."""
    score: float | None
    """Score on held-out training images, mean over the probes, in per cent; None where a run failed."""
    chosen: bool


def choose_rates(
    comparison: Comparison,
    recipes: Sequence[tuple[Recipe, Path | None]],
    rates: Sequence[float],
    budget: Budget,
    probes: Evaluation,
    reporter: Reporter,
    executor: Executor,
) -> tuple[Comparison, list[Tried]]:
    """`comparison` with the learning rates of `recipes` multiplied by the best of `rates`, and the rates tried.

    `recipes` are those of the comparison before `budget` was applied to them.

    Raises:
        BenchError: a method can be trained and probed with none of the rates.
    """
    if wrong := [rate for rate in rates if not 0 < rate < inf]:
        raise BenchError(f"--rate is {wrong[0]:g}: give a factor of the recipes' learning rates, above 0")
    under_rates = {
        (recipe.name, rate): (under(recipe, budget, rate=rate), file) for recipe, file in recipes for rate in rates
    }
    trial = replace(
        comparison,
        recipes=tuple(under_rates.values()),
        seeds=(SEED,),
        evaluation=probes,
        work=comparison.work / "compare" / "rates",
        anchors=False,
        scratch=False,
    )
    failures = execute(trial, reporter, executor)
    scores = {key: _held_out(trial, *one) for key, one in under_rates.items()}
    best = {recipe.name: _best(recipe.name, rates, scores, failures) for recipe, _ in recipes}
    chosen = tuple(under_rates[recipe.name, best[recipe.name]] for recipe, _ in recipes)
    tried = [Tried(name, rate, score, best[name] == rate) for (name, rate), score in scores.items()]
    return replace(comparison, recipes=chosen), tried


def _held_out(trial: Comparison, recipe: Recipe, method_file: Path | None) -> float | None:
    """Score on held-out training images, mean over the probes; None where one is missing."""
    (cell,) = replace(trial, recipes=((recipe, method_file),)).cells(SEED)
    found = results_of(cell, trial.store.load()[0], trial.evaluation)
    # Weights that were lost and trained again elsewhere are another checkpoint of the cell.
    reports: dict[str, list[ProbeReport]] = {}
    for result in found:
        if result.probe is not None:
            reports.setdefault(result.card.sha256, []).append(result.probe)
    complete = [one for one in reports.values() if len(one) == len(trial.evaluation.protocols)]
    return fmean(max(report.candidates.values()) for report in complete[0]) if complete else None


def _best(
    name: str, rates: Sequence[float], scores: dict[tuple[str, float], float | None], failures: Sequence[str]
) -> float:
    known = {rate: score for rate in rates if (score := scores[name, rate]) is not None}
    if not known:
        raise BenchError("\n".join([f"{name}: no learning rate could be tried", *failures[:3]]))
    return max(known, key=known.__getitem__)
