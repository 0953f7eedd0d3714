"""A submission's report as files: one HTML page that loads nothing, and its rows as LaTeX."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2

from leaderboard import submission_rows, tables, text, wording
from leaderboard.base.files import make_folder, write_atomic
from leaderboard.base.html import asset, readable
from leaderboard.submission import Chapter, Gain, Line, SubmissionReport


def write(report: SubmissionReport, folder: Path) -> tuple[Path, Path]:
    """Write `report.html` and `rows.tex` into `folder`, and return their paths.

    Raises:
        FileError: they cannot be written.
    """
    make_folder(folder)
    page, rows = folder / "report.html", folder / "rows.tex"
    write_atomic(page, render(report))
    write_atomic(rows, report.latex)
    return page, rows


def render(report: SubmissionReport) -> str:
    """The page; equal reports give equal bytes."""
    card = report.entry.card
    seen = card.pretraining
    facts = {
        "Method": card.method,
        "Backbone": f"{card.architecture}, {card.parameters:,} parameters",
        "Weights": ", ".join(one.sha256 for one in report.entry.cards),
        "Pretraining data": seen.data,
        "Labels": seen.labels,
        "Epochs": text.plain(seen.epochs) or None,
        "License": card.license,
    }
    return _template().render(
        style=asset("leaderboard", "site", "theme.css") + asset("leaderboard", "site", "report.css"),
        label=report.entry.label,
        facts={name: fact or "not stated" for name, fact in facts.items()},
        chapters=[_chapter(chapter) for chapter in report.chapters],
        latex=report.latex,
        citation=report.citation,
    )


def _chapter(chapter: Chapter) -> dict[str, object]:
    return {
        "title": tables.title(chapter.track),
        "verdict": chapter.verdict,
        "anchors": [anchor.label for anchor in chapter.anchors],
        "lines": [_line(line, chapter) for line in chapter.lines],
        "marks": tables.explained([line.cell for line in chapter.lines]),
        "methods": chapter.methods,
    }


def _line(line: Line, chapter: Chapter) -> dict[str, object]:
    summary = line.cell.summary
    assert summary is not None
    gains = {gain.over.id: gain for gain in line.gains}
    return {
        "protocol": line.group.protocol.title,
        "id": line.group.protocol.id,
        "sha256": line.group.protocol.sha256,
        "metric": line.group.protocol.headline,
        "value": submission_rows.marked(line.cell),
        "over": f"validation images, {wording.counted(summary.n, 'run')}"
        if summary.over == "images"
        else wording.source(line.cell.entry, summary),
        "gains": [_gain(gains.get(anchor.id)) for anchor in chapter.anchors],
    }


def _gain(gain: Gain | None) -> str:
    if gain is None:
        return text.DASH
    sign = "+" * (gain.difference.mean > 0)
    test = "not tested" if gain.p is None else "p < 0.001" if gain.p < 0.001 else f"p = {text.number(gain.p, 3)}"
    return f"{sign}{text.figure(gain.difference)} ({test})"


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, finalize=readable, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(asset("leaderboard", "site", "report.html.jinja"))
