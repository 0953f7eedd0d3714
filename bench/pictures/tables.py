"""Pictures as data that the leaderboard's page shows with each submission (`leaderboard.records.extras`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.pictures.collect import Sheet
from bench.pictures.draw import RGB, addresses
from leaderboard.records.extras import PictureRow, PictureTable
from pretrain.data.batches import open_images
from pretrain.exported import read_card
from pretrain.run.pictures import Gallery


def seen_tables(sheets: Sequence[Sheet]) -> Iterator[PictureTable]:
    """A table for each sheet and submission: images, labels, predictions and features."""
    for sheet in sheets:
        common = [_row("image", sheet.images, sheet, smooth=True), _row("labels", sheet.labels, sheet)]
        for seen in sheet.seen:
            own = [_row(f"prediction, {seen.value}", seen.predictions, sheet), _row("features", seen.features, sheet)]
            yield PictureTable(sha256=seen.sha256, title=sheet.title, rows=(*common, *own))


def found_tables(runs: Sequence[Path], images: Path) -> Iterator[PictureTable]:
    """A table for each run that has found something in its pretraining `images`: images, then objects or regions.

    The run's backbone must have been exported into its folder.

    Raises:
        PretrainError: a folder holds no run or no export, or the images are not those of the run.
    """
    gallery = Gallery(open_images(images))
    for run in runs:
        found = gallery.of(run)
        if found is not None:
            kinds = zip(found.titles, zip(*found.rows, strict=True), strict=True)
            rows = tuple(PictureRow(name=name, pictures=pictures) for name, pictures in kinds)
            yield PictureTable(sha256=read_card(run / "export").sha256, title="Found in pretraining images", rows=rows)


def _row(name: str, pictures: Sequence[RGB], sheet: Sheet, *, smooth: bool = False) -> PictureRow:
    return PictureRow(name=name, pictures=tuple(addresses(pictures, sheet.labels, smooth=smooth)))
