"""The verb that makes tables and page from result files."""

from __future__ import annotations

from pathlib import Path

from bench.cli.common import DEFAULT_WORK, Work, app
from leaderboard.base.terminal import Console


@app.command(name="leaderboard")
def make_leaderboard(
    *,
    results: Path | None = None,
    csv: Path | None = None,
    markdown: Path | None = None,
    latex: Path | None = None,
    site: Path | None = None,
    check: bool = False,
    work: Work = DEFAULT_WORK,
) -> int:
    """Regenerate tables and page from result files: the same bytes every time.

    Example: densebench leaderboard --results densebench-work/results --csv leaderboard.csv --site page/

    Parameters
    ----------
    results
        Folder of result files (default: WORK/results).
    csv
        Write the table as CSV.
    markdown
        Write it as Markdown.
    latex
        Write it as LaTeX.
    site
        Write the page into this folder.
    check
        Write nothing; exit with 1 if a named file differs from what the results give.
    """
    from bench.protocols import TrainingPlan, all_protocols, load_protocol
    from bench.tracks import TRACKS
    from leaderboard.build import build
    from leaderboard.records import TrackDescription

    report = build(
        results or work / "results",
        csv=csv,
        markdown=markdown,
        latex=latex,
        site=site,
        check=check,
        tracks={t.id: TrackDescription(id=t.id, purpose=t.purpose, rules=t.rules) for t in TRACKS},
        protocols={
            table: [load_protocol(id_).reference() for id_ in ids]
            for t in TRACKS
            for table, ids in ((t.id, t.protocols), (f"{t.id}-further", t.further))
        },
        plans={p.sha256: p.plan.iterations for p in all_protocols() if isinstance(p.plan, TrainingPlan)},
    )
    Console().print(report.render())
    return int(bool(report.problems))
