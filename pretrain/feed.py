"""The finished views of a whole run, step by step, on the device that trains."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Literal

import torch

from pretrain.augment import finish
from pretrain.images import CropBatches, ImageSource, crop_batches
from pretrain.processes import Place
from pretrain.views import Crop, View, ViewPlan, ViewSpec

OPENED_AHEAD = 2
"""Batches before the end of an epoch at which the next one's workers start, so that no epoch begins with waiting."""


def feed(
    source: ImageSource,
    plan: ViewPlan,
    place: Place,
    *,
    batch_size: int,
    epochs: int,
    steps_per_epoch: int,
    first_step: int,
    seed: int,
    workers: int,
    on_damaged: Literal["error", "skip"],
) -> Generator[tuple[list[View], float], None, None]:
    """This process's views of every step from `first_step` to the end of the last epoch, each with the seconds waited.

    `batch_size` is global. Views lie on the place's device, channels last. The seconds are those for which the loop
    stood still because no batch was ready; on a GPU, work queued before may have filled part of them.
    """

    def open_epoch(epoch: int, first: int) -> CropBatches:
        return crop_batches(
            source,
            plan,
            batch_size=batch_size // place.world,
            seed=seed,
            epoch=epoch,
            first_step=first,
            rank=place.rank,
            world=place.world,
            workers=workers,
            pin=place.device.type == "cuda",
            on_damaged=on_damaged,
        )

    epoch, first = divmod(first_step, steps_per_epoch)
    batches = open_epoch(epoch, first) if epoch < epochs else None
    while batches is not None:
        following = None
        asked = time.perf_counter()
        for crops in batches:
            waited = time.perf_counter() - asked
            if following is None and len(batches) <= OPENED_AHEAD and epoch + 1 < epochs:
                following = open_epoch(epoch + 1, 0)
            yield [_view(crop, spec, plan, place) for crop, spec in zip(crops, plan.specs, strict=True)], waited
            asked = time.perf_counter()
        batches, epoch = following, epoch + 1


def _view(crop: Crop, spec: ViewSpec, plan: ViewPlan, place: Place) -> View:
    view = finish(crop.to(place.device), spec, plan)
    view.pixels = view.pixels.contiguous(memory_format=torch.channels_last)
    return view
