"""The command that describes data of the user's own."""

from __future__ import annotations

from pathlib import Path

from bench.cli.common import data_app
from leaderboard.base.terminal import Console


@data_app.command
def describe(folder: Path, *, out: Path | None = None, name: str | None = None) -> int:
    """Guess what a folder of your own images and annotations holds, and write it down for you to correct.

    Read are COCO's JSON (boxes or instance masks of any categories), VOC's XML, YOLO's text, and index masks with the
    names of their images. The description is `densebench-data.yaml` in the folder: parts, classes, what is ignored.
    Correct it and run `densebench data check FOLDER`; then `--data FOLDER --track custom` evaluates on these data.

    Example: densebench data describe my-parts/

    Parameters
    ----------
    folder
        The folder with images and annotations; only the description is added to it.
    out
        Write the description to this file instead, and give the file as --data.
    name
        Name of the data in tables (default: the folder's).
    """
    from bench.datasets.own.guess import describe as write

    file, report = write(folder, out, name)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{file}:\n", markup=False)
    console.print(file.read_text(encoding="utf-8"), markup=False)
    report.print(Console())
    data = folder if out is None else out
    console.print(f"next: correct {file}, then densebench data check {data}", markup=False)
    return 0
