"""Boxes of an image that may hold an object: selective search, and which of its boxes are kept.

Uijlings et al., Selective Search for Object Recognition, IJCV 2013. Two implementations: OpenCV's own (module ximgproc
of the package opencv-contrib-python), which papers used, and one on scikit-image, which is always there: its
segmentation (Felzenszwalb and Huttenlocher) and its hierarchical merging of regions, by the similarity of the paper.

A box is left, top, width and height in pixels of the image.
"""

from __future__ import annotations

import ctypes
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pretrain.errors import PretrainError

Boxes = npt.NDArray[np.int64]
"""Boxes as an int64 array (n, 4)."""
Search = Literal["opencv", "skimage"]
SCALES = (150.0, 300.0, 450.0)
"""Scales of the segmentations that are merged, as in OpenCV's fast mode."""
SMALLEST = 100
"""Pixels of the smallest region of a segmentation, as in OpenCV's fast mode."""
BINS = 25
"""Number of bins in each channel's histogram of colors."""


def selective_search(image: Tensor, search: Search, seed: int) -> Boxes:
    """The boxes of an image, uint8 RGB (3, H, W), the likelier ones first; at least one, the whole image if need be.

    The order is partly random, as in the paper, and follows from `seed`.
    """
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    boxes = _by_opencv(pixels, seed) if search == "opencv" else _by_merging(pixels, seed)
    return boxes if len(boxes) else np.array([[0, 0, pixels.shape[1], pixels.shape[0]]])


def kept_boxes(boxes: Boxes, *, min_side: int, max_ratio: float, max_overlap: float, limit: int) -> Boxes:
    """The first `limit` of the boxes that are wide and high enough and not too elongated, without those that overlap
    one kept before by more than `max_overlap` (intersection over union); if there is none, the first box of all.
    """
    short, long = boxes[:, 2:].min(1), boxes[:, 2:].max(1)
    fitting = (short >= min_side) & (long <= max_ratio * short)
    kept: list[npt.NDArray[np.int64]] = []
    for box in boxes[fitting]:
        if not kept or overlaps(np.stack(kept), box).max() <= max_overlap:
            kept.append(box)
        if len(kept) == limit:
            break
    return np.stack(kept) if kept else boxes[:1]


def overlaps(boxes: Boxes, box: Boxes) -> npt.NDArray[np.float64]:
    """Intersection over union (n,) of each of `boxes` (n, 4) with `box` (4,)."""
    low = np.maximum(boxes[:, :2], box[:2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], box[:2] + box[2:])
    common = np.maximum(high - low, 0).prod(1)
    return common / (boxes[:, 2:].prod(1) + box[2:].prod() - common)


def require(search: Search) -> None:
    """Check that a search is installed.

    Raises:
        PretrainError: OpenCV is to search, but is here without its module ximgproc.
    """
    if search == "opencv":
        import cv2

        if not hasattr(cv2, "ximgproc"):
            raise PretrainError(
                "OpenCV is here without its module ximgproc, which has selective search: install "
                "opencv-contrib-python-headless in the place of opencv-python-headless, or search with scikit-image: "
                "--set stages.proposals.search=skimage"
            )


def _by_opencv(pixels: npt.NDArray[np.uint8], seed: int) -> Boxes:
    """Selective search in its fast mode. Its random ranks are drawn from the C library's generator."""
    from cv2 import ximgproc  # type: ignore[attr-defined, unused-ignore]  # of opencv-contrib-python

    search = ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(pixels[:, :, ::-1]))
    search.switchToSelectiveSearchFast()
    ctypes.CDLL(None).srand(seed % 2**31)
    return np.asarray(search.process(), dtype=np.int64).reshape(-1, 4)


def _by_merging(pixels: npt.NDArray[np.uint8], seed: int) -> Boxes:
    """The regions of three segmentations each in two color spaces, and all that greedy merging makes of them.

    The last region of a merging has rank 1, the one before 2, and so on; boxes come by rank times a random number in
    [0, 1). Of equal boxes the first stays.
    """
    from skimage.color import rgb2hsv, rgb2lab

    rng = np.random.default_rng([9, seed])
    found: list[Boxes] = []
    ranks: list[npt.NDArray[np.float64]] = []
    for space in (rgb2hsv(pixels) * 255, rgb2lab(pixels) + np.array([0, 128, 128])):
        for scale in SCALES:
            boxes = _merged_boxes(space, scale)
            found.append(boxes)
            ranks.append(np.arange(len(boxes), 0, -1) * rng.random(len(boxes)))
    boxes = np.concatenate(found)[np.concatenate(ranks).argsort(kind="stable")]
    _, first = np.unique(boxes, axis=0, return_index=True)
    return boxes[np.sort(first)]


def _merged_boxes(pixels: npt.NDArray[np.floating[Any]], scale: float) -> Boxes:
    """The boxes of a segmentation's regions, then those of each merging of the two most similar neighbors, to the end.

    `pixels` (H, W, 3) are between 0 and 255. The similarity of two regions is the paper's without its term of texture:
    the common share of their histograms of colors, plus 1 - (both sizes) / image, plus 1 - (area of the box around
    both, less both sizes) / image. The sizes cancel.
    """
    from skimage.graph import RAG, merge_hierarchical
    from skimage.segmentation import felzenszwalb

    labels = felzenszwalb(pixels / 255, scale=scale, sigma=0.8, min_size=SMALLEST, channel_axis=-1)
    count = int(labels.max()) + 1
    sizes = np.bincount(labels.ravel(), minlength=count).tolist()
    bins = np.clip(pixels * BINS / 256, 0, BINS - 1).astype(np.int64).reshape(-1, 3) + BINS * np.arange(3)
    flat = (labels.reshape(-1, 1) * 3 * BINS + bins).ravel()
    colors = np.bincount(flat, minlength=count * 3 * BINS).reshape(count, -1) / (3 * np.array(sizes)[:, None])
    graph = RAG()
    for label, (rows, columns) in enumerate(_extents(labels, count)):
        corners = (columns.start, rows.start, columns.stop, rows.stop)
        graph.add_node(label, labels=[label], size=sizes[label], color=colors[label], corners=corners)

    def unlike(a: int, b: int) -> float:
        one, other = graph.nodes[a], graph.nodes[b]
        left, top, right, bottom = _around(one["corners"], other["corners"])
        return (right - left) * (bottom - top) / labels.size - float(np.minimum(one["color"], other["color"]).sum())

    def merge(_: Any, source: int, target: int) -> None:
        one, other = graph.nodes[source], graph.nodes[target]
        both = one["size"] + other["size"]
        other["color"] = (one["size"] * one["color"] + other["size"] * other["color"]) / both
        other["size"], other["corners"] = both, _around(one["corners"], other["corners"])
        found.append(other["corners"])

    found = [graph.nodes[label]["corners"] for label in range(count)]
    for a, b in (labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:]):
        for one, other in np.unique(np.stack([a[a != b], b[a != b]], axis=1), axis=0).tolist():
            graph.add_edge(one, other, weight=unlike(one, other))
    merge_hierarchical(
        labels,
        graph,
        thresh=np.inf,
        rag_copy=False,
        in_place_merge=True,
        merge_func=merge,
        weight_func=lambda _, source, target, neighbor: {"weight": unlike(target, neighbor)},
    )
    ends = np.array(found, dtype=np.int64)
    return np.concatenate([ends[:, :2], ends[:, 2:] - ends[:, :2]], axis=1)


def _extents(labels: npt.NDArray[np.int64], count: int) -> list[tuple[slice, slice]]:
    from scipy.ndimage import find_objects

    extents: list[tuple[slice, slice]] = find_objects(labels + 1, max_label=count)
    return extents


def _around(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """The smallest box (left, top, right, bottom) around two."""
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])
