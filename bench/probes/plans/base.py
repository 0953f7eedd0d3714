"""What the plans of all probes share."""

from __future__ import annotations

from dataclasses import dataclass

from bench.errors import BenchError


@dataclass(frozen=True)
class ProbePlan:
    """The fields of every probe's plan. The module in `bench.probes.kinds` that takes a plan describes the probe."""

    kind: str
    """Kind of probe, a key of `KINDS`."""


def require_positive(*numbers: float) -> None:
    """Refuse numbers of a plan that are not above 0.

    Raises:
        BenchError: one of them is not.
    """
    if min(numbers) <= 0:
        raise BenchError("the numbers of a probe's plan are positive")
