"""Images of the size of ImageNet's, from smaller ones, and enough of them for an epoch of many steps."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from leaderboard.base.provenance import available_cores
from pretrain.data.batches import ImageSource

LONGER_SIDE = 500
"""Pixels of the longer side of most ImageNet images."""
QUALITY = 95
"""JPEG quality. Enlarged images have little detail: at this quality they have 60 to 100 kB, ImageNet's 110."""


def enlarged(source: ImageSource, folder: Path, *, count: int, longer_side: int = LONGER_SIDE) -> ImageSource:
    """The first `count` images of `source` as JPEG files in `folder`, their longer side of at least `longer_side` px.

    Those that are larger keep their size.
    """

    def write(index: int) -> str:
        image = Image.fromarray(source.decode(index).permute(1, 2, 0).numpy())
        factor = max(1.0, longer_side / max(image.size))
        width, height = (max(1, round(factor * side)) for side in image.size)
        name = f"{index:06d}.jpg"
        image.resize((width, height), Image.Resampling.BICUBIC).save(folder / name, quality=QUALITY)
        return name

    with ThreadPoolExecutor(available_cores()) as threads:
        return ImageSource(folder, list(threads.map(write, range(min(count, len(source))))))


def repeated(source: ImageSource, at_least: int) -> ImageSource:
    """The images of `source` over and over, so that an epoch has at least so many."""
    names = [source.name(index) for index in range(len(source))]
    return ImageSource(source.root, names * -(-at_least // len(names)))
