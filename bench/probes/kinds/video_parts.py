"""Follows the parts of people through videos by frozen features: label maps are carried from the first frame.

As objects are (`bench.probes.kinds.propagation`), with a channel for each class. One confusion matrix is over all
frames of all videos, also the first of each, with what is left of its labels on the cells: so in the evaluation of CRW
(Jabri et al., NeurIPS 2020, arXiv 2006.14613).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from bench.clock import Clock
from bench.datasets.masks import load_labels
from bench.datasets.report import Strict
from bench.datasets.vip import CLASSES, list_parts
from bench.metrics.segmentation import confusion_matrix
from bench.probes.kinds.propagation import Extractor, cells_of, segment
from bench.probes.material import Findings
from bench.probes.plans import PropagationPlan
from bench.probes.segmentation import mean_metrics


def follow_parts(
    plan: PropagationPlan, extract: Extractor, data_root: Path, dataset: str, device: torch.device, clock: Clock
) -> tuple[Findings, list[str]]:
    """Findings of all val videos, and the videos' names.

    Raises:
        BenchError: a frame or a label map cannot be read, a label is not a class, or cells are not finite.
    """
    videos = list_parts(data_root, Strict(data_root))
    counts = np.zeros((len(videos), len(CLASSES), len(CLASSES)), np.int64)
    for number, video in enumerate(videos):
        cells = cells_of(video.frames, plan, extract, device, clock)
        for mask, labels in zip(video.masks, segment(cells, load_labels(video.masks[0]), plan), strict=True):
            counts[number] += confusion_matrix(load_labels(mask), labels, len(CLASSES), str(mask))
        clock.lap("evaluation")
    metrics, shares = mean_metrics([counts])
    images = sum(len(video.frames) for video in videos)
    findings = Findings(metrics=metrics, shares=shares, images=images, training_cells=0, arrays={"counts": counts})
    return findings, [video.name for video in videos]
