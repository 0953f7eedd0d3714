"""Plans of probes of cells, the places of a feature map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from bench.errors import BenchError
from bench.probes.plans.base import ProbePlan, require_positive

DATA_LABELS = "data:labels"
"""The value of `classes` in the plan of a protocol for own data: the number of labels that its description says."""
STRIDE = 16
"""Input pixels per cell in each direction: the last two maps of ResNets and ViTs are joined at this stride."""


@dataclass(frozen=True)
class CellPlan(ProbePlan):
    """The fields of the plan of every probe of cells."""

    size: tuple[int, int]
    """Height and width to which images are scaled before they enter the backbone."""
    images: int = field(default=0, kw_only=True)
    """Most training images that are used, those whose names have the smallest SHA-256: their cells are kept in a file,
    cells x channels x 2 bytes. 0 uses all."""

    def __post_init__(self) -> None:
        if self.images < 0 or self.images == 1:
            raise BenchError(f"a probe uses all training images (0) or two and more, not {self.images}")
        if any(side % (2 * STRIDE) or side < 2 * STRIDE for side in self.size):
            raise BenchError(f"a probe's images have sides that are multiples of {2 * STRIDE}, not {self.size}")


@dataclass(frozen=True)
class ClassifierPlan(CellPlan):
    """A classifier of cells, trained on labels: `linear`, multinomial logistic regression, or `knn`, a vote of the
    nearest cells."""

    classes: int
    """Labels are 0 to `classes` - 1, and 255 where a pixel does not count. 0 stands for the number of labels of own
    data (`DATA_LABELS`), which is known once there are data (`for_labels`)."""
    cells: int
    """Most training cells that are used, drawn uniformly from all. They and the values computed from them are kept in
    memory: cells x channels x 4 bytes."""
    held_out: float
    """Share of the training images on which `candidates` are compared before the classifier is fitted to all."""
    candidates: tuple[float, ...]
    """Values of the one hyperparameter that is chosen: the penalty of `linear`, the number of neighbors of `knn`."""
    options: Mapping[str, float]
    """Other options of the classifier: `iterations` of `linear`, `temperature` of `knn`."""
    labels: float = 1.0
    """Share of the training images whose labels are used: those whose names have the smallest SHA-256, at least two."""

    def __post_init__(self) -> None:
        super().__post_init__()
        wanted = {"knn": {"temperature"}}.get(self.kind, {"iterations"})
        if self.options.keys() != wanted:
            raise BenchError(f"a probe of kind {self.kind} has the options {', '.join(wanted)}")
        if not 0 < self.held_out < 1 or not self.candidates or not 0 < self.labels <= 1:
            raise BenchError("a probe uses and holds out a share of the images, and has candidates to choose from")
        require_positive(self.classes + 1, self.cells, *self.candidates, *self.options.values())

    def for_labels(self, number: int) -> Self:
        """The plan for own data with so many labels."""
        return replace(self, classes=number)


@dataclass(frozen=True)
class RobustnessPlan(ClassifierPlan):
    """`robustness`: the classifier `linear` on corrupted copies of the validation images, whose confusion matrices are
    kept in memory: copies x images x classes^2 x 8 bytes."""

    corruptions: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Strengths of each corruption, by its name in `bench.probes.corruptions`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        known = ("noise", "blur", "brightness", "contrast", "jpeg")
        if not self.corruptions or set(self.corruptions) - set(known) or not all(self.corruptions.values()):
            raise BenchError(f"a probe of robustness has strengths of some of {', '.join(known)}")
        require_positive(*(strength for strengths in self.corruptions.values() for strength in strengths))


@dataclass(frozen=True)
class HeadPlan(CellPlan):
    """`head`: a light convolutional head, trained on labels. A batch of images is in memory at once."""

    classes: int
    """Labels are 0 to `classes` - 1, and 255 where a pixel does not count."""
    hidden: int
    """Channels of the head."""
    batch: int
    """Images per iteration."""
    iterations: int
    weight_decay: float
    held_out: float
    """Share of the training images on which `candidates` are compared before the head is trained on all."""
    candidates: tuple[float, ...]
    """Learning rates among which one is chosen."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.held_out < 1 or not self.candidates or self.weight_decay < 0:
            raise BenchError("a head has learning rates to choose from on a share of the images, and no negative decay")
        require_positive(self.classes, self.hidden, self.batch, self.iterations, *self.candidates)


@dataclass(frozen=True)
class ClusterPlan(CellPlan):
    """`clusters`: k-means of cells, whose clusters the labels of the validation images name."""

    classes: int
    """Labels are 0 to `classes` - 1, and 255 where a pixel does not count."""
    cells: int
    """Most training cells that are clustered, drawn uniformly from all. They, standardized copies, and one number per
    cell and cluster are in memory: cells x (3 x channels + clusters) x 4 bytes."""
    clusters: int
    naming: str
    """How clusters get classes. `hungarian`: each cluster gets another class, so that mIoU is the highest. `pixels`:
    the same, so that most pixels have the right class. `majority`: each gets the class of most of its pixels."""
    dimensions: int
    """Number of principal components of the standardized cells that are used for clustering."""
    iterations: int
    """Most iterations of Lloyd's algorithm."""
    runs: int
    """Number of clusterings from different starts, over which metrics are averaged."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self.classes, self.cells, self.clusters, self.dimensions, self.iterations, self.runs)
        if self.naming not in ("hungarian", "pixels", "majority"):
            raise BenchError(f"clusters are named by hungarian, pixels or majority, not {self.naming!r}")
        if self.naming != "majority" and self.clusters != self.classes:
            raise BenchError(f"{self.naming} names as many clusters as there are classes")


@dataclass(frozen=True)
class ForegroundPlan(CellPlan):
    """`foreground`: k-means of the cells of each image, where some clusters are taken as its object. One image is in
    memory at a time."""

    clusters: int
    iterations: int
    """Most iterations of Lloyd's algorithm."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self.clusters, self.iterations)


@dataclass(frozen=True)
class SegmentPlan(ForegroundPlan):
    """`segments`: the segment of each image, found as in `foreground` by the border, takes the class of the training
    segment that is most similar. Memory: training images x channels x 4 bytes, twice."""

    classes: int
    """Labels are 0 to `classes` - 1, and 255 where a pixel does not count."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self.classes)


@dataclass(frozen=True)
class RetrievalPlan(CellPlan):
    """`retrieval`: a memory of cells of augmented training images, whose soft labels the validation cells look up."""

    classes: int
    """Labels are 0 to `classes` - 1, and 255 where a pixel does not count."""
    memory: int
    """Most cells that are kept: cells x (channels + classes) x 4 bytes. Every image gives the same number, at least
    one."""
    epochs: int
    """Number of augmented copies of each training image."""
    neighbors: int
    """Number of nearest cells in the memory that a validation cell uses."""
    temperature: float
    """Divisor of the cosine similarities before the softmax."""
    published: bool
    """Whether to compute as the published code does, including its errors (`bench.probes.kinds.retrieval`)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self.classes, self.memory, self.epochs, self.neighbors, self.temperature)


@dataclass(frozen=True)
class RankPlan(CellPlan):
    """`rank`: RankMe of the cells, which needs no labels. The covariance of channels^2 x 8 bytes is kept in memory."""


@dataclass(frozen=True)
class LidarPlan(CellPlan):
    """`lidar`: LiDAR of augmented images, which needs no labels. Memory: channels^2 x 8 bytes, six times."""

    views: int
    """Number of views of each image, which pass through the backbone together."""
    ridge: float
    """Value added to the variances within images, in units of the mean variance of a channel."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self.views - 1, self.ridge)
