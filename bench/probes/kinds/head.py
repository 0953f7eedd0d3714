"""A light convolutional head on the frozen cells: semantic segmentation of the validation images.

The head is a batch normalization, a 1 x 1 and a 3 x 3 convolution, each with batch normalization and ReLU, and a 1 x 1
convolution as classifier. It is trained by AdamW on the labels at the cells' centers, with a learning rate that falls
to 0 as a half cosine. The learning rate is chosen on held-out training images. The seed determines these images, the
head's initial weights and the batches.
"""

from __future__ import annotations

from math import cos, pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bench.errors import BenchError
from bench.metrics.segmentation import IGNORE
from bench.probes.classifiers import Scores
from bench.probes.material import Findings, Material, Part, hold_out
from bench.probes.plans import STRIDE, HeadPlan
from bench.probes.segmentation import confusion_matrices, held_out_miou, mean_metrics


def probe(plan: HeadPlan, material: Material) -> Findings:
    """Semantic segmentation of the validation images.

    Raises:
        BenchError: an image cannot be read, a label is not a class, or there are too few images.
    """
    train, val = material.train, material.val
    material.clock.lap("features")
    grid = train.grid()
    counted = grid[grid != IGNORE]
    if not len(counted) or counted.max() >= plan.classes:
        raise BenchError(f"the training images' labels are not some of the classes 0 to {plan.classes - 1}")
    fitted, held = hold_out(len(train.pairs), plan.held_out, material.seed)
    candidates = {}
    for rate in plan.candidates:
        head = train_head(plan, train.take(fitted), grid[fitted], rate, material)
        scores = scores_of(head, plan)
        (candidates[rate],) = held_out_miou(scores, plan.classes, train.take(held), material.device)
    chosen = max(candidates, key=candidates.__getitem__)  # the first of equal ones
    head = train_head(plan, train, grid, chosen, material)
    material.clock.lap("fit")
    counts = np.concatenate(list(confusion_matrices(scores_of(head, plan), plan.classes, val, material.device)))
    metrics, shares = mean_metrics([counts])
    material.clock.lap("evaluation")
    return Findings(
        metrics=metrics,
        shares=shares,
        images=len(counts),
        training_cells=len(counted),
        arrays={"counts": counts},
        chosen=chosen,
        candidates=candidates,
    )


def build_head(channels: int, hidden: int, classes: int) -> nn.Sequential:
    """The head, which maps cells (N, C, rows, columns) to scores (N, K, rows, columns)."""
    return nn.Sequential(
        nn.BatchNorm2d(channels, affine=False),
        nn.Conv2d(channels, hidden, 1, bias=False),
        nn.BatchNorm2d(hidden),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, hidden, 3, padding=1, bias=False),
        nn.BatchNorm2d(hidden),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, classes, 1),
    )


def train_head(plan: HeadPlan, part: Part, grid: NDArray[np.uint8], rate: float, material: Material) -> nn.Sequential:
    """A head in evaluation mode, trained on the images of `part`, whose cells have the labels `grid`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(material.seed)
        head = build_head(part.cells.shape[1], plan.hidden, plan.classes).to(material.device).train()
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=plan.weight_decay)
    rng = np.random.default_rng(material.seed)
    waiting: list[int] = []
    for step in range(plan.iterations):
        while len(waiting) < plan.batch:
            waiting += rng.permutation(len(part.pairs)).tolist()
        images, waiting = sorted(waiting[: plan.batch]), waiting[plan.batch :]
        x = torch.from_numpy(part.cells[part.rows[images]].astype(np.float32)).to(material.device)
        y = torch.from_numpy(grid[images].astype(np.int64)).to(material.device)
        if bool((y == IGNORE).all()):
            continue  # no label in this batch counts
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 + cos(pi * step / plan.iterations)) / 2
        optimizer.zero_grad()
        cross_entropy(head(x), y, ignore_index=IGNORE).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return head.eval()


def scores_of(head: nn.Sequential, plan: HeadPlan) -> Scores:
    """Function that returns a head's scores of the cells of one image."""
    rows, columns = (side // STRIDE for side in plan.size)

    def scores(cells: Tensor) -> list[Tensor]:
        return [head(cells.T.reshape(1, -1, rows, columns))[0].flatten(1).T]

    return scores
