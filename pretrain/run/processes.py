"""The device of a process, its rank under `torchrun`, and agreement between the ranks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar, cast

import torch
from torch import Tensor
from torch import distributed as dist

from leaderboard.base.errors import DenseBenchError
from leaderboard.base.provenance import available_cores
from pretrain.errors import PretrainError

T = TypeVar("T")

PATIENCE = timedelta(days=30)
"""Longest time that the ranks wait for work of rank 0 alone, e.g. for the regions of a million images. If a rank dies,
the waiting ends at once."""
MOST_WORKERS = 16
"""Number of loading processes above which more are of no use for a GPU."""


@dataclass(frozen=True)
class Process:
    """One process of a run: `rank` of `world`, on `device`."""

    device: torch.device
    rank: int = 0
    world: int = 1
    control: dist.ProcessGroup | None = field(default=None, repr=False)
    """The group over which ranks agree, on CPUs and with PATIENCE; None for the default group."""

    @property
    def main(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def on_main(self, action: Callable[[], T]) -> T:
        """Do `action` on rank 0 only and return its result on all ranks, however long it takes.

        Raises:
            PretrainError: on all ranks, for a problem that the user can fix; on the other ranks also for any other
                error on rank 0, and if a process has ended meanwhile.
        """
        if self.world == 1:
            return action()
        outcome: list[tuple[T | None, str | None]] = [(None, None)]
        failed: Exception | None = None
        if self.main:
            try:
                outcome = [(action(), None)]
            except Exception as error:
                failed = error
                mendable = isinstance(error, DenseBenchError)
                outcome = [(None, str(error) if mendable else f"rank 0 failed with {type(error).__name__}: {error}")]
        try:
            dist.broadcast_object_list(outcome, src=0, group=self.control)
        except RuntimeError as error:
            if failed is None:
                raise PretrainError(
                    f"rank {self.rank} stopped because another process of this run has ended: "
                    "what that one printed says why"
                ) from error
        if failed is not None:
            raise failed
        result, failure = outcome[0]
        if failure is not None:
            raise PretrainError(failure)
        return result  # type: ignore[return-value]  # what `action` returned

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true on one of the ranks; all of them must call it."""
        if self.world == 1:
            return flag
        found = torch.tensor(int(flag))
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self.control)
        return bool(found)

    def mean(self, values: Tensor) -> Tensor:
        """The average of `values` over all ranks."""
        if self.world > 1:
            dist.all_reduce(values)
            values /= self.world
        return values

    def loader_workers(self) -> int:
        """Default number of loading processes of this training process."""
        local_world = int(os.environ.get("LOCAL_WORLD_SIZE", self.world))
        return loader_workers(available_cores(), local_world, self.device.type)


@contextmanager
def process_group(device: str | torch.device | None = None) -> Iterator[Process]:
    """This process, alone or in the group that `torchrun` (or an initialized process group) describes.

    `device` defaults to cuda where there is a GPU, else to cpu; cuda without a number is this process's own GPU, that
    of its local rank. A group is made with NCCL on GPUs and Gloo on CPUs, and left at the end if it was made here; the
    group in which ranks agree is always Gloo's.

    Raises:
        PretrainError: the device does not exist.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    try:
        chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device is None else device)
    except RuntimeError:
        raise PretrainError(f"{device!r} is not a device: use cuda, cuda:N or cpu") from None
    if chosen.type == "cuda":
        if chosen.index is None:
            chosen = torch.device("cuda", local_rank)
        if not torch.cuda.is_available() or chosen.index >= torch.cuda.device_count():
            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
            raise PretrainError(f"device {chosen} does not exist: this machine shows {count} GPU(s) to PyTorch")
        torch.cuda.set_device(chosen)
    elif chosen.type != "cpu":
        raise PretrainError(f"device {chosen} is not supported: use cuda or cpu")
    made = not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", 1)) > 1
    if made:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    # Every process is a member, so that it gets a group and not the number that means "no member".
    control = (
        cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=PATIENCE)) if dist.is_initialized() else None
    )
    try:
        if control is None:
            yield Process(chosen)
        else:
            yield Process(chosen, dist.get_rank(), dist.get_world_size(), control)
    finally:
        if made:
            dist.destroy_process_group()
        elif control is not None:
            dist.destroy_process_group(control)


def loader_workers(cores: int, local_world: int, device_type: str) -> int:
    """Number of loading processes of each of `local_world` training processes on a machine with `cores` cores.

    On a GPU it is a process's share of the cores, minus one for training, from 1 to MOST_WORKERS. On a CPU, where
    training itself needs the cores, it is 1.
    """
    if device_type == "cpu":
        return 1
    return min(max(cores // local_world - 1, 1), MOST_WORKERS)
