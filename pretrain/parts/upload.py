"""Copies from host memory to the training device without waiting for the work that is queued there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

STAGED_BYTES = 64 * 1024
"""Up to this size the driver buffers a copy from ordinary memory at once; a larger copy may wait for the device."""


def upload(x: Tensor, device: torch.device) -> Tensor:
    """A copy of `x` in host memory on `device`. The copy is queued; large ones go through page-locked memory."""
    if device.type == "cuda" and x.nbytes > STAGED_BYTES:
        x = x.pin_memory()
    return x.to(device, non_blocking=True)


def constant(values: Sequence[float], like: Tensor) -> Tensor:
    """`values` as a tensor (n,) of the type and on the device of `like`.

    `like.new_tensor(values)`, like `torch.tensor(values, device=...)`, would wait for the device.
    """
    return upload(torch.tensor(values, dtype=like.dtype), like.device)
