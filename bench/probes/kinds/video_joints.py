"""Follows the joints of people through clips by frozen features; PCK, as CRW evaluates it on JHMDB.

In the first frame, each of 15 joints is a small Gaussian on the cells (standard deviation of half a cell), and the
background is where no joint is. These channels are carried on (`bench.probes.propagation`). A joint is found at the
mean position of its channel's three strongest cells, weighted by their strength; where its channel is empty, it is
lost.

PCK@a is the share of a joint's positions within a times 0.6 of the diagonal of the box around the frame's joints, mean
over the joints. First frames and lost joints do not count, in the box neither, so that losing a joint costs nothing.
Jabri et al., NeurIPS 2020, arXiv 2006.14613, and its code.
"""

from __future__ import annotations

import math
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.clock import Clock
from bench.datasets.files import load_pixels
from bench.datasets.jhmdb import JOINTS, list_clips, load_joints
from bench.datasets.report import Strict
from bench.metrics.uncertainty import Floats, influence
from bench.probes.kinds.propagation import Extractor, cells_of
from bench.probes.material import Findings
from bench.probes.plans import PropagationPlan
from bench.probes.propagation import propagate

THRESHOLDS = (0.1, 0.2)
SHARE_OF_BOX = 0.6
_STRONGEST = 3
LOST = -1.0
"""Both coordinates of a joint that is not found."""


def follow_joints(
    plan: PropagationPlan, extract: Extractor, data_root: Path, dataset: str, device: torch.device, clock: Clock
) -> tuple[Findings, list[str]]:
    """Findings of all val clips, and the clips' names.

    Raises:
        BenchError: a frame or a file of joints cannot be read, or cells are not finite.
    """
    clips = list_clips(data_root, Strict(data_root))
    hits: dict[float, Floats] = {threshold: np.zeros((len(clips), JOINTS)) for threshold in THRESHOLDS}
    counted: Floats = np.zeros((len(clips), JOINTS))
    for number, clip in enumerate(clips):
        truth = load_joints(clip.joints, len(clip.frames))
        frames = clip.frames[: len(truth)]
        height, width = load_pixels(frames[0]).shape[:2]
        cells = cells_of(frames, plan, extract, device, clock)
        beginning = next(cells)
        rows, columns = beginning.shape[1:]
        scale = np.array([columns / width, rows / height])
        labels = draw(truth[0] * scale, rows, columns).to(beginning.device)
        found = np.stack([decode(one) for one in propagate(chain([beginning], cells), labels, plan)])
        distances = normalized_distances(truth, np.where(found == LOST, LOST, found / scale))
        counted[number] = (~np.isnan(distances)).sum(0)
        for threshold in THRESHOLDS:
            hits[threshold][number] = (distances <= threshold).sum(0)
        clock.lap("evaluation")
    return _findings(hits, counted, sum(len(clip.frames) for clip in clips)), [clip.name for clip in clips]


def draw(joints: Floats, rows: int, columns: int) -> Tensor:
    """Channels (16, rows, columns) of the background and of joints (15, 2) with coordinates x and y in cells."""
    maps = torch.zeros(1 + len(joints), rows, columns)
    for channel, (x, y) in zip(maps[1:], joints, strict=True):
        across, down = _bump(float(x), columns), _bump(float(y), rows)
        channel += down[:, None] * across
    maps[0] = (maps[1:].sum(0) == 0).float()
    return maps


def _bump(position: float, size: int) -> Tensor:
    """A Gaussian of height 1 over `size` cells: of four cells, with its middle in the third; 0 elsewhere."""
    start, end = int(position - 1.5), int(position + 2.5)  # towards 0, as in the code
    cells = torch.arange(size)
    return torch.exp(-2.0 * (cells - start - 2) ** 2) * ((cells >= start) & (cells < end))


def decode(labels: Tensor) -> Floats:
    """Positions (15, 2) of the joints, x and y in cells, from the channels (16, rows, columns)."""
    columns = labels.shape[2]
    flat = labels[1:].flatten(1).double()
    strength, which = flat.topk(min(_STRONGEST, flat.shape[1]), 1)
    total = strength.sum(1)
    x, y = ((place * strength).sum(1) / total for place in (which % columns, which // columns))
    found = torch.stack([x, y], 1)
    found[flat.sum(1) == 0] = LOST
    positions: Floats = found.cpu().numpy()
    return positions


def normalized_distances(truth: Floats, found: Floats) -> Floats:
    """Distances (T - 1, 15) of positions (T, 15, 2), without the first frame, in units of 0.6 of the box's diagonal.

    NaN for a joint that is lost, infinite where the box has no extent.
    """
    lost = (found < 0)[..., 0]
    distances = np.full((len(truth) - 1, truth.shape[1]), np.nan)
    for t in range(1, len(truth)):
        seen = ~lost[t]
        if not seen.any():
            continue
        diagonal = SHARE_OF_BOX * math.hypot(*np.ptp(truth[t, seen], 0))
        offsets = np.linalg.norm(found[t, seen] - truth[t, seen], axis=1)
        distances[t - 1, seen] = offsets / diagonal if diagonal else np.inf
    return distances


def _findings(hits: dict[float, Floats], counted: Floats, images: int) -> Findings:
    there = counted.sum(0) > 0
    metrics, shares = {}, {}
    for threshold, found in hits.items():
        name = f"PCK@{threshold:g}"
        metrics[name] = 100 * float((found.sum(0)[there] / counted.sum(0)[there]).mean()) if there.any() else 0.0
        shares[name] = 100 * influence(found, counted) if there.any() else np.zeros(len(counted))
    arrays = {f"hits@{threshold:g}": found for threshold, found in hits.items()} | {"counted": counted}
    return Findings(metrics=metrics, shares=shares, images=images, training_cells=0, arrays=arrays)
