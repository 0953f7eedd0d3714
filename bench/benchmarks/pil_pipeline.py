"""The usual data pipeline of self-supervised training: Pillow decodes, torchvision transforms image by image."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator
from typing import Any

import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms

from bench.errors import BenchError
from pretrain.data.augment import ColorJitter, GaussianBlur, Grayscale, Solarize
from pretrain.data.batches import ImageSource
from pretrain.data.pictures import open_picture
from pretrain.data.views import ColourOp, View, ViewPlan, ViewSpec


class PillowDataset(Dataset[list[Tensor]]):
    """Data set whose item i is the views that `transform` makes of image i, decoded by Pillow as in an image folder."""

    def __init__(self, source: ImageSource, transform: Callable[[Image.Image], list[Tensor]]) -> None:
        # An image in a shard is not a file; with Pillow one would unpack or stream it, which is not compared here.
        if type(source) is not ImageSource:
            raise BenchError("the Pillow pipeline reads image files: give --data a folder or a list, not shards")
        self.source, self.transform = source, transform

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> list[Tensor]:
        with open_picture(self.source.root / self.source.name(index)) as picture:
            image = picture.convert("RGB")
        return self.transform(image)


class Shuffled(Sampler[int]):
    """Endless sampler, epoch after epoch, so that the usual pipeline never spends time on restarting workers."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(0)
        while True:
            yield from torch.randperm(self.count, generator=generator).tolist()


class PillowBlur:
    """MoCo's blur: Pillow's Gaussian blur with a random radius."""

    def __init__(self, sigma: tuple[float, float]) -> None:
        self.sigma = sigma

    def __call__(self, image: Image.Image) -> Image.Image:
        """The blurred image."""
        return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(*self.sigma)))


class ViewTransforms:
    """torchvision's transforms for every view of a plan.

    Raises:
        BenchError: a color operation has no counterpart here.
    """

    def __init__(self, plan: ViewPlan) -> None:
        self._transforms = [_transform(spec, plan) for spec in plan.specs]

    def __call__(self, image: Image.Image) -> list[Tensor]:
        """The finished views of an image, float32 (3, S, S) each."""
        return [transform(image) for transform in self._transforms]


def batches(
    dataset: Dataset[Any], count: int, *, batch_size: int, workers: int, device: torch.device
) -> Generator[list[Tensor], None, None]:
    """Endless batches from a data loader with the usual settings: one (B, 3, S, S) tensor per view, on the device."""
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=Shuffled(count),
        num_workers=workers,
        pin_memory=device.type == "cuda",
        drop_last=True,
    )
    for views in loader:
        yield [view.to(device, non_blocking=True) for view in views]


def as_views(pixels: list[Tensor]) -> list[View]:
    """Views that claim to show whole images: this pipeline does not know where its crops came from."""
    count, device = len(pixels[0]), pixels[0].device
    box = torch.tensor([0.0, 0.0, 1.0, 1.0], device=device).expand(count, 4)
    flip = torch.zeros(count, dtype=torch.bool, device=device)
    image_id = torch.arange(count)
    return [View(x.contiguous(memory_format=torch.channels_last), box, flip, image_id) for x in pixels]


def _transform(spec: ViewSpec, plan: ViewPlan) -> Any:
    mode = transforms.InterpolationMode(spec.interpolation)
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(spec.size, scale=spec.scale, ratio=spec.ratio, interpolation=mode),
            transforms.RandomHorizontalFlip(spec.flip),
            *[_colour(op) for op in spec.colour],
            transforms.ToTensor(),
            transforms.Normalize(plan.mean, plan.std),
        ]
    )


def _colour(op: ColourOp) -> Any:
    if isinstance(op, ColorJitter):
        jitter = transforms.ColorJitter(op.brightness, op.contrast, op.saturation, op.hue)
        return transforms.RandomApply([jitter], p=op.p)
    if isinstance(op, Grayscale):
        return transforms.RandomGrayscale(op.p)
    if isinstance(op, GaussianBlur):
        return transforms.RandomApply([PillowBlur(op.sigma)], p=op.p)
    if isinstance(op, Solarize):
        return transforms.RandomSolarize(round(op.threshold * 255), p=op.p)
    raise BenchError(
        f"the Pillow pipeline has no {type(op).__name__}; choose a recipe with the usual colour operations"
    )
