"""Paints textured things from back to front, and turns the result into a photograph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from bench.datasets.synthetic.silhouettes import Polygon
from bench.datasets.synthetic.textures import SIDE, Grey, noise, sample

Mask = npt.NDArray[np.bool_]
Image = npt.NDArray[np.uint8]
"""RGB image (H, W, 3)."""

SMALLEST: Final = 36
"""Fewest pixels that a labeled thing must cover to be painted."""
_SUBPIXEL: Final = 4


def colours(rng: np.random.Generator, contrast: float, muted: float = 1.0) -> tuple[Grey, Grey]:
    """Two random RGB colors in [0, 1] whose brightness differs by about `contrast`; `muted` scales saturation."""
    dark = rng.uniform(0.08, 0.9 - contrast)
    levels = [dark, dark + contrast * rng.uniform(0.9, 1.3)]
    if rng.random() < 0.5:
        levels.reverse()
    hue, saturation = rng.random(), muted * rng.beta(1.5, 3.2)
    pair = []
    for level in levels:
        phase = 2 * np.pi * (hue + np.array([0, 1 / 3, 2 / 3]) + rng.normal(0, 0.06))
        pair.append(np.clip(level * (1 + 0.75 * saturation * np.cos(phase)), 0, 1).astype(np.float32))
    return pair[0], pair[1]


def mix(t: Grey, pair: tuple[Grey, Grey]) -> Grey:
    """Color planes (3, ...) of the texture values `t` (...)."""
    shape = (3,) + (1,) * t.ndim
    return pair[0].reshape(shape) + t * (pair[1] - pair[0]).reshape(shape)


def grid(height: int, width: int) -> tuple[Grey, Grey]:
    """Pixel coordinates x and y, both (H, W)."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return x, y


def crop_noise(rng: np.random.Generator, height: int, width: int, slope: float, zoom: float = 1.0) -> Grey:
    """A random window (H, W) of 1/f noise, at most SIDE pixels wide, enlarged `zoom` times."""
    h, w = int(np.ceil(height / zoom)) + 1, int(np.ceil(width / zoom)) + 1
    field = noise(slope, int(rng.integers(4)))
    rows = (np.arange(h) + rng.integers(SIDE)) % SIDE
    columns = (np.arange(w) + rng.integers(SIDE)) % SIDE
    window = field[rows[:, None], columns[None]]
    if zoom == 1:
        return window[:height, :width]
    return cv2.resize(window, (width, height), interpolation=cv2.INTER_CUBIC)


def _blur(field: npt.NDArray[Any], reach: float) -> npt.NDArray[Any]:
    """The field after two box filters that together extend over about `reach` pixels."""
    side = 2 * round(0.75 * reach) + 1
    return cv2.blur(cv2.blur(field, (side, side)), (side, side)) if side > 1 else field


class Stage:
    """A picture that is painted from back to front, with a label map of what is visible at each pixel."""

    def __init__(self, canvas: Grey, light: float) -> None:
        self.canvas = canvas
        """Color planes (3, H, W), nominally in [0, 1]."""
        self.labels = np.zeros(canvas.shape[1:], np.uint8)
        self.objects = np.zeros(canvas.shape[1:], np.uint16)
        """Number, in the order of painting, of the thing that is visible at each pixel (H, W); 0 for none."""
        self._placed = 0
        self.light = light
        """Direction from which the light comes, in radians."""

    def place(
        self,
        rng: np.random.Generator,
        outline: Sequence[Polygon],
        *,
        centre: tuple[float, float],
        half: float,
        tilt: float,
        texture: str,
        period: float,
        label: int,
        keep: Sequence[float] = (),
        polar: bool = False,
    ) -> tuple[float, bool] | None:
        """Paint one textured outline of half size `half` pixels at `centre`, unless it would hide too much.

        `keep[i]` is the number of pixels of label i + 1 that must stay visible. Returns the outline's whole area in
        pixels and whether a part of it lies outside, or None if nothing was painted.
        """
        stretch = np.exp(rng.normal(0, 0.08))
        mirror = float(rng.choice([-1, 1]))
        cos, sin = np.cos(tilt), np.sin(tilt)
        turn = np.array([[cos, -sin], [sin, cos]]) @ np.diag([half * stretch * mirror, half / stretch])
        shadow_reach = max(half * 0.12, 1.0)
        margin = int(np.ceil(3 * shadow_reach)) + 2
        placed = [polygon @ turn.T + centre for polygon in outline]
        everything = np.concatenate(placed)
        left, top = np.floor(everything.min(0)).astype(int) - margin
        right, bottom = np.ceil(everything.max(0)).astype(int) + margin
        alpha = np.zeros((bottom - top, right - left), np.uint8)
        for polygon in placed:
            points = np.round((polygon - (left, top)) * 2**_SUBPIXEL).astype(np.int32)
            cv2.fillPoly(alpha, [points], 255, cv2.LINE_AA, _SUBPIXEL)

        height, width = self.labels.shape
        y0, y1, x0, x1 = max(top, 0), min(bottom, height), max(left, 0), min(right, width)
        if y0 >= y1 or x0 >= x1:
            return None
        inner = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
        outer = np.s_[y0:y1, x0:x1]
        hard = alpha >= 128
        covered = hard[inner]
        if label and covered.sum() < SMALLEST:
            return None
        if keep:
            total = np.bincount(self.labels.ravel(), minlength=256)
            lost = np.bincount(self.labels[outer][covered], minlength=256)
            if np.any((total - lost)[1 : len(keep) + 1] < keep):
                return None

        t = self._texture(rng, centre, (y0, y1, x0, x1), tilt, texture, period, polar, mirror)
        paint = mix(t, colours(rng, rng.uniform(0.28, 0.5)))
        paint *= self._shading(hard, half)[inner]
        a = np.float32(1 / 255) * alpha[inner]
        away = -shadow_reach * np.array([np.cos(self.light), np.sin(self.light)])
        shift = np.array([[1, 0, away[0]], [0, 1, away[1]]], np.float32)
        shadow = _blur(cv2.warpAffine(alpha, shift, alpha.shape[::-1]), shadow_reach)[inner]
        behind = self.canvas[:, y0:y1, x0:x1]
        behind *= (1 - np.float32(0.4 / 255) * shadow) * (1 - a)
        behind += paint * a
        self._placed += 1
        self.labels[outer][covered], self.objects[outer][covered] = label, self._placed
        whole = float(hard.sum())
        return whole, bool(covered.sum() < 0.98 * whole)

    def _texture(
        self,
        rng: np.random.Generator,
        centre: tuple[float, float],
        window: tuple[int, int, int, int],
        tilt: float,
        texture: str,
        period: float,
        polar: bool,
        mirror: float,
    ) -> Grey:
        """Texture values in the object's own frame, so that they turn and mirror with it."""
        y0, y1, x0, x1 = window
        x, y = grid(y1 - y0, x1 - x0)
        x, y = x + np.float32(x0 - centre[0]), y + np.float32(y0 - centre[1])
        u = np.float32(mirror) * (np.float32(np.cos(tilt)) * x + np.float32(np.sin(tilt)) * y)
        v = np.float32(np.cos(tilt)) * y - np.float32(np.sin(tilt)) * x
        shift = rng.uniform(0, 16, 2).astype(np.float32)
        if polar:
            u, v = np.arctan2(v, u) * np.float32(8 / np.pi), np.hypot(u, v) / np.float32(period)
            shift[0] = np.round(shift[0])
            return sample(texture, u + shift[0], v + shift[1])
        return sample(texture, u / np.float32(period) + shift[0], v / np.float32(period) + shift[1])

    def _shading(self, hard: Mask, half: float) -> Grey:
        """Shading that makes things look round: darker toward the rim, lighter on the side of the light."""
        depth = cv2.distanceTransform(hard.view(np.uint8), cv2.DIST_L2, 3)
        dome = np.sqrt(np.clip(depth / (0.4 * half), 0, 1))
        dome = _blur(dome, half * 0.08)
        toward = -0.175 * half * np.array([np.cos(self.light), np.sin(self.light)])
        kernel = np.array([[0, -toward[1], 0], [-toward[0], 0, toward[0]], [0, toward[1], 0]])
        lit = cv2.filter2D(dome, -1, kernel)
        return np.asarray(0.72 + 0.34 * dome + np.clip(lit, -0.3, 0.35), np.float32)


def photograph(rng: np.random.Generator, canvas: Grey) -> Image:
    """The canvas as a camera would see it: with uneven light, blur, exposure, white balance and noise."""
    height, width = canvas.shape[1:]
    light = 1 + 0.13 * crop_noise(rng, height, width, 1.8, zoom=2)
    x, y = grid(height, width)
    slope = rng.normal(0, 0.22, 2)
    light += np.float32(slope[0]) * (x / width - 0.5) + np.float32(slope[1]) * (y / height - 0.5)
    tint = np.exp(rng.normal(0, 0.05, 3)).astype(np.float32) * np.float32(np.exp(rng.normal(0, 0.12)))
    out = canvas * np.clip(light, 0.3, 1.7) * tint[:, None, None]
    out += 0.04 * crop_noise(rng, height, width, 0.8)
    out = cv2.GaussianBlur(np.ascontiguousarray(out.transpose(1, 2, 0)), (0, 0), rng.uniform(0.35, 0.8))
    grain = rng.uniform(0.005, 0.025) * rng.standard_normal((height, width), np.float32)
    out += cv2.merge([grain, grain, grain])
    gamma = np.exp(rng.normal(-0.15, 0.15))
    curve = np.asarray(255 * np.linspace(0, 1, 256) ** gamma + 0.5, np.uint8)
    return cv2.LUT(cv2.convertScaleAbs(np.maximum(out, 0), alpha=255), curve)
