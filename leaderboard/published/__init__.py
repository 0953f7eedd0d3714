"""Values that papers and repositories report: shown next to measured rows and never ranked with them.

Each value was read in its source. One identifier stands for one identical protocol: the two families of heads on COCO,
which give the same backbone different values, have two. Identifiers that begin with `paper_` are the protocols of track
paper, whose files say in what they still differ. A published value is one number without its runs, often copied from
paper to paper, and says nothing about its noise; where the source says over how many runs it is the mean, that is kept.
"""

from __future__ import annotations

from csv import DictReader
from dataclasses import dataclass
from functools import cache

from leaderboard.base.html import asset
from leaderboard.text import plain

TITLE = "Published values: reported by others, shown next to measured ones and never ranked with them"
HEADINGS = ["protocol", "metric", "method", "backbone", "pretrained on", "epochs", "value", "runs", "source"]


@dataclass(frozen=True)
class Published:
    """One reported value."""

    protocol: str
    """Identifier of the protocol, a key of `protocols`."""
    metric: str
    method: str
    architecture: str
    pretraining_data: str
    pretraining_epochs: float | None
    value: str
    """The value in per cent, with the decimals that the source gives."""
    runs: int | None
    """Number of runs whose mean the value is; `None` where the source does not say."""
    source: str
    """The source: a repository at a commit, and the file in it."""


@cache
def protocols() -> dict[str, str]:
    """Description of each protocol, by its identifier."""
    return {row["protocol"]: row["description"] for row in _rows("protocols.csv")}


@cache
def values() -> tuple[Published, ...]:
    """All values, by protocol and metric."""
    return tuple(
        Published(
            protocol=row["protocol"],
            metric=row["metric"],
            method=row["method"],
            architecture=row["architecture"],
            pretraining_data=row["pretraining_data"],
            pretraining_epochs=float(row["pretraining_epochs"]) if row["pretraining_epochs"] else None,
            value=row["value"],
            runs=int(row["runs"]) if row["runs"] else None,
            source=row["source"],
        )
        for row in _rows("values.csv")
    )


def rows() -> list[list[str]]:
    """All values as text, under `HEADINGS`."""
    return [
        [
            value.protocol,
            value.metric,
            value.method,
            value.architecture,
            value.pretraining_data,
            plain(value.pretraining_epochs),
            value.value,
            plain(value.runs),
            value.source,
        ]
        for value in values()
    ]


def _rows(file: str) -> list[dict[str, str]]:
    return list(DictReader(asset("leaderboard", "published", file).splitlines()))
