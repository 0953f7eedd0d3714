"""The queue of keys of earlier batches (MoCo, arXiv 1911.05722)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.errors import PretrainError
from pretrain.parts.losses import full_precision
from pretrain.parts.turns import rows_at_once


class Queue(nn.Module):
    """A first-in, first-out queue: `keys` (size, dim), one unit vector per row, and the row for the next batch.

    Starts with random unit vectors from PyTorch's global generator, so processes that start from one seed agree. Both
    buffers are in the state dict, so training resumes exactly. Processes stay equal if each enqueues the keys of all.
    """

    keys: Tensor
    pointer: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Replace the oldest n rows by `keys` (n, dim), those of the global batch in its order.

        Raises `PretrainError` unless the size is a multiple of n: otherwise a batch would be replaced in part, and its
        remaining keys would come from an older encoder than their neighbors.
        """
        size, n = len(self.keys), len(keys)
        if n == 0 or size % n:
            raise PretrainError(
                f"a queue of {size} keys must be a multiple of the global batch of {n}; "
                f"set the queue to {max(1, size // max(1, n)) * n} or change the batch size"
            )
        # Indices on the device: reading the pointer would make the host wait for it at every step.
        rows = (self.pointer + torch.arange(n, device=self.keys.device)) % size
        self.keys.index_copy_(0, rows, keys.to(self.keys.dtype))
        self.pointer.add_(n).remainder_(size)


@torch.no_grad()
def nearest(queries: Tensor, keys: Tensor, count: int) -> Tensor:
    """Rows of `keys` (K, C) with the largest dot products, the largest first: int64 (R, count) for `queries` (R, C).

    It is computed in full precision also under autocast. The R x K products are never held at once: queries are
    processed part by part.
    """
    with torch.autocast(queries.device.type, enabled=False):
        q = full_precision(queries)
        k = keys.to(q.dtype)
        parts = torch.split(q, rows_at_once(len(k)))
        return torch.cat([(part @ k.T).topk(count, dim=1).indices for part in parts])
