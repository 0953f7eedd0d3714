"""Plans of probes of videos."""

from __future__ import annotations

from dataclasses import dataclass

from bench.errors import BenchError
from bench.probes.plans.base import ProbePlan, require_positive


@dataclass(frozen=True)
class PropagationPlan(ProbePlan):
    """`propagation`: the masks of a video's first frame are carried from frame to frame by the similarity of cells.

    A cell gets the mean of the labels of its `neighbors` most similar cells among those of the first frame and of the
    last `context` frames, weighted by a softmax of cosine / `temperature`.
    """

    rules: str
    """What else differs between the published procedures, `crw` or `dino` (`bench.probes.kinds.propagation`)."""
    neighbors: int
    context: int
    """Number of preceding frames."""
    radius: int
    """Cells that are farther away than this in a preceding frame do not count."""
    temperature: float
    side: int = 0
    """Height and width to which frames are scaled, whatever their shape; 0 leaves it to the rules."""

    def __post_init__(self) -> None:
        if self.rules not in ("crw", "dino") or self.side < 0:
            raise BenchError(
                f"labels are propagated by the rules crw or dino, not {self.rules!r}, at a side of 0 or more"
            )
        require_positive(self.neighbors, self.context, self.radius, self.temperature)
