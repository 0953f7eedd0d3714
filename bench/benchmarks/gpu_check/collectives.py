"""One process of NCCL (on a CPU: of Gloo): whether it starts and gives back what it gets, and how long it takes."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bench.benchmarks.gpu_check.task import CheckFailedError, Task
from pretrain.nets.batchnorm import SynchronisedBatchNorm

REPEATS = 20
KEYS = (256, 128)
"""The keys of a batch: images and width."""
GRADIENT = 25_557_032
"""Parameters of a ResNet-50."""
TOLERANCE = 1e-4
"""Tolerance for a float32 batch norm and its gradient, of values near 1, on another device."""


def collectives(task: Task) -> None:
    """Start the group, gather, reduce, wait, and compare synchronised batch norm with the CPU's in float64."""
    backend = "nccl" if task.device.type == "cuda" else "gloo"
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        if task.device.type == "cuda":
            torch.cuda.set_device(task.device)
        dist.init_process_group(backend, init_method=f"file://{folder}/store", rank=0, world_size=1)
        try:
            dist.all_reduce(torch.ones(1, device=task.device))  # NCCL starts with the first exchange
            _wait(task)
            started = time.perf_counter() - began
            task.note(backend=backend, start_seconds=started)
            task.line(f"{backend}: started in {started:.2f} s")
            _exchanges(task)
            _batch_norm(task)
        finally:
            dist.destroy_process_group()


def _exchanges(task: Task) -> None:
    keys = torch.randn(KEYS, device=task.device)
    parts = [torch.empty_like(keys)]
    gradient = torch.ones(10_000 if task.tiny else GRADIENT, device=task.device)
    milliseconds = {
        "all_gather of a batch of keys": _median_ms(task, lambda: dist.all_gather(parts, keys)),
        "all_reduce of a ResNet-50's gradients": _median_ms(task, lambda: dist.all_reduce(gradient)),
        "barrier": _median_ms(task, dist.barrier),
    }
    task.note(milliseconds=milliseconds)
    for name, value in milliseconds.items():
        task.line(f"{name}: {value:.2f} ms")
    if not torch.equal(parts[0], keys) or not bool((gradient == 1).all()):
        raise CheckFailedError("one process does not get back what it sent")


def _batch_norm(task: Task) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, 32, 7, 7, generator=generator, dtype=torch.float64)
    upstream = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    plain = nn.BatchNorm2d(32).double()
    norm = SynchronisedBatchNorm(nn.BatchNorm2d(32)).to(task.device)
    expected, found = _through(plain, x, upstream), _through(norm, x.float().to(task.device), upstream.float())
    largest = max(float((a - b.cpu().double()).abs().max()) for a, b in zip(expected, found, strict=True))
    task.note(batch_norm_largest_difference=largest)
    task.line(f"synchronised batch norm: at most {largest:.1e} from the CPU's in float64")
    if not largest < TOLERANCE:
        raise CheckFailedError(f"synchronised batch norm differs by {largest:.1e} from the CPU's")


def _through(norm: nn.Module, x: Tensor, upstream: Tensor) -> list[Tensor]:
    """Output, gradients of the input and of the weight, and running statistics."""
    x = x.detach().requires_grad_()
    y = norm(x)
    y.backward(upstream.to(x.device))
    weight = norm.get_parameter("weight").grad
    assert x.grad is not None and weight is not None
    statistics_ = [norm.get_buffer("running_mean"), norm.get_buffer("running_var")]
    return [y.detach(), x.grad, weight / len(x), *statistics_]


def _median_ms(task: Task, exchange: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        _wait(task)
        began = time.perf_counter()
        exchange()
        _wait(task)
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def _wait(task: Task) -> None:
    if task.device.type == "cuda":
        torch.cuda.synchronize(task.device)
