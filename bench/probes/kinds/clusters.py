"""Unsupervised segmentation: clusters of cells, named by the labels of the validation images.

k-means runs without labels on the principal components of the standardized training cells; each validation pixel
belongs to the cluster of its cell. Each cluster gets the class that fits the validation labels best, as in all
published values of this kind, so values are upper bounds. Standard errors treat clusters and names as fixed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from bench.errors import BenchError
from bench.metrics.segmentation import IGNORE
from bench.metrics.uncertainty import Counts
from bench.probes.kmeans import Components, fit_centers, nearest
from bench.probes.material import Findings, Material, draw, take_cells
from bench.probes.plans import ClusterPlan
from bench.probes.segmentation import mean_metrics, spread

Table = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Pixel counts of an image by label and cluster: the values of label x clusters + cluster, and their counts."""


def probe(plan: ClusterPlan, material: Material) -> Findings:
    """Unsupervised segmentation of the validation images, the mean over the plan's runs.

    Raises:
        BenchError: an image cannot be read, a label is not a class, or there are fewer cells than clusters.
    """
    train, val = material.train, material.val
    material.clock.lap("features")
    rows, columns = train.cells.shape[2:]
    x = take_cells(train, draw(np.arange(len(train.pairs) * rows * columns), plan.cells, material.seed))
    if len(x) < plan.clusters:
        raise BenchError(f"the training images have {len(x)} cells, too few for {plan.clusters} clusters")
    x = x.to(material.device)
    components = Components.of(x, plan.dimensions)
    projected = components(x)
    runs = [np.random.default_rng([material.seed, run]) for run in range(plan.runs)]
    centers = [fit_centers(projected, plan.clusters, iterations=plan.iterations, rng=rng) for rng in runs]
    material.clock.lap("fit")
    tables: list[list[Table]] = [[] for _ in runs]
    for i, pair in enumerate(val.pairs):
        labels = pair.load_labels()
        found = components(val.image_cells(i, material.device))
        for table, one in zip(tables, centers, strict=True):
            clusters = nearest(found, one).reshape(rows, columns).cpu().numpy()
            table.append(tabulate(labels, clusters, plan, str(pair.labels)))
    counts = [renamed(table, plan) for table in tables]
    metrics, shares = mean_metrics(counts)
    material.clock.lap("evaluation")
    return Findings(
        metrics=metrics,
        shares=shares,
        images=len(val.pairs),
        training_cells=len(x),
        arrays={"counts": np.stack(counts, 1)},
    )


def tabulate(labels: NDArray[np.uint8], clusters: NDArray[np.int64], plan: ClusterPlan, name: str) -> Table:
    """The table of an image whose cells (rows, columns) have these clusters.

    Raises:
        BenchError: a label is not a class; the message gives `name`.
    """
    counted = labels != IGNORE
    codes = labels[counted].astype(np.int64) * plan.clusters + spread(clusters, *labels.shape)[counted]
    if len(codes) and codes.max() >= plan.classes * plan.clusters:
        raise BenchError(f"{name}: label {labels[counted].max()} is not one of the classes 0 to {plan.classes - 1}")
    counts = np.bincount(codes)
    where = np.flatnonzero(counts)
    return where, counts[where]


def renamed(tables: Sequence[Table], plan: ClusterPlan) -> Counts:
    """The images' confusion matrices (V, K, K) if each cluster has the class that is best over all images."""
    total = np.zeros(plan.classes * plan.clusters, np.int64)
    for where, counts in tables:
        total[where] += counts
    names = name_clusters(total.reshape(plan.classes, plan.clusters), plan.naming)
    found = np.zeros((len(tables), plan.classes, plan.classes), np.int64)
    for matrix, (where, counts) in zip(found, tables, strict=True):
        label, cluster = np.divmod(where, plan.clusters)
        np.add.at(matrix, (label, names[cluster]), counts)
    return found


def name_clusters(counts: NDArray[np.int64], naming: str) -> NDArray[np.int64]:
    """The class of each cluster, from counts of common pixels (classes, clusters); see `ClusterPlan.naming`."""
    if naming == "majority":
        return counts.argmax(0)
    union = counts.sum(1, keepdims=True) + counts.sum(0, keepdims=True) - counts
    iou = np.divide(counts, union, out=np.zeros(counts.shape), where=union > 0)
    classes, clusters = linear_sum_assignment(counts if naming == "pixels" else iou, maximize=True)
    names = np.empty(counts.shape[1], np.int64)
    names[clusters] = classes
    return names
