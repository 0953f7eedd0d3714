"""Rows of a large table of logits in turns, so that the table is never held at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

MAX_LOGITS = 1 << 24
"""Logits held at a time: 64 MiB in float32."""


def rows_at_once(columns: int) -> int:
    """How many rows of logits with so many columns are held at a time; at least one.

    >>> rows_at_once(65536)
    256
    """
    return max(1, MAX_LOGITS // columns)


def in_turns(function: Callable[..., tuple[Tensor, ...]], rows: int, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """What `function` makes of up to `rows` rows of the tensors (R, ...) at a time, in their order.

    Of more than one part, each is computed again for its gradient, rather than kept. `function` draws no numbers.
    """
    if len(tensors[0]) <= rows:
        return [function(*tensors)]
    parts = zip(*(torch.split(tensor, rows) for tensor in tensors), strict=True)
    return [checkpoint(function, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
