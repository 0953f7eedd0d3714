"""The images for pretraining: scenes of all kinds of objects, and windows of streets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.datasets.synthetic.scene import scene
from bench.datasets.synthetic.silhouettes import KINDS
from bench.datasets.synthetic.stage import Image
from bench.datasets.synthetic.street import Street, street

STREET: Final = "street"
"""Class of the windows of streets."""
NO_OBJECT: Final = "nothing"
"""Class of a scene in which no object found a place."""

_SIZES: Final = ((112, 96), (128, 96), (128, 112), (96, 112), (96, 128), (112, 112))
STREET_SIZE: Final = (224, 128)
"""Width and height of a whole street in pixels."""


@dataclass(frozen=True)
class Picture:
    """An image for pretraining."""

    image: Image
    shows: str
    """Its class: the kind of which it shows the most pixels (`KINDS`), `STREET` or `NO_OBJECT`."""


def pretraining_picture(rng: np.random.Generator) -> Picture:
    """The picture that `rng` draws: one or two large objects, two to five smaller ones, or a window of a street."""
    size = _SIZES[int(rng.integers(len(_SIZES)))]
    sort = rng.random()
    if sort < 0.2:
        return Picture(_window(rng, street(rng, STREET_SIZE), size), STREET)
    objects, scale = ((1, 2), (0.3, 0.5)) if sort < 0.55 else ((2, 5), (0.15, 0.42))
    drawn = scene(rng, size, tuple(KINDS), objects=objects, scale=scale)
    pixels = {kind: sum(int(one.mask.sum()) for one in drawn.instances if one.kind == kind) for kind in KINDS}
    largest = max(pixels, key=lambda kind: pixels[kind])
    return Picture(drawn.image, largest if pixels[largest] else NO_OBJECT)


def _window(rng: np.random.Generator, picture: Street, size: tuple[int, int]) -> Image:
    """A random window of `size` (width, height)."""
    width, height = size
    rows, columns = picture.labels.shape
    y, x = int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1))
    return np.ascontiguousarray(picture.image[y : y + height, x : x + width])
