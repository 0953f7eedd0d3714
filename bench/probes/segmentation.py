"""Compares scores of cells with label maps of any size, and computes metrics from all confusion matrices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from bench.errors import BenchError
from bench.metrics.outputs import segmentation_metrics
from bench.metrics.segmentation import confusion_matrix, segmentation_scores
from bench.metrics.uncertainty import Counts, Floats, segmentation_shares
from bench.probes.classifiers import Scores
from bench.probes.material import Part


@torch.inference_mode()
def confusion_matrices(scores: Scores, classes: int, part: Part, device: torch.device) -> Iterator[Counts]:
    """Confusion matrices (M, K, K) of each image for each of the M classifiers; label maps are read once."""
    rows, columns = part.cells.shape[2:]
    for i, pair in enumerate(part.pairs):
        labels = pair.load_labels()
        maps = [found.T.reshape(classes, rows, columns) for found in scores(part.image_cells(i, device))]
        yield np.stack([compare(one, labels, str(pair.labels)) for one in maps])


def held_out_miou(scores: Scores, classes: int, part: Part, device: torch.device) -> list[float]:
    """The mIoU (per cent) of each classifier over the training images of `part`, which are held out.

    Raises:
        BenchError: a label is not a class, or no label counts.
    """
    total = reduce(np.add, confusion_matrices(scores, classes, part, device))
    if not total.any():
        raise BenchError(
            "none of the held-out training images, on which a hyper-parameter is chosen, has a label that counts: "
            "add training images with labels, or leave out those without"
        )
    return [segmentation_scores(matrix).miou for matrix in total]


def compare(scores: Tensor, labels: NDArray[np.uint8], name: str) -> Counts:
    """The confusion matrix (K, K) of one image: scores (K, rows, columns) are upsampled, and the highest wins."""
    chosen = interpolate(scores[None], labels.shape, mode="bilinear")[0].argmax(0)
    return confusion_matrix(labels, chosen.cpu().numpy(), len(scores), name)


def spread(cells: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
    """For each pixel (height, width), the value of the cell (rows, columns) in which it lies."""
    rows, columns = cells.shape
    return cells[np.arange(height)[:, None] * rows // height, np.arange(width) * columns // width]


def mean_metrics(sets: Sequence[Counts]) -> tuple[dict[str, float], dict[str, Floats]]:
    """mIoU, mAcc and aAcc (per cent), and the images' shares (V,) in them: the mean over several sets of matrices.

    Each set is (V, K, K), one confusion matrix for each of the same V images.
    """
    metrics = [segmentation_metrics(counts) for counts in sets]
    means = {name: float(np.mean([one[name] for one in metrics])) for name in metrics[0]}
    return means, _mean([segmentation_shares(counts) for counts in sets])


def _mean(sets: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    return {name: np.mean([one[name] for one in sets], 0) for name in sets[0]}
