"""Stages that find one object in every image by a transformer's attention, group the objects, and name their pixels.

Van Gansbeke et al., Discovering Object Masks with Transformers for Unsupervised Semantic Segmentation, 2022, arXiv
2206.06363 (MaskDistill). All leave one table with a row for every image, which is mapped into memory
(`pretrain.discovery.object_table`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad
from torch.utils.data import Dataset

from pretrain.data.batches import ImageSource
from pretrain.data.decode import DamagedImageError
from pretrain.data.tables import by_processes, continue_table
from pretrain.discovery.correspondence import normalized, opened
from pretrain.discovery.object_table import OUTSIDE, Row, box_of, row_type
from pretrain.errors import PretrainError
from pretrain.method import Method
from pretrain.nets.vit import VisionTransformer
from pretrain.parts.clusters import kmeans
from pretrain.parts.losses import unit

log = logging.getLogger(__name__)

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ObjectMasks:
    """The one object of each image: cells 1, everything else 0."""

    name: str = "masks"
    shorter: int = 640
    """Shorter side in pixels to which an image is resized."""
    longest: int = 1920
    """Most pixels of the longer side: an image that would exceed it is resized to it."""
    heads: int = 5
    """The first so many heads whose attention finds the most important patches."""
    mass: float = 0.5
    """Share of the attention that counts, of the patches that get most of it."""
    share: float = 0.4
    """Share of the patches among which the object's are looked for."""

    def compute(self, method: Method, source: ImageSource, product: Path) -> None:
        """Find the object of every image."""
        network = transformer(method)
        kind = row_type(-(-self.longest // network.patch))
        images = _Resized(source, self.shorter, self.longest)

        def rows(done: int) -> Iterator[Row]:
            for index, pixels in enumerate(by_processes(images, done, len(source)), done):
                row = np.zeros((), dtype=kind)
                row["image"], row["cell"] = os.fsencode(Path(source.name(index)).name), network.patch
                row["cells"] = OUTSIDE
                if pixels is not None:
                    mask = self.find(network, normalized(pixels[None], method))
                    row["height"], row["width"] = pixels.shape[1:]
                    row["cells"][: mask.shape[0], : mask.shape[1]] = mask
                yield row

        continue_table(product, (len(source),), kind, rows)

    def find(self, network: VisionTransformer, pixels: Tensor) -> Mask:
        """The object of an image (1, 3, H, W), normalized, padded by the mean color to whole patches: (rows, columns).

        Raises:
            PretrainError: the network has fewer heads than `heads`.
        """
        x = _padded(pixels, network.patch)
        rows, columns = (side // network.patch for side in x.shape[2:])
        q, k = network.last_queries_and_keys(x)
        if self.heads > q.shape[1]:
            raise PretrainError(f"stage {self.name} takes {self.heads} heads, but the network has {q.shape[1]}")
        patches = k[0, :, -rows * columns :].double()
        return object_mask(q[0, :, 0].double(), patches, columns, heads=self.heads, mass=self.mass, share=self.share)


def object_mask(query: Tensor, keys: Tensor, columns: int, *, heads: int, mass: float, share: float) -> Mask:
    """The object (rows, `columns`) in an image, from a class token's query (h, d) and its patches' keys (h, N, d).

    Candidates are the `share` of the patches with most attention (`attended`), where patches that do not count have 0,
    and the seed is the first of them. Patches are alike by the sum over all heads of the products of keys. The object
    is the patches that are alike (above 0 in sum) to the candidates that are alike to the seed, and that are connected
    with the seed through sides. Of patches with equal attention, the earlier counts as more attended.
    """
    from scipy.ndimage import label  # slow to import, and listing methods needs none of it

    attention, kept = attended(query, keys, heads=heads, mass=mass)
    candidates = (attention * kept).sort(descending=True, stable=True).indices[: max(1, int(share * len(attention)))]
    seed = candidates[0]
    alike = torch.einsum("hd,hnd->n", keys[:, seed], keys)
    nodes = candidates[alike[candidates] > 0]
    joint = torch.einsum("hd,hnd->n", keys[:, nodes].sum(1), keys)
    found = (joint > 0).view(-1, columns).cpu().numpy()
    components = label(found)[0]
    mask: Mask = components == components.flat[int(seed)]
    return mask


def attended(query: Tensor, keys: Tensor, *, heads: int, mass: float) -> tuple[Tensor, Tensor]:
    """Each patch's attention (N,), the mean of its raw logits over the first `heads` heads, and whether it counts.

    Patches of least attention do not count whose shares of the sum add up to at most `1 - mass`.
    """
    attention = torch.einsum("hd,hnd->hn", query, keys)[:heads].mean(0)
    ascending, order = attention.sort(stable=True)
    kept = torch.empty_like(order, dtype=torch.bool)
    kept[order] = (ascending / ascending.sum()).cumsum(0) > 1 - mass
    return attention, kept


@dataclass(frozen=True)
class ObjectLabels:
    """Cells of each image's object have 1 + its cluster, everything else is 0: k-means of what a network sees in boxes.

    The box around an object is cut from the image as it is stored, with what is in it of the background, and described
    by the network's class token. Each number is divided by its standard deviation over the images, and each description
    then by its length.
    """

    name: str = "labels"
    clusters: int = 20
    iterations: int = 100

    def compute(self, method: Method, source: ImageSource, product: Path) -> None:
        """Describe the object of every image, in a file beside the product, then cluster and write them.

        Raises:
            PretrainError: there are more clusters than images that can be read, or more than a cell can name.
        """
        if not 1 <= self.clusters <= OUTSIDE - 1:
            raise PretrainError(f"stage {self.name}: clusters are 1 to {OUTSIDE - 1}, not {self.clusters}")
        draws = torch.rand(1, self.clusters)
        network = transformer(method)
        masks = opened(method.products["masks"])
        described = product.with_name("described.npy")
        crops = _Objects(source, method.products["masks"])

        def descriptions(done: int) -> Iterator[npt.NDArray[np.float32]]:
            for pixels in by_processes(crops, done, len(source)):
                x = _padded(normalized(pixels[None], method), network.patch)
                yield network.tokens(x)[0, 0].float().cpu().numpy()

        continue_table(described, (len(source), network.width), np.float32, descriptions)
        seen = torch.from_numpy(np.array(masks["height"] > 0))
        if int(seen.sum()) < self.clusters:
            raise PretrainError(f"{int(seen.sum())} images that can be read are too few for {self.clusters} clusters")
        clusters = torch.zeros(len(seen), dtype=torch.int64)
        points = whitened(torch.from_numpy(np.load(described))[seen])
        clusters[seen] = kmeans(points[None], draws, iterations=self.iterations).labels[0]

        def rows(done: int) -> Iterator[Row]:
            for index in range(done, len(source)):
                row = masks[index].copy()
                row["cells"][row["cells"] == 1] = 1 + int(clusters[index])
                yield row

        continue_table(product, masks.shape, masks.dtype, rows)
        described.unlink()


def whitened(x: Tensor) -> Tensor:
    """Descriptions (N, C), each column divided by its standard deviation (not centered), then each row by its length.

    A column without any spread stays as it is.
    """
    deviation = x.std(0, correction=0)
    return unit(x / torch.where(deviation > 0, deviation, 1))


def transformer(method: Method) -> VisionTransformer:
    """The method's network.

    Raises:
        PretrainError: it is not a plain ViT with a class token.
    """
    network = method.backbone
    if not isinstance(network, VisionTransformer) or network.cls_token is None:
        raise PretrainError(
            f"{method.info.name} finds objects by the class token of a ViT: start from one, such as a vit_small_patch16"
        )
    return network


def _padded(pixels: Tensor, patch: int) -> Tensor:
    """Normalized images with zeros to the right and below, up to whole patches."""
    height, width = pixels.shape[2:]
    return pad(pixels, (0, -width % patch, 0, -height % patch))


class _Resized(Dataset[Tensor | None]):
    """Item i is image i, uint8 (3, H, W); None, if it cannot be read."""

    def __init__(self, source: ImageSource, shorter: int, longest: int) -> None:
        self.source, self.shorter, self.longest = source, shorter, longest

    def __getitem__(self, index: int) -> Tensor | None:
        try:
            image = self.source.decode(index)
        except DamagedImageError as error:
            log.warning("no object for %s", str(error).splitlines()[0])
            return None
        sides = image.shape[1:]
        long = self.shorter * max(sides) > self.longest * min(sides)
        to, of = (self.longest, max(sides)) if long else (self.shorter, min(sides))
        return interpolate(image[None], [max(1, n * to // of) for n in sides], mode="bilinear", antialias=True)[0]


class _Objects(Dataset[Tensor]):
    """Item i is the box around image i's object, uint8 (3, H, W); a small black one, if the image cannot be read."""

    def __init__(self, source: ImageSource, masks: Path) -> None:
        self.source, self.masks = source, masks

    def __getitem__(self, index: int) -> Tensor:
        row = opened(self.masks)[index]
        if not row["height"]:
            return torch.zeros(3, 16, 16, dtype=torch.uint8)
        image = self.source.decode(index)
        top, bottom, left, right = box_of(row, *image.shape[1:])
        return image[:, top:bottom, left:right].contiguous()
