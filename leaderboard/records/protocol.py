"""What a result was measured under and on: protocol, track, data set."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from leaderboard.records.base import Identifier, Line, Positive, Prose, Record, Sha256

Task = Literal["detection", "instance segmentation", "semantic segmentation", "representation"]


class ProtocolReference(Record):
    """Names one exact protocol. Only results with equal `sha256` are compared."""

    id: Identifier
    title: Annotated[Line, Field(max_length=120)]
    """What a reader calls it, in full."""
    short_title: Annotated[Line, Field(max_length=60)]
    """The heading of a table's column, without the track."""
    version: Positive
    sha256: Sha256
    track: Identifier
    task: Task
    dataset: Line
    headline: Line
    """Key of the metric by which a table ranks."""


class TrackDescription(Record):
    """What the page says of a track above its protocols."""

    id: Identifier
    purpose: Prose
    rules: tuple[Prose, ...]
    """What every row of the track has in common, a sentence each."""


class DatasetReference(Record):
    """The very files that were used."""

    name: Line
    fingerprint: Sha256
    train_images: Positive
    val_images: Positive
