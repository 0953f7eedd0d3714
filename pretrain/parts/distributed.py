"""Processes of one training run: ranks, gathering, and the exchange of rows that shuffled batch norm needs.

Every function also works without `torch.distributed`, as the only process. NCCL and Gloo both serve.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


@torch.no_grad()
def gather(x: Tensor) -> Tensor:
    """Rows (n, ...) of all processes in the order of ranks, (world n, ...); n is the same everywhere. No gradient."""
    world = world_size()
    if world == 1:
        return x
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world)]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def gather_with_grad(x: Tensor) -> Tensor:
    """The rows of `gather`, with gradient: that of a process sums the gradients of all losses for its rows.

    With gradients of the weights averaged over processes, a loss that every process computes from the gathered rows
    trains as it would in one process with the whole batch.
    """
    return x if world_size() == 1 else _Gather.apply(x)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        return gather(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(world_size())[rank()]


def mean_where(values: Tensor, where: Tensor) -> Tensor:
    """Mean of `values` (n,) over the rows of all processes for which `where` (n,) holds; 0 if there are none.

    It is the mean once losses and gradients are averaged over processes: each process returns its own sum divided by
    the mean number of such rows per process.
    """
    count = gather(where.sum()[None]).sum() / world_size()
    return (values * where).sum() / torch.where(count > 0, count, 1)


def batch_permutation(n: int, seed: int, step: int) -> Tensor:
    """A permutation of a global batch of n, the same on every process and for a resumed run: int64 (n,), on the CPU."""
    return torch.from_numpy(np.random.default_rng((seed, step)).permutation(n))


def inverse(permutation: Tensor) -> Tensor:
    """The permutation that undoes `permutation`."""
    return torch.argsort(permutation)


@torch.no_grad()
def reorder(x: Tensor, permutation: Tensor) -> Tensor:
    """This process's part of the permuted global batch: row i of the whole becomes row `permutation[i]` of the old.

    `x` (n, ...) holds this process's rows; `permutation` (world n,) is on the CPU and the same everywhere. The result
    equals gathering all rows, permuting and keeping this process's part, but each row is sent once. No gradient.
    """
    world = world_size()
    if world == 1:
        return x[permutation.to(x.device, non_blocking=True)]
    sent, received, order = exchange_plan(permutation, rank(), world)
    outgoing = x[torch.cat(sent).to(x.device, non_blocking=True)].contiguous()
    incoming = torch.empty_like(outgoing)
    dist.all_to_all_single(incoming, outgoing, received, [len(rows) for rows in sent])
    return incoming[order.to(x.device, non_blocking=True)]


def exchange_plan(permutation: Tensor, rank: int, world: int) -> tuple[list[Tensor], list[int], Tensor]:
    """The rows that `reorder` moves for one process.

    Returns the local rows sent to each process, the number of rows received from each, and the order that puts the
    received rows (concatenated by sender) into place.
    """
    n = len(permutation) // world
    wanted = permutation.view(world, n)
    sent = [rows[rows // n == rank] % n for rows in wanted]
    senders = wanted[rank] // n
    received = torch.bincount(senders, minlength=world).tolist()
    return sent, received, torch.argsort(torch.argsort(senders, stable=True))
