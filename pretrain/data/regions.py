"""Regions of whole images without labels: finds them, keeps them on disk and crops them for a view.

A segmentation is made once for every image and kept as one small label map. A view's labels follow from its box and
flip, so that one region can be found again in every view that shows it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from pretrain.data.batches import ImageSource
from pretrain.data.decode import DamagedImageError
from pretrain.data.tables import IMAGES_PER_WORKER, by_processes, continue_table
from pretrain.data.views import IMAGENET_MEAN, IMAGENET_STD, View
from pretrain.errors import PretrainError
from pretrain.parts.geometry import warp_labels
from pretrain.parts.masks import LABELS, most_frequent
from pretrain.parts.upload import upload

log = logging.getLogger(__name__)

_FORMAT = 1


class Segmenter(Protocol):
    """Finds regions in one image. A frozen dataclass, whose settings are part of the name of the masks' file."""

    def __call__(self, image: Tensor) -> npt.NDArray[np.integer[Any]]:
        """Labels (H', W') from 0 of an image, uint8 (3, H, W); H' and W' may differ from H and W."""
        ...


@dataclass(frozen=True)
class Felzenszwalb:
    """Efficient graph-based segmentation (Felzenszwalb and Huttenlocher, IJCV 2004), by scikit-image.

    `scale` grows with the wanted size of regions, `min_size` is in pixels of the image and `sigma` the blur before.
    Labels are ranks of size: 0 is the largest region.
    """

    scale: float
    min_size: int
    sigma: float = 0.8

    def __call__(self, image: Tensor) -> npt.NDArray[np.integer[Any]]:
        """Labels (H, W), at most LABELS of them: the regions beyond the 255 largest are one."""
        from skimage.segmentation import felzenszwalb  # slow to import, and listing methods needs none of it

        pixels = image.permute(1, 2, 0).numpy()
        labels = felzenszwalb(pixels, scale=self.scale, sigma=self.sigma, min_size=self.min_size, channel_axis=-1)
        rank = np.argsort(np.argsort(-np.bincount(labels.ravel()), kind="stable"), kind="stable")
        return np.minimum(rank, LABELS - 1)[labels]


@dataclass(frozen=True)
class Superpixels:
    """SLIC superpixels (Achanta et al., PAMI 2012), by scikit-image.

    The image is resized to `side` x `side`, bicubic, and its channels are normalised by ImageNet's statistics before
    they are taken for RGB, as in R2O's code. About `segments` labels; `compactness` weighs distance against color.
    """

    segments: int
    side: int = 224
    compactness: float = 10.0

    def __call__(self, image: Tensor) -> npt.NDArray[np.integer[Any]]:
        """Labels (`side`, `side`) below `segments`."""
        from skimage.segmentation import slic  # slow to import, and listing methods needs none of it

        resized = interpolate(image[None], size=(self.side, self.side), mode="bicubic", antialias=True)[0]
        pixels = (resized.permute(1, 2, 0).numpy() / 255 - IMAGENET_MEAN) / IMAGENET_STD
        labels = slic(pixels, n_segments=self.segments, compactness=self.compactness, start_label=0)
        return np.minimum(labels, self.segments - 1)


@dataclass(frozen=True)
class Grid:
    """`side` x `side` equal rectangles, counted row by row."""

    side: int

    def __call__(self, image: Tensor) -> npt.NDArray[np.integer[Any]]:
        """Labels (S, S) for any image, where S is the smallest multiple of `side` that is at least 64."""
        cell = -(-64 // self.side)
        labels = np.arange(self.side**2).reshape(self.side, self.side)
        return labels.repeat(cell, axis=0).repeat(cell, axis=1)


@dataclass(frozen=True)
class Saliency:
    """Foreground 1 and background 0, by the geodesic distance to the image's border (Wei et al., ECCV 2012).

    The image is reduced to `side` x `side`. A step between neighbouring pixels costs their distance in CIE Lab less
    the median of all steps, at least 0. The saliency of a pixel is the cost of the cheapest path to it from the border;
    pixels above Otsu's threshold are foreground. An image without contrast is foreground everywhere.
    """

    side: int = 64

    def __call__(self, image: Tensor) -> npt.NDArray[np.integer[Any]]:
        """Labels (`side`, `side`)."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import dijkstra
        from skimage.color import rgb2lab
        from skimage.filters import threshold_otsu

        small = interpolate(image[None] / 255, size=(self.side, self.side), mode="bilinear", antialias=True)[0]
        lab = rgb2lab(small.clamp(0, 1).permute(1, 2, 0).numpy())
        node = np.arange(self.side**2).reshape(self.side, self.side)
        rows = np.concatenate([node[:, :-1].ravel(), node[:-1].ravel()])
        columns = np.concatenate([node[:, 1:].ravel(), node[1:].ravel()])
        colour = lab.reshape(-1, 3)
        steps = np.linalg.norm(colour[rows] - colour[columns], axis=1)
        steps = np.maximum(steps - np.median(steps), 0) + 1e-6  # a step of 0 would be no edge
        graph = coo_array((steps, (rows, columns)), shape=(self.side**2, self.side**2)).tocsr()
        border = np.unique(np.concatenate([node[[0, -1]].ravel(), node[:, [0, -1]].ravel()]))
        distance = dijkstra(graph, directed=False, indices=border, min_only=True)
        if distance.max() < 1:  # one unit of Lab is about what an eye can tell
            return np.ones((self.side, self.side), dtype=np.int64)
        return (distance > threshold_otsu(distance)).astype(np.int64).reshape(self.side, self.side)


class Masks:
    """The label maps of all images of a source, uint8 (images, S, S), read from a file as they are asked for."""

    def __init__(self, path: Path) -> None:
        self.maps: npt.NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)

    def of(self, image_id: Tensor, device: torch.device | None = None) -> Tensor:
        """Label maps uint8 (N, S, S) of the images (N,), which are named in host memory, on `device` (the host)."""
        maps = torch.from_numpy(self.maps[image_id.numpy()])
        return maps if device is None else upload(maps, device)

    def crop(self, view: View, size: int) -> Tensor:
        """Labels uint8 (N, size, size) at the centres of the cells of a `size` x `size` map of `view`."""
        return warp_labels(self.of(view.image_id, view.box.device), view, size)

    def cells(self, view: View, size: int, samples: int = 8, count: int = LABELS) -> Tensor:
        """The most frequent label below `count` in each cell of a `size` x `size` map of `view`: int64 (N, size, size).

        Of `samples` x `samples` points a cell; of labels that are equally frequent, the smallest.
        """
        return most_frequent(self.crop(view, size * samples), size, count)


def prepare_masks(source: ImageSource, folder: Path, segmenter: Segmenter, *, side: int = 64) -> Masks:
    """The masks of every image of `source`, made now unless `folder` holds them already.

    Label maps are kept at `side` x `side` (nearest neighbour) in a file named after the source's fingerprint, the
    segmenter and its settings. All processors of this machine make them; what was made before an interruption is not
    made again. An image that cannot be read gets one region: whether it ends the run is decided where it is cropped.

    Raises:
        PretrainError: the folder cannot be written.
    """
    settings = f"{_FORMAT}/{source.fingerprint()}/{segmenter!r}/{side}"
    path = folder / f"masks-{hashlib.sha256(settings.encode()).hexdigest()[:12]}.npy"
    if not path.exists():
        partial = path.with_name(path.name + ".partial")
        try:
            write_masks(partial, source, segmenter, side=side)
            partial.replace(path)
        except OSError as error:
            raise PretrainError(
                f"cannot write {path}: {error.strerror}; free space or choose another folder"
            ) from error
    return Masks(path)


def write_masks(path: Path, source: ImageSource, segmenter: Segmenter, *, side: int) -> None:
    """Write the file of `Masks` with the label maps of every image, `side` x `side`, or what is missing of it."""
    segmented = _Segmented(source, segmenter, side)
    continue_table(path, (len(source), side, side), np.uint8, segmented.rest)


class _Segmented(Dataset[npt.NDArray[np.uint8]]):
    """Item i is image i's label map, uint8 (side, side)."""

    def __init__(self, source: ImageSource, segmenter: Segmenter, side: int) -> None:
        self.source, self.segmenter, self.side = source, segmenter, side

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        try:
            image = self.source.decode(index)
        except DamagedImageError as error:
            log.warning("no regions for %s", str(error).splitlines()[0])
            return np.zeros((self.side, self.side), dtype=np.uint8)
        labels = self.segmenter(image)
        rows, columns = (((np.arange(self.side) + 0.5) * n / self.side).astype(np.int64) for n in labels.shape)
        return labels[rows[:, None], columns].astype(np.uint8)

    def rest(self, done: int) -> Iterable[npt.NDArray[np.uint8]]:
        """The label maps from image `done` on."""
        if len(self) - done > IMAGES_PER_WORKER:
            log.info("finding regions in %d images", len(self) - done)
        return by_processes(self, done, len(self))
