"""The board as one HTML file: tables in HTML, provenance as embedded data, style and script inlined.

Names and texts are untrusted. They enter the page through Jinja's autoescape or as JSON that the script puts
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

from leaderboard import published, tables, text
from leaderboard.base.html import asset, policy_hash, readable, script_json
from leaderboard.board import Board, Cell, Entry, Group, Standing, Track
from leaderboard.diagrams import diagrams
from leaderboard.records import Result, TrackDescription
from leaderboard.stats import Estimate

MORE_METRICS = 3
"""A protocol's table shows this many metrics in addition to the headline; the details of a row show all."""
MARK_WIDTH, MARK_HEIGHT, MARK_MARGIN = 132, 18, 6

_asset = partial(asset, "leaderboard", "site")


def render(board: Board, tracks: Mapping[str, TrackDescription] = MappingProxyType({})) -> str:
    """The page; equal boards and descriptions of `tracks` (by id) give equal bytes."""
    style = "".join(map(_asset, ("theme.css", "style.css", "diagrams.css")))
    early, script = _asset("early.js"), _asset("page.js")
    return _template().render(
        board=board,
        tracks=[_track(track, tracks.get(track.id)) for track in board.tracks],
        published=[(value, published.protocols()[value.protocol]) for value in published.values()],
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
    whisker: str | None
    """SVG path data of the interval; None where there is no interval."""
    anchor: str | None
    """Position of random initialization: the line to compare with."""


@dataclass(frozen=True)
class Scale:
    """The common scale of a column of marks."""

    low: float
    high: float

    def mark(self, figure: Estimate, anchor: float | None) -> Mark:
        """Place a value, its interval and its anchor."""
        whisker = None
        if figure.interval is not None:
            low, high = map(self._x, figure.interval)
            whisker = f"M{low} 9H{high}M{low} 5.5v7M{high} 5.5v7"
        return Mark(self._x(figure.mean), whisker, None if anchor is None else self._x(anchor))

    def _x(self, value: float) -> str:
        share = (value - self.low) / (self.high - self.low)
        return text.number(MARK_MARGIN + min(max(share, 0.0), 1.0) * (MARK_WIDTH - 2 * MARK_MARGIN))


def _scale(values: Sequence[float]) -> Scale:
    """The scale that spans the values; a little wider where they are all the same."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    return Scale(low, high) if high - low > 1e-9 else Scale(low - 0.5, high + 0.5)


def _ends(figure: Estimate) -> tuple[float, float]:
    return figure.interval or (figure.mean, figure.mean)


def _track(track: Track, about: TrackDescription | None) -> dict[str, Any]:
    scores = [standing.score for standing in track.standings if standing.score is not None]
    scale = _scale([end for score in scores for end in _ends(score)])
    usual = tables.usual_source(track)
    address = f"{track.id}.{track.architecture}"
    return {
        "id": track.id,
        "architecture": track.architecture,
        "address": address,
        "about": about,
        "reading": tables.caption(track),
        "groups": [_group(group) for group in track.groups],
        "headings": [{"label": g.label, "metric": g.protocol.headline} for g in track.current],
        "standings": [_standing(s, track, scale, usual, i) for i, s in enumerate(track.standings, 1)],
        "diagrams": [(drawn, drawn.inline(f"diagram.{drawn.kind}.{address}")) for drawn in diagrams(track)],
    }


def _standing(standing: Standing, track: Track, scale: Scale, usual: str, place: int) -> dict[str, Any]:
    interval, score = standing.mean_rank_interval, standing.score
    row = _entry_row(standing.entry) | {
        "place": place,
        "tier": standing.tier,
        "mean_rank": standing.mean_rank,
        "rank": None if standing.mean_rank is None else text.number(standing.mean_rank),
        "rank_interval": None if interval is None else text.span(interval),
        "score": score and score.mean,
        "score_text": None if score is None else text.number(score.mean),
        "score_half": None if score is None or score.half is None else text.number(score.half),
        "protocols": standing.protocols,
        "missing": track.protocols - standing.protocols,
        "cells": [None if cell is None else _figure(cell, usual) for cell in standing.cells],
    }
    if score is not None:
        row["mark"] = scale.mark(score, 0.0)
    return row


def _group(group: Group) -> dict[str, Any]:
    scale = _scale([end for cell in group.cells if cell.summary for end in _ends(cell.summary)])
    headline = group.protocol.headline
    first = next((cell for cell in group.cells if cell.finished), None)
    metrics = [name for name in first.metric_means if name != headline] if first else []
    # First the same metric of another output (segm_AP for bbox_AP), then the others in the order of the results.
    metrics = sorted(metrics, key=lambda name: name.split("_")[-1] != headline.split("_")[-1])[:MORE_METRICS]
    return {
        "id": group.id,
        "label": group.label,
        "protocol": group.protocol,
        "dataset": group.dataset,
        "current": group.current,
        "alone": not group.suffix and group.current,
        "metrics": metrics,
        "low": text.number(scale.low),
        "high": text.number(scale.high),
        "anchored": group.anchor is not None,
        "rows": [_cell_row(cell, group.anchor, scale, metrics) for cell in group.cells],
    }


def _cell_row(cell: Cell, anchor: Estimate | None, scale: Scale, metrics: Sequence[str]) -> dict[str, Any]:
    row = _entry_row(cell.entry) | _figure(cell, None)
    means, ranking, summary, score = cell.metric_means, cell.ranking, cell.summary, cell.score
    images = None if summary is None else summary.of_images
    row |= {
        "position": ranking and ranking.position,
        "ranks": ranking and text.ranks(ranking.best, ranking.worst),
        "tier": cell.tier,
        "score": score and score.mean,
        "score_text": None if score is None else text.figure(score),
        "images": None if images is None or images.half is None else text.number(images.half),
        "metrics": [(means.get(name), text.number(means[name]) if name in means else None) for name in metrics],
    }
    if summary is not None:
        row["mark"] = scale.mark(summary, None if anchor is None else anchor.mean)
    return row


def _entry_row(entry: Entry) -> dict[str, Any]:
    card = entry.card
    method, data = text.one_line(card.method), text.one_line(card.pretraining.data or "")
    return {
        "sid": _sid(entry.id),
        "name": entry.label,
        "method": method,
        "checkpoints": len(entry.cards),
        "data": data,
        "words": f"{entry.label} {method} {card.architecture} {data}",
        "epochs": text.plain(card.pretraining.epochs),
        "is_random": entry.is_random,
    }


def _figure(cell: Cell, usual: str | None) -> dict[str, Any]:
    """A value with what its interval is over, unless that is the `usual`."""
    summary = cell.summary
    source = None if summary is None else text.source(summary)
    return {
        "value": summary and summary.mean,
        "mean": summary and text.number(summary.mean),
        "half": None if summary is None or summary.half is None else text.number(summary.half),
        "source": None if source == usual else source,
        "n": len(cell.finished),
        "failed": cell.failed,
        "leads": cell.leads,
        "ties": cell.tier == 1,
    }


def _provenance(board: Board) -> dict[str, Any]:
    """What the script shows when a row is opened; environments are stored once, because many runs share them."""
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
            sid = _sid(cell.entry.id)
            if sid not in cards:
                cards[sid] = [card.model_dump(mode="json") for card in cell.entry.cards]
            cells.setdefault(sid, {})[group.id] = {
                "mean": cell.summary and round(cell.summary.mean, 4),
                "half": cell.summary and cell.summary.half and round(cell.summary.half, 4),
                "sd": cell.summary and cell.summary.sd and round(cell.summary.sd, 4),
                "over": cell.summary and text.source(cell.summary),
                "runs": [_run(run, environments) for run in cell.runs],
            }
    return {"groups": groups, "cards": cards, "cells": cells, "environments": [json.loads(e) for e in environments]}


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
        "environment": environments.setdefault(environment, len(environments)),
        "finished_at": run.finished_at.isoformat(timespec="seconds"),
        "wall_seconds": run.wall_seconds,
        "seconds": run.seconds,
        "peak_memory_mib": run.peak_memory_mib,
    }


def _sid(entry: tuple[str, str]) -> str:
    label, sha256 = entry
    return f"{label}@{sha256[:16]}"


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=readable
    )
    return environment.from_string(_asset("page.html.jinja"))
