"""The board as one HTML file: tables in HTML, all rows and their provenance as embedded data, style and script inlined.

Names and texts are untrusted. They enter the page through Jinja's autoescape or as JSON that the script puts
into text nodes, and a content security policy admits this style and this script and nothing else: no network. The
tables of the HTML hold the first rows, for readers without JavaScript; the script draws what it shows from the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from types import MappingProxyType
from typing import Any

import jinja2

from leaderboard import page_data, published, tables, text
from leaderboard.base.html import asset, policy_hash, readable, script_json
from leaderboard.board import Board, Cell, Entry, Group, Standing, Track
from leaderboard.diagrams import diagrams
from leaderboard.records import TrackDescription
from leaderboard.stats import Estimate

MOST_ROWS = 100
"""Most rows of a table in the HTML itself."""
SCRIPTS = ("statistics.js", "model.js", "dom.js", "address.js", "tables.js", "extras.js", "pages.js", "page.js")
PUBLISHED_HEADINGS = (
    ("Protocol", ""), ("Metric", ""), ("Method", ""), ("Backbone", ""), ("Pretrained on", ""), ("Epochs", "num"),
    ("Value", "num"), ("Runs", "num"), ("Source", "source"),
)  # fmt: skip

_asset = partial(asset, "leaderboard", "site")


def render(
    board: Board,
    tracks: Mapping[str, TrackDescription] = MappingProxyType({}),
    background: page_data.Background = page_data.Background(),  # noqa: B008 - it is immutable
) -> str:
    """The page; equal boards, descriptions of `tracks` (by id) and `background` give equal bytes."""
    style = "".join(map(_asset, ("theme.css", "style.css", "diagrams.css")))
    early, script = _asset("early.js"), "".join(map(_asset, SCRIPTS))
    extras = page_data.extras(board, background)
    return _template().render(
        board=board,
        tracks=[_track(track, _about(track, tracks)) for track in board.tracks],
        published=[(value, published.protocols()[value.protocol]) for value in page_data.published_values()],
        published_headings=PUBLISHED_HEADINGS,
        pictures=background.pictures,
        style=style,
        early=early,
        script=script,
        style_hash=policy_hash(style),
        script_hashes=[policy_hash(early), policy_hash(script)],
        data=script_json(page_data.provenance(board, background)),
        rows=script_json(page_data.rows(board)),
        extras=script_json(extras) if extras else None,
    )


def _about(track: Track, tracks: Mapping[str, TrackDescription]) -> TrackDescription | None:
    """What is said of a track; a table of own data is one of its protocols' track."""
    first = track.groups[0]
    return tracks.get(track.id if first.dataset.classes is None else first.protocol.track)


def _track(track: Track, about: TrackDescription | None) -> dict[str, Any]:
    usual = tables.usual_source(track)
    address = f"{track.id}.{track.architecture}"
    return {
        "id": track.id,
        "architecture": track.architecture,
        "address": address,
        "about": about,
        "reading": tables.caption(track, brackets=False, marks=False),
        "groups": [_group(group) for group in track.groups],
        "headings": [{"label": g.label, "metric": g.protocol.headline} for g in track.current],
        "standings": [_standing(s, track, usual, i) for i, s in enumerate(track.standings[:MOST_ROWS], 1)],
        "count": len(track.standings),
        "diagrams": [(drawn, drawn.inline(f"diagram.{drawn.kind}.{address}")) for drawn in diagrams(track)],
    }


def _standing(standing: Standing, track: Track, usual: str, place: int) -> dict[str, Any]:
    interval = standing.mean_rank_interval
    return _entry_row(standing.entry, standing.cells) | {
        "place": place,
        "tier": standing.tier,
        "rank": None if standing.mean_rank is None else text.number(standing.mean_rank),
        "rank_interval": None if interval is None else text.span(interval),
        "score": standing.score and _estimate(standing.score),
        "missing": track.protocols - standing.protocols,
        "cells": [None if cell is None else _figure(cell, usual) for cell in standing.cells],
    }


def _group(group: Group) -> dict[str, Any]:
    metrics = page_data.more_metrics(group)
    return {
        "id": group.id,
        "label": group.label,
        "protocol": group.protocol,
        "dataset": group.dataset,
        "current": group.current,
        "alone": not group.suffix and group.current,
        "metrics": metrics,
        "anchored": group.anchor is not None,
        "rows": [_cell_row(cell, metrics) for cell in group.cells[:MOST_ROWS]],
        "count": len(group.cells),
    }


def _cell_row(cell: Cell, metrics: list[str]) -> dict[str, Any]:
    means, ranking, summary = cell.metric_means, cell.ranking, cell.summary
    images = None if summary is None else summary.of_images
    return (
        _entry_row(cell.entry, [cell])
        | _figure(cell, None)
        | {
            "ranks": ranking and text.ranks(ranking.best, ranking.worst),
            "tier": cell.tier,
            "score": cell.score and _estimate(cell.score),
            "checked": page_data.CHECKS[level] if (level := page_data.checked(cell)) else None,
            "images": None if images is None or images.half is None else text.number(images.half),
            "metrics": [text.number(means[name]) if name in means else None for name in metrics],
        }
    )


def _entry_row(entry: Entry, cells: Sequence[Cell | None]) -> dict[str, Any]:
    card = entry.card
    summaries = [cell.summary for cell in cells if cell is not None and cell.summary is not None]
    return {
        "name": entry.label,
        "method": text.one_line(card.method),
        "runs": max((one.units for one in summaries if one.over == "pretraining runs"), default=1),
        "data": text.one_line(card.pretraining.data or ""),
        "epochs": text.plain(card.pretraining.epochs),
        "is_random": entry.is_random,
    }


def _figure(cell: Cell, usual: str | None) -> dict[str, Any]:
    """A value with what its interval is over, unless that is the `usual`."""
    summary = cell.summary
    source = page_data.source(cell)
    shown = {"mean": None, "half": None} if summary is None else _estimate(summary)
    return shown | {
        "source": None if source == usual else source,
        "n": len(cell.finished),
        "failed": cell.failed,
        "copies": cell.copies if cell.copies and cell.copies.copies else None,
        "leads": cell.leads,
        "ties": cell.tier == 1,
    }


def _estimate(figure: Estimate) -> dict[str, Any]:
    half = figure.half
    return {"mean": text.number(figure.mean), "half": None if half is None else text.number(half), "source": None}


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=readable
    )
    return environment.from_string(_asset("page.html.jinja"))
