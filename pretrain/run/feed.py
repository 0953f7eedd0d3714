"""The finished views of a whole run, step by step, on the device that trains."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator

import torch

from pretrain.data.augment import finish_views
from pretrain.data.batches import CropBatches, ImageSource, Loading, crop_batches, steps_per_epoch
from pretrain.data.views import Crop, View, ViewPlan, ViewSpec

OPENED_AHEAD = 2
"""The workers of the next epoch start this many batches before the end of an epoch, so that no epoch begins with
waiting."""
STEPS_AHEAD = 2
"""Most steps in the device's queue for which further views are made ahead: each set of views takes memory."""


def feed(
    source: ImageSource,
    plan: ViewPlan,
    loading: Loading,
    device: torch.device,
    *,
    epochs: int,
    first_step: int,
    first_epoch: int = 0,
    prefetch: bool = False,
) -> Generator[tuple[list[View], float], None, None]:
    """This process's views of every step from `first_step` to the end of the last epoch, each with the seconds waited.

    Epochs are drawn as those from `first_epoch` on. Views are on `device`, channels last. The seconds are those in
    which the loop waited because no batch was ready; on a GPU, work queued earlier may have run in this time. With
    `prefetch` a GPU makes the same views on a separate stream, during the preceding step.
    """
    side = _SideStream(device) if prefetch and device.type == "cuda" else None

    def finished(crops: list[Crop]) -> list[View]:
        def make() -> list[View]:
            return [_view(crop, spec, plan, device) for crop, spec in zip(crops, plan.specs, strict=True)]

        return make() if side is None else side.run(make)

    def open_epoch(epoch: int, first: int) -> CropBatches:
        return crop_batches(source, plan, loading, epoch=first_epoch + epoch, first_step=first)

    epoch, first = divmod(first_step, steps_per_epoch(len(source), loading.batch_size * loading.world))
    batches = open_epoch(epoch, first) if epoch < epochs else None
    while batches is not None:
        following = None
        asked = time.perf_counter()
        for crops in batches:
            waited = time.perf_counter() - asked
            if following is None and len(batches) <= OPENED_AHEAD and epoch + 1 < epochs:
                following = open_epoch(epoch + 1, 0)
            yield finished(crops), waited
            asked = time.perf_counter()
        batches, epoch = following, epoch + 1


def _view(crop: Crop, spec: ViewSpec, plan: ViewPlan, device: torch.device) -> View:
    view = finish_views(crop.to(device), spec, plan)
    view.pixels = view.pixels.contiguous(memory_format=torch.channels_last)
    return view


class _SideStream:
    """Makes views on another CUDA stream than that of the steps.

    The host queues steps faster than the device executes them: views on the steps' own stream would wait for the end of
    the preceding step, views on another stream are made while it runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._queued: deque[torch.cuda.Event] = deque()
        """Events at the ends of the steps that were queued last."""

    def run(self, make: Callable[[], list[View]]) -> list[View]:
        """The result of `make`, for use on the current stream."""
        main = torch.cuda.current_stream(self._device)
        self._queued.append(main.record_event())
        if len(self._queued) > STEPS_AHEAD:
            self._queued.popleft().synchronize()
        with torch.cuda.stream(self._stream):
            views = make()
        main.wait_stream(self._stream)
        for view in views:
            for tensor in (view.pixels, view.box, view.flip):
                # Their memory belongs to the side stream, which must not reuse it before the step has read it.
                tensor.record_stream(main)
        return views
