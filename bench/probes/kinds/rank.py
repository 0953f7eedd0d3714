"""Measures without labels: how many dimensions the features of the validation images use.

Both are effective ranks, exp of the entropy of a spectrum that is scaled to sum 1, in per cent of the largest possible,
so that 100 is a flat spectrum and 100 / rank a single direction. They show collapse; a higher value is better at most
among similar methods. They have no standard error.

`rank`, RankMe (Garrido et al., ICML 2023, arXiv 2210.02885): the singular values of the cells. Computed in float64,
without the paper's additive 1e-7.
`lidar`, LiDAR (Thilak et al., ICLR 2024, arXiv 2312.04000): the eigenvalues of the scatter between images' means,
relative to the scatter of augmented views within an image. Embeddings are the means of a view's cells, scaled to a mean
variance of 1.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh, eigvalsh
from scipy.special import xlogy

from bench.probes.cells import normalized
from bench.probes.material import Findings, Material
from bench.probes.plans import LidarPlan, RankPlan
from bench.probes.views import Augmentation, augmented
from pretrain.data.crops import view_generator
from pretrain.nets.architectures import find_architecture

AUGMENTATION = Augmentation(area=(0.2, 1.0), jitter=(0.4, 0.4, 0.4, 0.1), probability=0.8, flip=True)
"""Augmentation of the views that LiDAR compares: crop, jitter and flip of SimCLR and MoCo v2, without gray and blur."""

Floats = NDArray[np.float64]


def probe_rank(plan: RankPlan, material: Material) -> Findings:
    """RankMe of the cells, of each of the two maps in them, and of the images' mean cells."""
    val = material.val
    material.clock.lap("features")
    channels = val.cells.shape[1]
    squares, means = np.zeros((channels, channels)), np.zeros((len(val.pairs), channels))
    for i in range(len(val.pairs)):
        cells = val.image_cells(i, torch.device("cpu")).double().numpy()
        squares += cells.T @ cells
        means[i] = cells.mean(0)
    count = len(val.pairs) * val.cells.shape[2] * val.cells.shape[3]
    first = find_architecture(material.network.card.architecture).channels[-2]
    metrics = {
        "RankMe": _rank_share(squares, count),
        "RankMe shallow": _rank_share(squares[:first, :first], count),
        "RankMe deep": _rank_share(squares[first:, first:], count),
        "RankMe images": _rank_share(means.T @ means, len(means)),
    }
    material.clock.lap("evaluation")
    return Findings(metrics=metrics, shares={}, images=len(val.pairs), training_cells=0)


def probe_lidar(plan: LidarPlan, material: Material) -> Findings:
    """LiDAR of the validation images with random crops, flips and jitter.

    Raises:
        BenchError: an image cannot be read.
    """
    pairs, network = material.pairs["val"], material.network
    within = np.zeros((network.channels, network.channels))
    means = np.zeros((len(pairs), network.channels))
    for i, pair in enumerate(pairs):
        generators = [view_generator(material.seed, 0, i, view) for view in range(plan.views)]
        views = torch.stack([augmented(pair, plan.size, AUGMENTATION, material.device, rng)[0] for rng in generators])
        cells = network.cells_of_input(normalized(views, network.card))
        embeddings = cells.mean((2, 3)).cpu().double().numpy()
        means[i] = embeddings.mean(0)
        within += (embeddings - means[i]).T @ (embeddings - means[i])
    material.clock.lap("features")
    share = lidar_share(means, within / (len(pairs) * plan.views), plan.ridge)
    material.clock.lap("evaluation")
    return Findings(metrics={"LiDAR": share}, shares={}, images=len(pairs), training_cells=0)


def effective_rank(spectrum: Floats) -> float:
    """Exponential of the entropy of a spectrum (R,) scaled to sum 1; values below 0 are rounding errors, taken as 0."""
    spectrum = np.clip(spectrum, 0, None)
    p = spectrum / max(spectrum.sum(), np.finfo(float).tiny)
    return float(np.exp(-xlogy(p, p).sum()))


def lidar_share(means: Floats, within: Floats, ridge: float) -> float:
    """LiDAR in per cent of its largest value, from the images' means (n, C) and the scatter within them (C, C)."""
    centered = means - means.mean(0)
    between = centered.T @ centered / len(means)
    scale = (np.trace(between) + np.trace(within)) / len(within) or 1.0
    spectrum = eigh(between / scale, within / scale + ridge * np.eye(len(within)), eigvals_only=True)
    return 100 * effective_rank(spectrum) / min(len(means) - 1 or 1, len(within))


def _rank_share(squares: Floats, count: int) -> float:
    """RankMe in per cent of `count` vectors X (count, C), given `squares` = X^T X, whose roots are X's spectrum."""
    largest = min(count, len(squares))
    spectrum = np.sqrt(np.clip(eigvalsh(squares)[-largest:], 0, None))
    return 100 * effective_rank(spectrum) / largest
