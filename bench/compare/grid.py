"""The grid of a comparison: recipes times pretraining seeds, random initialization, and an unchanged checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.submit import Evaluation
from leaderboard.records import RANDOM_METHOD, Card, Result, group_id
from pretrain.outside import identity
from pretrain.recipes import Recipe


@dataclass(frozen=True)
class PretrainedCell:
    """A backbone that the comparison pretrains."""

    recipe: Recipe
    """The recipe under the budget."""
    method_file: Path | None
    """File of the method if it is the user's own, else None."""
    seed: int
    group: str
    """The `group_id` of the recipe on these images, equal for all seeds."""
    init: Card | None = None
    """Card of the backbone that the pretraining starts from; None for random weights."""

    @property
    def label(self) -> str:
        """The recipe and, where it is not random, what it starts from."""
        return self.recipe.name if self.init is None else f"{self.recipe.name}-from-{self.init.name[:24]}"

    @property
    def name(self) -> str:
        """Name of the submission: label, beginning of the group (which differs between budgets), and seed."""
        return f"{self.label}-{self.group[:6]}-seed{self.seed}"

    def made(self, card: Card) -> bool:
        """Whether a card belongs to this backbone, wherever and whenever it was trained."""
        return card.pretraining.group == self.group and card.pretraining.seed == self.seed


@dataclass(frozen=True)
class RandomCell:
    """A network with random weights, the baseline of the table; each seed gives another one."""

    architecture: str
    seed: int

    @property
    def name(self) -> str:
        """The submission's."""
        return f"random-{self.architecture}-seed{self.seed}"

    def made(self, card: Card) -> bool:
        """Whether a card belongs to this network."""
        said = (card.method, card.architecture, card.pretraining.seed)
        return said == (RANDOM_METHOD, self.architecture, self.seed)


@dataclass(frozen=True)
class GivenCell:
    """An unchanged checkpoint, from which the pretrainings of the comparison continue."""

    card: Card

    @property
    def name(self) -> str:
        """The submission's."""
        return self.card.name

    def made(self, card: Card) -> bool:
        """Whether a card belongs to the same weights."""
        return card.sha256 == self.card.sha256


Cell = PretrainedCell | RandomCell | GivenCell
Run = tuple[str, str, int]
"""A run of an evaluation: the protocol's hash, the data set's fingerprint, and the seed."""


def pretrained_cells(
    recipes: Sequence[tuple[Recipe, Path | None]], seed: int, data_fingerprint: str, init: Card | None
) -> list[PretrainedCell]:
    """One cell per recipe; each recipe is given with the file of its method if that is the user's own, else None."""
    start = None if init is None else init.sha256
    return [
        PretrainedCell(recipe, file, seed, group_id(identity(recipe), data_fingerprint, start), init)
        for recipe, file in recipes
    ]


def results_of(cell: Cell, results: Iterable[Result], evaluation: Evaluation) -> list[Result]:
    """The results of the cell's backbone in the runs of `evaluation`, failed ones included.

    A work folder also keeps results on other data, under other protocols or versions of them, and with other seeds.
    """
    runs = _runs(evaluation)
    return [result for result in results if cell.made(result.card) and _run(result) in runs]


def is_complete(cell: Cell, results: Iterable[Result], evaluation: Evaluation) -> bool:
    """Whether the cell's backbone has finished every run, so that its weights are no longer needed."""
    found = [result for result in results_of(cell, results, evaluation) if result.status == "finished"]
    done = {(result.card.sha256, *_run(result)) for result in found}
    return any(
        all((sha256, *run) in done for run in _runs(evaluation)) for sha256 in {result.card.sha256 for result in found}
    )


def _runs(evaluation: Evaluation) -> set[Run]:
    return {
        (protocol.sha256, evaluation.datasets[protocol.dataset].fingerprint, seed)
        for protocol in evaluation.protocols
        for seed in evaluation.seeds_of(protocol)
    }


def _run(result: Result) -> Run:
    return result.protocol.sha256, result.dataset.fingerprint, result.seed
