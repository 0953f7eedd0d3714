"""Classes of images for training with labels: the folders in which the images lie."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pretrain.data.batches import ImageSource
from pretrain.errors import PretrainError


@dataclass(frozen=True)
class Labels:
    """One class for each image of a source."""

    classes: tuple[str, ...]
    """Names of the classes, sorted; at least two."""
    numbers: Tensor
    """Index of each image's class in `classes`, int64 (images,)."""


def folder_labels(source: ImageSource) -> Labels:
    """The first folder of each image's path is its class, as in ImageNet's layout.

    Raises:
        PretrainError: an image lies in no folder, or all lie in one.
    """
    names = [source.name(i) for i in range(len(source))]
    outside = next((name for name in names if "/" not in name), None)
    folders = [name.partition("/")[0] for name in names]
    classes = sorted(set(folders))
    if outside is not None or len(classes) < 2:
        found = f"all images lie in the folder {classes[0]}" if outside is None else f"{outside} lies in no folder"
        raise PretrainError(
            f"{source.root}: {found}; training with labels takes the first folder of an image's path for its class: "
            "put the images of each class into a folder of its own."
        )
    number = {name: i for i, name in enumerate(classes)}
    return Labels(tuple(classes), torch.tensor([number[folder] for folder in folders]))
