"""Words that the readers of configs share, and how values become words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Config = Mapping[str, Any]

IMAGENET = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
AS_CARD = "RGB as the checkpoint's card says"
"""Words for protocols, and for a config with ImageNet's mean and deviation, which nearly all checkpoints here have."""


DATA_SETS = {"ade20k": "ADE20K", "cityscapes": "Cityscapes", "coco": "COCO", "lvis": "LVIS", "voc": "VOC"}
"""Data sets by the word that the names of their classes and files contain, whatever the library."""
NO_SPLIT = ", split not named"
"""Ending of a data set's name where a config does not say which of its images are trained on."""


def normalization(own: Config) -> str:
    """The words for a data preprocessor's `mean`, `std` and `bgr_to_rgb`."""
    mean, std, order = own.get("mean"), own.get("std"), own.get("bgr_to_rgb")
    if order == "card:bgr_to_rgb":
        return AS_CARD
    if mean is None or std is None:
        return "not normalized"
    name = "RGB" if order else "BGR"
    if name == "RGB" and _close(mean, IMAGENET["mean"]) and _close(std, IMAGENET["std"]):
        return AS_CARD
    return f"{name}, mean {numbers_text(mean)}, std {numbers_text(std)}"


def _close(a: Sequence[float], b: Sequence[float]) -> bool:
    return len(a) == len(b) and all(abs(x - y) < 0.5 for x, y in zip(a, b, strict=True))


def box_head(convolutions: int, layers: int, norm: str) -> str:
    """The words for a box head behind a pyramid."""
    return f"{count(convolutions, 'convolution')}, {count(layers, 'linear layer')}, {norm}"


def count(number: int, noun: str) -> str:
    """The number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size_range(values: Sequence[float]) -> str:
    """The words for sizes in ascending order."""
    if len(values) < 3:
        return " or ".join(map(number_text, values))
    return f"{number_text(values[0])} to {number_text(values[-1])}"


def first_of(value: Any) -> Config:
    """The value, or the first of several."""
    return value[0] if isinstance(value, (list, tuple)) and value else value or {}


def as_list(value: Any) -> list[Any]:
    """`value` as a list: a list as it is, `None` as an empty one."""
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]


def size_text(value: Any) -> str:
    """A size in words: `512x1024`, or a number."""
    return "x".join(number_text(side) for side in value) if isinstance(value, (list, tuple)) else number_text(value)


def numbers_text(values: Sequence[float]) -> str:
    """Numbers with slashes between them."""
    return "/".join(number_text(value) for value in values)


def number_text(value: Any) -> str:
    """A number without the zeros behind it; other values as they are."""
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)
