"""Parameters and operations of what a probe puts on the cells, against plain sums."""

import dataclasses
from pathlib import Path

import torch

from bench.checkpoints import random_backbone
from bench.probes.cells import freeze
from bench.probes.plans import ClassifierPlan, HeadPlan
from bench.probes.size import head_parameters, probe_operations
from pretrain.exported import read_exported

LINEAR = ClassifierPlan(
    kind="linear", size=(64, 96), classes=5, cells=9, held_out=0.5, candidates=(1.0,), options={"iterations": 1}
)
NEIGHBORS = dataclasses.replace(LINEAR, kind="knn", options={"temperature": 1.0})
HEAD = HeadPlan(
    kind="head", size=(64, 96), classes=5, hidden=8, batch=1, iterations=1, weight_decay=0.0, held_out=0.5,
    candidates=(1.0,),
)  # fmt: skip


def test_sizes_of_heads(tmp_path: Path) -> None:
    """4 x 6 cells of 256 + 512 channels. A head: 1x1 to 8 channels, 3x3, 1x1 to 5 classes, and two norms of 8."""
    network = freeze(read_exported(random_backbone("resnet18", seed=0, name="r", work=tmp_path)), torch.device("cpu"))
    channels, cells = 768, 4 * 6
    weights = 768 * 8 + 8 * 8 * 9 + 8 * 5
    assert head_parameters(LINEAR, channels) == 768 * 5 + 5
    assert head_parameters(NEIGHBORS, channels) == 0
    assert head_parameters(HEAD, channels) == weights + 5 + 2 * 2 * 8
    linear, neighbors, head = (probe_operations(plan, network) for plan in (LINEAR, NEIGHBORS, HEAD))
    assert (linear.head, neighbors.head, head.head) == (2 * 768 * 5 * cells, None, 2 * weights * cells)
    assert (linear.height, linear.width) == (64, 96)
    assert linear.backbone == neighbors.backbone == head.backbone
    stem = 2 * 32 * 48 * 64 * 3 * 49
    first = 4 * 2 * 16 * 24 * 64 * 64 * 9
    later = sum(
        2 * (side[0] * side[1]) * (c * c // 2 * 9 + 3 * c * c * 9 + c * c // 2)
        for c, side in ((128, (8, 12)), (256, (4, 6)), (512, (2, 3)))
    )
    assert linear.backbone == stem + first + later
