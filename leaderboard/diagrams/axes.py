"""Scales from values to pixels, with round numbers along them."""

from __future__ import annotations

import math
from dataclasses import dataclass

_STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Axis:
    """An axis for values from `low` to `high` (above `low`), drawn from pixel `start` to pixel `end`."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """The pixel at which a value within the axis lies."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int = 8) -> list[float]:
        """At most `most` round values along the axis; a logarithmic axis shows all its powers of ten in any case."""
        if self.logarithmic:
            every = _round_numbers(self.low, self.high)
            return every if len(every) <= most else [tick for tick in every if f"{tick:e}".startswith("1.0")]
        span = self.high - self.low
        step = next(step for step in _round_numbers(span / most / 10, span * 10) if self._fits(step, most))
        first = math.ceil(self.low / step - 1e-9)
        return [step * i for i in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _fits(self, step: float, most: int) -> bool:
        return math.floor(self.high / step + 1e-9) - math.ceil(self.low / step - 1e-9) < most


def round_ends(low: float, high: float) -> tuple[float, float]:
    """The nearest of 1, 2 and 5 times a power of ten around positive values: below or at `low`, above or at `high`."""
    numbers = _round_numbers(low / 10, high * 10)
    start = max(number for number in numbers if number <= low * (1 + 1e-9))
    return start, min(number for number in numbers if number >= high * (1 - 1e-9) and number > start)


def _round_numbers(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    numbers = [step * 10.0**power for power in powers for step in _STEPS]
    return [number for number in numbers if low * (1 - 1e-9) <= number <= high * (1 + 1e-9)]
