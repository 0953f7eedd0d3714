"""Classification of images that can have several classes, by a linear support vector machine for each class.

For each class, the cost with the highest average precision in cross validation on the training images is chosen, and a
machine is trained on all of them. An image does not count for a class of which all its objects are difficult. Classes
that have fewer training images than folds, or no validation image, are left out; VOC 2007 has enough of all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.datasets.classified import PRESENT, UNKNOWN
from bench.errors import BenchError
from bench.metrics.classification import average_precision, average_precision_shares
from bench.metrics.uncertainty import Floats
from bench.probes.images import ImageMaterial, ImagePart
from bench.probes.material import Findings
from bench.probes.plans import ImagePlan, SvmPlan
from bench.probes.support_vectors import cross_validated, decision, rotated, unit_length, usable_classes

COSTS = "costs.txt"
"""File with each class's cost, its average precision in cross validation, and that on the validation images."""


def probe(plan: SvmPlan, material: ImageMaterial) -> Findings:
    """mAP of the validation images by the plan's rule, and by VOC 2007's eleven recalls.

    Raises:
        BenchError: an image cannot be read, images have one class each, or no class has enough images.
    """
    train, val, x, y = prepared(plan, material)
    labels, asked = train.images.labels, val.images.labels
    classes = usable_classes(labels, asked, plan.folds)
    if not classes:
        raise BenchError(f"no class of {material.dataset} has {plan.folds} training images and a validation image")
    found = np.full((len(classes), len(plan.costs)), np.nan)
    scores = np.zeros((len(y), len(classes)))
    chosen = []
    for i, label in enumerate(classes):
        counted = labels[:, label] != UNKNOWN
        own, present = x[counted], labels[counted, label] == PRESENT
        found[i] = [cross_validated(own, present, cost, plan.folds) for cost in plan.costs]
        chosen.append(plan.costs[int(found[i].argmax())])  # the first of equal ones
        scores[:, i] = decision(own, present, chosen[-1], y)
    material.clock.lap("fit")
    metrics, shares = {}, {}
    for name, rule in (("mAP", plan.precision), ("mAP 11-point", "eleven")):
        values, parts = zip(*(score(scores[:, i], asked[:, k], rule) for i, k in enumerate(classes)), strict=True)
        metrics[name], shares[name] = 100 * float(np.mean(values)), 100 * np.mean(parts, 0)
    lines = [
        f"{train.images.classes[k]}\t{cost:g}\t{100 * row.max():.2f}\t"
        f"{100 * score(scores[:, i], asked[:, k], plan.precision)[0]:.2f}\n"
        for i, (k, cost, row) in enumerate(zip(classes, chosen, found, strict=True))
    ]
    material.clock.lap("evaluation")
    return Findings(
        metrics=metrics,
        shares=shares,
        images=len(asked),
        training_cells=len(x),
        arrays={"labels": asked[:, classes], "scores": scores},
        candidates={cost: 100 * float(value) for cost, value in zip(plan.costs, found.mean(0), strict=True)},
        channels=train.vectors.shape[1],
        head_parameters=(train.vectors.shape[1] + 1) * len(classes),
        files={COSTS: "".join(lines)},
    )


def score(scores: Floats, labels: NDArray[np.int64], rule: str) -> tuple[float, Floats]:
    """Average precision in [0, 1] of the images (V,) that count for a class, and each image's share (V,) in it."""
    counted = labels != UNKNOWN
    present = labels[counted] == PRESENT
    shares = np.zeros(len(labels))
    shares[counted] = average_precision_shares(scores[counted], present, rule)
    return average_precision(scores[counted], present, rule), shares


def prepared(plan: ImagePlan, material: ImageMaterial) -> tuple[ImagePart, ImagePart, Floats, Floats]:
    """The training and the validation images, and the vectors of both as the machines get them.

    Raises:
        BenchError: an image cannot be read, or images have one class each.
    """
    train, val = material.part(plan, "train"), material.part(plan, "val")
    if train.images.labels.ndim < 2:
        raise BenchError(
            f"the images of {material.dataset} have one class each: probes of kinds image_linear and image_knn"
        )
    material.clock.lap("features")
    return train, val, *rotated(unit_length(train.vectors), unit_length(val.vectors))
