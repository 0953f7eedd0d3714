"""Stages that divide every image into regions: by a fixed segmentation, or by clustering what a network sees.

Each leaves one file of label maps, uint8 (images, side, side), which `pretrain.data.regions.Masks` reads.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from pretrain.data.batches import ImageSource
from pretrain.data.decode import DamagedImageError
from pretrain.data.regions import Felzenszwalb, write_masks
from pretrain.data.tables import by_processes, continue_table
from pretrain.discovery.correspondence import normalized
from pretrain.method import Method
from pretrain.nets.architectures import stages_of
from pretrain.parts.clusters import kmeans
from pretrain.parts.losses import unit
from pretrain.parts.masks import LABELS
from pretrain.settings import ADDED

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Segments:
    """Label maps of Felzenszwalb and Huttenlocher's segmentation, in which the network has no part."""

    name: str
    scale: float = 1000.0
    min_size: int = 1000
    """Smallest region in pixels of the image."""
    side: int = 64
    """Side of a label map in pixels."""

    def compute(self, method: Method, source: ImageSource, product: Path) -> None:
        """Segment every image."""
        write_masks(product, source, Felzenszwalb(scale=self.scale, min_size=self.min_size), side=self.side)


@dataclass(frozen=True)
class Clusters:
    """Label maps from k-means of a network's features, of a few images together.

    Wang et al., CYBORGS, ECCV 2022, arXiv 2203.09343. The cells of `together` images in a row, with features of length
    1, are divided into K clusters; K is drawn for each such group from `clusters`, but is at most the number of cells
    of the smallest of its images.
    """

    name: str
    together: int = 16
    clusters: tuple[int, int] = (2, 257)
    """Fewest and most clusters of a group."""
    iterations: int = 20
    stage: int = 2
    """Stage of the network, of four, whose features are clustered: `layer2`."""
    block: int | None = field(default=None, metadata=ADDED)
    """Block of a ResNet's stage, from 0, whose output is clustered; None is the last. Networks without blocks have the
    stage's map."""
    resize: int | None = None
    """Shorter side in pixels to which images are resized; None keeps their size."""
    side: int = 64
    """Side of a label map in pixels."""

    def compute(self, method: Method, source: ImageSource, product: Path) -> None:
        """Cluster group by group. What is drawn for a group depends on the stage's seed and its number alone."""
        seed = int(torch.randint(2**31, ()))
        images = _Images(source, self.resize)

        def rows(done: int) -> Iterator[npt.NDArray[np.uint8]]:
            first = done // self.together * self.together
            group: list[Tensor] = []
            for index, image in enumerate(by_processes(images, first, len(source)), first):
                group.append(self._features(method, image))
                if len(group) == self.together or index + 1 == len(source):
                    maps = self.cluster(group, seed, index // self.together)
                    yield from maps[max(0, done - index + len(group) - 1) :]
                    group.clear()

        continue_table(product, (len(source), self.side, self.side), np.uint8, rows)

    def _features(self, method: Method, image: Tensor) -> Tensor:
        """The map (C, h, w) of one image, uint8 (3, H, W), with features of length 1."""
        pixels = normalized(image[None], method)
        layer = getattr(method.backbone, f"layer{self.stage}", None)
        if self.block is None or not isinstance(layer, nn.Sequential):
            maps = stages_of(method.backbone, pixels)
            return unit(maps[min(self.stage, len(maps)) - 1])[0]
        kept: list[Tensor] = []
        hook = layer[min(self.block, len(layer) - 1)].register_forward_hook(lambda _, __, output: kept.append(output))
        try:
            method.backbone(pixels)
        finally:
            hook.remove()
        return unit(kept[0])[0]

    def cluster(self, group: list[Tensor], seed: int, number: int) -> list[npt.NDArray[np.uint8]]:
        """Label maps (`side`, `side`) of the images of group `number`, from their maps of features (C, h, w)."""
        rng = np.random.default_rng([seed, number])
        count = min(int(rng.integers(self.clusters[0], self.clusters[1] + 1)), *(f[0].numel() for f in group))
        points = torch.cat([features.flatten(1).T for features in group])
        found = kmeans(points[None], torch.from_numpy(rng.random((1, count))), iterations=self.iterations)
        labels = found.labels[0].clamp(max=LABELS - 1).to(torch.uint8).cpu()
        maps = []
        for features, own in zip(group, torch.split(labels, [f[0].numel() for f in group]), strict=True):
            label = own.view(features.shape[1:]).numpy()
            rows, columns = (((np.arange(self.side) + 0.5) * n / self.side).astype(np.int64) for n in label.shape)
            maps.append(label[rows[:, None], columns])
        return maps


class _Images(Dataset[Tensor]):
    """Item i is image i, uint8 (3, H, W); a small black one, if it cannot be read."""

    def __init__(self, source: ImageSource, resize: int | None) -> None:
        self.source, self.resize = source, resize

    def __getitem__(self, index: int) -> Tensor:
        try:
            image = self.source.decode(index)
        except DamagedImageError as error:
            log.warning("no regions for %s", str(error).splitlines()[0])
            image = torch.zeros(3, 64, 64, dtype=torch.uint8)
        if self.resize is None:
            return image
        to = [round(self.resize * side / min(image.shape[1:])) for side in image.shape[1:]]
        return interpolate(image[None], size=to, mode="bilinear", antialias=True)[0]
