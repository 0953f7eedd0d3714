"""In-context scene understanding (Hummingbird; Balazevic et al., NeurIPS 2023, arXiv 2306.01667) by retrieval.

A memory holds cells of augmented training images with the shares of the classes among their pixels. A validation cell
takes the mean of its nearest cells' shares, weighted by a softmax of cosine similarities. The public evaluation
(github.com/vpariza/open-hummingbird-eval, version 2.0.0) differs from what it describes in five points, which
`published` repeats:

1. blue is divided by a standard deviation of .255 (ImageNet's is .225), and the card's normalization is not used;
2. pixels without a label count as class 0 in the memory;
3. masks are scored at the size of the input, not at their own;
4. predicted classes are renamed on the validation labels (Hungarian algorithm on IoU), as if they were clusters;
5. a class that occurs neither in labels nor in predictions counts as IoU 0.

Without `published`, each of them is corrected. Crops and jitter are drawn by the same rules from our own generators,
and jitter is not rounded to bytes between its steps.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from bench.datasets.pairs import Pair
from bench.errors import BenchError
from bench.metrics.segmentation import IGNORE
from bench.metrics.uncertainty import Counts, Floats
from bench.probes.cells import BATCH, normalized, read_scaled
from bench.probes.kinds.clusters import name_clusters
from bench.probes.material import Findings, Material
from bench.probes.plans import STRIDE, RetrievalPlan
from bench.probes.segmentation import compare, mean_metrics
from bench.probes.views import Augmentation, augmented, scaled_labels
from pretrain.data.crops import view_generator

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.255)
"""Mean and standard deviation by which the published code normalizes RGB."""
AUGMENTATION = Augmentation(area=(0.5, 2.0), jitter=(0.1, 0.1, 0.1, 0.1), probability=0.5, flip=False)
"""Augmentation with which the published code fills the memory."""


def probe(plan: RetrievalPlan, material: Material) -> Findings:
    """Semantic segmentation of the validation images.

    Raises:
        BenchError: an image cannot be read, or a label is not a class.
    """
    memory, shares = remember(plan, material)
    material.clock.lap("fit")
    found = []
    for pair, cells in _validation(plan, material):
        rows, columns = (side // STRIDE for side in plan.size)
        scores = look_up(cells, memory, shares, plan).T.reshape(plan.classes, rows, columns)
        labels = pair.load_labels()
        found.append(compare(scores, scaled_labels(labels, plan.size) if plan.published else labels, str(pair.labels)))
    counts = np.stack(found)
    counts = _renamed(counts) if plan.published else counts
    metrics, image_shares = mean_metrics([counts])
    if plan.published:
        metrics, image_shares = _over_all_classes(counts, metrics, image_shares)
    material.clock.lap("evaluation")
    return Findings(
        metrics=metrics,
        shares=image_shares,
        images=len(counts),
        training_cells=len(memory),
        arrays={"counts": counts},
    )


def remember(plan: RetrievalPlan, material: Material) -> tuple[Tensor, Tensor]:
    """The memory: cells (M, C) of unit length and the classes' shares of their pixels (M, K).

    Raises:
        BenchError: an image cannot be read, a label is not a class, or no label counts.
    """
    pairs = material.pairs["train"]
    each = max(1, plan.memory // (len(pairs) * plan.epochs))
    cells, shares = [], []
    for epoch in range(plan.epochs):
        for start in range(0, len(pairs), BATCH):
            numbers = range(start, min(start + BATCH, len(pairs)))
            generators = [view_generator(material.seed, epoch, number, 0) for number in numbers]
            views = [
                augmented(pairs[i], plan.size, AUGMENTATION, material.device, rng)
                for i, rng in zip(numbers, generators, strict=True)
            ]
            images = _normalized(torch.stack([image for image, _ in views]), plan, material)
            maps = material.network.cells_of_input(images).flatten(2)
            for one, (_, labels), rng in zip(maps, views, generators, strict=True):
                counts = count_labels(labels, plan)
                chosen = torch.from_numpy(select(counts, each, rng))
                cells.append(normalize(one.T[chosen.to(material.device)], dim=1))
                picked = torch.from_numpy(counts).float()[chosen]
                shares.append((picked / picked.sum(1, keepdim=True)).to(material.device))
    if not any(map(len, cells)):
        raise BenchError("no pixel of the training images has a label that counts")
    return torch.cat(cells), torch.cat(shares)


def count_labels(labels: NDArray[np.uint8], plan: RetrievalPlan) -> NDArray[np.int64]:
    """Number of pixels of each class in each cell (n, K), from a label map of the input's size.

    Raises:
        BenchError: a label is not a class.
    """
    rows, columns = (side // STRIDE for side in plan.size)
    if plan.published:
        labels = np.where(labels == IGNORE, 0, labels).astype(np.uint8)
    cell = (np.arange(rows * STRIDE)[:, None] // STRIDE) * columns + np.arange(columns * STRIDE) // STRIDE
    counted = labels != IGNORE
    if counted.any() and (most := labels[counted].max()) >= plan.classes:
        raise BenchError(f"a training image has label {most}: the protocol knows 0 to {plan.classes - 1}")
    codes = cell[counted] * plan.classes + labels[counted]
    return np.bincount(codes, minlength=rows * columns * plan.classes).reshape(-1, plan.classes)


def select(counts: NDArray[np.int64], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The cells of an image that are kept, at most `most`, none without a labeled pixel, from pixel `counts` (n, K).

    The cells with the smallest products of a uniform random number and a weight are kept. The weight is the sum, over
    the classes in the cell, of the number of the image's cells with that class: cells of rare classes are preferred.
    """
    there = counts > 0
    scores = there @ there.sum(0) * rng.random(len(counts))
    order = np.argsort(scores, kind="stable")
    return order[there[order].any(1)][:most]


def look_up(cells: Tensor, memory: Tensor, shares: Tensor, plan: RetrievalPlan) -> Tensor:
    """Class shares (n, K) of cells (n, C), from the memory's cells (M, C) and shares (M, K)."""
    similarity, nearest = (normalize(cells, dim=1) @ memory.T).topk(min(plan.neighbors, len(memory)), 1)
    weights = (similarity / plan.temperature).softmax(1)
    return (weights[:, :, None] * shares[nearest]).sum(1)


def _normalized(images: Tensor, plan: RetrievalPlan, material: Material) -> Tensor:
    """Input of the backbone for RGB images in [0, 1] (N, 3, H, W)."""
    if not plan.published:
        return normalized(images, material.network.card)
    return (images - images.new_tensor(MEAN)[:, None, None]) / images.new_tensor(STD)[:, None, None]


def _validation(plan: RetrievalPlan, material: Material) -> Iterator[tuple[Pair, Tensor]]:
    """The validation images with their cells (n, C): those of all probes, or those that the published code computes."""
    if not plan.published:
        val = material.val
        for i, pair in enumerate(val.pairs):
            yield pair, val.image_cells(i, material.device)
        return
    for pair in material.pairs["val"]:
        pixels = torch.from_numpy(read_scaled(pair, plan.size).copy()).to(material.device)
        image = _normalized(pixels.permute(2, 0, 1)[None].float() / 255, plan, material)
        yield pair, material.network.cells_of_input(image)[0].flatten(1).T


def _renamed(counts: Counts) -> Counts:
    """Confusion matrices (V, K, K) with the predicted classes renamed as it fits best over all images."""
    names = name_clusters(counts.sum(0), "hungarian")
    return counts[:, :, np.argsort(names)]


def _over_all_classes(
    counts: Counts, metrics: dict[str, float], shares: dict[str, Floats]
) -> tuple[dict[str, float], dict[str, Floats]]:
    """The metrics and shares with IoU 0 for classes that do not occur."""
    total = counts.sum(0)
    share = float(np.mean(total.sum(0) + total.sum(1) > 0))
    return metrics | {"mIoU": share * metrics["mIoU"]}, shares | {"mIoU": share * shares["mIoU"]}
