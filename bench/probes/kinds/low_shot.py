"""Classification by support vector machines of few training images, as on VOC 2007 (Goyal et al., ICCV 2019).

A draw takes k images that have a class and `negatives` x k that do not, those whose names have the smallest SHA-256
after the draw's number, so that draws of fewer images are part of those of more. The published code chooses the cost
for each k by the validation images themselves. The corrected form uses the training images that were not drawn: their
labels choose one number, and the validation images are evaluated once.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from bench.datasets.classified import ABSENT, PRESENT
from bench.errors import BenchError
from bench.metrics.classification import average_precision
from bench.probes.images import ImageMaterial
from bench.probes.kinds.svm import COSTS, prepared, score
from bench.probes.material import Findings
from bench.probes.plans import LowShotPlan
from bench.probes.support_vectors import decision, usable_classes

Rows = NDArray[np.int64]


def probe(plan: LowShotPlan, material: ImageMaterial) -> Findings:
    """mAP for each number of images, the mean over draws and classes, and the mean over these numbers.

    Raises:
        BenchError: an image cannot be read, images have one class each, or no class has enough images.
    """
    train, val, x, y = prepared(plan, material)
    labels, asked = train.images.labels, val.images.labels
    classes = usable_classes(labels, asked, 2)  # one to draw and one to choose a cost by
    if not classes:
        raise BenchError(f"no class of {material.dataset} has two training images and a validation image")
    every = np.concatenate([x, y])
    metrics, shares, lines = {}, {}, []
    total = np.zeros(len(y))
    orders = [order_of(train.images.names, sample) for sample in range(plan.samples)]
    for shots in plan.shots:
        scores = np.zeros((len(plan.costs), plan.samples, len(classes), len(y)))
        found = np.full(scores.shape[:3], np.nan)
        for sample, order in enumerate(orders):
            for i, label in enumerate(classes):
                drawn, rest = draw(labels[:, label], order, shots, plan.negatives)
                present, known = labels[drawn, label] == PRESENT, labels[rest, label] == PRESENT
                for j, cost in enumerate(plan.costs):
                    values = decision(x[drawn], present, cost, every)
                    scores[j, sample, i] = values[len(x) :]
                    if plan.published:
                        found[j, sample, i] = score(scores[j, sample, i], asked[:, label], plan.precision)[0]
                    elif known.any():
                        found[j, sample, i] = average_precision(values[rest], known, plan.precision)
        means = [float(np.nanmean(of_cost)) if np.isfinite(of_cost).any() else 0.0 for of_cost in found]
        best = int(np.argmax(means))  # the first of equal ones
        parts = [
            score(scores[best, sample, i], asked[:, label], plan.precision)
            for sample in range(plan.samples)
            for i, label in enumerate(classes)
        ]
        name = f"mAP k={shots}"
        metrics[name] = 100 * float(np.mean([value for value, _ in parts]))
        shares[name] = 100 * np.mean([share for _, share in parts], 0)
        total += shares[name] / len(plan.shots)
        lines.append(f"{shots}\t{plan.costs[best]:g}\t{100 * means[best]:.2f}\t{metrics[name]:.2f}\n")
    material.clock.lap("fit")
    return Findings(
        metrics={"mAP": float(np.mean(list(metrics.values())))} | metrics,
        shares={"mAP": total} | shares,
        images=len(asked),
        training_cells=len(x),
        channels=train.vectors.shape[1],
        head_parameters=(train.vectors.shape[1] + 1) * len(classes),
        files={COSTS: "".join(lines)},
    )


def order_of(names: tuple[str, ...], sample: int) -> Rows:
    """The rows of the images in the order in which a draw takes them."""
    digests = [hashlib.sha256(f"{sample}/{name}".encode(errors="surrogateescape")).hexdigest() for name in names]
    return np.array(sorted(range(len(names)), key=digests.__getitem__))


def draw(labels: NDArray[np.int64], order: Rows, shots: int, negatives: int) -> tuple[Rows, Rows]:
    """The rows of the drawn images, and those of the others that count for the class, which `labels` (N,) tell.

    Where fewer images have the class, all but one are drawn, and where fewer do not have it, all but one.
    """
    drawn = []
    for kind, most in ((PRESENT, shots), (ABSENT, shots * negatives)):
        own = order[labels[order] == kind]
        drawn.append(own[: max(1, min(most, len(own) - 1))])
    taken = np.sort(np.concatenate(drawn))
    return taken, np.setdiff1d(np.flatnonzero((labels == PRESENT) | (labels == ABSENT)), taken)
