"""Stages that find, without labels, which boxes of which images correspond: proposals, neighbors, pairs of boxes.

Xie et al., Unsupervised Object-Level Representation Learning from Scene Images, NeurIPS 2021, arXiv 2106.11952. Each
leaves one table with an entry for every image, which is mapped into memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from pretrain.data.batches import ImageSource
from pretrain.data.crops import cut
from pretrain.data.decode import DamagedImageError
from pretrain.data.proposals import Search, kept_boxes, require, selective_search
from pretrain.data.tables import by_processes, continue_table
from pretrain.data.views import ViewSpec
from pretrain.errors import PretrainError
from pretrain.method import Method
from pretrain.parts.losses import unit

log = logging.getLogger(__name__)

Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels of the image."""


@runtime_checkable
class Embeds(Protocol):
    """A method that says by what images are compared."""

    def embed(self, x: Tensor) -> Tensor:
        """Embeddings (N, C), of any length, of images (N, 3, S, S)."""
        ...


@dataclass(frozen=True)
class Proposals:
    """The boxes of each image that may hold an object: uint16 (images, `limit`, 4), unused rows zero."""

    name: str = "proposals"
    search: Search = "opencv"
    min_side: int = 96
    max_ratio: float = 3.0
    """Largest ratio of a box's longer side to its shorter side."""
    max_overlap: float = 0.5
    """Largest intersection over union with a box that was kept before."""
    limit: int = 100

    def compute(self, method: Method, source: ImageSource, product: Path) -> None:
        """Search every image; the network has no part in it."""
        require(self.search)
        found = _Found(source, self)
        shape = len(source), self.limit, 4
        continue_table(product, shape, np.uint16, lambda done: by_processes(found, done, len(source)))


class _Found(Dataset[npt.NDArray[np.int64]]):
    """Item i are the boxes of image i; none, if it cannot be read."""

    def __init__(self, source: ImageSource, settings: Proposals) -> None:
        self.source, self.settings = source, settings

    def __getitem__(self, index: int) -> npt.NDArray[np.int64]:
        of = self.settings
        rows = np.zeros((of.limit, 4), dtype=np.int64)
        try:
            boxes = selective_search(self.source.decode(index), of.search, seed=index)
        except DamagedImageError as error:
            log.warning("no boxes for %s", str(error).splitlines()[0])
            return rows
        kept = kept_boxes(
            boxes, min_side=of.min_side, max_ratio=of.max_ratio, max_overlap=of.max_overlap, limit=of.limit
        )
        rows[: len(kept)] = kept
        return rows


@dataclass(frozen=True)
class Neighbors:
    """The images nearest to each by the cosine of their projections, nearest first: int32 (images, `number`).

    An image is not its own neighbor, and one that cannot be read is nobody's.
    """

    name: str = "neighbors"
    number: int = 10
    resize: int = 256
    """Shorter side in pixels to which an image is resized."""
    size: int = 224
    """Side in pixels of the square that is then taken from the middle of the image."""
    batch: int = 64

    def compute(self, method: Method, source: ImageSource, product: Path) -> None:
        """Embed every image, then compare all with all, a part of them at a time."""
        if not isinstance(method, Embeds):
            raise PretrainError(f"{method.info.name} has no embeddings of images to find neighbors by")
        squares = _Squares(source, self.resize, self.size)
        batches = range(0, len(source), self.batch)
        embedded: list[Tensor] = []
        readable: list[Tensor] = []
        for pixels, read in by_processes(_Stacked(squares, self.batch, len(source)), 0, len(batches)):
            embedded.append(unit(method.embed(normalized(pixels, method))))
            readable.append(read)
        number = min(self.number, int(torch.cat(readable).sum()) - 1)
        if number < 1:
            raise PretrainError("neighbors are found among at least two images that can be read")
        near = nearest(torch.cat(embedded), torch.cat(readable), number)
        continue_table(product, (len(source), number), np.int32, lambda done: near[done:].numpy())


def nearest(embedded: Tensor, readable: Tensor, number: int) -> Tensor:
    """The `number` rows of unit vectors (N, C) nearest to each but itself, int64 (N, number) in host memory, among
    those that are `readable` (N,).
    """
    shut = (~readable).to(embedded.device)
    found = []
    for first in range(0, len(embedded), 1024):
        rows = embedded[first : first + 1024]
        cosine = (rows @ embedded.T).masked_fill(shut, -torch.inf)
        cosine[torch.arange(len(rows)), torch.arange(first, first + len(rows))] = -torch.inf
        found.append(cosine.topk(number, dim=1).indices.cpu())
    return torch.cat(found)


class _Squares(Dataset[tuple[Tensor, bool]]):
    """Item i is the middle of image i, resized, uint8 (3, S, S), and whether it could be read."""

    def __init__(self, source: ImageSource, resize: int, size: int) -> None:
        self.source, self.resize, self.size = source, resize, size

    def __getitem__(self, index: int) -> tuple[Tensor, bool]:
        try:
            image = self.source.decode(index)
        except DamagedImageError:
            return torch.zeros(3, self.size, self.size, dtype=torch.uint8), False
        height, width = image.shape[1:]
        to = [int(self.resize * side / min(height, width)) for side in (height, width)]
        image = interpolate(image[None], size=to, mode="bilinear", antialias=True)[0]
        top, left = (round((side - self.size) / 2) for side in to)
        return image[:, top : top + self.size, left : left + self.size], True


class _Stacked(Dataset[tuple[Tensor, Tensor]]):
    """Item i is the i-th batch of squares (n, 3, S, S), and which could be read (n,)."""

    def __init__(self, squares: _Squares, batch: int, count: int) -> None:
        self.squares, self.batch, self.count = squares, batch, count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        ids = range(index * self.batch, min(self.count, (index + 1) * self.batch))
        pixels, read = zip(*(self.squares[i] for i in ids), strict=True)
        return torch.stack(pixels), torch.tensor(read)


@dataclass(frozen=True)
class Pairs:
    """The boxes most alike of each image and each of its neighbors: uint16 (images, neighbors, pairs, 8).

    A pair is a box of the image and one of the neighbor, most alike first; unused rows are zero. Of n boxes of the
    image the best max(1, `share` n) pairs are kept, among all with the neighbor's boxes.
    """

    name: str = "pairs"
    share: float = 0.1
    size: int = 224
    """Side in pixels at which a box is seen."""

    def compute(self, method: Method, source: ImageSource, product: Path) -> None:
        """Describe every box by the mean of the network's map, in a file beside the product, then compare."""
        files = [method.products[name] for name in ("proposals", "neighbors")]
        proposals, neighbors = map(opened, files)
        counts = (proposals[:, :, 2] > 0).sum(1)
        ends = np.cumsum(counts)
        patches = _Patches(source, files[0], self.size)
        described = product.with_name("boxes.npy")

        def descriptions(done: int) -> Iterator[npt.NDArray[np.float32]]:
            image = int(np.searchsorted(ends, done, side="right"))
            skipped = done - int(ends[image] - counts[image]) if image < len(ends) else 0
            for pixels in by_processes(patches, image, len(source)):
                rows = unit(method.backbone(normalized(pixels, method)).mean((2, 3))).float().cpu().numpy()
                yield from rows[skipped:]
                skipped = 0

        shape = int(ends[-1]), int(method.backbone.width)  # type: ignore[arg-type]
        continue_table(described, shape, np.float32, descriptions)
        table = np.load(described, mmap_mode="r")

        def of(image: int) -> tuple[npt.NDArray[np.uint16], Tensor]:
            rows = slice(int(ends[image] - counts[image]), int(ends[image]))
            return proposals[image, : counts[image]], torch.from_numpy(np.array(table[rows]))

        def rows(done: int) -> Iterator[npt.NDArray[np.uint16]]:
            for image in range(done, len(source)):
                boxes, features = of(image)
                row = np.zeros((*neighbors.shape[1:], most, 8), dtype=np.uint16)
                for rank, neighbor in enumerate(neighbors[image].tolist() if len(boxes) else ()):
                    others, their_features = of(neighbor)
                    mine, theirs = top_pairs(features, their_features, self.share)
                    row[rank, : len(mine)] = np.concatenate([boxes[mine], others[theirs]], axis=1)
                yield row

        most = max(1, int(self.share * proposals.shape[1]))
        continue_table(product, (*neighbors.shape, most, 8), np.uint16, rows)
        described.unlink()


class _Patches(Dataset[Tensor]):
    """Item i are the boxes of image i, uint8 (n, 3, S, S)."""

    def __init__(self, source: ImageSource, proposals: Path, size: int) -> None:
        self.source, self.proposals, self.size = source, proposals, size

    def __getitem__(self, index: int) -> Tensor:
        boxes = listed(opened(self.proposals)[index])
        if not len(boxes):
            return torch.zeros(0, 3, self.size, self.size, dtype=torch.uint8)
        image = self.source.decode(index)
        spec = ViewSpec("box", self.size, (1.0, 1.0))
        return torch.stack([cut(image, as_box(box), spec, flip=False) for box in boxes])


def top_pairs(features: Tensor, others: Tensor, share: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Places in unit vectors (n, C) and in `others` (m, C) of the max(1, `share` n) pairs of largest cosine."""
    cosine = (features @ others.T).flatten()
    best = cosine.topk(min(len(cosine), max(1, int(share * len(features))))).indices.numpy()
    return best // len(others), best % len(others)


def normalized(pixels: Tensor, method: Method) -> Tensor:
    """Images uint8 (N, 3, S, S) as the method's views are, on its device, in the type of its weights."""
    weight = next(method.backbone.parameters())
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (method.plan.mean, method.plan.std))
    return ((pixels / 255 - mean) / std).to(weight.device, weight.dtype)


@lru_cache(maxsize=8)
def opened(table: Path) -> npt.NDArray[Any]:
    """A stage's file, mapped into memory once in each process."""
    values: npt.NDArray[Any] = np.load(table, mmap_mode="r", allow_pickle=False)
    return values


def listed(rows: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    """The boxes, or pairs of boxes, of a table's entry: its rows without the unused ones, which have no width."""
    return rows[rows[:, 2] > 0].astype(np.int64)


def as_box(values: npt.NDArray[np.int64]) -> Box:
    """The numbers of one box (4,)."""
    left, top, width, height = values.tolist()
    return left, top, width, height
