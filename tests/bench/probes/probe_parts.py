"""Label maps with perfect cells, the one-hot labels at the cells' centers, for tests of probes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bench.datasets.pairs import Pair
from bench.probes.cells import Network, cell_labels
from bench.probes.material import Material, Part


def perfect_cells(labels: Sequence[NDArray[np.uint8]], classes: int) -> NDArray[np.float16]:
    """(N, classes, 4, 6)."""
    grid = np.stack([cell_labels(label, 4, 6) for label in labels])
    return (grid[:, None] == np.arange(classes)[None, :, None, None]).astype(np.float16)


def part_of(labels: Sequence[NDArray[np.uint8]], cells: NDArray[np.float16], folder: Path) -> Part:
    """Label maps in files of `folder`, with these cells."""
    pairs = []
    for i, label in enumerate(labels):
        Image.fromarray(label).save(folder / f"{i}.png")
        pairs.append(Pair(folder / f"{i}.jpg", folder / f"{i}.png"))
    return Part.whole(pairs, cells)


def material_of(labels: Sequence[NDArray[np.uint8]], classes: int, folder: Path, **network: Any) -> Material:
    """Training and validation images are the same, with perfect cells; there is no network but what `network` says."""
    part = part_of(labels, perfect_cells(labels, classes), folder)
    fake = cast(Network, SimpleNamespace(device=torch.device("cpu"), **network))
    material = Material(fake, {"train": part.pairs, "val": part.pairs}, (64, 96), "0" * 64, folder, 0)
    material.__dict__.update(train=part, val=part)  # as the cached properties would
    return material
