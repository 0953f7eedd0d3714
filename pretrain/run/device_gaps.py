"""Measures on the GPU itself how much of its time it spends between steps."""

from __future__ import annotations

import torch


class DeviceGaps:
    """Marks where steps begin and end in the device's queue, without the host waiting for the device.

    The host runs ahead of a GPU: its time of waiting for a batch does not say whether the GPU had work meanwhile.
    Between two steps the GPU waits for data, copies it and applies the color operations, unless this happens during the
    preceding step (`Acceleration.prefetch`). On a CPU nothing is measured.
    """

    def __init__(self, device: torch.device) -> None:
        self._active = device.type == "cuda"
        self._begun: list[torch.cuda.Event] = []
        self._ended: list[torch.cuda.Event] = []

    def step_begins(self) -> None:
        """Mark that a step is queued next."""
        if self._active:
            self._begun.append(_mark())

    def step_ends(self) -> None:
        """Mark that a step was queued last."""
        if self._active:
            self._ended.append(_mark())

    def close(self) -> float | None:
        """Share of the time spent between steps, since the last step of the preceding interval, in [0, 1].

        It is None on a CPU, and before there are two steps. It waits for the last step: call it where the host has just
        fetched something from the device.
        """
        begun, ended = self._begun[-len(self._ended) + 1 :], self._ended
        if len(ended) < 2:
            return None
        ended[-1].synchronize()
        between = sum(end.elapsed_time(begin) for end, begin in zip(ended[:-1], begun, strict=True))
        share = between / ended[0].elapsed_time(ended[-1])
        self._begun, self._ended = [], ended[-1:]
        return float(share)


def _mark() -> torch.cuda.Event:
    event: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event
