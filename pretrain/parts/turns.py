"""Computes a large table of logits part by part, so that the whole table is never in memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

MAX_LOGITS = 1 << 24
"""Most logits in memory at a time: 64 MiB in float32."""


def rows_at_once(columns: int) -> int:
    """Number of rows with `columns` logits each that are held at a time; at least one.

    >>> rows_at_once(65536)
    256
    """
    return max(1, MAX_LOGITS // columns)


def in_turns(function: Callable[..., tuple[Tensor, ...]], rows: int, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """Results of `function` for up to `rows` rows of the tensors (R, ...) at a time, in their order.

    If there is more than one part, each is recomputed for its gradient instead of kept. `function` must not draw random
    numbers.
    """
    if len(tensors[0]) <= rows:
        return [function(*tensors)]
    parts = zip(*(torch.split(tensor, rows) for tensor in tensors), strict=True)
    return [checkpoint(function, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
