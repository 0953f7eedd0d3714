"""The fit of regions found without labels to the objects of PASCAL VOC: best overlap, image by image.

    python -m bench.benchmarks.region_overlap EXPORTED --data ROOT [--images 100] [--clusters 8] [--pictures FOLDER]

Of each class in an image, background and void left out, the best IoU that any single region reaches with the pixels of
the class; the mean over the classes of an image, then over images, with its standard error. Regions are

    superpixels           SLIC's, R2O's region prior
    drawn groups          superpixels in K groups by lot: what fewer and larger regions do alone
    grouped superpixels   superpixels in K groups by k-means of the network's features, as R2O refines them
    grouped cells         the cells of the network's last map in K groups, as ODIN finds them
    attention             of a ViT: the patches with half of the class token's attention, MaskDistill's prior
    object                of a ViT: the one object that MaskDistill finds by it

by the exported backbone and by the same architecture with random weights, both in evaluation mode. Each image is
divided by itself, and "gain" is the mean over images of what the exported backbone has more than the superpixels (the
region prior) and more than random weights, with the standard error of these differences. `--pictures` draws the regions
of the first images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from cyclopts import run
from PIL import Image
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import interpolate

from bench.benchmarks.rounds import output, start
from bench.datasets.pairs import Pair, segmentation_pairs
from bench.errors import BenchError
from bench.metrics.segmentation import IGNORE
from leaderboard.base.files import make_folder
from pretrain.data.decode import decode_file
from pretrain.data.regions import Superpixels
from pretrain.discovery.attention import Mask, attended, object_mask
from pretrain.exported import read_exported
from pretrain.methods.odin import group_cells
from pretrain.methods.r2o import refine
from pretrain.nets.architectures import build_backbone, stages_of
from pretrain.nets.vit import VisionTransformer

Labels = npt.NDArray[np.integer[Any]]
EXPORTED, RANDOM, PRIOR = "exported", "random weights", "superpixels"
ITERATIONS = 50
DRAWN = 8
"""Number of images that are drawn as pictures."""


def best_overlaps(regions: Labels, labels: Labels) -> npt.NDArray[np.float64]:
    """Best IoU of a region of `regions` (H, W) with each class in `labels` (H, W): (classes,), in [0, 1].

    Background (0) is not a class; void pixels (255) count for neither. Below 0 is no region.
    """
    seen = labels != IGNORE
    found, region = np.unique(regions[seen], return_inverse=True)
    present, label = np.unique(labels[seen], return_inverse=True)
    both = np.zeros((len(present), len(found)))
    np.add.at(both, (label, region), 1)
    union = both.sum(1, keepdims=True) + both.sum(0) - both
    overlaps: npt.NDArray[np.float64] = (both / union)[present != 0]
    return overlaps[:, found >= 0].max(1, initial=0.0)


def enlarged(regions: Labels, height: int, width: int) -> Labels:
    """A map of regions at `height` x `width` pixels, by the nearest."""
    rows, columns = (
        ((np.arange(n) + 0.5) * of / n).astype(int) for n, of in zip((height, width), regions.shape, strict=True)
    )
    return regions[rows[:, None], columns]


@torch.no_grad()
def segmentations(
    image: Tensor, networks: Mapping[str, nn.Module], clusters: int, side: int, seed: int
) -> Iterator[tuple[str, Labels]]:
    """Every way of dividing the `image`, uint8 (3, H, W), resized to `side` x `side`, with its name."""
    slic = Superpixels(100, side=side)
    superpixels = torch.from_numpy(slic(image))[None].long()
    yield PRIOR, superpixels[0].numpy()
    lots = np.random.default_rng(seed).integers(clusters, size=slic.segments)
    yield "drawn groups", lots[superpixels[0].numpy()]
    pixels = interpolate(image[None], size=(side, side), mode="bicubic", antialias=True) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    draws = torch.from_numpy(np.random.default_rng(seed).random((1, clusters)))
    for name, network in networks.items():
        stages = stages_of(network, pixels)
        groups = refine(superpixels, stages[:3][-1], slic.segments, draws, ITERATIONS)
        yield f"grouped superpixels, {name}", groups[0].numpy()
        yield f"grouped cells, {name}", group_cells(stages[-1], draws, ITERATIONS)[0].numpy()
        if isinstance(network, VisionTransformer) and network.cls_token is not None:
            attention, found = by_attention(network, pixels)
            yield f"attention, {name}", np.where(attention, 0, -1)
            yield f"object, {name}", np.where(found, 0, -1)


def by_attention(network: VisionTransformer, pixels: Tensor) -> tuple[Mask, Mask]:
    """The patches (rows, columns) that MaskDistill's prior keeps of an image (1, 3, H, W), and its object."""
    queries, keys = network.last_queries_and_keys(pixels)
    rows, columns = (side // network.patch for side in pixels.shape[2:])
    query, keys = queries[0, :, 0].double(), keys[0, :, -rows * columns :].double()
    heads = max(1, 5 * len(query) // 6)
    _, kept = attended(query, keys, heads=heads, mass=0.5)
    return kept.view(rows, columns).numpy(), object_mask(query, keys, columns, heads=heads, mass=0.5, share=0.4)


def measure(
    pairs: Sequence[Pair],
    networks: Mapping[str, nn.Module],
    *,
    clusters: int,
    side: int = 224,
    seed: int = 0,
    pictures: Path | None = None,
) -> dict[str, npt.NDArray[np.float64]]:
    """Best overlap of each image that shows a class, the mean over its classes, for each way of dividing it."""
    values: dict[str, list[float]] = {}
    for number, pair in enumerate(pairs):
        labels = pair.load_labels()
        if not ((labels != 0) & (labels != IGNORE)).any():
            continue
        image = decode_file(pair.image)
        found = {
            name: enlarged(regions, *labels.shape)
            for name, regions in segmentations(image, networks, clusters, side, seed + number)
        }
        for name, regions in found.items():
            values.setdefault(name, []).append(float(best_overlaps(regions, labels).mean()))
        if pictures is not None and number < DRAWN:
            draw(image, list(found.values()), pictures / f"{pair.image.stem}.png")
    return {name: np.array(of_images) for name, of_images in values.items()}


def draw(image: Tensor, found: Sequence[Labels], path: Path) -> None:
    """Write the image and, to its right in the order of the table, each division of it, borders in yellow."""
    from skimage.segmentation import mark_boundaries

    pixels = image.permute(1, 2, 0).numpy()
    marked = [(255 * mark_boundaries(pixels, regions)).round().astype(np.uint8) for regions in found]
    Image.fromarray(np.concatenate([pixels, *marked], axis=1)).save(path)


def main(
    exported: Path, *, data: Path, images: int = 100, clusters: int = 8, seed: int = 0, pictures: Path | None = None
) -> None:
    """Measure the regions of an exported backbone on VOC 2012's validation images.

    Parameters
    ----------
    exported
        Folder with an exported backbone.
    data
        Data root with VOCdevkit/VOC2012.
    images
        The first so many.
    clusters
        K, the number of groups.
    seed
        Of random weights, lots and k-means.
    pictures
        Folder for pictures of the first images.
    """
    if images < 2 or clusters < 1:
        raise BenchError("take at least 2 images and 1 cluster")
    trained = read_exported(exported).build().eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        untrained = build_backbone(read_exported(exported).card.architecture).eval()
    if pictures is not None:
        make_folder(pictures)
    pairs = segmentation_pairs(data, "voc2012_seg", "val")[:images]
    networks = {EXPORTED: trained, RANDOM: untrained}
    found = measure(pairs, networks, clusters=clusters, seed=seed, pictures=pictures)
    shown = len(found[PRIOR])
    table = Table(
        title=f"Best overlap with VOC's classes, K = {clusters}, {shown} images", title_justify="left", show_edge=False
    )
    for column in ("regions", "best overlap (%)", "gain over superpixels", "gain over random weights"):
        table.add_column(column, justify="left" if column == "regions" else "right")
    for name, of_images in found.items():
        untrained_name = name.replace(EXPORTED, RANDOM)
        table.add_row(
            name,
            percent(of_images),
            percent(of_images - found[PRIOR]) if name != PRIOR else "",
            percent(of_images - found[untrained_name]) if name != untrained_name else "",
        )
    output().print(table)


def percent(of_images: npt.NDArray[np.float64]) -> str:
    """The mean over images and its standard error, in per cent."""
    error = of_images.std(ddof=1) / len(of_images) ** 0.5
    return f"{100 * of_images.mean():.2f} +- {100 * error:.2f}"


if __name__ == "__main__":
    start(lambda: run(main))
