"""Photograph-like scenes of textured objects on cluttered backgrounds, with exact instance masks.

Colors are drawn at random for every object and every background, so that only texture and outline distinguish the
classes. Everything in a scene follows from the random generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.datasets.synthetic.silhouettes import KINDS, Kind, ellipse
from bench.datasets.synthetic.stage import SMALLEST, Image, Mask, Stage, colours, crop_noise, grid, mix, photograph
from bench.datasets.synthetic.textures import TEXTURES, Grey, sample


@dataclass(frozen=True)
class Instance:
    """The visible part of one object."""

    kind: str
    mask: Mask
    """Visible pixels of the object (H, W)."""
    truncated: bool
    """Whether a part of the object lies outside the image."""
    visible: float
    """Share of the whole object that is visible, in (0, 1]."""
    crowd: bool = False
    """Whether the object belongs to the image's group of small objects."""


@dataclass(frozen=True)
class Scene:
    """An image and its objects."""

    image: Image
    instances: tuple[Instance, ...]


def background(rng: np.random.Generator, height: int, width: int) -> Grey:
    """A background (3, H, W) of two to four regions with different textures, fainter than the objects', and irregular
    borders."""
    x, y = grid(height, width)
    count = int(rng.integers(2, 5))
    slope = rng.uniform(-1, 1, (count, 2)) * 2.2 / max(height, width)
    fields = [
        crop_noise(rng, height, width, 1.8) + dx * (x - width / 2) + 1.6 * dy * (y - height / 2) for dx, dy in slope
    ]
    region = np.argmax(fields, axis=0)
    canvas = np.zeros((3, height, width), np.float32)
    for index in range(count):
        name = TEXTURES[int(rng.integers(len(TEXTURES)))]
        angle, period = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(np.log(5), np.log(26)))
        cos, sin = np.float32(np.cos(angle) / period), np.float32(np.sin(angle) / period)
        bend = np.float32(rng.uniform(0, 0.5)) * crop_noise(rng, height, width, 1.8)
        shift = rng.uniform(0, 16, 2).astype(np.float32)
        t = sample(name, cos * x - sin * y + bend + shift[0], sin * x + cos * y + bend + shift[1])
        np.copyto(canvas, mix(t, colours(rng, rng.uniform(0.06, 0.24))), where=region == index)
    return canvas


def clutter(rng: np.random.Generator, stage: Stage, count: int) -> None:
    """Paint `count` shapes that belong to no class, each with another texture."""
    height, width = stage.labels.shape
    for _ in range(count):
        half = min(height, width) * rng.uniform(0.06, 0.22)
        angle = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
        shape = np.stack([np.cos(angle), np.sin(angle)], 1) * rng.uniform(0.5, 1.1, (len(angle), 1))
        if rng.random() < 0.4:
            shape = ellipse(0, 0, 1, rng.uniform(0.3, 1))
        stage.place(
            rng,
            [shape],
            centre=(rng.uniform(0, width), rng.uniform(0, height)),
            half=half,
            tilt=rng.uniform(0, 2 * np.pi),
            texture=TEXTURES[int(rng.integers(len(TEXTURES)))],
            period=max(half * rng.uniform(0.25, 0.9), 3.5),
            label=0,
        )


def scene(
    rng: np.random.Generator,
    size: tuple[int, int],
    kinds: Sequence[str],
    *,
    objects: tuple[int, int] = (1, 5),
    scale: tuple[float, float] = (0.18, 0.45),
    crowd: bool = False,
) -> Scene:
    """A scene of `size` (width, height) with `objects` (fewest, most) objects of `kinds`.

    `scale` bounds half an object's size, as a share of the image's shorter side. Objects may hide each other, but
    each keeps at least 35 % of what the image holds of it. `crowd` adds a group of small objects of one kind.
    """
    width, height = size
    stage = Stage(background(rng, height, width), rng.uniform(0, 2 * np.pi))
    clutter(rng, stage, int(rng.integers(1, 4)))
    placed: list[tuple[str, float, bool, bool]] = []
    keep: list[float] = []

    def put(name: str, half: float, centre: tuple[float, float], in_crowd: bool) -> bool:
        kind: Kind = KINDS[name]
        done = stage.place(
            rng,
            kind.outline(rng),
            centre=centre,
            half=half,
            tilt=rng.uniform(-kind.tilt, kind.tilt),
            texture=kind.texture,
            period=max(half * kind.period * np.exp(rng.normal(0, 0.15)), 3.2),
            label=len(placed) + 1,
            keep=keep,
            polar=kind.polar,
        )
        if done is None:
            return False
        placed.append((name, *done, in_crowd))
        inside = float((stage.labels == len(placed)).sum())
        keep.append(max(0.35 * inside, SMALLEST))
        return True

    if crowd:
        name = kinds[int(rng.integers(len(kinds)))]
        x, y = rng.uniform(0.25, 0.75) * width, rng.uniform(0.25, 0.75) * height
        for _ in range(int(rng.integers(5, 9))):
            spot = (x + rng.normal(0, 0.13) * width, y + rng.normal(0, 0.09) * height)
            put(name, min(size) * rng.uniform(0.08, 0.11), spot, True)
    low, high = np.log(scale[0]), np.log(scale[1])
    for share in np.sort(np.exp(rng.uniform(low, high, int(rng.integers(objects[0], objects[1] + 1))))):
        name = kinds[int(rng.integers(len(kinds)))]
        for _ in range(6):
            margin = 0.6 * share * min(size) * (rng.random() > 0.25)
            centre = (rng.uniform(margin, width - margin), rng.uniform(margin, height - margin))
            if put(name, share * min(size), centre, False):
                break
    instances = []
    for label, (name, whole, truncated, in_crowd) in enumerate(placed, start=1):
        mask = stage.labels == label
        visible = min(float(mask.sum()) / whole, 1.0)
        instances.append(Instance(name, mask, truncated, visible, in_crowd))
    return Scene(photograph(rng, stage.canvas), tuple(instances))
