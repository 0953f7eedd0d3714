"""Procedural textures: each is a periodic gray tile that is sampled at any place, scale and rotation.

A tile holds 16 x 16 periods of its texture in 256 x 256 float32 values in [0, 1]; a value mixes the two colors of the
painted thing. Tiles do not depend on the data set's seed; the places where they are sampled do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.float32]
Coordinates = npt.NDArray[np.floating[Any]]

SIDE: Final = 256
PERIODS: Final = 16
_KEY: Final = 20120512


def soft(field: Grey, gain: float) -> Grey:
    """A smooth threshold of `field` at 0, into [0, 1]."""
    return np.asarray(1 / (1 + np.exp(np.clip(-gain * field, -30, 30))), np.float32)


@cache
def noise(slope: float, key: int = 0) -> Grey:
    """Periodic noise (SIDE, SIDE) of mean 0 and deviation 1 whose amplitude falls as 1 / frequency**slope."""
    rng = np.random.default_rng((_KEY, key, round(slope * 100)))
    fy = np.fft.fftfreq(SIDE)[:, None] * SIDE
    fx = np.fft.rfftfreq(SIDE)[None] * SIDE
    radius = np.maximum(np.hypot(fy, fx), 1)
    spectrum = np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) / radius**slope
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, (SIDE, SIDE))
    return (field / field.std()).astype(np.float32)


def _axes() -> tuple[Grey, Grey]:
    """Horizontal and vertical coordinates of a tile, in periods."""
    line = (np.arange(SIDE) * PERIODS / SIDE).astype(np.float32)
    x, y = np.meshgrid(line, line)
    return x, y


@cache
def _worley() -> tuple[Grey, Grey, Grey]:
    """Distances to the nearest and second nearest of jittered points, one per period, and a random tone per cell."""
    rng = np.random.default_rng((_KEY, 1))
    px, py = rng.uniform(0.1, 0.9, (2, PERIODS, PERIODS))
    tones = rng.random((PERIODS, PERIODS))
    x, y = _axes()
    column, row = x.astype(int), y.astype(int)
    distances, cells = [], []
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            r, c = (row + dy) % PERIODS, (column + dx) % PERIODS
            distances.append(np.hypot(column + dx + px[r, c] - x, row + dy + py[r, c] - y))
            cells.append(tones[r, c])
    order = np.argsort(distances, axis=0)
    first, second = (np.take_along_axis(np.stack(distances), order[k : k + 1], 0)[0] for k in (0, 1))
    tone = np.take_along_axis(np.stack(cells), order[:1], 0)[0]
    return first.astype(np.float32), second.astype(np.float32), tone.astype(np.float32)


def _wave(phase: Coordinates) -> Grey:
    return np.sin(2 * np.pi * phase, dtype=np.float32)


def _stripes() -> Grey:
    x, _ = _axes()
    return soft(_wave(x + 0.28 * noise(2.0, 2)), 4)


def _planks() -> Grey:
    x, _ = _axes()
    tones = np.random.default_rng((_KEY, 3)).random(PERIODS).astype(np.float32)
    board = 0.35 + 0.65 * tones[x.astype(int)]
    return board * soft(np.abs(x % 1 - 0.5) * -1 + 0.43, 40)


def _checks() -> Grey:
    x, y = _axes()
    return soft(_wave(x / 2) * _wave(y / 2), 8)


def _dots() -> Grey:
    x, y = _axes()
    return soft(np.cos(2 * np.pi * x).astype(np.float32) + np.cos(2 * np.pi * y).astype(np.float32) - 0.5, 5)


def _cells() -> Grey:
    first, second, _ = _worley()
    return soft(second - first - 0.16, 30)


def _fleece() -> Grey:
    first, _, _ = _worley()
    return np.clip(1.15 - 1.5 * first, 0, 1)


def _pebbles() -> Grey:
    first, second, tone = _worley()
    return (0.3 + 0.7 * tone) * soft(second - first - 0.07, 40)


def _smoothed(key: int, sigma_x: float, sigma_y: float) -> Grey:
    """White noise blurred around the tile's borders, of deviation 1."""
    field = cv2.GaussianBlur(np.tile(noise(0, key), (3, 3)), (0, 0), sigmaX=sigma_x, sigmaY=sigma_y)
    field = field[SIDE : 2 * SIDE, SIDE : 2 * SIDE]
    return field / field.std()


def _blobs() -> Grey:
    return soft(_smoothed(4, 7, 7) - 0.1, 5)


def _plaid() -> Grey:
    x, y = _axes()
    return 0.5 * soft(_wave(x), 4) + 0.35 * soft(_wave(y), 4) + 0.15 * soft(_wave(2 * y + 0.25), 4)


def _bricks() -> Grey:
    x, y = _axes()
    row = np.floor(2 * y)
    column = x + 0.5 * (row % 2)
    tones = np.random.default_rng((_KEY, 5)).random((2 * PERIODS, PERIODS)).astype(np.float32)
    tone = tones[row.astype(int), np.floor(column).astype(int) % PERIODS]
    mortar = np.minimum(np.minimum(column % 1, 1 - column % 1), np.minimum(2 * y % 1, 1 - 2 * y % 1) / 2)
    return (0.45 + 0.55 * tone) * soft(mortar - 0.06, 60)


def _chevron() -> Grey:
    x, y = _axes()
    return soft(_wave(y + np.abs(x % 1 - 0.5) + 0.06 * noise(1.5, 6)), 4)


def _panels() -> Grey:
    x, y = _axes()
    seam = np.minimum(np.abs(x % 1 - 0.5), np.abs(y % 1 - 0.5))
    return soft(seam - 0.07, 45)


def _fur() -> Grey:
    return soft(_smoothed(7, 9, 0.9), 1.6)


def _grain() -> Grey:
    return soft(noise(0.4, 8), 1.4)


def _clouds() -> Grey:
    return soft(noise(1.8, 9), 1.5)


def _marble() -> Grey:
    x, y = _axes()
    return np.abs(_wave((x + y) / 2 + 0.5 * noise(1.6, 10)))


def _waves() -> Grey:
    x, y = _axes()
    return soft(_wave(y + 0.22 * _wave(x / 2)), 2.5)


def _weave() -> Grey:
    x, y = _axes()
    across = (np.floor(x) + np.floor(y)) % 2 == 0
    strand = np.where(across, _wave(2 * x), _wave(2 * y))
    return (0.5 + 0.3 * strand + np.where(across, 0.2, -0.2)).astype(np.float32)


def _foliage() -> Grey:
    first, second, tone = _worley()
    return np.clip(0.15 + 0.85 * tone * (1.1 - first) + 0.12 * noise(0.6, 11), 0, 1) * soft(second - first, 18)


def _windows() -> Grey:
    x, y = _axes()
    pane = np.minimum(0.3 - np.abs(x % 1 - 0.5), 0.34 - np.abs(y % 1 - 0.5))
    return soft(-pane, 45)


_MAKERS: Final[dict[str, Callable[[], Grey]]] = {
    "stripes": _stripes,
    "planks": _planks,
    "checks": _checks,
    "dots": _dots,
    "cells": _cells,
    "fleece": _fleece,
    "pebbles": _pebbles,
    "blobs": _blobs,
    "plaid": _plaid,
    "bricks": _bricks,
    "chevron": _chevron,
    "panels": _panels,
    "fur": _fur,
    "grain": _grain,
    "clouds": _clouds,
    "marble": _marble,
    "waves": _waves,
    "weave": _weave,
    "foliage": _foliage,
    "windows": _windows,
}
TEXTURES: Final = tuple(_MAKERS)


@cache
def tile(name: str) -> Grey:
    """The tile (SIDE, SIDE) of a texture, stretched to [0, 1]."""
    field = _MAKERS[name]()
    low, high = field.min(), field.max()
    return np.ascontiguousarray((field - low) / (high - low), np.float32)


def sample(name: str, x: Coordinates, y: Coordinates) -> Grey:
    """The texture's value at the coordinates `x`, `y` (both (H, W), in periods, any real numbers), in [0, 1]."""
    return cv2.remap(tile(name), _pixels(x), _pixels(y), cv2.INTER_LINEAR, None, cv2.BORDER_WRAP)


def _pixels(periods: Coordinates) -> Grey:
    """Pixel coordinates in the tile; OpenCV could wrap them, too, but four times slower."""
    turns = np.asarray(periods / PERIODS, np.float32)
    return (turns - np.floor(turns)) * np.float32(SIDE)
