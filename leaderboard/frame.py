"""The board as a data frame and as CSV: one row a submission and group."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from csv import DictWriter
from typing import TYPE_CHECKING

from leaderboard import text
from leaderboard.board import Board, Cell, Group
from leaderboard.records import Card

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: dict[str, str] = {
    "track": "track of the protocol",
    "protocol": "protocol id",
    "protocol_version": "its version",
    "protocol_sha256": "hash of the resolved protocol: only equal hashes are compared",
    "task": "detection, instance segmentation or semantic segmentation",
    "dataset": "data set id",
    "dataset_fingerprint": "hash of the files used: only equal fingerprints are compared",
    "current": "yes if this protocol hash and data set are the ones that the overall standings use",
    "submission": "name",
    "method": "pretraining method",
    "architecture": "backbone",
    "parameters": "of the backbone",
    "checkpoint_sha256": "hash of backbone.safetensors",
    "pretraining_recipe": "as the card says",
    "pretraining_data": "as the card says",
    "pretraining_labels": "labels used in pretraining, as the card says",
    "pretraining_images": "as the card says",
    "pretraining_epochs": "as the card says",
    "pretraining_batch": "images a step over all devices, as the card says",
    "pretraining_image_views": "crops shown to a trained encoder, as the card says",
    "pretraining_seed": "as the card says",
    "pretraining_group": "equal for pretraining runs that differ in their seed alone; empty if the card does not say",
    "metric": "headline metric, in per cent",
    "finished": "number of finished runs (n)",
    "failed": "number of failed runs; they count in no figure",
    "mean": "of the headline metric over the finished runs",
    "sd": "standard deviation over seeds (n - 1); empty for one seed",
    "ci95_low": "lower end of the 95 % interval of the mean (Student t) over seeds, of one run over images",
    "ci95_high": "upper end",
    "rank": "1 + number of submissions with a higher mean",
    "rank_best": "best rank that the tests leave open (Welch t, Holm over the pairs of the group, 5 %)",
    "rank_worst": "worst rank that the tests leave open",
    "score": "0 = random initialisation of the same architecture, 100 = best mean of the group; empty without it",
    "metrics": "mean of every metric over the finished runs, as JSON",
    "seeds": "seeds of the finished runs, separated by ;",
    "values": "their headline metric, in the same order",
    "failed_seeds": "seeds of the failed runs",
    "run_keys": "keys of all runs in the order of their seeds: the end of the result files' names",
    "iterations": "executed training iterations (all values that occur)",
    "batch_size": "of the fine-tuning",
    "learning_rate": "of the fine-tuning",
    "device": "all that occur",
    "precision": "all that occur",
    "code_commit": "of the evaluation, all that occur",
    "wall_seconds": "mean over the finished runs",
    "peak_memory_mib": "highest of the finished runs",
}
"""The columns of the CSV and what they mean."""


def frame(board: Board) -> pd.DataFrame:
    """The rows of the CSV for pandas, everything as text: `frame(analyse(ResultStore(folder)))`."""
    import pandas as pd  # takes longer to import than the tables to make

    return pd.DataFrame(_rows(board), columns=list(COLUMNS), dtype=str)


def csv(board: Board) -> str:
    """All rows with fixed decimals and `\\n` line ends; groups by track and protocol, in each the best row first."""
    text_file = io.StringIO()
    writer = DictWriter(text_file, list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(board))
    return text_file.getvalue()


def _rows(board: Board) -> Iterator[dict[str, str]]:
    for track in board.tracks:
        for group in track.groups:
            of_group = _protocol(group)
            for cell in group.cells:
                row = {**of_group, **_card(cell.submission.card), **_figures(group, cell), **_runs(cell)}
                yield {name: text.spreadsheet(value) for name, value in row.items()}


def _protocol(group: Group) -> dict[str, str]:
    protocol = group.protocol
    return {
        "track": protocol.track,
        "protocol": protocol.id,
        "protocol_version": str(protocol.version),
        "protocol_sha256": protocol.sha256,
        "task": protocol.task,
        "dataset": protocol.dataset,
        "dataset_fingerprint": group.dataset.fingerprint,
        "current": "yes" if group.current else "no",
        "metric": protocol.headline,
    }


def _card(card: Card) -> dict[str, str]:
    seen = card.pretraining
    return {
        "submission": card.name,
        "method": card.method,
        "architecture": card.architecture,
        "parameters": str(card.parameters),
        "checkpoint_sha256": card.sha256,
        "pretraining_recipe": seen.recipe or "",
        "pretraining_data": seen.data or "",
        "pretraining_labels": seen.labels or "",
        "pretraining_images": text.plain(seen.images),
        "pretraining_epochs": text.plain(seen.epochs),
        "pretraining_batch": text.plain(seen.effective_batch),
        "pretraining_image_views": text.plain(seen.image_views),
        "pretraining_seed": "" if seen.seed is None else str(seen.seed),
        "pretraining_group": seen.group or "",
    }


def _figures(group: Group, cell: Cell) -> dict[str, str]:
    means = {text.one_line(name): round(value, 4) + 0.0 for name, value in cell.metric_means.items()}
    columns = {
        "finished": str(len(cell.finished)),
        "failed": str(cell.failed),
        "score": _fixed(group.score_of(cell)),
        "metrics": json.dumps(means, ensure_ascii=False),
        "seeds": ";".join(str(run.seed) for run in cell.finished),
        "values": ";".join(_fixed(value) for value in cell.values),
        "failed_seeds": ";".join(str(run.seed) for run in cell.runs if run.status == "failed"),
    }
    summary, ranking = cell.summary, cell.ranking
    low, high = (None, None) if summary is None or summary.half is None else (summary.low, summary.high)
    columns |= {
        "mean": _fixed(summary.mean if summary else None),
        "sd": _fixed(summary.sd if summary else None),
        "ci95_low": _fixed(low),
        "ci95_high": _fixed(high),
        "rank": text.plain(ranking.position if ranking else None),
        "rank_best": text.plain(ranking.best if ranking else None),
        "rank_worst": text.plain(ranking.worst if ranking else None),
    }
    return columns


def _runs(cell: Cell) -> dict[str, str]:
    training = [run.training for run in cell.finished if run.training is not None]
    memory = [run.peak_memory_mib for run in cell.finished if run.peak_memory_mib is not None]
    wall = [run.wall_seconds for run in cell.finished]
    return {
        "run_keys": ";".join(run.key for run in cell.runs),
        "iterations": _distinct(str(report.executed_iterations) for report in training),
        "batch_size": _distinct(str(report.batch_size) for report in training),
        "learning_rate": _distinct(text.plain(report.learning_rate) for report in training),
        "device": _distinct(run.environment.device for run in cell.runs),
        "precision": _distinct(run.environment.precision for run in cell.runs),
        "code_commit": _distinct(run.environment.code_commit or "" for run in cell.runs),
        "wall_seconds": text.number(sum(wall) / len(wall)) if wall else "",
        "peak_memory_mib": text.number(max(memory)) if memory else "",
    }


def _fixed(value: float | None) -> str:
    return "" if value is None else text.number(value, 4)


def _distinct(values: Iterable[str]) -> str:
    """All values that occur, sorted, separated by `;`: a row whose runs differ must show it."""
    return ";".join(sorted({value for value in values if value}))
