"""The board as a data frame and as CSV: one row per entry and group."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator
from csv import writer as csv_writer
from functools import lru_cache
from typing import TYPE_CHECKING, TextIO

from leaderboard import text
from leaderboard.board import Board, Cell, Entry, Group, Standing, Track
from leaderboard.stats import Estimate
from leaderboard.sweeps import sweeps_of

if TYPE_CHECKING:
    import pandas as pd

TEXT, WHOLE, REAL, LIST = "text", "whole number", "number", "list"
_DTYPES = {TEXT: "string", WHOLE: "Int64", REAL: "Float64", LIST: "string"}
"""Pandas types that all have a missing value, so that a column's type never depends on its content."""

COLUMNS: dict[str, tuple[str, str]] = {
    "track": (TEXT, "track of the protocol, or the table of its own that its track gives it"),
    "protocol": (TEXT, "protocol id"),
    "protocol_version": (WHOLE, "its version"),
    "protocol_sha256": (TEXT, "hash of the resolved protocol: only equal hashes are compared"),
    "task": (TEXT, "detection, instance segmentation or semantic segmentation"),
    "dataset": (TEXT, "data set id"),
    "dataset_fingerprint": (TEXT, "hash of the files used: only equal fingerprints are compared"),
    "architecture": (TEXT, "backbone: only equal ones are compared"),
    "current": (TEXT, "yes if the standings use this protocol, else no"),
    "submission": (TEXT, "the row's label: the checkpoint's name, or what those of one method have in common"),
    "method": (TEXT, "pretraining method"),
    "parameters": (WHOLE, "number of the backbone's parameters"),
    "checkpoints": (LIST, "names of the checkpoints with a run here, one per pretraining run"),
    "checkpoint_sha256": (LIST, "hashes of their backbone.safetensors"),
    "pretraining_seeds": (LIST, "their seeds, as the cards say; ? where a card does not"),
    "pretraining_recipe": (TEXT, "as the card says"),
    "pretraining_data": (TEXT, "as the card says"),
    "pretraining_labels": (TEXT, "labels used in pretraining, as the card says"),
    "pretraining_images": (WHOLE, "as the card says"),
    "pretraining_epochs": (REAL, "as the card says"),
    "pretraining_batch": (WHOLE, "images per step over all devices, as the card says"),
    "pretraining_image_views": (WHOLE, "crops shown to a trained encoder, as the card says"),
    "pretraining_group": (TEXT, "equal for pretraining runs that differ in their seed alone"),
    "metric": (TEXT, "headline metric, in per cent"),
    "pretraining_runs": (WHOLE, "number of checkpoints with a finished run"),
    "finished": (WHOLE, "number of finished runs"),
    "failed": (WHOLE, "number of failed runs; they count in no value"),
    "test_copies": (
        WHOLE,
        "number of test images of which the pretraining images hold a copy, as the card says; empty: nobody searched",
    ),
    "mean": (REAL, "mean of the headline metric: over the seeds of each checkpoint, then over the checkpoints"),
    "interval_over": (
        TEXT,
        "what the interval is over: pretraining runs, seeds (of one checkpoint), images (of one run)",
    ),
    "sd": (REAL, "standard deviation over pretraining runs or seeds (n - 1)"),
    "ci95_low": (REAL, "lower end of the 95 % interval of the mean (Student t)"),
    "ci95_high": (REAL, "upper end"),
    "images_low": (REAL, "lower end of the 95 % interval for the draw of the validation images alone"),
    "images_high": (REAL, "upper end"),
    "rank": (
        REAL,
        "1 + number of rows with a higher mean, of those that take part in tests (of all, for a row that does not); "
        "ties share their ranks",
    ),
    "rank_best": (WHOLE, "best rank that the tests leave open (Welch t, Holm within the row, 5 %); empty: not tested"),
    "rank_worst": (WHOLE, "worst rank that the tests leave open"),
    "tier": (WHOLE, "a tier holds the rows that are not significantly worse than its best (Welch t, 5 % per pair)"),
    "leads": (TEXT, "yes if better than every other tested row (Welch t against each, 5 %), else no"),
    "score": (REAL, "share of the errors of random initialisation that is gone, in per cent; empty without it"),
    "score_low": (REAL, "lower end of its 95 % interval, which includes the error of random initialisation"),
    "score_high": (REAL, "upper end"),
    "protocols": (WHOLE, "overall: number of protocols of the track with a value"),
    "protocols_of_track": (WHOLE, "overall: number of protocols that a complete row has"),
    "mean_rank": (REAL, "overall: mean of rank over the protocols"),
    "mean_rank_low": (REAL, "overall: mean of rank_best; empty where a value is not tested"),
    "mean_rank_high": (REAL, "overall: mean of rank_worst"),
    "overall_score": (REAL, "overall: mean of score over the protocols"),
    "overall_score_low": (REAL, "overall: lower end of its 95 % interval (Student t)"),
    "overall_score_high": (REAL, "overall: upper end"),
    "overall_tier": (WHOLE, "overall: by score, among the rows with the same protocols"),
    "metrics": (TEXT, "mean of every metric over the finished runs, as JSON"),
    "seeds": (LIST, "fine-tuning seeds of the finished runs"),
    "values": (LIST, "their headline metric, in the same order"),
    "metric_values": (TEXT, "every metric of every finished run, in the same order, as JSON"),
    "failed_seeds": (LIST, "seeds of the failed runs"),
    "run_keys": (LIST, "keys of all runs by checkpoint and seed: the end of the result files' names"),
    "iterations": (LIST, "executed training iterations (all values that occur)"),
    "batch_size": (LIST, "batch size of the fine-tuning"),
    "learning_rate": (LIST, "learning rate of the fine-tuning; of the backbone, where the head has another"),
    "sweeps": (
        TEXT,
        "the sweeps that chose settings for the runs, as JSON: what was tried, with the values on held-out training "
        "images, and what was chosen; empty where the settings are the protocol's own",
    ),
    "head_parameters": (WHOLE, "learned parameters of everything but the backbone; most of the finished runs"),
    "backbone_gflop": (REAL, "operations of the backbone for one image, forward, in 10^9; most of the finished runs"),
    "head_gflop": (REAL, "operations of everything else; empty where they are not counted"),
    "device": (LIST, "devices, all that occur"),
    "precision": (LIST, "precisions, all that occur"),
    "code_commit": (LIST, "commit of the evaluation's code, all that occur"),
    "wall_seconds": (REAL, "mean over the finished runs"),
    "peak_memory_mib": (REAL, "highest of the finished runs"),
}
"""The columns of the CSV: their type and what they mean. A list is separated by `;`; what is not known is empty."""
_JSON = json.JSONEncoder(ensure_ascii=False)
_WORDS = frozenset(name for name, (kind, _) in COLUMNS.items() if kind in {TEXT, LIST})


def frame(board: Board) -> pd.DataFrame:
    """The rows of the CSV for pandas: `frame(analyse(ResultStore(folder)))`. Types do not depend on the content."""
    return read_csv(io.StringIO(csv(board)))


def read_csv(file: str | os.PathLike[str] | TextIO) -> pd.DataFrame:
    """A CSV that `csv` made, each column with its type: text as `string`, numbers as `Int64` and `Float64`."""
    import pandas as pd  # takes longer to import than the tables to make

    dtypes = {name: _DTYPES[kind] for name, (kind, _) in COLUMNS.items()}
    return pd.read_csv(file, dtype=dtypes, keep_default_na=False, na_values=[""])


def csv(board: Board) -> str:
    """All rows with fixed decimals and `\\n` line ends; groups by track and protocol, in each the best row first."""
    text_file = io.StringIO()
    writer = csv_writer(text_file, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(map(row.get, COLUMNS) for row in _rows(board))
    return text_file.getvalue()


def _rows(board: Board) -> Iterator[dict[str, str]]:
    for track in board.tracks:
        standings = {standing.entry.id: _overall(standing, track) for standing in track.standings}
        of_entry: dict[tuple[str, str], dict[str, str]] = {}
        for group in track.groups:
            of_group = _escaped({"track": track.id, **_protocol(group)})
            for cell in group.cells:
                id_ = cell.entry.id
                if id_ not in of_entry:
                    of_entry[id_] = _escaped(_entry(cell.entry))
                overall = standings.get(id_, {}) if group.current else {}
                yield {
                    **of_group,
                    **of_entry[id_],
                    **_escaped({**_checkpoints(cell), **_figures(cell), **_runs(cell)}),
                    **overall,
                }


def _escaped(row: dict[str, str]) -> dict[str, str]:
    """The row with text that no spreadsheet takes for a formula; numbers stay as they are."""
    return {name: text.spreadsheet(value) if value and name in _WORDS else value for name, value in row.items()}


def _overall(standing: Standing, track: Track) -> dict[str, str]:
    ranks, score = standing.mean_rank_interval, standing.score
    return {
        "protocols": str(standing.protocols),
        "protocols_of_track": str(track.protocols),
        "mean_rank": _fixed(standing.mean_rank),
        "mean_rank_low": _fixed(ranks and ranks[0]),
        "mean_rank_high": _fixed(ranks and ranks[1]),
        "overall_score": _fixed(None if score is None else score.mean),
        **_interval("overall_score", score),
        "overall_tier": text.plain(standing.tier),
    }


def _protocol(group: Group) -> dict[str, str]:
    protocol = group.protocol
    return {
        "protocol": protocol.id,
        "protocol_version": str(protocol.version),
        "protocol_sha256": protocol.sha256,
        "task": protocol.task,
        "dataset": protocol.dataset,
        "dataset_fingerprint": group.dataset.fingerprint,
        "architecture": group.architecture,
        "current": "yes" if group.current else "no",
        "metric": protocol.headline,
    }


def _entry(entry: Entry) -> dict[str, str]:
    card, seen = entry.card, entry.card.pretraining
    return {
        "submission": entry.label,
        "method": card.method,
        "parameters": str(card.parameters),
        "pretraining_recipe": seen.recipe or "",
        "pretraining_data": seen.data or "",
        "pretraining_labels": seen.labels or "",
        "pretraining_images": text.plain(seen.images),
        "pretraining_epochs": text.plain(seen.epochs),
        "pretraining_batch": text.plain(seen.effective_batch),
        "pretraining_image_views": text.plain(seen.image_views),
        "pretraining_group": seen.group or "",
    }


def _checkpoints(cell: Cell) -> dict[str, str]:
    """The checkpoints of the entry that have a run here."""
    hashes = {run.card.sha256 for run in cell.runs}
    cards = [card for card in cell.entry.cards if card.sha256 in hashes]
    return {
        "checkpoints": ";".join(one.name for one in cards),
        "checkpoint_sha256": ";".join(one.sha256 for one in cards),
        "pretraining_seeds": ";".join(text.plain(one.pretraining.seed) or "?" for one in cards),
    }


def _figures(cell: Cell) -> dict[str, str]:
    values = {_metric(name): [round(value, 4) + 0.0 for value in found] for name, found in cell.metric_values.items()}
    means = {_metric(name): round(value, 4) + 0.0 for name, value in cell.metric_means.items()}
    summary, ranking, score = cell.summary, cell.ranking, cell.score
    return {
        "pretraining_runs": str(len({run.card.sha256 for run in cell.finished})),
        "finished": str(len(cell.finished)),
        "failed": str(cell.failed),
        "test_copies": "" if cell.copies is None else str(cell.copies.copies),
        "mean": _fixed(None if summary is None else summary.mean),
        "interval_over": (summary and summary.over) or "",
        "sd": _fixed(None if summary is None else summary.sd),
        **_interval("ci95", summary),
        **_interval("images", summary and summary.of_images),
        "rank": text.plain(None if ranking is None else ranking.position),
        "rank_best": text.plain(None if ranking is None else ranking.best),
        "rank_worst": text.plain(None if ranking is None else ranking.worst),
        "tier": text.plain(cell.tier),
        "leads": "yes" if cell.leads else "no",
        "score": _fixed(None if score is None else score.mean),
        **_interval("score", score),
        "metrics": _JSON.encode(means),
        "seeds": ";".join(str(run.seed) for run in cell.finished),
        "values": ";".join(_fixed(value) for value in cell.values),
        "metric_values": _JSON.encode(values),
        "failed_seeds": ";".join(str(run.seed) for run in cell.runs if run.status == "failed"),
    }


@lru_cache(1000)
def _metric(name: str) -> str:
    return text.one_line(name)


def _interval(name: str, figure: Estimate | None) -> dict[str, str]:
    low, high = (figure and figure.interval) or (None, None)
    return {f"{name}_low": _fixed(low), f"{name}_high": _fixed(high)}


def _runs(cell: Cell) -> dict[str, str]:
    training = [run.training for run in cell.finished if run.training is not None]
    probes = [run.probe for run in cell.finished if run.probe is not None]
    heads = [one.head_parameters for one in training] + [one.head_parameters for one in probes]
    counted = [run.operations for run in cell.finished if run.operations is not None]
    memory = [run.peak_memory_mib for run in cell.finished if run.peak_memory_mib is not None]
    wall = [run.wall_seconds for run in cell.finished]
    return {
        "run_keys": ";".join(run.key for run in cell.runs),
        "iterations": _distinct(str(report.executed_iterations) for report in training),
        "batch_size": _distinct(str(report.batch_size) for report in training),
        "learning_rate": _distinct(text.plain(float(f"{report.learning_rate:.9g}")) for report in training),
        "sweeps": _sweeps(cell),
        "head_parameters": str(max(heads, default="")),
        "backbone_gflop": _most(one.backbone / 1e9 for one in counted),
        "head_gflop": _most(one.head / 1e9 for one in counted if one.head is not None),
        "device": _distinct(run.environment.device for run in cell.runs),
        "precision": _distinct(run.environment.precision for run in cell.runs),
        "code_commit": _distinct(run.environment.code_commit or "" for run in cell.runs),
        "wall_seconds": text.number(sum(wall) / len(wall)) if wall else "",
        "peak_memory_mib": text.number(max(memory)) if memory else "",
    }


def _sweeps(cell: Cell) -> str:
    found = sweeps_of(cell.runs)
    return _JSON.encode([sweep.model_dump(mode="json") for sweep in found]) if found else ""


def _fixed(value: float | None) -> str:
    return "" if value is None else text.number(value, 4)


def _most(values: Iterable[float]) -> str:
    return _fixed(max(values, default=None))


def _distinct(values: Iterable[str]) -> str:
    """All values that occur, sorted, separated by `;`: a row whose runs differ must show it."""
    return ";".join(sorted({value for value in values if value}))
