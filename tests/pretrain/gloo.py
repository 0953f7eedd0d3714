"""Runs a function in several Gloo processes."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

# The libraries are imported once, by the server from which all processes of all tests are forked.
multiprocessing.get_context("forkserver").set_forkserver_preload(["torch.distributed", "pretrain.methods"])


def run(function: Callable[[int, int, Path], None], world: int, folder: Path) -> None:
    """Call `function(rank, world, folder)` in `world` processes; an error in one of them is raised here."""
    mp.start_processes(_process, (function, world, folder), nprocs=world, start_method="forkserver")


def _process(rank: int, function: Callable[[int, int, Path], None], world: int, folder: Path) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    try:
        function(rank, world, folder)
    finally:
        dist.destroy_process_group()
