"""Learned parameters and operations of what a probe puts on the cells."""

from __future__ import annotations

import torch

from bench.operations import backbone_operations, count
from bench.probes.cells import Network
from bench.probes.kinds.head import build_head
from bench.probes.plans import STRIDE, CellPlan, ClassifierPlan, HeadPlan, ImagePlan, ProbePlan
from leaderboard.records import Operations


def head_parameters(plan: ProbePlan, channels: int) -> int:
    """Number of learned parameters: those of a head, or the weights and biases of a linear classifier; else 0."""
    if isinstance(plan, HeadPlan):
        return sum(p.numel() for p in build_head(channels, plan.hidden, plan.classes).parameters())
    return (channels + 1) * _classes(plan)


def probe_operations(plan: CellPlan | ImagePlan, network: Network) -> Operations:
    """Operations for one image of the plan's size; those of neighbors, clusters and of what stands on the vector of a
    whole image are not counted."""
    if isinstance(plan, ImagePlan):
        backbone = backbone_operations(network.backbone, plan.side, plan.side)
        return Operations(height=plan.side, width=plan.side, backbone=backbone, head=None)
    (height, width), channels = plan.size, network.channels
    cells = (height // STRIDE, width // STRIDE)
    head = None
    if isinstance(plan, HeadPlan):
        layers = build_head(channels, plan.hidden, plan.classes).eval()
        grid = torch.zeros(1, channels, *cells)
        head = count(lambda: layers(grid))
    elif _classes(plan):
        head = 2 * channels * _classes(plan) * cells[0] * cells[1]
    backbone = backbone_operations(network.backbone, height, width)
    return Operations(height=height, width=width, backbone=backbone, head=head)


def _classes(plan: ProbePlan) -> int:
    """Number of classes of a linear classifier; 0 for another probe."""
    return plan.classes if isinstance(plan, ClassifierPlan) and plan.kind != "knn" else 0
