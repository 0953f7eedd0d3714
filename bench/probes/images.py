"""Inputs of a probe of whole images: their classes, and one vector of the frozen network for each, kept in a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from bench.clock import Clock
from bench.datasets.classified import ClassifiedImages, Part, classified_images
from bench.datasets.files import load_pixels
from bench.patches import features
from bench.probes.cells import BATCH, Network, normalized
from bench.probes.features import Features, features_key, finite_halves, keep
from bench.probes.plans import ImagePlan


@dataclass(frozen=True)
class ImagePart:
    """The images of a part of a data set, with their classes and vectors."""

    images: ClassifiedImages
    vectors: Features
    """Vectors of the images (N, D), in a file."""

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors (n, D) of some images."""
        return self.vectors[rows].astype(np.float32)


@dataclass(frozen=True)
class ImageMaterial:
    """Everything that a probe of whole images may use."""

    network: Network
    root: Path
    """Data root."""
    dataset: str
    fingerprint: str
    """Fingerprint of the data set's files."""
    folder: Path
    """Folder of the features."""
    seed: int
    clock: Clock = field(default_factory=Clock)

    def part(self, plan: ImagePlan, part: Part) -> ImagePart:
        """The images of a part, with their vectors.

        Raises:
            BenchError: the data set has no classes of images, or a file cannot be read.
        """
        images = classified_images(self.root, self.dataset, part)
        key = features_key(self.network, self.fingerprint, part, (plan.side, plan.view, plan.pooling))
        width = pool(plan, last_map(self.network, np.zeros((1, plan.side, plan.side, 3), np.uint8))).shape[1]
        vectors = keep(self.folder / key, (len(images.paths), width), lambda: _vectors(plan, self.network, images))
        return ImagePart(images, vectors)


def read_square(path: Path, plan: ImagePlan) -> NDArray[np.uint8]:
    """The picture as a square, RGB (side, side, 3), by Pillow's bilinear filter; see `ImagePlan.view`.

    Raises:
        BenchError: it is missing or damaged.
    """
    picture = _with_short_side(Image.fromarray(np.ascontiguousarray(load_pixels(path)[:, :, ::-1])), plan.side)
    if plan.view == "whole":
        return np.asarray(picture.resize((plan.side, plan.side), Image.Resampling.BILINEAR))
    return np.asarray(_central_part(picture, plan.side))


def central_square(picture: Image.Image, side: int) -> Image.Image:
    """The central part of a picture, `side` pixels to a side, after its shorter side was scaled to 8/7 of `side`: what
    torchvision's `Resize` and `CenterCrop` give, for 224 pixels after 256."""
    return _central_part(_with_short_side(picture, side), side)


def _with_short_side(picture: Image.Image, side: int) -> Image.Image:
    width, height = picture.size
    short = 8 * side // 7
    size = (short, short * height // width) if width < height else (short * width // height, short)
    return picture.resize(size, Image.Resampling.BILINEAR)


def _central_part(picture: Image.Image, side: int) -> Image.Image:
    left, top = (round((length - side) / 2) for length in picture.size)
    return picture.crop((left, top, left + side, top + side))


@torch.inference_mode()
def last_map(network: Network, images: NDArray[np.uint8]) -> Tensor:
    """The network's last map (N, C, rows, columns) of RGB images (N, H, W, 3)."""
    x = torch.from_numpy(images).to(network.device).permute(0, 3, 1, 2).float() / 255
    return features(network.backbone, normalized(x, network.card))[-1]


def pool(plan: ImagePlan, cells: Tensor) -> Tensor:
    """The vectors (N, D) of maps (N, C, rows, columns); D is C, or 4 C for windows. See `ImagePlan.pooling`."""
    if plan.pooling == "mean":
        return cells.mean((2, 3))
    rows, columns = cells.shape[2:]
    return avg_pool2d(cells, (rows - 1, columns - 1), stride=1).flatten(1)


def _vectors(plan: ImagePlan, network: Network, images: ClassifiedImages) -> Iterator[Features]:
    for start in range(0, len(images.paths), BATCH):
        pictures = np.stack([read_square(path, plan) for path in images.paths[start : start + BATCH]])
        yield finite_halves(network, pool(plan, last_map(network, pictures)))
