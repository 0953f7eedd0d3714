"""Draws what stages and methods find in images: regions, objects, boxes, images that are alike."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pretrain.discovery.object_table import OUTSIDE, Row, spread

RGB = npt.NDArray[np.uint8]
"""A picture (H, W, 3)."""
Box = Sequence[int]
"""Left, top, width and height in pixels."""
WIDTH = 200
"""Width of a picture in pixels."""


def as_address(picture: RGB) -> str:
    """The picture, `WIDTH` pixels wide, as a data URL."""
    image = Image.fromarray(picture)
    content = io.BytesIO()
    image.resize((WIDTH, max(1, round(image.height * WIDTH / image.width)))).save(content, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


def with_regions(picture: RGB, labels: npt.NDArray[np.integer[Any]]) -> RGB:
    """The picture with each region of a label map of any size in a color of its own, by the nearest."""
    labels = _enlarged(labels, *picture.shape[:2])
    return (0.45 * picture + 0.55 * _colors(int(labels.max()) + 1)[labels]).astype(np.uint8)


def with_object(picture: RGB, row: Row) -> RGB:
    """The picture with its object in the color of its cluster, and everything else dark; dark if it has none."""
    if not row["height"]:
        return (0.3 * picture).astype(np.uint8)
    labels = spread(row, *picture.shape[:2])
    colored = 0.6 * picture + 0.4 * _colors(OUTSIDE + 1)[labels]
    return np.where((labels > 0)[:, :, None], colored, 0.3 * picture).astype(np.uint8)


def with_boxes(picture: RGB, boxes: Sequence[Box]) -> RGB:
    """The picture with the borders of boxes, each in a color of its own, the first on top."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    colors = _colors(len(boxes) + 1)[1:].tolist()
    for (left, top, width, height), color in reversed(list(zip(boxes, colors, strict=True))):
        line = max(1, image.width // 100)
        draw.rectangle((left, top, left + width - 1, top + height - 1), outline=tuple(color), width=line)
    return np.asarray(image)


def side_by_side(pictures: Sequence[RGB]) -> RGB:
    """Pictures next to each other, as high as the first."""
    height = pictures[0].shape[0]
    images = [Image.fromarray(one) for one in pictures]
    scaled = [one.resize((max(1, round(one.width * height / one.height)), height)) for one in images]
    return np.concatenate([np.asarray(one) for one in scaled], axis=1)


def _enlarged(labels: npt.NDArray[np.integer[Any]], height: int, width: int) -> npt.NDArray[np.integer[Any]]:
    rows, columns = (
        ((np.arange(n) + 0.5) * of / n).astype(int) for n, of in zip((height, width), labels.shape, strict=True)
    )
    return labels[rows[:, None], columns]


def _colors(count: int) -> RGB:
    """Colors (count, 3) of which neighbors differ much: hues by the golden angle, in three brightnesses."""
    import colorsys

    hues = [(0.61803 * k) % 1 for k in range(count)]
    found = [colorsys.hsv_to_rgb(hue, 0.75, (1.0, 0.8, 0.6)[k % 3]) for k, hue in enumerate(hues)]
    return (255 * np.array(found).reshape(count, 3)).astype(np.uint8)
