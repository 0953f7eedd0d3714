"""How much of its time a GPU spends between steps, measured on the GPU itself."""

from __future__ import annotations

import torch


class DeviceGaps:
    """Marks where steps begin and end in the device's queue, without the host waiting for the device.

    The host runs ahead of a GPU: how long it waited for a batch says nothing about whether the GPU had work meanwhile.
    Between two steps the GPU waits for data, copies it and applies the colour operations, as far as that is not done
    beside the step before (`Acceleration.prefetch`). On a CPU nothing is measured.
    """

    def __init__(self, device: torch.device) -> None:
        self._active = device.type == "cuda"
        self._begun: list[torch.cuda.Event] = []
        self._ended: list[torch.cuda.Event] = []

    def step_begins(self) -> None:
        """The next thing in the queue is a step."""
        if self._active:
            self._begun.append(_mark())

    def step_ends(self) -> None:
        """The last thing in the queue was a step."""
        if self._active:
            self._ended.append(_mark())

    def close(self) -> float | None:
        """The share of the time between steps since the last step of the interval before, in [0, 1].

        None on a CPU, and before there are two steps to lie between. Waits for the last step: call it where the host
        has just fetched something from the device.
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
