"""What papers and repositories report, to stand beside measured rows and never to be ranked with them.

Each value is of a source that was read. One identifier is one truly equal protocol: the two families of heads on COCO,
which give the same backbone different values, have two. Those that begin with `paper_` are the protocols of track
paper, whose files say in what they still differ. A published value is one number without its runs, often copied from
paper to paper, and says nothing of its noise: where the source tells of how many runs it is the mean, that is stated.
"""

from __future__ import annotations

from csv import DictReader
from dataclasses import dataclass
from functools import cache

from leaderboard.base.html import asset
from leaderboard.text import plain

TITLE = "Published values: reported by others, to stand beside measured ones and never to be ranked with them"
HEADINGS = ["protocol", "metric", "method", "backbone", "pretrained on", "epochs", "value", "runs", "source"]


@dataclass(frozen=True)
class Published:
    """One reported value."""

    protocol: str
    """Key of `protocols`."""
    metric: str
    method: str
    architecture: str
    pretraining_data: str
    pretraining_epochs: float | None
    value: str
    """In per cent, with the decimals that the source gives."""
    runs: int | None
    """Of which it is the mean; `None` where the source does not say."""
    source: str
    """Repository at a commit, and the file in it."""


@cache
def protocols() -> dict[str, str]:
    """What each protocol is, by its identifier."""
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
