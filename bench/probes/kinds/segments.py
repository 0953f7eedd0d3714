"""Semantic segment retrieval: the object in a validation image gets the class of the most similar training object.

After MaskContrast (Van Gansbeke et al., ICCV 2021) and the study of multi-crop by the same authors (NeurIPS 2021, arXiv
2106.05967). An image has one segment, described by the mean of its cells, scaled to unit length. A training segment's
class is the one that most of its pixels have, not counting background and void; a segment without one is not kept. A
validation segment gets the class of its nearest neighbor, everything else is background. The authors predict segments
with a saliency network; here they are the clusters that are rarer along the border (`bench.probes.kinds.foreground`),
so that only a backbone is needed.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from bench.errors import BenchError
from bench.metrics.segmentation import IGNORE, confusion_matrix
from bench.probes.kinds.foreground import from_border
from bench.probes.kmeans import fit_centers, nearest
from bench.probes.material import Findings, Material, Part
from bench.probes.plans import SegmentPlan
from bench.probes.segmentation import mean_metrics, spread

Mask = NDArray[np.bool_]


def probe(plan: SegmentPlan, material: Material) -> Findings:
    """Semantic segmentation of the validation images.

    Raises:
        BenchError: an image cannot be read, a label is not a class, or no training segment has a class.
    """
    train, val = material.train, material.val
    material.clock.lap("features")
    memory, classes, cells = remember(plan, train, material)
    material.clock.lap("fit")
    counts = np.zeros((len(val.pairs), plan.classes, plan.classes), np.int64)
    for i, pair in enumerate(val.pairs):
        mask, vector = segment(plan, val, i, material)
        found = int(classes[(memory @ vector).argmax()]) if mask.any() else 0
        labels = pair.load_labels()
        predicted = found * spread(mask.astype(np.int64), *labels.shape)
        counts[i] = confusion_matrix(labels, predicted, plan.classes, str(pair.labels))
    metrics, shares = mean_metrics([counts])
    material.clock.lap("evaluation")
    return Findings(
        metrics=metrics,
        shares=shares,
        images=len(counts),
        training_cells=cells,
        arrays={"counts": counts},
    )


def remember(plan: SegmentPlan, train: Part, material: Material) -> tuple[Tensor, NDArray[np.int64], int]:
    """The training segments with a class: unit vectors (M, C), classes (M,), and how many cells they have together.

    Raises:
        BenchError: a label is not a class, or there is no such segment.
    """
    vectors, classes, cells = [], [], 0
    for i, pair in enumerate(train.pairs):
        mask, vector = segment(plan, train, i, material)
        labels = pair.load_labels()
        inside = labels[spread(mask.astype(np.int64), *labels.shape) > 0]
        counts = np.bincount(inside[(inside != 0) & (inside != IGNORE)], minlength=1)
        if len(counts) > plan.classes:
            raise BenchError(f"{pair.labels}: label {len(counts) - 1} is not one of 0 to {plan.classes - 1}")
        if counts.any():
            vectors.append(vector)
            classes.append(int(counts.argmax()))
            cells += int(mask.sum())
    if not vectors:
        raise BenchError("no segment of the training images has a class")
    return torch.stack(vectors), np.array(classes), cells


def segment(plan: SegmentPlan, part: Part, index: int, material: Material) -> tuple[Mask, Tensor]:
    """Which cells (rows, columns) of an image form its segment, and their mean (C,), scaled to unit length."""
    rows, columns = part.cells.shape[2:]
    cells = normalize(part.image_cells(index, material.device), dim=1)
    rng = np.random.default_rng([material.seed, int(part.rows[index])])
    centers = fit_centers(cells, plan.clusters, iterations=plan.iterations, rng=rng)
    clusters = nearest(cells, centers).reshape(rows, columns).cpu().numpy()
    mask = from_border(clusters, plan.clusters)[clusters]
    chosen = torch.from_numpy(mask.reshape(-1)).to(material.device)
    return mask, normalize(cells[chosen].sum(0), dim=0)
