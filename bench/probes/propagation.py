"""Carries the labels of a video's first frame to the others by the similarity of cells, without any training.

The algorithm of Contrastive Random Walk (Jabri et al., NeurIPS 2020, arXiv 2006.14613), which later papers use
unchanged, and the variant of DINO (Caron et al., ICCV 2021, arXiv 2104.14294). A cell q of a frame is compared with the
cells k of the first frame and of the preceding ones. With N(q) its K most similar cells among all of them, its label is

    y_q = sum over k in N(q) of w_k y_k,    w = softmax over N(q) of cos(q, k) / T.

Labels are soft, one channel for each object and one for the background, and those of preceding frames are as they were
predicted. In a preceding frame only the cells near q count:

crw     those whose distance is below the radius; in the first frame all cells count. Before the first frame come
        copies of it, so that it is compared several times in the beginning.
dino    those whose rows and whose columns differ by at most the radius, in the first frame too; no copies. DINO's code
        also takes all cells that are exactly as similar as the K-th.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from bench.probes.plans import PropagationPlan

TILE = 8
"""Side in cells of the squares whose cells are compared together; it affects nothing but speed and rounding."""
Frame = tuple[Tensor, Tensor]
"""Cells of length 1 (C, h, w) and soft labels (L, h, w) of a frame."""


@torch.inference_mode()
def propagate(cells: Iterable[Tensor], labels: Tensor, plan: PropagationPlan) -> Iterator[Tensor]:
    """Soft labels (L, h, w) of every frame of a video, beginning with the first frame's own `labels`.

    `cells` are those of the frames in order, each (C, h, w) of length 1. The first frame and `plan.context` others are
    in memory at a time.
    """
    frames = iter(cells)
    first = next(frames), labels
    copies = [first] * plan.context if plan.rules == "crw" else []
    preceding = deque(copies, maxlen=plan.context)
    yield labels
    for query in frames:
        found = carry(query, first, preceding, plan)
        preceding.append((query, found))
        yield found


def carry(query: Tensor, first: Frame, preceding: Sequence[Frame], plan: PropagationPlan) -> Tensor:
    """Soft labels (L, h, w) of the cells `query` (C, h, w), from those of the first frame and of preceding ones."""
    rows, columns = query.shape[1:]
    crw = plan.rules == "crw"
    reach = plan.radius - 1 if crw else plan.radius
    near = list(preceding) if crw else [first, *preceding]
    near_cells = torch.stack([cells for cells, _ in near])
    near_labels = torch.stack([labels for _, labels in near], 1)
    all_cells = first[0].flatten(1) if crw else query.new_zeros((len(query), 0))
    all_labels = first[1].flatten(1) if crw else query.new_zeros((len(near_labels), 0))
    found = torch.empty_like(near_labels[:, 0])
    for top in range(0, rows, TILE):
        for left in range(0, columns, TILE):
            inside = slice(top, min(top + TILE, rows)), slice(left, min(left + TILE, columns))
            around = tuple(slice(max(0, one.start - reach), one.stop + reach) for one in inside)
            q = query[:, *inside]
            keys = near_cells[:, :, *around].transpose(0, 1).flatten(1)
            likeness = q.flatten(1).T @ torch.cat([all_cells, keys], 1)
            allowed = _near(inside, around, (rows, columns), plan).to(query.device).repeat(1, len(near))
            likeness[:, all_cells.shape[1] :].masked_fill_(~allowed, -torch.inf)
            values, which = likeness.topk(min(plan.neighbors, likeness.shape[1]), 1)
            weights = (values / plan.temperature).softmax(1)
            known = torch.cat([all_labels, near_labels[:, :, *around].flatten(1)], 1)
            found[:, *inside] = (known[:, which] * weights).sum(2).view(-1, *q.shape[1:])
    return found


def _near(inside: tuple[slice, ...], around: tuple[slice, ...], size: tuple[int, int], plan: PropagationPlan) -> Tensor:
    """Whether the cells `around` are near those `inside`: bool (cells inside, cells around), row by row."""
    y, x = (
        torch.arange(side)[a][:, None] - torch.arange(side)[b] for a, b, side in zip(inside, around, size, strict=True)
    )
    y, x = y[:, None, :, None], x[None, :, None, :]
    if plan.rules == "crw":
        near = y.square() + x.square() < plan.radius**2
    else:
        near = (y.abs() <= plan.radius) & (x.abs() <= plan.radius)
    return near.flatten(2).flatten(0, 1)
