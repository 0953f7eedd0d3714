"""Settings that make a step faster or smaller on a GPU and change its results by no more than rounding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from pretrain.errors import PretrainError


@dataclass(frozen=True)
class Acceleration:
    """Switches of the training loop. All are off until `bench.benchmarks.gpu_check` has measured a gain.

    Runs that differ in them have the same recipe and data, but not the same bits; only `prefetch` and, on a CPU,
    `recompute` change no bit. Without a GPU only `compile` and `recompute` have an effect.

    Raises:
        PretrainError: `compile` and `recompute` together.
    """

    compile: bool = False
    """Compile the backbone and its momentum copy with torch.compile; the first steps then take minutes."""
    cudnn_benchmark: bool = False
    """Let cuDNN try its convolutions and use the fastest, which may be another one in another run."""
    tf32: bool = False
    """Let float32 matrix products run in TF32 (10 bits of mantissa), as PyTorch does for convolutions anyway. This also
    affects the blur of the views, whose pixels then differ by up to 5e-4 (`color.gaussian_blur`)."""
    prefetch: bool = False
    """Copy a batch to the GPU and apply its color operations on a separate stream, during the preceding step."""
    recompute: bool = False
    """Keep only the inputs of the backbone's stages and recompute the rest in the backward pass: less memory, more time
    (`pretrain.run.recompute`)."""

    def __post_init__(self) -> None:
        if self.compile and self.recompute:
            raise PretrainError("--compile and --recompute cannot be combined: leave one out")

    @contextmanager
    def applied(self, device: torch.device) -> Iterator[None]:
        """Set PyTorch's global switches for training on `device`, and restore them at the end."""
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
"""All switches off."""


def compile_backbones(method: nn.Module, backbone: nn.Module, *, backend: str = "inductor") -> None:
    """Compile `backbone` and its copies inside `method`, in place: names, weights and state dict stay.

    `backend` is one of torch.compile's.
    """
    for module in method.modules():
        if type(module) is type(backbone):
            module.compile(backend=backend)
