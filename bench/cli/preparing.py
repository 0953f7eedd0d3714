"""Commands that set up standard data sets and search for copies between pretraining and test images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.progress import Progress

from bench.cli.common import DEFAULT_WORK, AsJson, Work, data_app, print_json, print_table
from leaderboard.base.terminal import Console

SHOWN = 10
"""At most this many copies of a data set are listed; `--json` lists all."""


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
        [prepared.standard.name, state.part.what, state.part.where, state.counted, state.state]
        for prepared in found
        for state in prepared.parts
    ]
    print_table("", ["data set", "what", "where", "found", "state"], rows)
    for prepared in found:
        for step in prepared.todo:
            print(f"{prepared.standard.name}: {step}")
    return int(not all(prepared.complete for prepared in found))


@data_app.command
def contamination(
    images: Annotated[Path, Parameter(name="--images")],
    data: Annotated[Path, Parameter(name="--data")],
    *,
    datasets: Annotated[list[str] | None, Parameter(name="--dataset")] = None,
    mark: Path | None = None,
    work: Work = DEFAULT_WORK,
    as_json: AsJson = False,
) -> None:
    """Search pretraining images for copies of the images on which a data root's data sets are evaluated.

    Found are equal files, and equal pictures: saved again, scaled, brighter, in gray, mirrored, or with up to a tenth
    of each side cut off the pretraining image.

    Example: densebench data contamination --images images/ --data data/

    Parameters
    ----------
    images
        The pretraining images, as `densebench pretrain --data` takes them.
    data
        The data root, or your own data with their description.
    datasets
        Search only for test images of this data set; may be repeated.
    mark
        Folder of an exported backbone that was pretrained on these images: its card tells what was found, and so do the
        results of its submissions and their rows.
    """
    from bench.contamination import mark_card, search_copies
    from leaderboard.base.files import require_writable
    from pretrain.exported import read_card

    if mark is not None:  # the search may take long
        read_card(mark)
        require_writable(mark)
    found = search_copies(images, data, work, datasets or ())
    if mark is not None:
        mark_card(mark, found)
    if as_json:
        print_json([one.to_dict() for one in found])
        return
    rows = [
        [
            one.dataset,
            f"{one.tested:,}",
            *(f"{sum(copy.kind == kind for copy in one.copies):,}" for kind in ("same bytes", "same picture")),
            f"{100 * len(one.copies) / one.tested:.2f} %",
        ]
        for one in found
    ]
    print_table("", ["data set", "test images", "same bytes", "same picture", "copies"], rows)
    for one in found:
        for copy in one.copies[:SHOWN]:
            print(f"{copy.kind} ({copy.bits} of 256 bits differ): {copy.tested} is {copy.pretrained}")
        if len(one.copies) > SHOWN:
            print(f"... and {len(one.copies) - SHOWN} more of {one.dataset}: --json lists all")
        if one.plain:
            print(f"{one.dataset}: {one.plain} test images are damaged or of one color: only equal files are found")
