"""References to the protocol and data set of a result, and the description of a track."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from leaderboard.records.base import Count, Identifier, Line, Positive, Prose, Record, Sha256

Task = Literal[
    "detection",
    "instance segmentation",
    "semantic segmentation",
    "image classification",
    "representation",
    "video object segmentation",
    "video propagation",
]


class ProtocolReference(Record):
    """Names one exact protocol. Only results with equal `sha256` are compared."""

    id: Identifier
    title: Annotated[Line, Field(max_length=120)]
    """Full title for readers."""
    short_title: Annotated[Line, Field(max_length=60)]
    """Heading of a column in a table, without the track."""
    version: Positive
    sha256: Sha256
    track: Identifier
    task: Task
    dataset: Line
    headline: Line
    """Key of the metric by which tables rank."""


class TrackDescription(Record):
    """What the page says about a track above its protocols."""

    id: Identifier
    purpose: Prose
    rules: tuple[Prose, ...]
    """What every row of the track has in common, one sentence per rule."""


class DatasetReference(Record):
    """Names exactly the files that were used."""

    name: Line
    fingerprint: Sha256
    train_images: Count
    """Number of training images; 0 where nothing is trained on."""
    val_images: Positive
    classes: Annotated[tuple[Line, ...], Field(min_length=1, max_length=1001)] | None
    """Names of the classes, by label, of data of the user's own, whose results stand in a table of their own; `None`
    for the usual data sets."""
