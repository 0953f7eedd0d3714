"""A submission's row and those beside it as a LaTeX table without what only the whole table can show.

Ranks, tiers and bold compare with all rows of a track; in a table of a few of these rows nobody could tell with which.
"""

from __future__ import annotations

from leaderboard import tables, text, wording
from leaderboard.board import Cell, Standing, Track


def latex(track: Track) -> str:
    """The rows of `track` as a `tabular` for the booktabs package, with a caption as a comment."""
    names = [text.latex(f"{group.label} {group.protocol.headline}") for group in track.current]
    header = ["Submission", "Method", *names, "Score"]
    return "\n".join(
        [
            f"% {tables.title(track)}. {text.one_line(_caption(track))}",
            f"\\begin{{tabular}}{{ll{'r' * (len(header) - 2)}}}",
            "\\toprule",
            f"{' & '.join(header)} \\\\",
            "\\midrule",
            *(f"{' & '.join(_row(standing))} \\\\" for standing in track.standings),
            "\\bottomrule",
            "\\end{tabular}",
            "",
        ]
    )


def marked(cell: Cell) -> str:
    """A value that a row has, with half of its interval and its marks."""
    assert cell.summary is not None
    return text.figure(cell.summary) + tables.marks(cell)


def _row(standing: Standing) -> list[str]:
    score = text.DASH if standing.score is None else text.figure(standing.score)
    cells = [_figure(cell).translate(tables.SIGNS) for cell in standing.cells]
    return [
        text.latex(standing.entry.label),
        text.latex(standing.entry.card.method),
        *cells,
        score.translate(tables.SIGNS),
    ]


def _figure(cell: Cell | None) -> str:
    if cell is None:
        return text.DASH
    return "failed" if cell.summary is None else marked(cell)


def _caption(track: Track) -> str:
    cells = [cell for standing in track.standings for cell in standing.cells if cell is not None]
    parts = ["Values in per cent."]
    for standing in track.standings:
        pairs = zip(track.current, standing.cells, strict=True)
        values = [(group.label, cell.summary) for group, cell in pairs if cell is not None and cell.summary is not None]
        if values:
            parts.append(f"{standing.entry.label}: {wording.meaning(standing.entry, values)}")
    score = "Score: the share of the errors of random initialisation that is gone, in %, mean over the row's protocols."
    return " ".join([*parts, score, *tables.explained(cells)])
