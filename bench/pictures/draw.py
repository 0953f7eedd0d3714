"""Draws label maps and features as pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.datasets.shares import by_hash
from bench.metrics.segmentation import IGNORE

RGB = NDArray[np.uint8]
"""An RGB picture (H, W, 3)."""
WIDTH = 240
"""Width of a picture on the page, in pixels."""
NOT_COUNTED = (224, 224, 224)
"""Color of pixels without a class."""


def palette(classes: int) -> RGB:
    """PASCAL VOC's colors (classes, 3). The bits of class k go in turn to red, green and blue; the lowest bits of k
    become the highest bits of the channels."""
    k = np.arange(classes)[:, None]
    return sum(((k >> (3 * i + np.arange(3))) & 1) << (7 - i) for i in range(3)).astype(np.uint8)  # type: ignore[union-attr]


def class_map(labels: NDArray[np.integer], classes: int) -> RGB:
    """A label map (H, W) in the colors of its classes."""
    colors = np.full((256, 3), NOT_COUNTED, np.uint8)
    colors[:classes] = palette(classes)
    colors[IGNORE] = NOT_COUNTED
    return colors[labels]


def principal_colors(maps: Sequence[NDArray[np.floating]]) -> list[RGB]:
    """The first three principal components of cells (C, H, W) of several images as red, green and blue.

    Channels are first scaled to variance 1. Each component runs from black to full color between its 2nd and 98th
    percentile over all images, and its sign makes its largest weight positive: equal features give equal pictures.
    """
    cells = np.concatenate([one.reshape(len(one), -1).T for one in maps]).astype(np.float64)
    cells -= cells.mean(0)
    cells /= np.maximum(cells.std(0), 1e-6)
    _, vectors = np.linalg.eigh(cells.T @ cells / len(cells))
    axes = vectors[:, ::-1][:, :3]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    values = cells @ axes
    low, high = np.percentile(values, (2, 98), axis=0)
    scaled = (255 * ((values - low) / np.maximum(high - low, 1e-9)).clip(0, 1)).astype(np.uint8)
    ends = np.cumsum([one[0].size for one in maps])[:-1]
    return [
        part.reshape(*one.shape[1:], scaled.shape[1]) for part, one in zip(np.split(scaled, ends), maps, strict=True)
    ]


def address(picture: RGB, shape: tuple[int, ...], *, smooth: bool) -> str:
    """A picture of `WIDTH`, in the proportions of `shape` (H, W, ...), as a PNG in a data URL.

    `smooth` is for photographs, not for classes and cells.
    """
    image = Image.fromarray(picture)
    size = (WIDTH, max(1, round(shape[0] * WIDTH / shape[1])))
    content = io.BytesIO()
    image.resize(size, Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST).save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def addresses(pictures: Sequence[RGB], labels: Sequence[RGB], *, smooth: bool) -> list[str]:
    """Each picture as `address` gives it, in the proportions of its image's labels: probes scale all to one size."""
    return [address(one, of.shape, smooth=smooth) for one, of in zip(pictures, labels, strict=True)]


def sample(names: Sequence[str], count: int) -> list[int]:
    """Positions of the `count` names with the smallest SHA-256: the same pictures for everybody."""
    return by_hash(names)[:count]
