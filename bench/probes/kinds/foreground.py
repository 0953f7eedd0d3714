"""Unsupervised object segmentation: the cells of an image are clustered, and some clusters are taken as its object.

k-means of a validation image's cells, scaled to unit length, without training and without labels. Foreground is
everything with a class other than 0. Three rules select the clusters that are taken as foreground:

    border   those that are rarer along the image's border than in the whole image
    center   the one to which most cells of the middle third (of rows and of columns) belong
    oracle   the one with the highest IoU with the foreground of the mask: a bound for rules that select one

R2O (arXiv 2208.11821) reports such a value on CUB-200-2011 with five clusters; how it finds the foreground is not
published, so that each rule is named.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch.nn.functional import normalize

from bench.metrics.segmentation import IGNORE
from bench.probes.kmeans import fit_centers, nearest
from bench.probes.material import Findings, Material
from bench.probes.plans import ForegroundPlan
from bench.probes.segmentation import spread

Mask = NDArray[np.bool_]
RULES = ("border", "center", "oracle")


def probe(plan: ForegroundPlan, material: Material) -> Findings:
    """Foreground IoU and pixel accuracy by each rule, means over the validation images; the headline is `border`.

    Raises:
        BenchError: an image cannot be read.
    """
    val = material.val
    material.clock.lap("features")
    rows, columns = val.cells.shape[2:]
    tables = np.zeros((len(val.pairs), len(RULES), 2, 2), np.int64)
    for i, pair in enumerate(val.pairs):
        cells = normalize(val.image_cells(i, material.device), dim=1)
        rng = np.random.default_rng([material.seed, i])
        centers = fit_centers(cells, plan.clusters, iterations=plan.iterations, rng=rng)
        clusters = nearest(cells, centers).reshape(rows, columns).cpu().numpy()
        tables[i] = tabulate(pair.load_labels(), clusters, plan.clusters)
    metrics, shares = {}, {}
    for i, rule in enumerate(RULES):
        for metric, values in (("IoU", _iou(tables[:, i])), ("accuracy", _accuracy(tables[:, i]))):
            name = metric if rule == RULES[0] else f"{metric} {rule}"
            metrics[name] = 100 * float(values.mean())
            shares[name] = 100 * (values - values.mean()) / len(values)
    material.clock.lap("evaluation")
    return Findings(metrics=metrics, shares=shares, images=len(tables), training_cells=0, arrays={"counts": tables})


def tabulate(labels: NDArray[np.uint8], clusters: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """For each rule the pixel counts (2, 2) by true foreground (row 1) and selected foreground (column 1)."""
    counted, foreground = labels != IGNORE, (labels != 0) & (labels != IGNORE)
    pixels = spread(clusters, *labels.shape)
    inside = np.bincount(pixels[foreground], minlength=count)
    area = np.bincount(pixels[counted], minlength=count)
    chosen = np.stack([from_border(clusters, count), from_center(clusters, count), _from_mask(inside, area)])
    hits, taken = (chosen * inside).sum(1), (chosen * area).sum(1)
    objects, everything = inside.sum(), area.sum()
    misses = objects - hits
    return np.stack([everything - taken - misses, taken - hits, misses, hits], 1).reshape(-1, 2, 2)


def from_border(clusters: NDArray[np.int64], count: int) -> Mask:
    """Which clusters (count,) of cells (rows, columns) are rarer along the border than in the whole image."""
    inner = np.bincount(clusters[1:-1, 1:-1].ravel(), minlength=count)
    every = np.bincount(clusters.ravel(), minlength=count)
    border = every - inner
    return border * every.sum() < every * border.sum()


def from_center(clusters: NDArray[np.int64], count: int) -> Mask:
    """The cluster to which most cells in the middle third, rounded outward, belong; the first of equal ones."""
    rows, columns = clusters.shape
    middle = clusters[rows // 3 : -(rows // 3) or None, columns // 3 : -(columns // 3) or None]
    return np.arange(count) == np.bincount(middle.ravel(), minlength=count).argmax()


def _from_mask(inside: NDArray[np.int64], area: NDArray[np.int64]) -> Mask:
    """The cluster with the highest IoU with the foreground; `inside` of each cluster's `area` pixels are foreground."""
    union = inside.sum() + area - inside
    iou = np.divide(inside, union, out=np.zeros(len(union)), where=union > 0)
    return np.arange(len(iou)) == iou.argmax()


def _iou(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU of each image; 0 where there is neither true nor selected foreground."""
    hits, union = tables[:, 1, 1], tables.sum((1, 2)) - tables[:, 0, 0]
    return np.divide(hits, union, out=np.zeros(len(hits)), where=union > 0)


def _accuracy(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """Pixel accuracy of each image; 0 where no pixel counts."""
    right, every = tables[:, 0, 0] + tables[:, 1, 1], tables.sum((1, 2))
    return np.divide(right, every, out=np.zeros(len(right)), where=every > 0)
