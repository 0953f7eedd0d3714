"""One fine-tuning on several devices of this machine: a process for each, which have equal parts of every batch.

Batch norm takes its statistics over all of them, gradients are averaged, and images, crops and their places in the
batches are those of one device with loading processes. What differs is the order of sums; that a detector draws and
normalizes the losses of its regions in each part; and that where images of one aspect ratio form a batch, each device
groups its own, as in detectron2, so that batches hold other images than those of one device. Rank 0, which is the run's
own process, reads, writes, stops and evaluates for all.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

import torch
from torch import distributed as dist
from torch import nn

from leaderboard.base.errors import DenseBenchError, Interrupted
from leaderboard.base.printable import printable
from leaderboard.base.processes import end_with_parent
from pretrain.nets.batchnorm import SynchronisedBatchNorm
from pretrain.run.processes import Process

T = TypeVar("T")

GRACE = 10.0
"""Seconds that the other devices have to end after the first."""


def on_devices(devices: int, threads: int, work: Callable[..., T], *inputs: Any, **options: Any) -> T:
    """What `work` returns in the first of `devices` processes, all of which call it with `inputs` and `options`.

    This process is the first; the `threads` are shared. If another one fails, all end, with its words in the log.
    """
    if devices == 1:
        return work(*inputs, **options)
    threads = max(1, threads // devices)
    torch.set_num_threads(threads)
    place = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(devices)}
    place["LOCAL_WORLD_SIZE"] = str(devices)
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(target=_work, args=({**place, **_rank(rank)}, threads, work, inputs, options))
        for rank in range(1, devices)
    ]
    for process in others:
        process.start()
    done = threading.Event()
    threading.Thread(target=_end_with, args=(others, done), daemon=True).start()
    before = dict(os.environ)
    os.environ.update(place, **_rank(0))
    try:
        return work(*inputs, **options)
    finally:
        done.set()
        for process in others:  # they have ended, too, unless this one failed alone
            process.join(GRACE)
            process.kill()
        os.environ.clear()
        os.environ.update(before)


def _rank(number: int) -> dict[str, str]:
    return {"RANK": str(number), "LOCAL_RANK": str(number)}


def _work(
    place: dict[str, str], threads: int, work: Callable[..., Any], inputs: Sequence[Any], options: dict[str, Any]
) -> None:
    """The process of a further device: silent, but for the reason why it failed."""
    import cv2

    end_with_parent()
    os.environ.update(place)
    torch.set_num_threads(threads)
    cv2.setNumThreads(0)
    log = os.dup(sys.stdout.fileno())
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - it is no file
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    try:
        work(*inputs, **options)
    except Interrupted as stop:
        sys.exit(stop.exit_code)
    except BaseException as error:
        traceback.print_exc()
        words = str(error) if isinstance(error, DenseBenchError) else f"{type(error).__name__}: {error}"
        os.write(log, f"FAILED: {printable(words)}\n".encode())
        os._exit(1)


def _end_with(others: Sequence[SpawnProcess], done: threading.Event) -> None:
    """End this process when one of the others fails before it is `done`: it would wait for that one for ever."""
    waiting = list(others)
    while waiting:
        wait([process.sentinel for process in waiting])
        for process in [process for process in waiting if not process.is_alive()]:
            waiting.remove(process)
            if done.is_set():
                return
            if process.exitcode == 1:
                os._exit(1)
            if process.exitcode is not None and process.exitcode < 0:
                print(f"FAILED: the process of another device ended with exit code {process.exitcode}", flush=True)
                os._exit(1)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return int(found.getsockname()[1])


def share_statistics(model: nn.Module) -> None:
    """Replace PyTorch's synchronized batch norms, which exist on GPUs only, in place by those that need none.

    Those of timm that hold an activation, too, stay.
    """
    for name, child in model.named_children():
        if isinstance(child, nn.SyncBatchNorm) and type(child).forward is nn.SyncBatchNorm.forward:
            model.add_module(name, SynchronisedBatchNorm(child))
        else:
            share_statistics(child)


def whole(model: nn.Module) -> nn.Module:
    """The model itself, which several devices share in a wrapper."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


def mean_losses(losses: dict[str, float], process: Process) -> dict[str, float]:
    """The losses, mean over all devices: the same on each."""
    if process.world == 1 or not losses:
        return losses
    values = process.mean(torch.tensor(list(losses.values()), dtype=torch.float64, device=process.device))
    return dict(zip(losses, values.tolist(), strict=True))


def gather_states(state: dict[str, Any], process: Process) -> list[dict[str, Any]]:
    """`state` of every device, in their order."""
    if process.world == 1:
        return [state]
    found: list[Any] = [None] * process.world
    dist.all_gather_object(found, state, group=process.control)
    return found
