"""Geometry against plain loops in double precision, and against pixels that the pipeline really cropped."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from pretrain.data.batches import Loading, crop_batches, open_images
from pretrain.data.views import ViewPlan, ViewSpec
from pretrain.parts.geometry import (
    align,
    between,
    boxes_to_view,
    cell_centres,
    cell_diagonals,
    cell_distances,
    inside,
    overlap,
    to_original,
    to_view,
    view_centres,
    warp_boxes,
    warp_labels,
    warp_soft,
)


def assert_equal(a: Tensor, b: Tensor) -> None:
    """Up to the rounding of double precision."""
    torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


@dataclass
class Views:
    box: Tensor
    flip: Tensor


def interval(draw: st.DrawFn) -> tuple[float, float]:
    low = draw(st.floats(0, 0.9))
    return low, draw(st.floats(low + 0.05, 1))


@st.composite
def views(draw: st.DrawFn, n: int = 2) -> Views:
    boxes, flips = [], []
    for _ in range(n):
        (x1, x2), (y1, y2) = interval(draw), interval(draw)
        boxes.append([x1, y1, x2, y2])
        flips.append(draw(st.booleans()))
    return Views(torch.tensor(boxes, dtype=torch.float64), torch.tensor(flips))


def some(n: int, seed: int = 0) -> Views:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(n, 2, generator=generator, dtype=torch.float64) * 0.6
    extent = 0.1 + torch.rand(n, 2, generator=generator, dtype=torch.float64) * (0.9 - low)
    return Views(torch.cat((low, low + extent), dim=1), torch.rand(n, generator=generator) < 0.5)


def original(u: float, v: float, box: list[float], flip: bool) -> tuple[float, float]:
    """A view point in original coordinates, from the definition."""
    x1, y1, x2, y2 = box
    if flip:
        u = 1 - u
    return x1 + u * (x2 - x1), y1 + v * (y2 - y1)


def rows(view: Views) -> list[tuple[list[float], bool]]:
    return list(zip(view.box.tolist(), view.flip.tolist(), strict=True))


@given(views(), st.integers(1, 7))
@settings(deadline=None)
def test_cell_centres(view: Views, size: int) -> None:
    centres = cell_centres(view, size)
    assert centres.shape == (2, size, size, 2)
    for n, (box, flip) in enumerate(rows(view)):
        for r, c in itertools.product(range(size), repeat=2):
            x, y = original((c + 0.5) / size, (r + 0.5) / size, box, flip)
            assert centres[n, r, c].tolist() == pytest.approx([x, y], abs=1e-12)
    assert inside(to_view(centres, view)).all()


@given(views(), views(), st.lists(st.tuples(st.floats(-2, 3), st.floats(-2, 3)), min_size=1, max_size=5))
@settings(deadline=None)
def test_points_between_views(a: Views, b: Views, points: list[tuple[float, float]]) -> None:
    batch = torch.tensor([points, points], dtype=torch.float64)
    assert_equal(to_view(to_original(batch, a), a), batch)
    assert_equal(to_original(to_view(batch, a), a), batch)
    torch.testing.assert_close(between(between(batch, a, b), b, a), batch, rtol=0, atol=1e-7)
    assert_equal(between(batch, a, a), batch)
    mapped = between(batch, a, b)
    for n, ((box_a, flip_a), (box_b, flip_b)) in enumerate(zip(rows(a), rows(b), strict=True)):
        for k, (u, v) in enumerate(points):
            x, y = original(u, v, box_a, flip_a)
            there = original(float(mapped[n, k, 0]), float(mapped[n, k, 1]), box_b, flip_b)
            assert there == pytest.approx((x, y), abs=1e-9)
            in_b = 0 <= mapped[n, k, 0] <= 1 and 0 <= mapped[n, k, 1] <= 1
            assert bool(inside(mapped)[n, k]) == in_b


def test_a_flip_mirrors_the_cells_and_a_whole_image_is_the_identity() -> None:
    view = some(4)
    centres = cell_centres(view, 5)
    mirrored = cell_centres(Views(view.box, ~view.flip), 5)
    assert_equal(centres.flip(2), mirrored)
    whole = Views(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([False]))
    points = torch.rand(1, 6, 2)
    assert torch.equal(to_original(points, whole), points)
    assert torch.equal(to_view(points, whole), points)


@given(views(), views())
@settings(deadline=None)
def test_overlap(a: Views, b: Views) -> None:
    boxes, exists = overlap(a, b)
    for n, ((p, _), (q, _)) in enumerate(zip(rows(a), rows(b), strict=True)):
        low = [max(p[0], q[0]), max(p[1], q[1])]
        high = [min(p[2], q[2]), min(p[3], q[3])]
        assert bool(exists[n]) == (low[0] < high[0] and low[1] < high[1])
        assert boxes[n].tolist() == (low + high if exists[n] else [0.0] * 4)
    other_way, _ = overlap(b, a)
    assert torch.equal(boxes, other_way)
    # In the coordinates of either view the overlap lies within the view.
    for view in (a, b):
        local = boxes_to_view(boxes[:, None], view)[:, 0][exists]
        assert ((local > -1e-9) & (local < 1 + 1e-9)).all()
        assert (local[:, :2] < local[:, 2:]).all()


@given(views(1), views(4))
@settings(deadline=None)
def test_boxes_through_crop_and_flip(view: Views, boxes: Views) -> None:
    (box, flip), *_ = rows(view)
    clipped, share = warp_boxes(boxes.box[None], view)
    moved = boxes_to_view(boxes.box[None], view)
    for k, (x1, y1, x2, y2) in enumerate(boxes.box.tolist()):
        width, height = box[2] - box[0], box[3] - box[1]
        u1, u2 = (x1 - box[0]) / width, (x2 - box[0]) / width
        v1, v2 = (y1 - box[1]) / height, (y2 - box[1]) / height
        if flip:
            u1, u2 = 1 - u2, 1 - u1
        assert moved[0, k].tolist() == pytest.approx([u1, v1, u2, v2], abs=1e-9)
        assert clipped[0, k].tolist() == pytest.approx([min(max(t, 0), 1) for t in (u1, v1, u2, v2)], abs=1e-9)
        visible = max(0, min(x2, box[2]) - max(x1, box[0])) * max(0, min(y2, box[3]) - max(y1, box[1]))
        assert float(share[0, k]) == pytest.approx(visible / ((x2 - x1) * (y2 - y1)), abs=1e-9)


def test_distances_and_diagonals() -> None:
    a, b, size = some(3, 1), some(3, 2), 3
    distances = cell_distances(a, b, size)
    assert distances.shape == (3, 9, 9)
    centres_a, centres_b = cell_centres(a, size), cell_centres(b, size)
    cells = list(itertools.product(range(size), repeat=2))
    for n, (i, p), (j, q) in itertools.product(range(3), enumerate(cells), enumerate(cells)):
        d = math.dist(centres_a[n][p].tolist(), centres_b[n][q].tolist())
        assert float(distances[n, i, j]) == pytest.approx(d, abs=1e-12)
    for n, (x1, y1, x2, y2) in enumerate(a.box.tolist()):
        assert float(cell_diagonals(a, size)[n]) == pytest.approx(math.hypot((x2 - x1) / size, (y2 - y1) / size))
    assert torch.equal(cell_distances(a, a, size).argmin(dim=2), torch.arange(9).expand(3, -1))


def ramp(height: int, width: int, n: int) -> Tensor:
    """A map whose value at a point is the point itself: (n, 2, height, width) with the pixels' centres."""
    y, x = torch.meshgrid(
        (torch.arange(height, dtype=torch.float64) + 0.5) / height,
        (torch.arange(width, dtype=torch.float64) + 0.5) / width,
        indexing="ij",
    )
    return torch.stack((x, y)).expand(n, -1, -1, -1)


def test_align_samples_what_the_other_view_sees() -> None:
    """On a map that holds each cell's original coordinates, the aligned map holds those of the other view's cells."""
    a, b = some(6, 3), some(6, 4)
    size = 5
    features = cell_centres(b, 8).permute(0, 3, 1, 2)
    aligned, valid = align(features, b, a, size)
    assert aligned.shape == (6, 2, size, size) and valid.shape == (6, size, size)
    wanted = cell_centres(a, size)
    local = to_view(wanted, b)
    assert torch.equal(valid, inside(local))
    # A bilinear map is exact between the outermost cell centres.
    exact = ((local > 0.5 / 8) & (local < 1 - 0.5 / 8)).all(dim=-1)
    assert exact.sum() > 10
    assert_equal(aligned.permute(0, 2, 3, 1)[exact], wanted[exact])
    same, valid = align(features, b, b, 8)
    assert valid.all()
    assert_equal(same, features)
    mirrored, _ = align(features, b, Views(b.box, ~b.flip), 8)
    assert_equal(mirrored, features.flip(-1))


def test_align_keeps_coordinates_precise_for_half_precision_features() -> None:
    a, b = (Views(v.box.float(), v.flip) for v in (some(4, 3), some(4, 4)))
    features = torch.rand(4, 3, 56, 56).bfloat16()
    aligned, _ = align(features, b, a, 56)
    full, _ = align(features.float(), b, a, 56)
    assert aligned.dtype == torch.bfloat16
    assert torch.equal(aligned, full.bfloat16())


@given(views(), st.integers(1, 6), st.integers(1, 9), st.integers(1, 9))
@settings(deadline=None)
def test_labels_take_the_pixel_in_which_the_centre_falls(view: Views, size: int, height: int, width: int) -> None:
    labels = torch.arange(2 * height * width).view(2, height, width)
    warped = warp_labels(labels, view, size)
    assert warped.shape == (2, size, size) and warped.dtype == labels.dtype
    for n, (box, flip) in enumerate(rows(view)):
        for r, c in itertools.product(range(size), repeat=2):
            x, y = original((c + 0.5) / size, (r + 0.5) / size, box, flip)
            value = int(warped[n, r, c]) - n * height * width
            row, column = divmod(value, width)
            assert row - 1e-9 <= y * height <= row + 1 + 1e-9
            assert column - 1e-9 <= x * width <= column + 1 + 1e-9


def test_no_image_at_all_is_a_batch_too() -> None:
    """A step may draw nothing to be masked."""
    nothing = Views(torch.zeros(0, 4), torch.zeros(0, dtype=torch.bool))
    assert warp_labels(torch.zeros(0, 20, 30, dtype=torch.uint8), nothing, 7).shape == (0, 7, 7)
    assert warp_labels(torch.zeros(0, 2, 20, 30), nothing, 7).shape == (0, 2, 7, 7)


def test_masks_keep_their_leading_dimensions_and_their_partition() -> None:
    view = some(3, 5)
    labels = torch.randint(0, 4, (3, 20, 30))
    masks = torch.nn.functional.one_hot(labels, 4).permute(0, 3, 1, 2)
    warped = warp_labels(masks.bool(), view, 7)
    assert warped.dtype == torch.bool
    assert torch.equal(warped.long().argmax(dim=1), warp_labels(labels, view, 7))
    assert (warped.sum(dim=1) == 1).all()
    soft = warp_soft(masks.float(), Views(view.box.float(), view.flip), 7)
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(3, 7, 7))


def test_soft_masks_are_means_over_the_cells() -> None:
    """Boxes on pixel borders, cells of whole pixels: the mean of a block; and a flip is a mirror image."""
    masks = torch.rand(2, 3, 24, 36)
    box = torch.tensor([[6 / 36, 4 / 24, 18 / 36, 20 / 24]] * 2)
    warped = warp_soft(masks, Views(box, torch.tensor([False, True])), 4)
    for n, k, r, c in itertools.product(range(2), range(3), range(4), range(4)):
        block = masks[n, k, 4 + 4 * r : 8 + 4 * r, 6 + 3 * c : 9 + 3 * c]
        assert float(warped[n, k, r, 3 - c if n else c]) == pytest.approx(float(block.mean()), abs=1e-5)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_geometry_is_that_of_really_cropped_pixels(tmp_path: Path, interpolation: str) -> None:
    """Images whose red is x and whose green is y, cropped by the pipeline, show their own coordinates."""
    sizes = [(160, 120), (97, 203), (64, 64), (250, 80)]
    for k, (width, height) in enumerate(sizes):
        xy = ramp(height, width, 1)[0].numpy() * 255
        pixels = np.stack((xy[0], xy[1], np.zeros_like(xy[0])), axis=-1).round().astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    size = 32
    specs = tuple(
        ViewSpec(name, size, scale, interpolation=interpolation)  # type: ignore[arg-type]
        for name, scale in (("large", (0.3, 1.0)), ("small", (0.02, 0.3)))
    )
    source = open_images(tmp_path)
    flips, shared = 0, []
    for epoch in range(12):
        crops = next(crop_batches(source, ViewPlan(specs), Loading(4, workers=0), epoch=epoch))
        for crop in crops:
            flips += int(crop.flip.sum())
            seen = crop.pixels[:, :2].permute(0, 2, 3, 1).float() / 255
            wanted = cell_centres(crop, size)
            # Rounding to 255 levels, and at the border of the crop half of a filter that is cut off there: up to
            # half an original pixel or cell, whichever is larger.
            pixel = torch.tensor([[1 / sizes[int(k)][0], 1 / sizes[int(k)][1]] for k in crop.image_id])
            cell = (crop.box[:, 2:] - crop.box[:, :2]) / size
            border = 0.5 * torch.maximum(pixel, cell)[:, None, None] + 2 / 255
            difference = (seen - wanted).abs()
            assert (difference <= border).all()
            middle = slice(8, -8)
            assert difference[:, middle, middle].max() <= 2 / 255
        a, b = crops
        aligned, valid = align(b.pixels.float() / 255, b, a, size)
        difference = (aligned - a.pixels / 255).abs()[:, :2].amax(dim=1)
        shared.append(difference[valid])
    assert len(torch.cat(shared)) > 1000
    assert torch.cat(shared).mean() < 1.5 / 255
    assert 24 < flips < 72


def test_cells_of_a_view_alone() -> None:
    grid = view_centres(2, torch.zeros(0))
    assert grid.tolist() == [[[0.25, 0.25], [0.75, 0.25]], [[0.25, 0.75], [0.75, 0.75]]]


def test_the_rows_of_a_batch_do_not_mix() -> None:
    """Row n of every result depends on row n of the views alone."""
    a, b = some(3, 6), some(3, 7)
    boxes = some(3, 8).box[:, None]
    features = torch.rand(3, 2, 6, 6, dtype=torch.float64)
    together = (
        cell_distances(a, b, 3),
        overlap(a, b)[0],
        warp_boxes(boxes, a)[0],
        align(features, b, a, 4)[0],
        warp_labels(features, a, 4),
    )
    for n in range(3):
        one_a, one_b = (Views(v.box[n : n + 1], v.flip[n : n + 1]) for v in (a, b))
        alone = (
            cell_distances(one_a, one_b, 3),
            overlap(one_a, one_b)[0],
            warp_boxes(boxes[n : n + 1], one_a)[0],
            align(features[n : n + 1], one_b, one_a, 4)[0],
            warp_labels(features[n : n + 1], one_a, 4),
        )
        for batch, single in zip(together, alone, strict=True):
            assert_equal(batch[n : n + 1], single)
