"""What a probe's protocol says, as data: the `plan` of its `protocol = dict(...)`. Reading it imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.errors import BenchError

STRIDE = 16
"""Input pixels a cell: the last two maps of ResNets and ViTs are joined at this stride."""


@dataclass(frozen=True)
class ProbePlan:
    """What every probe says. How one works stands in the module of `bench.probes.kinds` that takes its plan."""

    kind: str
    """A key of `KINDS`."""
    size: tuple[int, int]
    """Height and width to which images are scaled before they enter the backbone."""

    def __post_init__(self) -> None:
        if any(side % (2 * STRIDE) or side < 2 * STRIDE for side in self.size):
            raise BenchError(f"a probe's images have sides that are multiples of {2 * STRIDE}, not {self.size}")


@dataclass(frozen=True)
class ClassifierPlan(ProbePlan):
    """A classifier of cells, trained on labels: `linear`, multinomial logistic regression, or `knn`, a vote of the
    nearest cells."""

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
    labels: float = 1.0
    """Share of the training images whose labels are used: those whose names have the smallest SHA-256, two at least."""

    def __post_init__(self) -> None:
        super().__post_init__()
        wanted = {"knn": {"temperature"}}.get(self.kind, {"iterations"})
        if self.options.keys() != wanted:
            raise BenchError(f"a probe of kind {self.kind} has the options {', '.join(wanted)}")
        if not 0 < self.held_out < 1 or not self.candidates or not 0 < self.labels <= 1:
            raise BenchError("a probe uses and holds out a share of the images, and has candidates to choose from")
        _require_positive(self.classes, self.cells, *self.candidates, *self.options.values())


@dataclass(frozen=True)
class RobustnessPlan(ClassifierPlan):
    """`robustness`: the classifier `linear` on corrupted copies of the validation images, whose confusion matrices are
    kept in memory: copies x images x classes^2 x 8 bytes."""

    corruptions: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Strengths by the names in `bench.probes.corruptions`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        known = ("noise", "blur", "brightness", "contrast", "jpeg")
        if not self.corruptions or set(self.corruptions) - set(known) or not all(self.corruptions.values()):
            raise BenchError(f"a probe of robustness has strengths of some of {', '.join(known)}")
        _require_positive(*(strength for strengths in self.corruptions.values() for strength in strengths))


@dataclass(frozen=True)
class HeadPlan(ProbePlan):
    """`head`: a light convolutional head, trained on labels. A batch of images is in memory at once."""

    classes: int
    """Labels are 0 to `classes` - 1, and 255 where a pixel does not count."""
    hidden: int
    """Channels of the head."""
    batch: int
    """Images an iteration."""
    iterations: int
    weight_decay: float
    held_out: float
    """Share of the training images on which `candidates` are compared before the head is trained on all."""
    candidates: tuple[float, ...]
    """Learning rates to choose from."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.held_out < 1 or not self.candidates or self.weight_decay < 0:
            raise BenchError("a head has learning rates to choose from on a share of the images, and no negative decay")
        _require_positive(self.classes, self.hidden, self.batch, self.iterations, *self.candidates)


@dataclass(frozen=True)
class ClusterPlan(ProbePlan):
    """`clusters`: k-means of cells, whose clusters the labels of the validation images name."""

    classes: int
    """Labels are 0 to `classes` - 1, and 255 where a pixel does not count."""
    cells: int
    """At most so many training cells are clustered, drawn evenly from all. They, standardized copies and for each a
    number a cluster are in memory: cells x (3 x channels + clusters) x 4 bytes."""
    clusters: int
    naming: str
    """`hungarian`: each cluster is another class, those that give the highest mIoU. `majority`: each is the class that
    most of its pixels have."""
    dimensions: int
    """Principal components of the standardized cells that are clustered."""
    iterations: int
    """At most, of Lloyd's algorithm."""
    runs: int
    """Clusterings from different starts, over which metrics are averaged."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self.classes, self.cells, self.clusters, self.dimensions, self.iterations, self.runs)
        if self.naming not in ("hungarian", "majority"):
            raise BenchError(f"clusters are named by hungarian or majority, not {self.naming!r}")
        if self.naming == "hungarian" and self.clusters != self.classes:
            raise BenchError("hungarian names as many clusters as there are classes")


@dataclass(frozen=True)
class ForegroundPlan(ProbePlan):
    """`foreground`: k-means of the cells of each image, some clusters of which are taken for its object. One image is
    in memory at once."""

    clusters: int
    iterations: int
    """At most, of Lloyd's algorithm."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self.clusters, self.iterations)


@dataclass(frozen=True)
class SegmentPlan(ForegroundPlan):
    """`segments`: the segment of each image, found as in `foreground` by the border, takes the class of the training
    segment that is most similar. Memory: training images x channels x 4 bytes, twice."""

    classes: int
    """Labels are 0 to `classes` - 1, and 255 where a pixel does not count."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self.classes)


@dataclass(frozen=True)
class RetrievalPlan(ProbePlan):
    """`retrieval`: a memory of cells of augmented training images, whose soft labels the validation cells look up."""

    classes: int
    """Labels are 0 to `classes` - 1, and 255 where a pixel does not count."""
    memory: int
    """Cells at most that are kept: cells x (channels + classes) x 4 bytes. Every image gives equally many, at least
    one."""
    epochs: int
    """How often each training image is augmented."""
    neighbors: int
    """Cells of the memory that a validation cell looks at."""
    temperature: float
    """By which their cosine similarities are divided before the softmax."""
    published: bool
    """As the published code computes, with its slips, or without them (`bench.probes.kinds.retrieval`)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self.classes, self.memory, self.epochs, self.neighbors, self.temperature)


@dataclass(frozen=True)
class RankPlan(ProbePlan):
    """`rank`: RankMe of the cells, which needs no labels. The covariance of channels^2 x 8 bytes is kept in memory."""


@dataclass(frozen=True)
class LidarPlan(ProbePlan):
    """`lidar`: LiDAR of augmented images, which needs no labels. Memory: channels^2 x 8 bytes, six times."""

    views: int
    """Of each image, all at once in the backbone."""
    ridge: float
    """Added to the variances within images, in units of the mean variance of a channel."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self.views - 1, self.ridge)


KINDS: Mapping[str, type[ProbePlan]] = {
    "linear": ClassifierPlan,
    "knn": ClassifierPlan,
    "robustness": RobustnessPlan,
    "head": HeadPlan,
    "clusters": ClusterPlan,
    "foreground": ForegroundPlan,
    "segments": SegmentPlan,
    "retrieval": RetrievalPlan,
    "rank": RankPlan,
    "lidar": LidarPlan,
}
"""The plans by what they call themselves."""


def read_probe_plan(plan: Mapping[str, Any]) -> ProbePlan:
    """The plan that a protocol writes as `plan=dict(kind=..., ...)`.

    Raises:
        BenchError: a field is missing, unknown or out of range.
    """
    kind = plan.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise BenchError(f"there is no probe of kind {kind!r}: choose one of {', '.join(KINDS)}")
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in plan.items()}
    try:
        return KINDS[kind](**fields)
    except (TypeError, ValueError) as error:
        raise BenchError(f"the plan of a probe is not valid: {type(error).__name__}: {error}") from error


def _require_positive(*numbers: float) -> None:
    if min(numbers) <= 0:
        raise BenchError("the numbers of a probe's plan are positive")
