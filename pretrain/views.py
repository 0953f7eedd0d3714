"""Views: what a crop is, where it came from, and which crops a method wants.

The order of operations is fixed: crop -> resize -> flip -> colour operations -> normalisation. A view carries
its `box` in original-image coordinates and its `flip`, which is all that dense, region and object methods need.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from pretrain.augment import ColourOp

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ViewSpec:
    """How one view of an image is drawn.

    `scale` is the range of the crop's share of the image area and `ratio` the range of its width / height, both as
    in torchvision's `RandomResizedCrop`; `flip` is the probability of a horizontal flip after the crop.
    """

    name: str
    size: int
    scale: tuple[float, float]
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    flip: float = 0.5
    colour: tuple[ColourOp, ...] = ()


@dataclass(frozen=True)
class ViewPlan:
    """The views that a method wants of every image, in order, and how pixels are normalised."""

    specs: tuple[ViewSpec, ...]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


@dataclass
class Crop:
    """A batch of crops as the data workers deliver it, before colour operations.

    Shapes: `pixels` uint8 (N, 3, S, S); `box` float32 (N, 4) as x1, y1, x2, y2 in [0, 1] of the original image;
    `flip` bool (N,), applied to `pixels` already; `image_id` int64 (N,), the position in the image source;
    `colour` float32 (N, P), the drawn parameters of the spec's colour operations side by side.
    """

    pixels: Tensor
    box: Tensor
    flip: Tensor
    image_id: Tensor
    colour: Tensor

    def to(self, device: torch.device | str) -> Crop:
        """The same crops on `device` (asynchronous from pinned memory)."""
        return Crop(*(t.to(device, non_blocking=True) for t in self._tensors()))

    def pin_memory(self) -> Crop:
        """The same crops in page-locked memory (called by the data loader)."""
        return Crop(*(t.pin_memory() for t in self._tensors()))

    def _tensors(self) -> tuple[Tensor, ...]:
        return self.pixels, self.box, self.flip, self.image_id, self.colour


@dataclass
class View:
    """A batch of finished views: what a method sees.

    `pixels` is float32 (N, 3, S, S), normalised; `box`, `flip` and `image_id` as in `Crop`.
    """

    pixels: Tensor
    box: Tensor
    flip: Tensor
    image_id: Tensor = field(repr=False)
