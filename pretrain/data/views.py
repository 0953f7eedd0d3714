"""Views: crops, their origin, and which crops a method needs.

The order of operations is fixed: crop -> resize -> flip -> color operations -> normalization. A view carries
its `box` in original-image coordinates and its `flip`, which is all that dense, region and object methods need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from pretrain.errors import PretrainError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ColourOp(Protocol):
    """One color operation: draws its parameters for one sample and applies them to a batch."""

    @property
    def parameters(self) -> int:
        """Number of values that `draw` returns."""
        ...

    def draw(self, rng: np.random.Generator) -> tuple[float, ...]:
        """Parameters for one sample. It always takes the same number of values from `rng`."""
        ...

    def apply(self, pixels: Tensor, drawn: Tensor) -> Tensor:
        """Apply to float32 `pixels` (N, 3, H, W) in [0, 1] with `drawn` (N, parameters).

        Returns the result, which may be `pixels` itself, overwritten: the caller gives the tensor away. `drawn` is
        best in host memory: which samples are touched is decided there, without waiting for the device.
        """
        ...


@dataclass(frozen=True)
class ViewSpec:
    """How one view of an image is drawn.

    `scale` is the range of the crop's share of the image area and `ratio` the range of its width / height, both as
    in torchvision's `RandomResizedCrop`; `flip` is the probability of a horizontal flip after the crop. The resize
    is antialiased. Values out of range raise PretrainError.

    `overlap` names an earlier view of the plan and a share in [0, 1]: crops are redrawn until at least this share of
    their area lies inside that view's crop, up to ten times (constrained multi-crop, `draw_overlapping_box`).

    `rules` selects the rules by which the crop is drawn and resized: torchvision's, or those of the code of BYOL or
    SimCLR (`pretrain.data.tensorflow_crops`), which are bicubic without antialiasing and cannot use `overlap`.

    `trained` says whether a trained encoder sees the view; another one only serves to find regions, and does not count
    as an image-view.
    """

    name: str
    size: int
    scale: tuple[float, float]
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    flip: float = 0.5
    colour: tuple[ColourOp, ...] = ()
    overlap: tuple[str, float] | None = None
    rules: Literal["torchvision", "byol", "simclr"] = "torchvision"
    trained: bool = True

    def __post_init__(self) -> None:
        wrong = (
            (self.size < 1, f"size {self.size} must be at least 1"),
            (not 0 < self.scale[0] <= self.scale[1] <= 1, f"scale {self.scale} must satisfy 0 < low <= high <= 1"),
            (not 0 < self.ratio[0] <= self.ratio[1], f"ratio {self.ratio} must satisfy 0 < low <= high"),
            (not 0 <= self.flip <= 1, f"flip {self.flip} must be a probability"),
            (
                self.overlap is not None and not 0 <= self.overlap[1] <= 1,
                f"the share of overlap {self.overlap} must be in [0, 1]",
            ),
            (self.interpolation not in ("bilinear", "bicubic"), f"unknown interpolation {self.interpolation!r}"),
            (self.rules not in ("torchvision", "byol", "simclr"), f"unknown rules {self.rules!r}"),
            (
                self.rules != "torchvision" and (self.interpolation != "bicubic" or self.overlap is not None),
                f"the rules of {self.rules} are bicubic and know no overlap",
            ),
        )
        for bad, message in wrong:
            if bad:
                raise PretrainError(f"view {self.name!r}: {message}.")


class Places(Protocol):
    """Determines where some views are cut, for methods that know more about an image than its size."""

    def draw(
        self, rng: np.random.Generator, image_id: int, width: int, height: int
    ) -> Mapping[str, tuple[int, tuple[int, int, int, int]]]:
        """Places of views, by their name, for the image `image_id` of `width` x `height` pixels: the id of the image
        that the view shows, and left, top, width and height of the crop in its pixels. Other views follow their spec.
        """
        ...


@dataclass(frozen=True)
class WholeImage:
    """The view called `name` shows the whole image, whatever its shape."""

    name: str

    def draw(
        self, rng: np.random.Generator, image_id: int, width: int, height: int
    ) -> dict[str, tuple[int, tuple[int, int, int, int]]]:
        """See `Places`."""
        return {self.name: (image_id, (0, 0, width, height))}


@dataclass(frozen=True)
class ViewPlan:
    """The views that a method needs of every image, in order, and how pixels are normalized."""

    specs: tuple[ViewSpec, ...]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    places: Places | None = None
    """Places of the views that the method itself determines; they are sent to the loading processes."""

    def __post_init__(self) -> None:
        if not self.specs:
            raise PretrainError("a view plan needs at least one view.")
        for i, spec in enumerate(self.specs):
            if spec.overlap is not None and spec.overlap[0] not in [earlier.name for earlier in self.specs[:i]]:
                raise PretrainError(f"view {spec.name!r}: there is no earlier view {spec.overlap[0]!r} to overlap.")
        if min(self.std) <= 0:
            raise PretrainError(f"the standard deviations {self.std} must be above 0.")


@dataclass
class Crop:
    """A batch of crops as the data workers deliver it, before color operations.

    Shapes: `pixels` uint8 (N, 3, S, S); `box` float32 (N, 4) as x1, y1, x2, y2 in [0, 1] of the original image;
    `flip` bool (N,), applied to `pixels` already; `image_id` int64 (N,), the position in the image source, always in
    host memory; `colour` float32 (N, P), the drawn parameters of all color operations of the spec.
    """

    pixels: Tensor
    box: Tensor
    flip: Tensor
    image_id: Tensor
    colour: Tensor

    def to(self, device: torch.device | str) -> Crop:
        """The same crops on `device` (asynchronous from pinned memory); `image_id` and `colour` stay in host memory.

        The color operations choose their samples by `colour`, and data about an image outside of the device are found
        by `image_id`; in host memory both are available without waiting for the device.
        """
        return Crop(
            pixels=self.pixels.to(device, non_blocking=True),
            box=self.box.to(device, non_blocking=True),
            flip=self.flip.to(device, non_blocking=True),
            image_id=self.image_id,
            colour=self.colour,
        )

    def pin_memory(self) -> Crop:
        """The same crops in page-locked memory (called by the data loader)."""
        tensors = (self.pixels, self.box, self.flip, self.image_id, self.colour)
        return Crop(*(t.pin_memory() for t in tensors))


@dataclass
class View:
    """A batch of finished views: what a method sees.

    `pixels` is float32 (N, 3, S, S), normalized; `box`, `flip` and `image_id` as in `Crop`: of these, `image_id` is in
    host memory, wherever the others are.
    """

    pixels: Tensor
    box: Tensor
    flip: Tensor
    image_id: Tensor = field(repr=False)
