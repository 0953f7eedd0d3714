"""What `compare` prints: the progress, and at the end the cost of each method."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from rich.table import Table

from bench.compare.comparison import Comparison
from bench.compare.grid import Cell, PretrainedCell, results_of
from bench.compare.pretraining import PretrainingRun
from bench.compare.rates import Tried
from bench.jobs import Outcome, TransferRun
from leaderboard.analysis import analyse
from leaderboard.base.terminal import Console, cells
from leaderboard.records import Result
from leaderboard.store import ResultStore
from leaderboard.tables import TerminalTable
from pretrain.exported import read_card


class ProgressLines:
    """Prints a line for each piece of work that ends, with the remaining time once it can be estimated."""

    def __init__(self, processes: int | None) -> None:
        self.console = Console(soft_wrap=True, highlight=False)
        self.processes = processes
        """How many work at a time; None: unknown, so that no remaining time can be estimated."""
        self.trainings = self.evaluations = 0
        """Numbers of pretrainings and evaluations that remain."""
        self.taken: dict[str, list[float]] = {"pretraining": [], "evaluation": []}
        """Seconds of each pretraining and evaluation that has ended."""

    def begins(self, comparison: Comparison, seed: int, missing: Sequence[Cell]) -> None:
        """A seed begins."""
        evaluation = comparison.evaluation
        runs = sum(len(evaluation.seeds_of(protocol)) for protocol in evaluation.protocols)
        later = [cell for other in comparison.seeds if other > seed for cell in comparison.cells(other)]
        left = [*missing, *later]
        self.trainings = sum(isinstance(cell, PretrainedCell) for cell in left)
        self.evaluations = runs * len(left)
        cells = len(comparison.cells(seed))
        done = f", {cells - len(missing)} finished already" if len(missing) < cells else ""
        self.console.print(f"pretraining seed {seed}: {cells} backbones{done}")

    def trained(self, outcome: Outcome[PretrainingRun]) -> None:
        """A pretraining ended."""
        self.trainings -= 1
        self.taken["pretraining"].append(outcome.seconds)
        how = f"FAILED: {outcome.failure}" if outcome.failure else f"pretrained ({outcome.seconds:.0f} s)"
        self._print(f"{outcome.run.key}  {how}")

    def evaluated(self, outcome: Outcome[TransferRun]) -> None:
        """A run of the evaluation ended."""
        self.evaluations -= 1
        self.taken["evaluation"].append(outcome.seconds)
        run, result = outcome.run, None if outcome.failure else ResultStore(outcome.run.results).find(outcome.run.key)
        name = read_card(run.checkpoint).name
        value = f"FAILED: {outcome.failure}"
        if result is not None and result.status == "finished":
            value = f"{result.protocol.headline} {result.metrics[result.protocol.headline]:.1f}"
        elif result is not None:
            value = f"failed: {result.failure}"
        self._print(f"{name}  {run.protocol}  seed {run.seed}  {value}  ({outcome.seconds:.0f} s)")

    def _print(self, text: str) -> None:
        self.console.print(f"{text}{self._remaining()}", markup=False)

    def _remaining(self) -> str:
        left = [(self.trainings, self.taken["pretraining"]), (self.evaluations, self.taken["evaluation"])]
        if self.processes is None or not all(seconds for count, seconds in left if count):
            return ""
        total = sum(count * fmean(seconds) for count, seconds in left if count) / self.processes
        return f"  [about {total / 60:.0f} min remain]" if total else ""


@dataclass(frozen=True)
class CostRow:
    """Average cost of the backbones of one recipe."""

    recipe: str
    seeds: int
    epochs: float
    image_views: int
    minutes: float | None
    """Minutes of pretraining, all stages together; None where the cards do not say."""
    images_per_second: float | None
    peak_memory_mib: float | None
    evaluation_minutes: float
    device: str


def costs(comparison: Comparison) -> list[CostRow]:
    """One row per recipe, from the cards and results alone."""
    stored = comparison.results()
    by_recipe: dict[str, list[list[Result]]] = defaultdict(list)
    for cell in comparison.all_cells():
        if isinstance(cell, PretrainedCell) and (found := results_of(cell, stored, comparison.evaluation)):
            by_recipe[cell.label].append(found)
    return [_cost(name, cells) for name, cells in by_recipe.items()]


def _cost(name: str, cells: Sequence[Sequence[Result]]) -> CostRow:
    pretrainings = [found[0].card.pretraining for found in cells]
    known = [one.cost for one in pretrainings if one.cost is not None]
    seconds = [
        one.cost.seconds + sum(stage.seconds for stage in one.stages) for one in pretrainings if one.cost is not None
    ]
    return CostRow(
        recipe=name,
        seeds=len(cells),
        epochs=fmean(one.epochs or 0 for one in pretrainings),
        image_views=round(fmean(one.image_views or 0 for one in pretrainings)),
        minutes=fmean(seconds) / 60 if seconds else None,
        images_per_second=fmean(cost.images_per_second for cost in known) if known else None,
        peak_memory_mib=max(cost.peak_memory_mib for cost in known) if known else None,
        evaluation_minutes=fmean(sum(result.wall_seconds for result in found) for found in cells) / 60,
        device=", ".join(dict.fromkeys(cost.device for cost in known)),
    )


def cost_table(rows: Sequence[CostRow]) -> tuple[list[str], list[list[str]]]:
    """Columns and cells of the table that is printed."""
    columns = [
        "recipe", "seeds", "epochs", "image-views", "pretraining min", "images/s", "peak MiB", "evaluation min",
        "device",
    ]  # fmt: skip
    return columns, [
        [
            row.recipe,
            str(row.seeds),
            f"{row.epochs:g}",
            f"{row.image_views:,}",
            _number(row.minutes, 1),
            _number(row.images_per_second, 0),
            _number(row.peak_memory_mib, 0),
            _number(row.evaluation_minutes, 1),
            row.device or "not recorded",
        ]
        for row in rows
    ]


def print_comparison(comparison: Comparison, failures: Sequence[str]) -> None:
    """Print the table with ranks and tiers, the costs, and the failures."""
    console = Console(soft_wrap=True, highlight=False)
    board = analyse(comparison.results(), shares=comparison.store.shares)
    for track in board.tracks:
        console.print(TerminalTable(track))
    columns, rows = cost_table(costs(comparison))
    table = Table(*columns, title="What it cost", title_justify="left", show_edge=False, pad_edge=False)
    for row in rows:
        table.add_row(*cells(row))
    console.print(table)
    for failure in failures:
        console.print(f"failed: {failure}", markup=False)
    console.print(f"results: {comparison.store.folder}", markup=False)


def rate_lines(tried: Sequence[Tried]) -> list[str]:
    """Results of the choice of learning rates, one line each."""
    return [
        f"{one.recipe}: {one.rate:g} x its learning rate: "
        + ("a run failed" if one.score is None else f"{one.score:.2f} on held-out training images")
        + (" (chosen)" if one.chosen else "")
        for one in tried
    ]


def _number(value: float | None, decimals: int) -> str:
    return "not recorded" if value is None else f"{value:.{decimals}f}"
