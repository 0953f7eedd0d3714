"""The board as one HTML file: tables in HTML, provenance as data beside them, style and script inlined.

Names and texts come from strangers. They enter the page through Jinja's autoescape or as JSON that the script puts
into text nodes, and a content security policy admits this style and this script and nothing else: no network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from types import MappingProxyType
from typing import Any

import jinja2

from leaderboard import text
from leaderboard.base.html import asset, policy_hash, readable, script_json
from leaderboard.board import Board, Cell, Group, Standing, Submission, Track
from leaderboard.records import Result, TrackDescription

MORE_METRICS = 3
"""A protocol's table shows this many metrics beside the headline; the details of a row show all."""
MARK_WIDTH, MARK_HEIGHT, MARK_MARGIN = 132, 18, 6

_asset = partial(asset, "leaderboard", "site")


def render(board: Board, tracks: Mapping[str, TrackDescription] = MappingProxyType({})) -> str:
    """The page; equal boards and descriptions of `tracks` (by id) give equal bytes."""
    style, early, script = _asset("style.css"), _asset("early.js"), _asset("page.js")
    return _template().render(
        board=board,
        tracks=[_track(track, tracks.get(track.id)) for track in board.tracks],
        style=style,
        early=early,
        script=script,
        style_hash=policy_hash(style),
        script_hashes=[policy_hash(early), policy_hash(script)],
        data=script_json(_provenance(board)),
    )


@dataclass(frozen=True)
class Mark:
    """A dot with whiskers on a scale: positions in pixels of an inline SVG."""

    dot: str
    low: str | None
    high: str | None
    anchor: str | None
    """Random initialisation: the line to compare with."""


@dataclass(frozen=True)
class Scale:
    """The common scale of a column of marks."""

    low: float
    high: float

    def mark(self, value: float, low: float | None, high: float | None, anchor: float | None) -> Mark:
        """Place a figure, its interval and its anchor."""
        ends = [None if end is None else self._x(end) for end in (low, high, anchor)]
        return Mark(self._x(value), *ends)

    def _x(self, value: float) -> str:
        share = (value - self.low) / (self.high - self.low)
        return text.number(MARK_MARGIN + min(max(share, 0.0), 1.0) * (MARK_WIDTH - 2 * MARK_MARGIN))


def _scale(values: Sequence[float]) -> Scale:
    """Spans the values; a little wider where they are all the same."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    return Scale(low, high) if high - low > 1e-9 else Scale(low - 0.5, high + 0.5)


def _track(track: Track, about: TrackDescription | None) -> dict[str, Any]:
    scores = [s.score for s in track.standings if s.score is not None]
    scores += [end for s in track.standings for end in s.score_interval or ()]
    return {
        "id": track.id,
        "about": about,
        "groups": [_group(group) for group in track.groups],
        "headings": [{"label": g.label, "metric": g.protocol.headline} for g in track.current],
        "standings": [_standing(s, _scale(scores), i) for i, s in enumerate(track.standings, 1)],
    }


def _standing(standing: Standing, scale: Scale, place: int) -> dict[str, Any]:
    interval = standing.mean_rank_interval
    row = _submission_row(standing.submission) | {
        "place": None if standing.mean_rank is None else place,
        "mean_rank": standing.mean_rank,
        "rank": None if standing.mean_rank is None else text.number(standing.mean_rank),
        "rank_interval": None if interval is None else text.span(interval),
        "score": standing.score,
        "score_text": None if standing.score is None else text.number(standing.score, 0),
        "score_interval": standing.score_interval and text.span(standing.score_interval, 0),
        "missing": sum(cell is None or cell.summary is None for cell in standing.cells),
        "cells": [None if cell is None else _figure(cell) for cell in standing.cells],
    }
    if standing.score is not None:
        low, high = standing.score_interval or (None, None)
        row["mark"] = scale.mark(standing.score, low, high, anchor=0.0)
    return row


def _group(group: Group) -> dict[str, Any]:
    ends = [end for cell in group.cells if cell.summary for end in (cell.summary.low, cell.summary.high)]
    scale = _scale(ends)
    headline = group.protocol.headline
    first = next((cell for cell in group.cells if cell.finished), None)
    metrics = [name for name in first.metric_means if name != headline] if first else []
    # The same figure of another output first (segm_AP beside bbox_AP), then as the results list them.
    metrics = sorted(metrics, key=lambda name: name.split("_")[-1] != headline.split("_")[-1])[:MORE_METRICS]
    return {
        "id": group.id,
        "label": group.label,
        "protocol": group.protocol,
        "dataset": group.dataset,
        "current": group.current,
        "alone": not group.suffix,
        "metrics": metrics,
        "low": text.number(scale.low),
        "high": text.number(scale.high),
        "anchored": any(cell.anchor is not None for cell in group.cells),
        "rows": [_cell_row(group, cell, scale, metrics) for cell in group.cells],
    }


def _cell_row(group: Group, cell: Cell, scale: Scale, metrics: Sequence[str]) -> dict[str, Any]:
    row = _submission_row(cell.submission) | _figure(cell)
    means, ranking, summary = cell.metric_means, cell.ranking, cell.summary
    score = group.score_of(cell)
    row |= {
        "position": ranking and ranking.position,
        "ranks": ranking and _rank_text(ranking.best, ranking.worst),
        "score": score,
        "score_text": None if score is None else text.number(score, 0),
        "metrics": [(means.get(name), text.number(means[name]) if name in means else None) for name in metrics],
    }
    if summary is not None:
        low, high = (None, None) if summary.half is None else (summary.low, summary.high)
        row["mark"] = scale.mark(summary.mean, low, high, anchor=cell.anchor)
    return row


def _rank_text(best: int, worst: int) -> str:
    return str(best) if best == worst else f"{best}{text.DASH}{worst}"


def _submission_row(submission: Submission) -> dict[str, Any]:
    card = submission.card
    seen = card.pretraining
    return {
        "sid": _sid(submission.id),
        "name": submission.label,
        "method": text.one_line(card.method),
        "architecture": card.architecture,
        "data": text.one_line(seen.data or ""),
        "epochs": text.plain(seen.epochs),
        "is_random": submission.is_random,
    }


def _figure(cell: Cell) -> dict[str, Any]:
    summary = cell.summary
    return {
        "value": summary and summary.mean,
        "mean": summary and text.number(summary.mean),
        "half": None if summary is None or summary.half is None else text.number(summary.half),
        "n": len(cell.finished),
        "failed": cell.failed,
        "leads": cell.leads,
        "ties": cell.ties_best and len(cell.finished) > 1,
    }


def _provenance(board: Board) -> dict[str, Any]:
    """What the script shows when a row is opened; environments are shared, for they repeat."""
    environments: dict[str, int] = {}
    groups: dict[str, Any] = {}
    cards: dict[str, Any] = {}
    cells: dict[str, dict[str, Any]] = {}
    for track in board.tracks:
        for group in track.groups:
            groups[group.id] = {
                "label": group.label,
                "current": group.current,
                "protocol": group.protocol.model_dump(mode="json"),
                "dataset": group.dataset.model_dump(mode="json"),
            }
            for cell in group.cells:
                sid = _sid(cell.submission.id)
                cards[sid] = cell.submission.card.model_dump(mode="json")
                cells.setdefault(sid, {})[group.id] = {
                    "mean": cell.summary and round(cell.summary.mean, 4),
                    "half": cell.summary and cell.summary.half and round(cell.summary.half, 4),
                    "sd": cell.summary and cell.summary.sd and round(cell.summary.sd, 4),
                    "runs": [_run(run, environments) for run in cell.runs],
                }
    return {"groups": groups, "cards": cards, "cells": cells, "environments": [json.loads(e) for e in environments]}


def _run(run: Result, environments: dict[str, int]) -> dict[str, Any]:
    environment = run.environment.model_dump_json()
    return {
        "seed": run.seed,
        "key": run.key,
        "failure": run.failure,
        "metrics": {name: round(value, 4) for name, value in run.metrics.items()},
        "training": run.training and run.training.model_dump(mode="json"),
        "probe": run.probe and run.probe.model_dump(mode="json"),
        "environment": environments.setdefault(environment, len(environments)),
        "finished_at": run.finished_at.isoformat(timespec="seconds"),
        "wall_seconds": run.wall_seconds,
        "seconds": run.seconds,
        "peak_memory_mib": run.peak_memory_mib,
    }


def _sid(submission: tuple[str, str]) -> str:
    name, sha256 = submission
    return f"{name}@{sha256[:16]}"


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=readable
    )
    return environment.from_string(_asset("page.html.jinja"))
