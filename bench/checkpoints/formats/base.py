"""What is known of a format: `Format`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TORCHVISION: Final = "torchvision names"
TIMM_VIT: Final = "timm's ViT names"
IMAGENET_STD: Final = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Format:
    """The form of the files of a method or library."""

    name: str
    keys: str
    """Name of a tensor of the backbone in such a file, with the dictionaries around it."""
    marks: tuple[str, ...]
    """Regular expressions; such a file has at least one tensor that matches each of them."""
    network: str
    """The network that the authors evaluate."""
    source: str
    """The code in which the names were read."""
    layouts: tuple[str, ...] = (TORCHVISION,)
    """The naming styles in `layouts` that such a backbone can have."""
    stem: str = "7x7"
    stride: str = "3x3"
    """The convolution of a bottleneck block that has the stride."""
    norm: str = "BatchNorm"
    std: tuple[float, float, float] = IMAGENET_STD
    """The card's default of std; mean and color order are .485 .456 .406 and RGB in all formats."""
    license: str = ""
    """License of the authors' code and, where they say so, of their weights; empty if not known."""
