"""Optional files about a backbone from which pages draw: the curves of its training, and pictures.

No value and no rank depends on them. They name the weights to which they belong by their hash.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from leaderboard.records.base import Amount, Count, Line, Record, Sha256

CURVES, PICTURES = "curves.json", "pictures.json"
"""Names of the files: `densebench export` writes the one beside the card, `densebench pictures` the other."""
POINTS = 200
"""Most points of a curve that `densebench export` writes."""

Number = Annotated[float, Field(allow_inf_nan=False)]
DataUrl = Annotated[str, Field(max_length=5_000_000, pattern=r"^data:image/(png|jpeg);base64,[A-Za-z0-9+/]+={0,2}$")]
"""A picture as text; any other address could load something from the network."""


class Curve(Record):
    """A value over the steps of a training."""

    name: Line
    steps: Annotated[tuple[Count, ...], Field(min_length=1, max_length=1000)]
    values: tuple[Number, ...]
    errors: tuple[Amount, ...] | None
    """Standard errors of the values; None where they are not known."""

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        if {len(self.steps)} != {len(self.values), len(self.values if self.errors is None else self.errors)}:
            raise ValueError("a curve has as many values and errors as steps")
        return self


class Curves(Record):
    """Content of `curves.json`: the training that ended with these weights."""

    schema_version: Literal[1]
    sha256: Sha256
    """Hash of the weights, as in the card."""
    curves: Annotated[tuple[Curve, ...], Field(max_length=100)]


class PictureRow(Record):
    """Pictures of one kind, one for each image."""

    name: Line
    pictures: Annotated[tuple[DataUrl, ...], Field(min_length=1, max_length=50)]


class PictureTable(Record):
    """Pictures of one backbone."""

    sha256: Sha256
    """Hash of the weights, as in the card."""
    title: Line
    rows: Annotated[tuple[PictureRow, ...], Field(min_length=1, max_length=50)]


class Pictures(Record):
    """Content of `pictures.json`."""

    schema_version: Literal[1]
    tables: Annotated[tuple[PictureTable, ...], Field(max_length=10_000)]
