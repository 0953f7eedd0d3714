"""Measures what the wall-clock time of a run is spent on."""

from __future__ import annotations

import time
from collections.abc import Mapping


class Clock:
    """Seconds by activity, and in all."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = self._last = time.perf_counter()

    def lap(self, what: str) -> None:
        """Count the time since the last lap as time for `what`."""
        now = time.perf_counter()
        self.seconds[what] = self.seconds.get(what, 0.0) + now - self._last
        self._last = now

    def add(self, seconds: Mapping[str, float], total: float) -> None:
        """Add the time that an earlier process spent on the same work."""
        for what, spent in seconds.items():
            self.seconds[what] = self.seconds.get(what, 0.0) + spent
        self._started -= total

    def total(self) -> float:
        """Seconds since the clock was made, plus those that were added."""
        return time.perf_counter() - self._started
