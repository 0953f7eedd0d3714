"""Geometry between views: overlap, cell centers, correspondence, and crop and flip applied to maps and boxes.

Coordinates are continuous and in [0, 1]: original coordinates run over the original image, view coordinates over the
view as a network sees it, after crop and flip; (0, 0) is the upper left corner of the upper left pixel. A point is
(x, y), a box (x1, y1, x2, y2) with x1 < x2 and y1 < y2. Cell (r, c) of an S x S map of a view has its center at
((c + 1/2) / S, (r + 1/2) / S) in view coordinates.

Everything is batched: row n of a tensor belongs to sample n of the views. Views are anything with `box` and `flip`:
`pretrain.data.views.View` and `Crop`.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from pretrain.parts.upload import constant


class Placed(Protocol):
    """Where the views of a batch came from: `box` (N, 4) in original coordinates, `flip` bool (N,) after the crop."""

    @property
    def box(self) -> Tensor:
        """Boxes (N, 4)."""
        ...

    @property
    def flip(self) -> Tensor:
        """Flips, bool (N,)."""
        ...


class Frame(NamedTuple):
    """A place in the original image, of a view or not: boxes (N, 4) in original coordinates, flips bool (N,)."""

    box: Tensor
    flip: Tensor


def upright(box: Tensor) -> Frame:
    """Boxes (N, 4) in original coordinates, not flipped."""
    return Frame(box, torch.zeros(len(box), dtype=torch.bool, device=box.device))


def to_original(points: Tensor, view: Placed) -> Tensor:
    """Points (N, ..., 2) in coordinates of `view`, in original coordinates.

    The left half of an image, flipped: what the view shows at its left edge lies in the image's middle.

    >>> left_half = Frame(box=torch.tensor([[0.0, 0.0, 0.5, 1.0]]), flip=torch.tensor([True]))
    >>> to_original(torch.tensor([[0.0, 0.25]]), left_half)
    tensor([[0.5000, 0.2500]])
    """
    corner, extent = _corner_and_extent(points, view)
    return corner + extent * _mirror(points, view)


def to_view(points: Tensor, view: Placed) -> Tensor:
    """Points (N, ..., 2) in original coordinates, in coordinates of `view`; outside [0, 1] they lie outside it.

    >>> to_view(torch.tensor([[0.5, 0.5]]), upright(torch.tensor([[0.0, 0.0, 0.25, 1.0]])))
    tensor([[2.0000, 0.5000]])
    """
    corner, extent = _corner_and_extent(points, view)
    return _mirror((points - corner) / extent, view)


def between(points: Tensor, source: Placed, target: Placed) -> Tensor:
    """Points (N, ..., 2) in coordinates of `source`, in coordinates of `target`."""
    return to_view(to_original(points, source), target)


def inside(points: Tensor) -> Tensor:
    """Which points (N, ..., 2) in view coordinates lie in the view, its border included: bool (N, ...)."""
    return ((points >= 0) & (points <= 1)).all(dim=-1)


def view_centres(size: int, like: Tensor) -> Tensor:
    """Centers of the cells of a `size` x `size` map in view coordinates: (size, size, 2), row by row.

    >>> view_centres(2, torch.empty(0)).flatten(0, 1).tolist()
    [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    """
    centre = (torch.arange(size, dtype=like.dtype, device=like.device) + 0.5) / size
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    return torch.stack((x, y), dim=-1)


def cell_centres(view: Placed, size: int) -> Tensor:
    """Centers of the cells of a `size` x `size` map of `view` in original coordinates: (N, size, size, 2)."""
    grid = view_centres(size, view.box).expand(len(view.box), -1, -1, -1)
    return to_original(grid, view)


def cell_diagonals(view: Placed, size: int) -> Tensor:
    """Diagonal of one cell of a `size` x `size` map of `view`, in original coordinates: (N,)."""
    return (view.box[:, 2:] - view.box[:, :2]).norm(dim=1) / size


def cell_distances(a: Placed, b: Placed, size: int) -> Tensor:
    """Distances in original coordinates from each cell of `a` to each of `b`: (N, size * size, size * size).

    Cells are counted row by row. Divided by `cell_diagonals` this is the distance of PixPro (CVPR 2021).
    """
    centres_a, centres_b = cell_centres(a, size).flatten(1, 2), cell_centres(b, size).flatten(1, 2)
    # A matrix product would lose half of the digits of small distances.
    return torch.cdist(centres_a, centres_b, compute_mode="donot_use_mm_for_euclid_dist")


def overlap(a: Placed, b: Placed) -> tuple[Tensor, Tensor]:
    """The part that both views show: boxes (N, 4) in original coordinates, and whether it has any area: bool (N,).

    Where there is none the box is all zeros.
    """
    low = torch.maximum(a.box[:, :2], b.box[:, :2])
    high = torch.minimum(a.box[:, 2:], b.box[:, 2:])
    exists = (low < high).all(dim=1)
    return torch.cat((low, high), dim=1) * exists[:, None], exists


def boxes_to_view(boxes: Tensor, view: Placed) -> Tensor:
    """Boxes (N, K, 4) in original coordinates, in coordinates of `view`, not clipped to it: (N, K, 4)."""
    corners = to_view(boxes.reshape(*boxes.shape[:-1], 2, 2), view)
    # A flip exchanges left and right; the smaller x stays first.
    return torch.cat((corners.amin(dim=-2), corners.amax(dim=-2)), dim=-1)


def warp_boxes(boxes: Tensor, view: Placed) -> tuple[Tensor, Tensor]:
    """Apply crop and flip to boxes (N, K, 4): boxes clipped to the view (N, K, 4), and visible shares (N, K).

    The share is the part of the box's area that the view shows, in [0, 1]; at 0 the clipped box has no area.
    """
    whole = boxes_to_view(boxes, view)
    clipped = whole.clamp(0, 1)
    return clipped, _area(clipped) / _area(whole)


def align(features: Tensor, of: Placed, to: Placed, size: int) -> tuple[Tensor, Tensor]:
    """A feature map `of` one view as the view `to` would see it.

    `features` (N, C, H, W) is sampled bilinearly where the centers of the cells of a `size` x `size` map of `to`
    fall: (N, C, size, size), and which of them lie in `of`: bool (N, size, size). Cells outside have the nearest border
    value; leave them out. Within one box this equals RoIAlign with one sample per bin.
    """
    grid = view_centres(size, to.box).expand(len(to.box), -1, -1, -1)
    points = between(grid, to, of)
    # Computed in the precision of the coordinates: half precision would shift the samples.
    aligned = grid_sample(features.to(points.dtype), 2 * points - 1, padding_mode="border", align_corners=False)
    return aligned.to(features.dtype), inside(points)


def warp_labels(maps: Tensor, view: Placed, size: int) -> Tensor:
    """Apply crop and flip to maps of labels or hard masks (N, ..., H, W) of the whole images.

    Gives (N, ..., size, size) of the same type: the value of the pixel in which the center of each cell falls
    (nearest neighbor). All maps of a batch have one size, which need not be the image's.
    """
    height, width = maps.shape[-2:]
    centres = cell_centres(view, size)
    column = (centres[..., 0] * width).long().clamp_(0, width - 1)
    row = (centres[..., 1] * height).long().clamp_(0, height - 1)
    index = (row * width + column).flatten(1)
    flat = maps.reshape(len(maps), math.prod(maps.shape[1:-2]), height * width)  # explicit: N may be 0
    picked = flat.gather(2, index[:, None].expand(-1, flat.shape[1], -1))
    return picked.view(*maps.shape[:-2], size, size)


def warp_soft(maps: Tensor, view: Placed, size: int) -> Tensor:
    """Apply crop and flip to soft masks (N, K, H, W), float, of the whole images: (N, K, size, size).

    Each cell is the mean over its area (RoIAlign, aligned, with as many samples as a cell has pixels).
    """
    from torchvision.ops import roi_align  # importing torchvision takes seconds

    height, width = maps.shape[-2:]
    row = torch.arange(len(maps), device=maps.device, dtype=maps.dtype)
    regions = view.box.to(maps.dtype) * constant([width, height, width, height], maps)
    warped: Tensor = roi_align(maps, torch.cat((row[:, None], regions), dim=1), (size, size), aligned=True)
    return torch.where(view.flip.view(-1, 1, 1, 1), warped.flip(-1), warped)


def _corner_and_extent(points: Tensor, view: Placed) -> tuple[Tensor, Tensor]:
    shape = (len(view.box), *(1,) * (points.ndim - 2), 2)
    corner = view.box[:, :2]
    return corner.view(shape), (view.box[:, 2:] - corner).view(shape)


def _mirror(points: Tensor, view: Placed) -> Tensor:
    flip = view.flip.view(-1, *(1,) * (points.ndim - 2))
    x, y = points.unbind(-1)
    return torch.stack((torch.where(flip, 1 - x, x), y), dim=-1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
