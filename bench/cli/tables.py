"""The command that makes tables and page from result files."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from bench.cli.common import COMPARE, DEFAULT_WORK, Work, app, print_table
from bench.errors import BenchError
from leaderboard.base.terminal import Console
from leaderboard.exchange import Format, Relationship

leaderboard_app = App(name="leaderboard", group=COMPARE)
app.command(leaderboard_app)


@leaderboard_app.default
def make_leaderboard(
    *,
    results: Path | None = None,
    csv: Path | None = None,
    markdown: Path | None = None,
    latex: Path | None = None,
    site: Path | None = None,
    pictures: Path | None = None,
    extras: Path | None = None,
    diagrams: Path | None = None,
    correlations: bool = False,
    correlations_csv: Path | None = None,
    each_checkpoint: bool = False,
    published: bool = False,
    columns: bool = False,
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
    pictures
        Link this page, which `densebench pictures` wrote, from it; best in the same folder.
    extras
        Show on the pages of submissions what `curves.json` (from `densebench export`) and `pictures.json` (from
        `densebench pictures`) in this folder and below it hold: training curves and pictures.
    diagrams
        Write the page's diagrams into this folder, an SVG file each.
    correlations
        Print how alike the protocols order the rows: Spearman's rank correlations with intervals.
    correlations_csv
        Write them as CSV.
    each_checkpoint
        Give every checkpoint a row; else pretraining runs that differ in their seed alone form one.
    published
        Print values that papers report, and end. They stand on the page, too, and are never ranked.
    columns
        Print what the columns of the CSV mean, and end.
    check
        Write nothing; exit with 1 if a named file differs from what the results give.
    """
    from bench.known import known_to_leaderboard
    from leaderboard import published as literature
    from leaderboard.build import build
    from leaderboard.correlations import correlate, table
    from leaderboard.extras import read_extras
    from leaderboard.frame import COLUMNS
    from leaderboard.page_data import relative_address

    if columns:
        print_table("Columns of the CSV", ["column", "type", ""], [[name, *about] for name, about in COLUMNS.items()])
        return 0
    if published:
        print_table(literature.TITLE, literature.HEADINGS, literature.rows())
        return 0
    known = known_to_leaderboard()
    if site is not None and pictures is not None:
        known["background"] = replace(known["background"], pictures=relative_address(pictures, site))
    if extras is not None:
        known["background"] = replace(known["background"], extras=read_extras(extras))
    report = build(
        results or work / "results",
        csv=csv,
        markdown=markdown,
        latex=latex,
        site=site,
        diagrams=diagrams,
        correlations=correlations_csv,
        check=check,
        each=each_checkpoint,
        **known,
    )
    Console().print(report.render())
    if correlations:
        Console().print(table(correlate(report.board)))
    return int(bool(report.problems))


@leaderboard_app.command
def beside(first: str, second: str, *, results: Path | None = None, work: Work = DEFAULT_WORK) -> int:
    """Show two tracks beside each other: paper, with one learning rate for all, and fair, where each has its own.

    Example: densebench leaderboard beside paper fair

    Parameters
    ----------
    first
        The one track.
    second
        The other.
    results
        Folder of result files (default: WORK/results).
    """
    from bench.known import known_to_leaderboard
    from leaderboard.beside import TITLE
    from leaderboard.beside import beside as rows_of
    from leaderboard.build import build

    built = build(results or work / "results", **known_to_leaderboard())
    for problem in built.problems:
        print(f"problem: {problem}")
    print_table(TITLE, *rows_of(built.board, first, second))
    return int(bool(built.problems))


@leaderboard_app.command
def sweeps(*, results: Path | None = None, work: Work = DEFAULT_WORK) -> int:
    """Show every run of the sweeps that choose settings in track fair, with its value on held-out training images.

    Example: densebench leaderboard sweeps

    Parameters
    ----------
    results
        Folder of result files (default: WORK/results).
    """
    from leaderboard.store import ResultStore
    from leaderboard.sweeps import HEADINGS, TITLE, sweep_rows

    found, unusable = ResultStore(results or work / "results").load()
    for file in unusable:
        print(f"problem: {file}")
    print_table(TITLE, HEADINGS, sweep_rows(found))
    return int(bool(unusable))


@leaderboard_app.command
def review(
    submitted: Path,
    *,
    results: Path | None = None,
    attached: Path | None = None,
    record: bool = False,
    work: Work = DEFAULT_WORK,
) -> int:
    """Show what a reviewer needs to accept result files of somebody else: problems, remarks, tables with their rows.

    Exit code 1 if something is to be solved first. Nothing is written without `--record`.

    Example: densebench leaderboard review submission/ --results leaderboard/results --attached files/

    Parameters
    ----------
    submitted
        The folder of result files that somebody submits.
    results
        Folder of the accepted result files (default: WORK/results).
    attached
        Folder with the files of these runs, whatever they are called: backbones, outputs, losses, weights.
    record
        Note beside the accepted results which runs have all their files attached; tables then show it.
    """
    from bench.known import known_to_leaderboard
    from leaderboard.checked import needed_files, write_check
    from leaderboard.review import review as look

    known = known_to_leaderboard()
    accepted = results or work / "results"
    found = look(submitted, accepted, attached=attached, plans=known["plans"], protocols=known["protocols"])
    Console().print(found.render())
    if record:
        for result in found.proven:
            print(f"written: {write_check(accepted, result, 'logs', needed_files(result), datetime.now(UTC))}")
    return int(bool(found.problems))


@leaderboard_app.command
def report(name: str, *, out: Path | None = None, results: Path | None = None, work: Work = DEFAULT_WORK) -> int:
    """Write a submission's report: gains over random initialisation with intervals, a verdict, words for a paper.

    Gains over checkpoints that were trained with labels stand beside, where the results have such. `submit` writes the
    same report at its end.

    Example: densebench leaderboard report my-method

    Parameters
    ----------
    name
        The submission.
    out
        Folder for report.html and rows.tex (default: WORK/reports/NAME).
    results
        Folder of result files (default: WORK/results).
    """
    from bench.known import known_to_leaderboard
    from leaderboard.build import build
    from leaderboard.submission import report_on
    from leaderboard.submission_page import write

    built = build(results or work / "results", **known_to_leaderboard())
    for problem in built.problems:
        print(f"problem: {problem}")
    found = report_on(built.board, name)
    for chapter in found.chapters:
        print(chapter.verdict)
    for path in write(found, out or work / "reports" / found.entry.label):
        print(f"written: {path}")
    return int(bool(built.problems))


@leaderboard_app.command
def export(
    *,
    format: Format,
    out: Path,
    names: Annotated[list[str] | None, Parameter(name="--name")] = None,
    organization: str = "",
    relationship: Relationship = "other",
    benchmark: str = "",
    source: str = "",
    results: Path | None = None,
    work: Work = DEFAULT_WORK,
) -> int:
    """Write values with their intervals in a format that other collections of results read.

    Example: densebench leaderboard export --format every-eval-ever --organization "Our lab" --out exported/

    Parameters
    ----------
    format
        hf-eval: .eval_results/densebench.yaml for a model's repository on the Hugging Face Hub. every-eval-ever: JSON
        by the shared schema of that project (0.3.0).
    out
        Folder to write into; each submission has a folder of its own there.
    names
        Write this submission; may be repeated (default: all).
    organization
        Who evaluated (needed by every-eval-ever).
    relationship
        What those have to do with the checkpoints.
    benchmark
        Data set on the Hub that is registered as the benchmark, as OWNER/NAME (needed by hf-eval).
    source
        Address of the results, such as a repository or a paper.
    results
        Folder of result files (default: WORK/results).
    """
    from bench.known import known_to_leaderboard
    from leaderboard.base.files import make_folder, write_atomic
    from leaderboard.build import build
    from leaderboard.exchange import Evaluator, exported

    report = build(results or work / "results", **known_to_leaderboard())
    for problem in report.problems:
        print(f"problem: {problem}")
    evaluator = Evaluator(organization, relationship, benchmark, source)
    for path, content in exported(report.board, format, evaluator, frozenset(names or ())).items():
        make_folder((out / path).parent)
        write_atomic(out / path, content)
        print(f"written: {out / path}")
    return int(bool(report.problems))


@app.command(group=COMPARE)
def pictures(
    *,
    data: Path,
    out: Path,
    names: Annotated[list[str] | None, Parameter(name="--name")] = None,
    images: int = 4,
    runs: Annotated[list[Path] | None, Parameter(name="--run")] = None,
    pretraining_images: Path | None = None,
    work: Work = DEFAULT_WORK,
) -> None:
    """Show what frozen backbones see: predictions of their linear probes and their features, on the same few images.

    With a target called pictures.json, the pictures become data that `densebench leaderboard --extras` shows on the
    pages of the submissions, with the objects and regions that pretraining runs found.

    Example: densebench pictures --data data/ --out page/pictures.html

    Parameters
    ----------
    data
        The data root on which the submissions were probed.
    out
        The page to write, or pictures.json.
    names
        Show this submission; may be repeated (default: all that were probed in this work folder).
    images
        How many validation images of each data set.
    runs
        A pretraining run, exported into its folder, whose discovered objects or regions are added; may be repeated.
    pretraining_images
        The images of these runs.
    """
    from bench.pictures.collect import collect
    from bench.pictures.page import render
    from bench.pictures.tables import found_tables, seen_tables
    from leaderboard.base.files import make_folder, write_atomic
    from leaderboard.records.extras import PICTURES, Pictures

    if images < 1:
        raise BenchError(f"--images is {images}: give 1 or more")
    if runs and (out.name != PICTURES or pretraining_images is None):
        raise BenchError(f"--run needs its images, --pretraining-images DIR, and --out .../{PICTURES}")
    make_folder(out.parent)
    sheets = collect(work, data, names=names or (), images=images)
    if out.name == PICTURES:
        tables = [*seen_tables(sheets), *(found_tables(runs or (), pretraining_images) if pretraining_images else ())]
        write_atomic(out, Pictures(schema_version=1, tables=tuple(tables)).to_json())
        print(f"pictures: {out}\nnext: densebench leaderboard --site page/ --extras {out.parent}")
    else:
        write_atomic(out, render(sheets))
        print(f"page: {out}")
