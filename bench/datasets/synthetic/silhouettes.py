"""The outlines of the generated object classes: polygons in a box of about [-1, 1] x [-1, 1], y pointing down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Polygon = npt.NDArray[np.float64]
"""Corners (x, y) of a polygon (N, 2)."""


def ellipse(x: float, y: float, rx: float, ry: float, tilt: float = 0.0) -> Polygon:
    """A 28-cornered ellipse, turned by `tilt` radians."""
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    u, v = rx * np.cos(angle), ry * np.sin(angle)
    return np.stack([x + u * np.cos(tilt) - v * np.sin(tilt), y + u * np.sin(tilt) + v * np.cos(tilt)], 1)


def bar(x0: float, y0: float, x1: float, y1: float, width: float) -> Polygon:
    """A straight limb of the given width from one point to another."""
    along = np.array([x1 - x0, y1 - y0]) / max(np.hypot(x1 - x0, y1 - y0), 1e-9)
    side = np.array([-along[1], along[0]]) * width / 2
    a, b = np.array([x0, y0]), np.array([x1, y1])
    return np.array([a - side, b - side, b + side, a + side])


def corners(*points: tuple[float, float]) -> Polygon:
    """A polygon from its corners."""
    return np.array(points, np.float64)


def _quadruped(
    rng: np.random.Generator, *, body: tuple[float, float], leg: float, thick: float, neck: float, head: float
) -> list[Polygon]:
    """An animal with these half-axes of the body, leg length and thickness, neck length, head size; random gait."""
    rx, ry = body[0] * rng.uniform(0.9, 1.1), body[1] * rng.uniform(0.85, 1.15)
    shoulder = (rx * 0.75, -0.1)
    tilt = rng.uniform(0.5, 1.1) if neck < 0.6 else rng.uniform(1.1, 1.4)
    top = (shoulder[0] + neck * np.cos(tilt), shoulder[1] - neck * np.sin(tilt))
    parts = [ellipse(0, 0, rx, ry), bar(*shoulder, *top, thick * 1.7)]
    nod = rng.uniform(0.1, 0.5)
    parts.append(ellipse(top[0] + head * 0.5, top[1], head, head * 0.5, nod))
    parts.append(corners((top[0] - 0.05, top[1]), (top[0] - 0.02, top[1] - head), (top[0] + 0.14, top[1] - 0.05)))
    for hip in (-0.75, -0.5, 0.5, 0.75):
        swing = rng.uniform(-0.15, 0.15)
        parts.append(bar(hip * rx, ry * 0.4, hip * rx + swing, ry * 0.4 + leg, thick))
    parts.append(bar(-rx * 0.95, -0.1, -rx - 0.12, ry + rng.uniform(-0.1, 0.3), 0.07))
    return parts


def _cow(rng: np.random.Generator) -> list[Polygon]:
    return _quadruped(rng, body=(0.75, 0.42), leg=0.6, thick=0.17, neck=0.35, head=0.24)


def _zebra(rng: np.random.Generator) -> list[Polygon]:
    return _quadruped(rng, body=(0.68, 0.34), leg=0.8, thick=0.13, neck=0.5, head=0.22)


def _giraffe(rng: np.random.Generator) -> list[Polygon]:
    parts = _quadruped(rng, body=(0.5, 0.3), leg=0.9, thick=0.11, neck=1.05, head=0.19)
    return [part * 0.9 + np.array([0.0, 0.25]) for part in parts]


def _sheep(rng: np.random.Generator) -> list[Polygon]:
    parts = _quadruped(rng, body=(0.62, 0.45), leg=0.45, thick=0.12, neck=0.28, head=0.22)
    angle = np.linspace(0, 2 * np.pi, 9, endpoint=False) + rng.uniform(0, 0.7)
    return parts + [ellipse(0.6 * np.cos(a), 0.42 * np.sin(a), 0.2, 0.2) for a in angle]


def _cat(rng: np.random.Generator) -> list[Polygon]:
    lean, wide = rng.uniform(-0.12, 0.12), rng.uniform(0.42, 0.56)
    parts = [ellipse(0, 0.42, wide, 0.55), ellipse(lean, -0.38, 0.36, 0.33)]
    parts += [corners((lean + s * 0.34, -0.4), (lean + s * 0.32, -0.95), (lean + s * 0.02, -0.66)) for s in (-1, 1)]
    side, lift = float(rng.choice([-1, 1])), rng.uniform(-0.4, 0.3)
    parts += [bar(side * wide * 0.7, 0.82, side * 0.9, 0.6, 0.15), bar(side * 0.9, 0.64, side * 0.95, lift, 0.14)]
    return [*parts, ellipse(-0.2, 0.93, 0.2, 0.1), ellipse(0.2, 0.93, 0.2, 0.1)]


def _person(rng: np.random.Generator) -> list[Polygon]:
    parts = [ellipse(0, -0.8, 0.17, 0.2), corners((-0.3, -0.64), (0.3, -0.64), (0.24, 0.15), (-0.24, 0.15))]
    for side in (-1, 1):
        step, swing, bend = rng.uniform(0.0, 0.3), rng.uniform(0.15, 0.5), rng.uniform(-0.2, 0.3)
        parts.append(bar(side * 0.13, 0.1, side * (0.12 + step), 1.0, 0.2))
        parts.append(bar(side * 0.26, -0.5, side * (0.26 + swing), -0.05, 0.15))
        parts.append(bar(side * (0.26 + swing), -0.07, side * (0.3 + swing - bend * 0.4), 0.0 + bend, 0.13))
    return parts


def _bottle(rng: np.random.Generator) -> list[Polygon]:
    wide, neck, shoulder = rng.uniform(0.3, 0.42), rng.uniform(0.1, 0.15), rng.uniform(-0.4, -0.1)
    return [
        corners(
            *[(-neck, -0.95), (neck, -0.95), (neck, shoulder - 0.25), (wide, shoulder + 0.1), (wide, 0.95)],
            *[(-wide, 0.95), (-wide, shoulder + 0.1), (-neck, shoulder - 0.25)],
        ),
        corners((-neck * 1.4, -1.0), (neck * 1.4, -1.0), (neck * 1.4, -0.85), (-neck * 1.4, -0.85)),
    ]


def _aeroplane(rng: np.random.Generator) -> list[Polygon]:
    sweep, span, fuselage = rng.uniform(0.1, 0.5), rng.uniform(0.75, 1.0), rng.uniform(0.12, 0.18)
    parts = [ellipse(0, 0, 1.0, fuselage)]
    for side in (-1, 1):
        parts.append(corners((0.3, 0), (0.25 - sweep, side * span), (0.02 - sweep, side * span), (-0.2, 0)))
        parts.append(corners((-0.7, 0), (-0.85, side * 0.36), (-1.0, side * 0.36), (-0.95, 0)))
    return parts


def _umbrella(rng: np.random.Generator) -> list[Polygon]:
    low = rng.uniform(-0.15, 0.1)
    rim = [(np.cos(a), low - (low + 1.0) * np.sin(a)) for a in np.linspace(np.pi, 0, 18)]
    scallops = [(x, low - 0.14 * abs(np.sin(2 * np.pi * (x + 1)))) for x in np.linspace(1, -1, 33)]
    hook = [bar(0, low - 0.1, 0, 0.85, 0.07), bar(0, 0.85, 0.16, 0.95, 0.07), bar(0.16, 0.97, 0.24, 0.8, 0.07)]
    return [corners(*rim, *scallops), *hook]


def _clock(rng: np.random.Generator) -> list[Polygon]:
    parts = [ellipse(0, 0, 0.85, 0.85 * rng.uniform(0.9, 1.0))]
    parts += [ellipse(s * 0.55, -0.75, 0.27, 0.22, s * 0.6) for s in (-1, 1)]
    return parts + [bar(s * 0.4, 0.6, s * 0.6, 1.0, 0.14) for s in (-1, 1)]


@dataclass(frozen=True)
class Kind:
    """The appearance of a class of objects, without colors."""

    outline: Callable[[np.random.Generator], list[Polygon]]
    texture: str
    period: float
    """Period of the texture, as a share of half the object's size."""
    tilt: float
    """Largest rotation, in radians."""
    polar: bool = False
    """Whether the texture runs along radius and angle instead of x and y."""


KINDS: Final[dict[str, Kind]] = {
    "aeroplane": Kind(_aeroplane, "panels", 0.26, np.pi),
    "bottle": Kind(_bottle, "dots", 0.3, 0.5),
    "cat": Kind(_cat, "chevron", 0.3, 0.2),
    "clock": Kind(_clock, "waves", 0.3, 0.3, polar=True),
    "cow": Kind(_cow, "blobs", 0.22, 0.15),
    "giraffe": Kind(_giraffe, "cells", 0.24, 0.15),
    "person": Kind(_person, "plaid", 0.24, 0.2),
    "sheep": Kind(_sheep, "fleece", 0.2, 0.15),
    "umbrella": Kind(_umbrella, "planks", 0.3, 0.5, polar=True),
    "zebra": Kind(_zebra, "stripes", 0.26, 0.15),
}
