"""The GPUs of this machine, found without a step that would keep forked processes from using them.

A process that has asked CUDA's driver for anything, even for the number of GPUs, can fork no child that uses CUDA. The
libraries that the fork server of `bench.jobs` imports ask as they are imported. PyTorch answers them through NVML
instead, the driver's monitoring library, where `PYTORCH_NVML_BASED_CUDA_CHECK=1` is set before; without NVML (some
containers, MIG devices) it asks the driver all the same. So a forked process looks whether it may use the GPUs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext

from bench.errors import BenchError

_NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"
CPU, CUDA = "cpu", "cuda"
VISIBLE = "CUDA_VISIBLE_DEVICES"
"""The variable that says which GPUs a process has; CUDA reads it at the first question to the driver."""


@dataclass(frozen=True)
class Gpus:
    """GPUs that runs can use."""

    names: tuple[str, ...]
    """The value of CUDA_VISIBLE_DEVICES for each GPU under which a process has this one alone. Empty: use the CPU."""
    forks: bool
    """Whether a process forked from the server can work as it should; otherwise it must be started anew."""

    def on(self, device: str | None) -> Gpus:
        """The GPUs that `device` names: cpu none, cuda:N one, cuda all; None takes what there is.

        Raises:
            BenchError: there is no such device.
        """
        if device == CPU:
            # the server's libraries were told of the GPUs when they were imported, and would go on to use them
            return Gpus((), self.forks and not self.names)
        there = [f"{CUDA}:{index}" for index in range(len(self.names))]
        if device is None or (device == CUDA and there):
            return self
        if device not in there:
            raise BenchError(f"device {device} does not exist: PyTorch finds {', '.join(there) or 'no GPU'} here")
        return Gpus((self.names[there.index(device)],), self.forks)

    def in_groups(self, size: int) -> tuple[str, ...]:
        """The value of CUDA_VISIBLE_DEVICES for each group of `size` GPUs; none where there is no GPU.

        Raises:
            BenchError: there are some, but fewer than `size`.
        """
        if self.names and len(self.names) < size:
            raise BenchError(f"{size} devices for a run: there are {len(self.names)} GPUs here")
        starts = range(0, len(self.names) - size + 1, size)
        return tuple(",".join(self.names[start : start + size]) for start in starts)


def check_device(device: str | None) -> None:
    """Return if `device` can be the name of a device: cpu, cuda or cuda:N; whether it exists is found out later.

    Raises:
        BenchError: it cannot.
    """
    if device is not None and not re.fullmatch(rf"{CPU}|{CUDA}(:\d+)?", device):
        raise BenchError(f"{device!r} is not a device: use cuda, cuda:N or cpu")


def start_server() -> None:
    """Start the server from which processes are forked, if it is not running, so that they can use the GPUs."""
    with _set(_NVML, "1"):  # inherited by the server
        forkserver.ensure_running()


def find_gpus(server: ForkServerContext) -> Gpus:
    """The GPUs that this process's CUDA_VISIBLE_DEVICES leaves, as a process sees them that is forked from `server`.

    The server is started if it is not running. This process does not touch CUDA.

    Raises:
        BenchError: no process can be forked from the server.
    """
    receiver, sender = server.Pipe(duplex=False)
    process = server.Process(target=_look, args=(sender,), name="look for GPUs")
    try:
        start_server()
        process.start()
        sender.close()
        count, forks = receiver.recv()
        process.join()
    except (EOFError, ConnectionError) as error:
        raise BenchError(
            "no process can be started from the fork server: its own message above says why, "
            "or `densebench doctor` what is missing"
        ) from error
    return Gpus(_names(count), forks)


def _look(sender: Connection) -> None:
    """Send, from a forked process, the number of GPUs and whether processes like this one can use them."""
    import torch

    count, forks = torch.cuda.device_count(), not torch.cuda._is_in_bad_fork()
    if not count:
        forks = True  # there is nothing to use
    elif forks:
        # NVML also counts what CUDA cannot use, e.g. with an old driver. The libraries were told of GPUs then, wrongly.
        count = torch._C._cuda_getDeviceCount()
        forks = count > 0
    with suppress(BrokenPipeError):  # the command was stopped meanwhile
        sender.send((count, forks))


def _names(count: int) -> tuple[str, ...]:
    """Names of the first `count` GPUs: positions, or what the user's CUDA_VISIBLE_DEVICES lists (positions, UUIDs)."""
    chosen = os.environ.get(VISIBLE)
    listed = [str(i) for i in range(count)] if chosen is None else [name.strip() for name in chosen.split(",")]
    return tuple(listed[:count])


@contextmanager
def _set(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
