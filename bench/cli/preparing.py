"""Commands that set up standard data sets and search for copies between pretraining and test images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.progress import Progress

from bench.cli.common import AsJson, data_app, print_json, print_table
from leaderboard.base.terminal import Console


@data_app.command(name="prepare")
def prepare_data(
    root: Path,
    datasets: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    /,
    *,
    archives: Path | None = None,
    download: bool = False,
    as_json: AsJson = False,
) -> int:
    """Set up standard data sets: unpack their archives, convert once, and say what is missing and where it is.

    Without a data set it writes nothing and says what of each there is. Nothing that is complete is done again; after
    an interruption, the same command continues.

    Example: densebench data prepare data/ voc2012 sbd --download

    Parameters
    ----------
    root
        The data root.
    datasets
        Names of data sets, as the command lists them without any; those on which they build are set up, too.
    archives
        The folder in which the archives are, and into which they are downloaded. Default: ROOT/archives.
    download
        Download archives that are missing, where the authors offer them without registering. Read the terms of use
        first: this accepts them.
    """
    from bench.datasets.standard import find_standard, prepare, survey

    folder = archives or root / "archives"
    standards = find_standard(datasets or [])
    if not datasets:
        found = [survey(root, standard, folder) for standard in standards]
    else:
        with Progress(console=Console(stderr=True), transient=True) as bar:
            tasks = {}

            def watch(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bar.add_task(what)
                bar.update(tasks[what], completed=done, total=total)

            found = [prepare(root, standard, folder, download=download, watch=watch) for standard in standards]
    if as_json:
        print_json([prepared.to_dict() for prepared in found])
        return int(bool(datasets) and not all(prepared.complete for prepared in found))
    if not datasets:
        rows = [[p.standard.name, p.standard.title, p.state] for p in found]
        print_table("", ["data set", "what it is", "state"], rows)
        print(f"\none of them in detail, and what is to do: densebench data prepare {root} NAME")
        return 0
    rows = [
        [prepared.standard.name, state.part.what, state.part.pattern, state.counted, state.state]
        for prepared in found
        for state in prepared.parts
    ]
    print_table("", ["data set", "what", "where", "found", "state"], rows)
    for prepared in found:
        for step in prepared.todo:
            print(f"{prepared.standard.name}: {step}")
    return int(not all(prepared.complete for prepared in found))
