"""What all commands share: the application, options that several have, and how they print."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Group, Parameter
from rich.table import Table
from rich.text import Text

from leaderboard.base.printable import printable_json
from leaderboard.base.terminal import Console, cells

app = App(
    name="densebench",
    help="Which pretrained backbone is best for dense prediction? Pretrain, submit, compare.",
    help_epilogue="`--debug` (or DENSEBENCH_DEBUG=1) shows where in the code an error arose.",
    version=lambda: metadata.version("densebench"),  # cyclopts would look for one of the package `bench`
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,  # or cyclopts would end the process in silence
    default_parameter=Parameter(negative=()),  # every flag is off, every list empty, unless they are given
)
PRETRAIN = Group.create_ordered("Pretrain")
EVALUATE = Group.create_ordered("Evaluate")
COMPARE = Group.create_ordered("Compare and report")
TOOLS = Group.create_ordered("Data and tools")
"""The groups of the commands in `--help`, in its order."""
app["--help"].group = app["--version"].group = Group.create_ordered("Options")
data_app = App(
    name="data", group=TOOLS, help="Data roots (VOC, COCO, ...) and data of your own: set up, describe, check, search."
)
app.command(data_app)

Work = Annotated[Path, Parameter(name="--work", help="Folder in which all work lives.")]
AsJson = Annotated[bool, Parameter(name="--json", help="Print JSON.")]
DEFAULT_WORK = Path("densebench-work")


def is_first() -> bool:
    """Whether this process is the first, or the only one: `torchrun` starts a command once per process."""
    return os.environ.get("RANK", "0") == "0"


def print_json(value: Any) -> None:
    """Print `value` for a program to read."""
    print(printable_json(value))


def print_table(title: str, columns: Iterable[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """Print a table: as wide as the terminal, where long words go on in the next line; in a file with whole lines."""
    table = Table(title=Text(title, style="table.title"), title_justify="left", show_edge=False, pad_edge=False)
    for column in cells(columns):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*cells(row))
    Console().print(table)
