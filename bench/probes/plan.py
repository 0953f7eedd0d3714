"""What a probe's protocol says, as data: the `plan` of its `protocol = dict(...)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bench.errors import BenchError

STRIDE = 16
"""Input pixels a cell: the last two maps of ResNets and ViTs are joined at this stride."""

Kind = Literal["linear", "knn"]


@dataclass(frozen=True)
class ProbePlan:
    """How a frozen backbone is probed."""

    kind: Kind
    """The classifier: `linear`, multinomial logistic regression, or `knn`, a vote of the nearest cells."""
    size: tuple[int, int]
    """Height and width to which images are scaled before they enter the backbone."""
    classes: int
    """Labels are 0 to `classes` - 1, and 255 where a pixel does not count."""
    cells: int
    """At most so many training cells are used, drawn evenly from all. They and what is computed of them are kept in
    memory: cells x channels x 4 bytes."""
    held_out: float
    """Share of the training images on which `candidates` are compared before the classifier is fitted to all."""
    candidates: tuple[float, ...]
    """Values of the one hyper-parameter that is chosen: the penalty of `linear`, the number of neighbours of `knn`."""
    options: Mapping[str, float]
    """What else the classifier takes: `iterations` of `linear`, `temperature` of `knn`."""

    def __post_init__(self) -> None:
        wanted = {"linear": {"iterations"}, "knn": {"temperature"}}
        if self.kind not in wanted or self.options.keys() != wanted[self.kind]:
            raise BenchError(f"a probe is linear with iterations or knn with temperature, not {self.kind!r}")
        if any(side % (2 * STRIDE) or side < 2 * STRIDE for side in self.size):
            raise BenchError(f"a probe's images have sides that are multiples of {2 * STRIDE}, not {self.size}")
        positive = (self.classes, self.cells, *self.candidates, *self.options.values())
        if not 0 < self.held_out < 1 or not self.candidates or min(positive) <= 0:
            raise BenchError("a probe's numbers are positive, and it holds out a share of the images below 1")


def read_probe_plan(plan: Mapping[str, Any]) -> ProbePlan:
    """The plan that a protocol writes as `plan=dict(kind=..., ...)`.

    Raises:
        BenchError: a field is missing, unknown or out of range.
    """
    try:
        fields = {**plan, "size": tuple(plan["size"]), "candidates": tuple(plan["candidates"])}
        return ProbePlan(**fields)
    except (KeyError, TypeError) as error:
        raise BenchError(f"the plan of a probe is not valid: {type(error).__name__}: {error}") from error
