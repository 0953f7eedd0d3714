"""The data embedded in the page: the rows of its tables, and the provenance behind them.

The rows hold exact values with their errors, so that the page's script (`site/statistics.js`) can rank again what a
filter leaves as `leaderboard.ranking` would. What holds for a whole table, its ranks and tiers, is computed here and
only here. Errors have nine digits: their last ones depend on the version of numpy, and the page's bytes must not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from leaderboard import published, tables, text, wording
from leaderboard.board import Board, Cell, Entry, Group, Standing, Track
from leaderboard.drawn import Drawn, members, products
from leaderboard.extras import Extras
from leaderboard.records import Result
from leaderboard.stats import Estimate, Source

MORE_METRICS = 3
"""A protocol's table shows this many metrics in addition to the headline; a submission's page shows all."""
MOST_PAIRED = 400
"""With more values on the same images, the products of their shares would make the page too large: ranks among filtered
rows are then found without pairing images, which widens intervals."""
CHECKS = ("self-reported", "logs", "re-run")
"""The values of `Result.verification`, from the least to the most."""


@dataclass(frozen=True)
class MethodSource:
    """Where a pretraining method comes from."""

    paper: str
    """Its papers, as `arXiv 1911.05722, 2003.04297`."""
    code: tuple[str, ...]
    """Its authors' repositories on GitHub, as `OWNER/NAME`."""


@dataclass(frozen=True)
class Background:
    """What the pages of submissions and protocols say that no result holds; asked only for what the board shows."""

    method: Callable[[str], MethodSource | None] = lambda name: None
    """Gives the source of a method by the name that cards state; None where it is not known."""
    definition: Callable[[str], str | None] = lambda sha256: None
    """Gives the text that defines a protocol by its hash; None where it is not known."""
    pictures: str | None = None
    """Address of a page with pictures, relative to the page's folder."""
    extras: Extras = field(default_factory=Extras)
    """Training curves and pictures of submissions."""


def relative_address(file: Path, folder: Path) -> str:
    """The address of `file` in a link on a page in `folder`."""
    return quote(Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix())


ENTRY = ("sid", "label", "method", "architecture", "data", "epochs", "views", "license", "random", "checkpoints")
CELL = (
    "entry", "mean", "error", "df", "tested", "over", "n", "failed", "position", "best", "worst", "tier", "leads",
    "score", "scoreError", "scoreDf", "imagesHalf", "metrics", "draw", "slot", "check",
    "copies", "copiesOf",
)  # fmt: skip
STANDING = ("entry", "protocols", "meanRank", "low", "high", "score", "scoreError", "scoreDf", "tier")
PUBLISHED = ("protocol", "metric", "method", "architecture", "data", "epochs", "value", "runs", "source")
"""Names of the fields of the arrays in `rows`, in their order."""


def rows(board: Board) -> dict[str, Any]:
    """What the tables show and what ranks are computed from; entries in the order of their ids, cells best first."""
    drawn = Drawn(board, MOST_PAIRED)
    entries = {cell.entry.id: cell.entry for t in board.tracks for group in t.groups for cell in group.cells}
    number = {id_: i for i, id_ in enumerate(sorted(entries))}
    return {
        "fields": {"entry": ENTRY, "cell": CELL, "standing": STANDING, "published": PUBLISHED},
        "entries": [_entry(entries[id_]) for id_ in sorted(entries)],
        "groups": {group.id: _group(group, number, drawn) for track in board.tracks for group in track.groups},
        "draws": [_draw(sources) for sources in drawn.sets],
        "tracks": [_track(track, number) for track in board.tracks],
        "published": [_published(value) for value in published_values()],
        "publishedProtocols": published.protocols(),
    }


def published_values() -> list[published.Published]:
    """The published values in the order of their protocols, in which the page shows them."""
    return sorted(published.values(), key=lambda value: value.protocol.lower())


def sid(entry: Entry) -> str:
    """The entry's identifier in the page and its addresses: its label, unique on the board, and a piece of its hash."""
    return f"{entry.label}@{entry.card.sha256[:16]}"


def more_metrics(group: Group) -> list[str]:
    """Metrics in addition to the headline: first the same metric of another output (segm_AP for bbox_AP)."""
    headline = group.protocol.headline
    first = next((cell for cell in group.cells if cell.finished), None)
    metrics = [name for name in first.metric_means if name != headline] if first else []
    return sorted(metrics, key=lambda name: name.split("_")[-1] != headline.split("_")[-1])[:MORE_METRICS]


def _entry(entry: Entry) -> list[Any]:
    card, seen = entry.card, entry.card.pretraining
    data = None if seen.data is None else text.one_line(seen.data)
    return [
        sid(entry), entry.label, text.one_line(card.method), card.architecture, data, seen.epochs, seen.image_views,
        card.license, entry.is_random, len({one.sha256 for one in entry.cards}),
    ]  # fmt: skip


def source(cell: Cell) -> str | None:
    """What the interval of a cell's value is over; None without a value."""
    return None if cell.summary is None else wording.source(cell.entry, cell.summary)


def checked(cell: Cell) -> int:
    """The level, as an index into `CHECKS`, that all runs of a cell reach."""
    return min((CHECKS.index(run.verification) for run in cell.runs), default=0)


def _group(group: Group, number: dict[tuple[str, str], int], drawn: Drawn) -> dict[str, Any]:
    metrics = more_metrics(group)
    return {
        "label": group.label,
        "protocol": group.protocol.id,
        "headline": group.protocol.headline,
        "architecture": group.architecture,
        "current": group.current,
        "anchor": group.anchor and [*_estimate(group.anchor), *drawn.place(group.anchor)],
        "paired": drawn.paired(group),
        "metrics": metrics,
        "cells": [_cell(cell, number[cell.entry.id], metrics, drawn) for cell in group.cells],
    }


def _cell(cell: Cell, entry: int, metrics: Sequence[str], drawn: Drawn) -> list[Any]:
    summary, ranking, copies = cell.summary, cell.ranking, cell.copies
    of_images = None if summary is None else summary.of_images
    return [
        entry, *_estimate(summary), bool(summary and summary.tested), source(cell),
        len(cell.finished), cell.failed, ranking and ranking.position, ranking and ranking.best,
        ranking and ranking.worst, cell.tier, cell.leads, *_estimate(cell.score),
        _rounded(None if of_images is None else of_images.half),
        [cell.metric_means.get(name) for name in metrics], *drawn.place(summary),
        checked(cell),
        copies and copies.copies, copies and copies.tested,
    ]  # fmt: skip


def _estimate(figure: Estimate | None) -> tuple[float | None, float | None, float]:
    return (None, None, 0) if figure is None else (figure.mean, _rounded(figure.error), _rounded(figure.df) or 0)


def _draw(sources: Sequence[Source]) -> dict[str, Any]:
    return {
        "df": [source.df for source in sources],
        "members": members(sources),
        "products": list(map(_rounded, products(sources))),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.9g}")


def _track(track: Track, number: dict[tuple[str, str], int]) -> dict[str, Any]:
    counted = [s for s in track.standings if len(s.columns) != len({track.current[i].protocol.id for i in s.columns})]
    return {
        "id": track.id,
        "architecture": track.architecture,
        "groups": [group.id for group in track.groups],
        "protocols": track.protocols,
        "usual": tables.usual_source(track),
        # Whether two columns of one protocol (two data sets) count as one; where no row has two, this changes nothing.
        "byId": any(s.protocols < len(s.columns) for s in counted),
        "standings": [_standing(standing, number[standing.entry.id]) for standing in track.standings],
    }


def _standing(standing: Standing, entry: int) -> list[Any]:
    low, high = standing.mean_rank_interval or (None, None)
    return [
        entry, standing.protocols, standing.mean_rank, low, high, *_estimate(standing.score), standing.tier,
    ]  # fmt: skip


def _published(value: published.Published) -> list[Any]:
    return [
        value.protocol, value.metric, value.method, value.architecture, value.pretraining_data,
        value.pretraining_epochs, value.value, value.runs, value.source,
    ]  # fmt: skip


def provenance(board: Board, background: Background) -> dict[str, Any]:
    """What the pages of submissions and protocols show; environments are stored once, because many runs share them."""
    environments: dict[str, int] = {}
    groups: dict[str, Any] = {}
    cards: dict[str, list[Any]] = {}
    cells: dict[str, dict[str, Any]] = {}
    for group in (group for track in board.tracks for group in track.groups):
        groups[group.id] = {
            "label": group.label,
            "current": group.current,
            "protocol": group.protocol.model_dump(mode="json"),
            "dataset": group.dataset.model_dump(mode="json"),
        }
        for cell in group.cells:
            name = sid(cell.entry)
            if name not in cards:
                cards[name] = [card.model_dump(mode="json") for card in cell.entry.cards]
            cells.setdefault(name, {})[group.id] = [_run(run, environments) for run in cell.runs]
    return {
        "groups": groups,
        "cards": cards,
        "cells": cells,
        "environments": [json.loads(e) for e in environments],
        "methods": _known({card["method"] for found in cards.values() for card in found}, background.method),
        "definitions": _known({group["protocol"]["sha256"] for group in groups.values()}, background.definition),
    }


def extras(board: Board, background: Background) -> dict[str, Any]:
    """The curves and pictures of the submissions on the board; empty if there are none."""
    cells = (cell for track in board.tracks for group in track.groups for cell in group.cells)
    return background.extras.of({card.sha256 for cell in cells for card in cell.entry.cards})


def _known(names: set[str], find: Callable[[str], Any]) -> dict[str, Any]:
    """What `find` gives for each name, without those for which it gives nothing."""
    found = {name: find(name) for name in sorted(names)}
    return {name: vars(one) if isinstance(one, MethodSource) else one for name, one in found.items() if one is not None}


def _run(run: Result, environments: dict[str, int]) -> dict[str, Any]:
    environment = run.environment.model_dump_json()
    return {
        "checkpoint": run.card.name,
        "seed": run.seed,
        "key": run.key,
        "failure": run.failure,
        "metrics": {name: round(value, 4) for name, value in run.metrics.items()},
        "training": run.training and run.training.model_dump(mode="json"),
        "probe": run.probe and run.probe.model_dump(mode="json"),
        "operations": run.operations and run.operations.model_dump(mode="json"),
        "environment": environments.setdefault(environment, len(environments)),
        "verification": run.verification,
        "finished_at": run.finished_at.isoformat(timespec="seconds"),
        "wall_seconds": run.wall_seconds,
        "seconds": run.seconds,
        "peak_memory_mib": run.peak_memory_mib,
    }
