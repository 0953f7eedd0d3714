"""Inputs of a probe: the frozen network, and images, label maps and cells of each part of the data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.clock import Clock
from bench.datasets.pairs import Pair
from bench.datasets.shares import take_share
from bench.errors import BenchError
from bench.metrics.segmentation import IGNORE
from bench.metrics.uncertainty import Floats
from bench.probes.cells import Network, cell_labels
from bench.probes.features import Features, features, features_key


@dataclass(frozen=True)
class Part:
    """Images of a part of a data set, with the cells of the backbone."""

    pairs: Sequence[Pair]
    rows: NDArray[np.int64]
    """Positions of the images in `cells`."""
    cells: Features
    """Cells of these images and of others, in a file."""

    @classmethod
    def whole(cls, pairs: Sequence[Pair], cells: Features) -> Part:
        """The part with all images."""
        return cls(pairs, np.arange(len(pairs)), cells)

    def take(self, images: NDArray[np.int64]) -> Part:
        """The part with only some images; their cells stay in the file."""
        return Part([self.pairs[i] for i in images], self.rows[images], self.cells)

    def labelled(self, share: float) -> Part:
        """The given share of the images, those whose names have the smallest SHA-256, in their order: at least two.
        The images of a smaller share are among those of a larger one."""
        return self.take(np.array(take_share([pair.image.name for pair in self.pairs], share)))

    def image_cells(self, index: int, device: torch.device) -> Tensor:
        """The cells (rows x columns, C) of one image in float32."""
        cells = self.cells[self.rows[index]].astype(np.float32)
        return torch.from_numpy(cells).to(device).reshape(len(cells), -1).T

    def grid(self) -> NDArray[np.uint8]:
        """The cells' labels (N, rows, columns); each label map is read once."""
        rows, columns = self.cells.shape[2:]
        return np.stack([cell_labels(pair.load_labels(), rows, columns) for pair in self.pairs])


@dataclass(frozen=True)
class Material:
    """Everything that a probe may use; parts that it does not use are not computed."""

    network: Network
    pairs: Mapping[str, Sequence[Pair]]
    """Images and label maps of the parts `train` and `val`."""
    size: tuple[int, int]
    fingerprint: str
    """Fingerprint of the data set's files."""
    folder: Path
    """Folder of the features."""
    seed: int
    clock: Clock = field(default_factory=Clock)
    images: int = 0
    """Number of training images, where not all are used."""

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return self.network.device

    @cached_property
    def train(self) -> Part:
        """The training images with their cells."""
        return self._part("train")

    @cached_property
    def val(self) -> Part:
        """The validation images with their cells."""
        return self._part("val")

    def _part(self, name: str) -> Part:
        part = f"{name} {self.images}" if name == "train" and self.images else name
        key = features_key(self.network, self.fingerprint, part, self.size)
        return Part.whole(self.pairs[name], features(self.network, self.pairs[name], self.size, self.folder / key))


@dataclass(frozen=True)
class Findings:
    """Results of a probe."""

    metrics: Mapping[str, float]
    """Metrics in per cent, by name."""
    shares: Mapping[str, Floats]
    """Each validation image's first-order share (V,) in metrics, in points of per cent, by name of the metric."""
    images: int
    """Number of validation images that were evaluated."""
    training_cells: int
    """Number of cells, or of images' vectors, used for fitting, labeled or not."""
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Arrays that are kept, with one row per image (V, ...), by name."""
    chosen: float | None = None
    """Value of the hyperparameter, where one is chosen."""
    candidates: Mapping[float, float] = field(default_factory=dict)
    """Score of each value of the hyperparameter on held-out training images, in per cent."""
    channels: int = 0
    """Number of channels of a cell, where they are not `Network.cells`."""
    head_parameters: int = 0
    """Number of learned parameters, where the plan does not tell it."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Further text files that say what was used, by name."""


def hold_out(count: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sorted indices of the images for fitting and of those held out (a `share` of `count`, at least 1).

    Raises:
        BenchError: there is one image.
    """
    order = np.random.default_rng(seed).permutation(count)
    held = max(1, round(share * count))
    if not 0 < held < count:
        raise BenchError(f"{count} training image(s) cannot be split to choose a hyper-parameter: add some")
    return np.sort(order[held:]), np.sort(order[:held])


def draw_cells(
    part: Part, grid: NDArray[np.uint8], *, classes: int, most: int, seed: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cells (n, C) in float32 and labels (n,) in int64: all cells whose label in `grid` counts, or `most` of them.

    Raises:
        BenchError: no cell has a label that counts, or one has a label that is not a class.
    """
    labels = grid.reshape(-1)
    usable = np.flatnonzero(labels != IGNORE)
    if not len(usable):
        raise BenchError("no cell of the training images has a label that counts")
    usable = draw(usable, most, seed)
    y = labels[usable].astype(np.int64)
    if y.max() >= classes:
        raise BenchError(f"a training image has label {y.max()}: the protocol knows 0 to {classes - 1}")
    return take_cells(part, usable).to(device), torch.from_numpy(y).to(device)


def draw(numbers: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """All of `numbers`, or `most` of them drawn at random, sorted."""
    if len(numbers) <= most:
        return numbers
    return np.sort(np.random.default_rng(seed).choice(numbers, most, replace=False))


def take_cells(part: Part, numbers: NDArray[np.int64]) -> Tensor:
    """The cells (n, C) in float32 with these numbers; cells are numbered image by image and row by row."""
    channels, rows, columns = part.cells.shape[1:]
    image, cell = np.divmod(numbers, rows * columns)
    x = np.empty((len(numbers), channels), np.float32)
    for index in np.unique(image):
        chosen = image == index
        x[chosen] = part.cells[part.rows[index]].reshape(channels, -1)[:, cell[chosen]].T
    return torch.from_numpy(x)
