"""Plans of probes of whole images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.errors import BenchError
from bench.probes.plans.base import ProbePlan, require_positive


@dataclass(frozen=True)
class ImagePlan(ProbePlan):
    """The fields of the plan of every probe of whole images, which have one vector each: cells of the backbone's last
    map (of a ViT its patches, without the class token), averaged."""

    side: int
    """Height and width in pixels with which images enter the backbone."""
    view: str
    """How an image becomes a square, its shorter side first scaled to 8/7 of `side`. `crop`: its central part. `whole`:
    all of it, whatever its shape."""
    pooling: str
    """`mean`: the mean of all cells. `windows`: the means of the four windows that leave out one row and one column at
    the border, one after the other."""

    def __post_init__(self) -> None:
        if self.side % 32 or self.side < 64 or self.view not in ("crop", "whole"):
            raise BenchError(f"images enter at a multiple of 32 pixels as crop or whole, not {self.side} {self.view!r}")
        if self.pooling not in ("mean", "windows"):
            raise BenchError(f"cells of an image are averaged as mean or windows, not {self.pooling!r}")


@dataclass(frozen=True)
class ImageClassifierPlan(ImagePlan):
    """A classifier of images with one class each: `image_linear`, multinomial logistic regression, or `image_knn`, a
    vote of the nearest training images. Vectors stay in a file. Memory: those of a block of 65,536 images, three times,
    and held-out and validation images x classes x 8 bytes for each of `candidates`."""

    held_out: float
    """Share of the training images on which `candidates` are compared before the classifier is fitted to all."""
    held_out_most: int
    """Most images that are held out."""
    candidates: tuple[float, ...]
    """Values of the one hyperparameter that is chosen: the penalty of `image_linear`, the number of neighbors."""
    options: Mapping[str, float]
    """Other options of the classifier: `iterations` of `image_linear`, `temperature` of `image_knn`."""
    labels: float = 1.0
    """Share of each class's training images that are used: those whose names have the smallest SHA-256, at least two
    where there are so many."""
    tail: float = 1.0
    """How many times smaller a share the last class keeps than the first, in the order of the SHA-256 of their names;
    shares between fall geometrically. 1 keeps all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        wanted = {"temperature"} if self.kind == "image_knn" else {"iterations"}
        if self.options.keys() != wanted:
            raise BenchError(f"a probe of kind {self.kind} has the options {', '.join(wanted)}")
        if not 0 < self.held_out < 1 or not self.candidates or not 0 < self.labels <= 1 or self.tail < 1:
            raise BenchError("a probe uses and holds out a share of the images, and has candidates to choose from")
        require_positive(self.held_out_most, *self.candidates, *self.options.values())


@dataclass(frozen=True)
class SvmPlan(ImagePlan):
    """`svm`: a linear support vector machine for each class of images that can have several. Memory: training images x
    channels x 8 bytes, about three times."""

    costs: tuple[float, ...]
    """Costs of errors among which each class's is chosen by cross validation on the training images."""
    folds: int
    precision: str
    """The average precision of the headline, one of `bench.metrics.classification.RULES`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self.folds - 1, *self.costs)
        if not self.costs or self.precision not in ("envelope", "eleven", "steps"):
            raise BenchError("a probe by support vectors has costs, and a precision envelope, eleven or steps")


@dataclass(frozen=True)
class LowShotPlan(ImagePlan):
    """`low_shot`: support vector machines of few training images. Memory: that of `svm`."""

    costs: tuple[float, ...]
    shots: tuple[int, ...]
    """Numbers of images that have a class."""
    negatives: int
    """Number of images without the class for each one that has it."""
    samples: int
    """Number of draws of training images, over which values are averaged."""
    precision: str
    """As in `SvmPlan`."""
    published: bool
    """Whether the cost is chosen by the validation images, as the published code does; else by the training images that
    were not drawn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.costs or not self.shots or self.precision not in ("envelope", "eleven", "steps"):
            raise BenchError("a low-shot probe has costs, shots, and a precision envelope, eleven or steps")
        require_positive(*self.costs, *self.shots, self.negatives, self.samples)
