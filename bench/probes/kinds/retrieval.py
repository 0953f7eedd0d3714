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

Without it each is put right. Crops and jitter are drawn by the same rules from generators of our own, and jitter is not
rounded to bytes between its steps.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from bench.datasets.files import load_pixels
from bench.datasets.masks import load_labels
from bench.datasets.pairs import Pair
from bench.metrics.segmentation import IGNORE
from bench.metrics.uncertainty import Counts, Floats
from bench.probes.cells import BATCH, read_scaled
from bench.probes.kinds.clusters import name_clusters
from bench.probes.material import Findings, Material
from bench.probes.plan import STRIDE, RetrievalPlan
from bench.probes.segmentation import compare, mean_metrics
from pretrain.data.color import blend, shift_hue
from pretrain.data.crops import draw_box, view_generator

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.255)
"""By which the published code normalizes RGB."""
AREA, RATIO = (0.5, 2.0), (3 / 4, 4 / 3)
"""Share of the image's area and width / height of a crop; a share above 1 that does not fit is drawn again."""
JITTER = 0.1
"""Of brightness, contrast, saturation and hue, each in one of two images."""


def probe(plan: RetrievalPlan, material: Material) -> Findings:
    """Semantic segmentation of the validation images.

    Raises:
        BenchError: an image cannot be read, or a label is no class.
    """
    memory, shares = remember(plan, material)
    material.clock.lap("fit")
    found = []
    for pair, cells in _validation(plan, material):
        rows, columns = (side // STRIDE for side in plan.size)
        scores = look_up(cells, memory, shares, plan).T.reshape(plan.classes, rows, columns)
        labels = load_labels(pair.labels)
        found.append(compare(scores, _scaled(labels, plan.size) if plan.published else labels, str(pair.labels)))
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
    """The memory: cells (M, C) of unit length and the classes' shares of their pixels (M, K)."""
    pairs = material.pairs["train"]
    each = max(1, plan.memory // (len(pairs) * plan.epochs))
    cells, shares = [], []
    for epoch in range(plan.epochs):
        for start in range(0, len(pairs), BATCH):
            numbers = range(start, min(start + BATCH, len(pairs)))
            generators = [view_generator(material.seed, epoch, number, 0) for number in numbers]
            views = [_augmented(pairs[i], plan, material, rng) for i, rng in zip(numbers, generators, strict=True)]
            maps = material.network.cells_of_input(torch.stack([image for image, _ in views])).flatten(2)
            for one, (_, labels), rng in zip(maps, views, generators, strict=True):
                counts = count_labels(labels, plan)
                chosen = torch.from_numpy(select(counts, each, rng))
                cells.append(normalize(one.T[chosen.to(material.device)], dim=1))
                picked = torch.from_numpy(counts).float()[chosen]
                shares.append((picked / picked.sum(1, keepdim=True)).to(material.device))
    return torch.cat(cells), torch.cat(shares)


def count_labels(labels: NDArray[np.uint8], plan: RetrievalPlan) -> NDArray[np.int64]:
    """Of each cell (n, K) the pixels of each class in a label map of the input's size."""
    rows, columns = (side // STRIDE for side in plan.size)
    if plan.published:
        labels = np.where(labels == IGNORE, 0, labels).astype(np.uint8)
    cell = (np.arange(rows * STRIDE)[:, None] // STRIDE) * columns + np.arange(columns * STRIDE) // STRIDE
    counted = labels != IGNORE
    codes = cell[counted] * plan.classes + labels[counted]
    return np.bincount(codes, minlength=rows * columns * plan.classes).reshape(-1, plan.classes)


def select(counts: NDArray[np.int64], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The cells that are kept of an image, `most` at most, none without a labelled pixel; `counts` (n, K).

    Those with the lowest products of a uniform number and the sum, over the classes in the cell, of the number of the
    image's cells that hold the class: cells of rare classes are preferred.
    """
    there = counts > 0
    scores = there @ there.sum(0) * rng.random(len(counts))
    order = np.argsort(scores, kind="stable")
    return order[there[order].any(1)][:most]


def look_up(cells: Tensor, memory: Tensor, shares: Tensor, plan: RetrievalPlan) -> Tensor:
    """The classes' shares (n, K) that cells (n, C) take from the memory's (M, C) and (M, K)."""
    similarity, nearest = (normalize(cells, dim=1) @ memory.T).topk(min(plan.neighbors, len(memory)), 1)
    weights = (similarity / plan.temperature).softmax(1)
    return (weights[:, :, None] * shares[nearest]).sum(1)


def _augmented(
    pair: Pair, plan: RetrievalPlan, material: Material, rng: np.random.Generator
) -> tuple[Tensor, NDArray[np.uint8]]:
    """A jittered, normalized crop (3, H, W) and its label map (H, W), both of the input's size."""
    pixels = np.ascontiguousarray(load_pixels(pair.image)[:, :, ::-1])
    labels = load_labels(pair.labels)
    left, top, width, height = draw_box(rng, pixels.shape[1], pixels.shape[0], AREA, RATIO)
    image = torch.from_numpy(pixels).to(material.device).permute(2, 0, 1)[None].float() / 255
    image = _normalized(_jittered(image, rng), plan, material)
    crop = image[:, :, top : top + height, left : left + width]
    crop = interpolate(crop, plan.size, mode="bilinear", antialias=True)[0]
    return crop, _scaled(labels[top : top + height, left : left + width], plan.size)


def _jittered(image: Tensor, rng: np.random.Generator) -> Tensor:
    """(1, 3, H, W), in place: brightness, contrast, saturation and hue in this order."""
    scratch = image[:, :1].clone()
    for contrast, saturation in ((0, 0), (1, 0), (0, 1)):
        applied, factor = rng.random() < 0.5, 1 + JITTER * (2 * rng.random() - 1)
        if applied:
            one = image.new_full((1, 1, 1, 1), factor)
            blend(image, one, contrast * (1 - one), saturation * (1 - one), scratch)
    applied, shift = rng.random() < 0.5, JITTER * (2 * rng.random() - 1)
    if applied:
        shift_hue(image, image.new_full((1,), shift))
    return image


def _normalized(image: Tensor, plan: RetrievalPlan, material: Material) -> Tensor:
    """RGB in [0, 1] (N, 3, H, W) as it enters the backbone."""
    if plan.published:
        mean, std = MEAN, STD
    else:
        card = material.network.card
        mean, std = card.mean, card.std
        image = image.flip(1) if card.color_order == "BGR" else image
    return (image - image.new_tensor(mean)[:, None, None]) / image.new_tensor(std)[:, None, None]


def _scaled(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The label map at another size: of each pixel the nearest as torch's `nearest` rounds, to the upper left."""
    return interpolate(torch.from_numpy(labels)[None, None], size, mode="nearest")[0, 0].numpy()


def _validation(plan: RetrievalPlan, material: Material) -> Iterator[tuple[Pair, Tensor]]:
    """The validation images with their cells (n, C): those that all probes share, or as the published code has them."""
    if not plan.published:
        val = material.val
        for i, pair in enumerate(val.pairs):
            yield pair, val.image_cells(i, material.device)
        return
    for pair in material.pairs["val"]:
        pixels = torch.from_numpy(read_scaled(pair.image, plan.size).copy()).to(material.device)
        image = _normalized(pixels.permute(2, 0, 1)[None].float() / 255, plan, material)
        yield pair, material.network.cells_of_input(image)[0].flatten(1).T


def _renamed(counts: Counts) -> Counts:
    """Confusion matrices (V, K, K) whose predicted classes have the names that are best over all images."""
    names = name_clusters(counts.sum(0), "hungarian")
    return counts[:, :, np.argsort(names)]


def _over_all_classes(
    counts: Counts, metrics: dict[str, float], shares: dict[str, Floats]
) -> tuple[dict[str, float], dict[str, Floats]]:
    """With IoU 0 for classes that do not occur."""
    total = counts.sum(0)
    share = float(np.mean(total.sum(0) + total.sum(1) > 0))
    return metrics | {"mIoU": share * metrics["mIoU"]}, shares | {"mIoU": share * shares["mIoU"]}
