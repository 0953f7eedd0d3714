"""Follows objects through videos by frozen features: the masks of a first frame are carried to the others.

Cells are the backbone's finest map with meaning: a ResNet's layer3 with strides of 1 in it, so that a cell covers 8 x 8
pixels, without layer4; the last map of any other network. They are scaled to length 1. `bench.probes.propagation` says
how labels are carried. What the rules differ in besides:

crw     Frames keep their size, or are scaled to the plan's `side`, their masks by nearest neighbor. The first frame's
        masks are reduced to the cells bilinearly; soft labels are enlarged to the frame bilinearly, and the highest
        wins.
dino    Frames are scaled to a short side of 480 pixels and a long side that is rounded down to a multiple of 64. The
        first frame's masks are reduced to the cells by nearest neighbor. Soft labels are enlarged to the scaled frame
        bilinearly, each channel is stretched to [0, 1] in every frame, and the highest wins; the result is enlarged to
        the frame by nearest neighbor.

Every object of a video is evaluated in all frames but the first and the last (`bench.metrics.video`), and metrics are
means over all objects of all videos.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize, one_hot

from bench.clock import Clock
from bench.datasets.davis import Video, list_videos, load_objects
from bench.datasets.files import load_pixels
from bench.datasets.report import Strict
from bench.errors import BenchError
from bench.metrics.uncertainty import Floats, influence
from bench.metrics.video import contour_accuracy, jaccard, statistics
from bench.patches import features
from bench.probes.cells import Network, cell_labels, normalized
from bench.probes.material import Findings
from bench.probes.plans import PropagationPlan
from bench.probes.propagation import propagate
from pretrain.nets.resnet import ResNet, keep_stride_8

Extractor = Callable[[Tensor], Tensor]
"""Function from RGB images in [0, 1] (N, 3, H, W) to cells of length 1 (N, C, h, w)."""
Labels = NDArray[np.uint8]
OBJECTS = "objects.json"


def fine_cells(network: Network) -> Extractor:
    """Extractor of a backbone, which is changed for it: strides of 1 in layer3 of a ResNet, and no layer4."""
    backbone = network.backbone
    if isinstance(backbone, ResNet):
        keep_stride_8(backbone)
        backbone.layer4 = nn.Identity()

    @torch.inference_mode()
    def extract(images: Tensor) -> Tensor:
        return normalize(features(backbone, normalized(images, network.card))[-1], dim=1)

    return extract


def fused(fine: Extractor, semantic: Extractor, weight: float) -> Extractor:
    """Extractor of concatenated cells, `weight` times those of `fine` and once those of `semantic`, scaled to length 1.

    So similarities are means of both, weighted by weight^2 and 1: the fusion of SFC (ECCV 2022, arXiv 2207.10456).
    Cells of `semantic` are resized bilinearly to those of `fine` where their numbers differ.
    """

    @torch.inference_mode()
    def extract(images: Tensor) -> Tensor:
        a, b = fine(images), semantic(images)
        if a.shape[2:] != b.shape[2:]:
            b = normalize(interpolate(b, a.shape[2:], mode="bilinear"), dim=1)
        return normalize(torch.cat([weight * a, b], 1), dim=1)

    return extract


def follow_objects(
    plan: PropagationPlan, extract: Extractor, data_root: Path, dataset: str, device: torch.device, clock: Clock
) -> tuple[Findings, list[str]]:
    """Findings of all val videos of a data set, and the videos' names.

    Raises:
        BenchError: a frame or a label map cannot be read, or cells are not finite.
    """
    videos = list_videos(data_root, dataset, Strict(data_root))
    values = []
    for video in videos:
        truths = [load_objects(mask, dataset) for mask in video.masks]
        cells = cells_of(video.frames, plan, extract, device, clock)
        values.append(score(truths, segment(cells, truths[0], plan)))
        clock.lap("evaluation")
    return _findings(videos, values), [video.name for video in videos]


def segment(cells: Iterator[Tensor], first: Labels, plan: PropagationPlan) -> Iterator[Labels]:
    """The number of the object at each pixel (H, W), 0 for the background, of every frame.

    `cells` are those of all frames in order (C, h, w), `first` the numbers of the objects in the first frame, of which
    the first item is what is left of them on the cells.
    """
    beginning = next(cells)
    rows, columns = beginning.shape[1:]
    channels, size = int(first.max()) + 1, scaled_size(plan, *first.shape)

    def masks(numbers: Labels) -> Tensor:
        return one_hot(torch.from_numpy(numbers).long().to(beginning.device), channels).permute(2, 0, 1).float()

    if plan.rules == "crw":
        soft = interpolate(masks(cell_labels(first, *size))[None], (rows, columns), mode="bilinear")[0]
    else:
        soft = masks(cell_labels(first, rows, columns))
    for labels in propagate(chain([beginning], cells), soft, plan):
        enlarged = interpolate(labels[None], size, mode="bilinear")[0]
        chosen = (enlarged if plan.rules == "crw" else stretched(enlarged)).argmax(0).to(torch.uint8)
        yield cell_labels(chosen.cpu().numpy(), *first.shape)


def stretched(labels: Tensor) -> Tensor:
    """Soft labels (L, H, W), each channel shifted and scaled so that its values range from 0 to 1."""
    shifted = labels - labels.amin((1, 2), keepdim=True)
    return shifted / shifted.amax((1, 2), keepdim=True).clamp(min=torch.finfo(labels.dtype).tiny)


def scaled_size(plan: PropagationPlan, height: int, width: int) -> tuple[int, int]:
    """Height and width to which a frame is scaled."""
    if plan.side:
        return plan.side, plan.side
    if plan.rules == "crw":
        return height, width
    long = int(480 * max(height, width) / min(height, width) // 64 * 64)
    return (long, 480) if height > width else (480, long)


def score(truths: Sequence[Labels], found: Iterator[Labels]) -> Floats:
    """J and F of every object in every frame but the first and the last: (2, objects, frames - 2).

    `truths` are the frames' numbers of objects, `found` those that were found.
    """
    objects = range(1, int(truths[0].max()) + 1)
    frames = [
        [[measure(truth == k, labels == k) for k in objects] for measure in (jaccard, contour_accuracy)]
        for truth, labels in zip(truths, found, strict=True)
    ]
    return np.array(frames[1:-1]).transpose(1, 2, 0)


def cells_of(
    frames: Sequence[Path], plan: PropagationPlan, extract: Extractor, device: torch.device, clock: Clock
) -> Iterator[Tensor]:
    """The cells (C, h, w) of every frame."""
    for frame in frames:
        clock.lap("propagation")
        pixels = load_pixels(frame)
        height, width = scaled_size(plan, *pixels.shape[:2])
        if (height, width) != pixels.shape[:2]:
            pixels = np.asarray(cv2.resize(pixels, (width, height)), np.uint8)
        x = torch.from_numpy(np.ascontiguousarray(pixels[:, :, ::-1])).to(device).permute(2, 0, 1).float() / 255
        cells = extract(x[None])[0]
        if not cells.isfinite().all():
            raise BenchError(f"{frame}: a cell is not finite: has the training diverged?")
        clock.lap("features")
        yield cells


def _findings(videos: Sequence[Video], values: Sequence[Floats]) -> Findings:
    """Metrics over the objects of all videos, with each video's share in them."""
    table: list[dict[str, Any]] = [
        {"video": video.name, "object": number + 1}
        | {name: vars(statistics(each)) for name, each in zip("JF", of_object, strict=True)}
        for video, found in zip(videos, values, strict=True)
        for number, of_object in enumerate(found.swapaxes(0, 1))
    ]
    columns: dict[str, Floats] = {}
    for name in "JF":
        columns[name] = np.array([row[name]["mean"] for row in table])
        columns[f"{name} recall"] = np.array([row[name]["recall"] for row in table])
    columns = {"J&F": (columns["J"] + columns["F"]) / 2, **columns}
    of_video = np.array([[row["video"] == video.name for video in videos] for row in table], np.float64)
    counts = of_video.sum(0)[:, None]
    sums = {name: (of_video.T @ column)[:, None] for name, column in columns.items()}
    return Findings(
        metrics={name: 100 * float(column.mean()) for name, column in columns.items()},
        shares={name: 100 * influence(part, counts) for name, part in sums.items()},
        images=sum(len(video.frames) for video in videos),
        training_cells=0,
        arrays={"objects": counts[:, 0].astype(np.int64)} | {name: part[:, 0] for name, part in sums.items()},
        files={OBJECTS: json.dumps(table, indent=1) + "\n"},
    )
