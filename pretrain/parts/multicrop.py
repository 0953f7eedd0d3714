"""Views of several sizes through one backbone (multi-crop; Caron et al., NeurIPS 2020, arXiv 2006.09882)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch import Tensor


def by_size(embed: Callable[[Tensor], Tensor], images: Sequence[Tensor]) -> Tensor:
    """The output of `embed` for V batches of images (N, 3, S_v, S_v): rows (V N, C), view by view.

    Consecutive views of one size are embedded together, so that batch norm sees each resolution separately.
    """
    groups = [list(group) for _, group in groupby(images, key=lambda x: x.shape[-2:])]
    return torch.cat([embed(torch.cat(group)) for group in groups])
