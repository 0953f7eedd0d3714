"""What makes a step faster or smaller on a GPU and changes its results by no more than rounding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from pretrain.errors import PretrainError


@dataclass(frozen=True)
class Acceleration:
    """Switches of the training loop. All are off until `bench.benchmarks.gpu_check` has measured that they gain.

    Runs that differ in them have the same recipe and data, but not the same bits; `prefetch` and, on a CPU, `recompute`
    keep every bit.
    Without a GPU only `compile` and `recompute` do anything.

    Raises:
        PretrainError: `compile` and `recompute` together.
    """

    compile: bool = False
    """Compile the backbone and its momentum copy with torch.compile; the first steps then take minutes."""
    cudnn_benchmark: bool = False
    """Let cuDNN try its convolutions and take the fastest. Which one wins may differ between two runs."""
    tf32: bool = False
    """Let float32 matrix products run in TF32 (10 bits of mantissa); PyTorch lets convolutions do so anyway. It reaches
    the blur of the views, too, whose pixels then differ by up to 5e-4 (`colour.gaussian_blur`)."""
    prefetch: bool = False
    """Copy a batch to the GPU and apply its colour operations on a stream of their own, beside the step before."""
    recompute: bool = False
    """Keep only the inputs of the backbone's stages and compute the rest again in the backward pass: less memory, more
    time (`pretrain.run.recompute`)."""

    def __post_init__(self) -> None:
        if self.compile and self.recompute:
            raise PretrainError("--compile and --recompute cannot be combined: leave one out")

    @contextmanager
    def applied(self, device: torch.device) -> Iterator[None]:
        """Set PyTorch's global switches for training on `device`, and put back at the end what was there."""
        if device.type != "cuda":
            yield
            return
        benchmark, precision = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
        torch.backends.cudnn.benchmark = benchmark or self.cudnn_benchmark
        if self.tf32:
            torch.set_float32_matmul_precision("high")
        try:
            yield
        finally:
            torch.backends.cudnn.benchmark = benchmark
            torch.set_float32_matmul_precision(precision)


PLAIN = Acceleration()
"""Everything off."""


def compile_backbones(method: nn.Module, backbone: nn.Module, *, backend: str = "inductor") -> None:
    """Compile `backbone` and its copies inside `method`, in place: names, weights and state dict stay.

    `backend` is one of torch.compile's.
    """
    for module in method.modules():
        if type(module) is type(backbone):
            module.compile(backend=backend)
