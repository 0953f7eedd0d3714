"""Street scenes like those of Cityscapes, labeled with trainIds and with instance ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from bench.datasets.names import CITYSCAPES_CLASSES, CITYSCAPES_THINGS, VOID
from bench.datasets.synthetic.silhouettes import KINDS, Polygon, bar, corners, ellipse
from bench.datasets.synthetic.stage import Image, Mask, Stage, colours, crop_noise, grid, mix, photograph
from bench.datasets.synthetic.textures import Coordinates, sample

_ID: Final = {name: index for index, name in enumerate(CITYSCAPES_CLASSES)}
STREET_CLASSES: Final = (
    "road", "sidewalk", "building", "fence", "pole", "traffic sign", "vegetation", "sky", "person", "car",
)  # fmt: skip
"""The classes that generated streets contain."""
_LABEL_IDS: Final = {
    _ID[name]: number for name, number in zip(STREET_CLASSES, (7, 8, 11, 13, 17, 20, 21, 23, 24, 26), strict=True)
}
"""The labelId of each trainId."""
EGO_VEHICLE: Final = 1
"""The labelId of the camera car's hood."""
GROUP_BELOW: Final = 60
"""An object of fewer pixels than this belongs to a group."""


@dataclass(frozen=True)
class Street:
    """An image and what is visible at each of its pixels."""

    image: Image
    labels: npt.NDArray[np.uint8]
    """The trainIds (H, W), 255 on the camera car's hood."""
    objects: npt.NDArray[np.uint16]
    """Numbers (H, W) that distinguish upright things; 0 on flat surfaces."""


def _car(rng: np.random.Generator) -> list[Polygon]:
    roof, nose = rng.uniform(0.35, 0.6), rng.uniform(0.65, 0.9)
    body = corners((-1, 0.25), (-0.95, -0.1), (-0.6, -0.18), (nose, -0.15), (1, 0.0), (1, 0.25))
    cabin = corners((-0.65, -0.15), (-0.4, -0.55), (roof * 0.5, -0.55), (roof, -0.15))
    return [body, cabin, ellipse(-0.58, 0.25, 0.2, 0.2), ellipse(0.58, 0.25, 0.2, 0.2)]


def _rear(rng: np.random.Generator) -> list[Polygon]:
    top = rng.uniform(0.35, 0.5)
    cabin = corners((-0.6, -0.1), (-top, -0.6), (top, -0.6), (0.6, -0.1))
    tyres = [bar(s * 0.5, 0.3, s * 0.5, 0.55, 0.2) for s in (-1, 1)]
    return [cabin, corners((-0.7, -0.15), (0.7, -0.15), (0.72, 0.4), (-0.72, 0.4)), *tyres]


class _Painter:
    """Paints flat surfaces and upright things, and keeps the trainIds consistent with the canvas."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self.rng = rng
        self.stage = Stage(np.zeros((3, height, width), np.float32), rng.uniform(-np.pi, 0))
        self.stage.labels[:] = _ID["sky"]
        self.x, self.y = grid(height, width)

    def inside(self, polygon: Polygon) -> Mask:
        """The pixels (H, W) of a polygon."""
        canvas = np.zeros(self.stage.labels.shape, np.uint8)
        return cv2.fillPoly(canvas, [np.round(polygon).astype(np.int32)], 1) > 0

    def surface(
        self,
        polygon: Polygon | None,
        name: str,
        texture: str,
        u: Coordinates,
        v: Coordinates,
        contrast: float,
        gain: float = 1.0,
    ) -> None:
        """Fill a polygon (or everything) with a texture whose coordinates (H, W) are given in periods."""
        pair = colours(self.rng, contrast, muted=0.6)
        chosen = self.inside(polygon) if polygon is not None else np.ones(self.stage.labels.shape, np.bool_)
        np.copyto(self.stage.canvas, mix(sample(texture, u, v), pair) * np.float32(gain), where=chosen)
        self.stage.labels[chosen], self.stage.objects[chosen] = _ID[name], 0

    def thing(
        self, name: str, outline: list[Polygon], centre: tuple[float, float], half: float, texture: str, period: float
    ) -> None:
        """Paint one upright thing of half size `half` pixels."""
        self.stage.place(
            self.rng, outline, centre=centre, half=half, tilt=self.rng.normal(0, 0.03), texture=texture,
            period=max(period, 3.0), label=_ID[name],
        )  # fmt: skip


def street(rng: np.random.Generator, size: tuple[int, int]) -> Street:
    """A street of `size` (width, height): ground in perspective, rows of houses and trees, cars and people."""
    width, height = size
    p = _Painter(rng, height, width)
    horizon = height * rng.uniform(0.36, 0.48)
    vanish = width * rng.uniform(0.35, 0.65)
    shift = rng.uniform(0, 16, 2).astype(np.float32)

    p.surface(None, "sky", "clouds", p.x / 22 + shift[0], p.y / 12 + shift[1], rng.uniform(0.08, 0.2), 1.25)
    depth = np.asarray(0.55 * height / np.maximum(p.y - horizon, 1.5), np.float32)
    across = np.asarray((p.x - np.float32(vanish)) * depth / width, np.float32)
    ground = corners((0, horizon), (width, horizon), (width, height), (0, height))
    p.surface(ground, "sidewalk", "panels", across * 9 + shift[0], depth * 5 + shift[1], rng.uniform(0.15, 0.3))
    left, right = -rng.uniform(0.35, 0.6) * width, rng.uniform(0.35, 0.6) * width
    road = corners((vanish, horizon), (vanish + right * 1.8, height + 1), (vanish + left * 1.8, height + 1))
    p.surface(road, "road", "grain", p.x / 9 + shift[1], p.y / 9 + shift[0], rng.uniform(0.08, 0.16))
    _lane_marks(p, vanish, horizon, height, left, right)

    for side, edge in ((-1, left), (1, right)):
        _row(p, side, edge, vanish, horizon)
    _traffic(p, vanish, horizon, left, right)
    if rng.random() < 0.6:
        bonnet = ellipse(width / 2, height + 2, width * 0.45, height * rng.uniform(0.05, 0.1))
        p.surface(bonnet, "car", "clouds", p.x / 20, p.y / 20, 0.1)
        p.stage.labels[p.inside(bonnet)] = VOID
    p.stage.canvas += 0.03 * crop_noise(rng, height, width, 1.0)
    return Street(photograph(rng, p.stage.canvas), p.stage.labels, p.stage.objects)


def instance_ids(picture: Street) -> npt.NDArray[np.uint16]:
    """Cityscapes' instance ids (H, W): 1000 times labelId plus number for persons and cars, else the labelId.

    Objects of a class that are hardly visible form the group of the class, whose id is the labelId alone.
    """
    by_label = np.array([_LABEL_IDS.get(label, EGO_VEHICLE) for label in range(256)], np.uint16)
    ids: npt.NDArray[np.uint16] = by_label[picture.labels]
    counts = dict.fromkeys(CITYSCAPES_THINGS, 0)
    for number in np.unique(picture.objects[np.isin(ids, list(CITYSCAPES_THINGS))]).tolist():
        seen = picture.objects == number
        label = int(ids[seen][0])
        if seen.sum() >= GROUP_BELOW:
            ids[seen] = 1000 * label + counts[label]
            counts[label] += 1
    return ids


def _lane_marks(p: _Painter, vanish: float, horizon: float, height: int, left: float, right: float) -> None:
    """Paint dashes along the middle of the road; their class is road."""
    middle = (left + right) / 2 * 1.8
    bright = np.float32(p.rng.uniform(0.7, 0.95))
    for near, far in ((1.0, 0.72), (0.55, 0.42), (0.33, 0.26)):
        ends = [(vanish + middle * f, horizon + (height - horizon) * f, 4.5 * f) for f in (near, far)]
        (x0, y0, w0), (x1, y1, w1) = ends
        dash = corners((x0 - w0, y0), (x0 + w0, y0), (x1 + w1, y1), (x1 - w1, y1))
        p.stage.canvas[:, cv2.fillPoly(np.zeros_like(p.stage.labels), [np.round(dash).astype(np.int32)], 1) > 0] = (
            bright
        )


def _row(p: _Painter, side: int, edge: float, vanish: float, horizon: float) -> None:
    """Paint houses, trees, fences, poles and signs of one side, from far to near."""
    rng, height = p.rng, p.stage.labels.shape[0]
    near = np.float32(height - horizon)
    for share in np.linspace(0.16, 0.95, int(rng.integers(6, 10))).tolist():
        step = rng.uniform(0.12, 0.2)
        inner, outer = share * 1.25, share * 1.25 + step * 2.2
        x0, x1 = vanish + edge * 1.8 * inner, vanish + edge * 1.8 * outer + side * 6
        base0, base1 = horizon + near * share * 0.55, horizon + near * min(share * 0.55 + step * 0.7, 1.0)
        choice = rng.random()
        if choice < 0.5:
            tall = height * rng.uniform(0.35, 0.8) * (0.35 + share)
            wall = corners((x0, base0), (x0, base0 - tall), (x1, base1 - tall * 1.25), (x1, base1))
            period = (6 + 9 * share) * rng.uniform(0.8, 1.3)
            style = "windows" if rng.random() < 0.65 else "bricks"
            p.surface(wall, "building", style, p.x / period, p.y / (period * 1.2), rng.uniform(0.2, 0.4))
        elif choice < 0.77:
            radius = height * rng.uniform(0.12, 0.2) * (0.5 + share)
            crown = [ellipse(*rng.normal(0, 0.3, 2), *rng.uniform(0.4, 0.75, 2)) for _ in range(6)]
            p.thing("vegetation", [bar(0, 0, 0, 1.6, 0.18), *crown], (x0, base0 - radius * 1.5), radius, "foliage", 6)
        else:
            low = height * rng.uniform(0.08, 0.13) * (0.5 + share)
            rail = corners((x0, base0), (x0, base0 - low), (x1, base1 - low * 1.3), (x1, base1))
            p.surface(rail, "fence", "planks", p.x / np.float32(3 + 3 * share), p.y / 20, rng.uniform(0.3, 0.45))
        if rng.random() < 0.35:
            _pole(p, vanish + edge * 1.8 * share * rng.uniform(0.62, 0.75), horizon + near * share * 0.62, share)


def _pole(p: _Painter, x: float, foot: float, share: float) -> None:
    rng, height = p.rng, p.stage.labels.shape[0]
    tall = height * rng.uniform(0.4, 0.7) * (0.3 + share)
    thick = max(5.5 * share, 1.6) / tall
    p.thing("pole", [bar(0, -0.5, 0, 0.5, thick)], (x, foot - tall / 2), tall, "clouds", 30)
    if rng.random() < 0.6:
        size = 4 + 8 * share
        board = ellipse(0, 0, 0.8, 0.8) if rng.random() < 0.5 else corners((-0.9, 0.8), (0.9, 0.8), (0.0, -0.8))
        p.thing("traffic sign", [board], (x, foot - tall * 0.85), size, "checks", size * 0.7)


def _traffic(p: _Painter, vanish: float, horizon: float, left: float, right: float) -> None:
    """Paint cars on the road and people on the sidewalks, from far to near."""
    rng, near = p.rng, p.stage.labels.shape[0] - horizon
    for share in np.sort(rng.uniform(0.15, 0.75, int(rng.integers(3, 8)))).tolist():
        ground = horizon + near * share
        if rng.random() < 0.6:
            x = vanish + 1.8 * share * (left + (right - left) * float(rng.choice([0.12, 0.3, 0.7, 0.88])))
            half = 10 + 34 * share
            outline = _rear(rng) if rng.random() < 0.6 else _car(rng)
            p.thing("car", outline, (x, ground - half * 0.45), half * 0.9, "clouds", half * 0.5)
        else:
            edge = left if rng.random() < 0.5 else right
            x = vanish + edge * 1.8 * share * rng.uniform(1.05, 1.5)
            half = 7 + 26 * share
            p.thing("person", KINDS["person"].outline(rng), (x, ground - half), half, "plaid", half * 0.24)
