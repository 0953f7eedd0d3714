"""Where a process runs: its device, its rank under `torchrun`, and what the ranks must agree on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from leaderboard.base.errors import DenseBenchError
from pretrain.errors import PretrainError

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """One process of a run: `rank` of `world`, on `device`."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def main(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def on_main(self, action: Callable[[], T]) -> T:
        """Do `action` on rank 0 only and hand its result to all; what its user can mend is raised on all ranks."""
        if self.world == 1:
            return action()
        outcome: list[tuple[T | None, str | None]] = [(None, None)]
        if self.main:
            try:
                outcome = [(action(), None)]
            except DenseBenchError as error:
                outcome = [(None, str(error))]
        dist.broadcast_object_list(outcome, src=0)
        result, failure = outcome[0]
        if failure is not None:
            raise PretrainError(failure)
        return result  # type: ignore[return-value]  # what `action` returned

    def mean(self, values: Tensor) -> Tensor:
        """The average of `values` over all ranks."""
        if self.world > 1:
            dist.all_reduce(values)
            values /= self.world
        return values


@contextmanager
def joined(device: str | torch.device | None = None) -> Iterator[Place]:
    """This process's place: alone, or in the group that `torchrun` (or an initialised process group) describes.

    `device` defaults to this process's GPU where there is one, else to the CPU. A group is made with NCCL on GPUs and
    Gloo on CPUs, and left at the end if it was made here.

    Raises:
        PretrainError: the device does not exist.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if device is None:
        device = f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(device)
    if chosen.type == "cuda":
        if not torch.cuda.is_available() or (chosen.index or 0) >= torch.cuda.device_count():
            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
            raise PretrainError(f"device {chosen} does not exist: this machine shows {count} GPU(s) to PyTorch")
        torch.cuda.set_device(chosen)
    elif chosen.type != "cpu":
        raise PretrainError(f"device {chosen} is not supported: use cuda or cpu")
    made = not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", 1)) > 1
    if made:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        if dist.is_initialized():
            yield Place(chosen, dist.get_rank(), dist.get_world_size())
        else:
            yield Place(chosen)
    finally:
        if made:
            dist.destroy_process_group()
