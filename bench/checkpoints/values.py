"""Checks whether the values of tensors can be trained weights, and converts them to float32."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.uint8)

_SHOWN = 3


def convert(name: str, tensor: Tensor) -> Tensor:
    """A contiguous copy of one backbone tensor in the exported type: float32, and int64 for BN's counters.

    float16 and bfloat16 widen exactly; float64 is rounded to the nearest float32.
    """
    if name.endswith(".num_batches_tracked"):
        return tensor.reshape(()).to(torch.int64, copy=True)
    return tensor.to(torch.float32, copy=True, memory_format=torch.contiguous_format)


def check_values(tensors: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """Notes and problems about the values of the backbone tensors (torchvision names, expected shapes)."""
    notes: list[str] = []
    types = {tensor.dtype for name, tensor in tensors.items() if not name.endswith(".num_batches_tracked")}
    wrong = [problem for name, tensor in tensors.items() if (problem := _problem(name, tensor))]
    if len(wrong) > _SHOWN:
        wrong = [*wrong[:_SHOWN], f"and {len(wrong) - _SHOWN} more tensors with such values"]
    if not wrong and types != {torch.float32}:
        names = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in types))
        how = "rounded to float32" if torch.float64 in types else "widened to float32 without loss"
        notes.append(f"the weights are {names}: {how} by the import")
    if wrong:
        return notes, wrong
    layers = [name.removesuffix(".running_mean") for name in tensors if name.endswith(".running_mean")]
    fresh = [
        bool((tensors[f"{layer}.running_mean"] == 0).all() and (tensors[f"{layer}.running_var"] == 1).all())
        for layer in layers
        if f"{layer}.running_var" in tensors
    ]
    if fresh and all(fresh):
        notes.append("warning: no BatchNorm statistic was ever updated (mean 0, variance 1): the file looks untrained")
    elif any(fresh):
        notes.append(f"warning: {sum(fresh)} of {len(fresh)} BatchNorm layers were never updated (mean 0, variance 1)")
    return notes, wrong


def same_bits(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors with plain values have the same type, shape and bits (so -0 differs from 0)."""
    if first.dtype != second.dtype or first.shape != second.shape or first.is_meta or second.is_meta:
        return False
    one, two = (tensor.reshape(-1).contiguous().view(torch.uint8) for tensor in (first, second))
    return torch.equal(one, two)


def _problem(name: str, tensor: Tensor) -> str | None:
    if tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.is_quantized:
        return f"`{name}` is no plain tensor ({tensor.device.type}, {tensor.layout}, {tensor.dtype})"
    if name.endswith(".num_batches_tracked"):
        return None if tensor.dtype in (*_INTEGERS, *FLOATS) else f"`{name}` has the type {tensor.dtype}"
    if tensor.dtype not in FLOATS:
        return f"`{name}` has the type {tensor.dtype}: quantised or damaged; floating-point weights are needed"
    values = convert(name, tensor)
    low, high = torch.aminmax(values)
    if not (torch.isfinite(low) and torch.isfinite(high)):
        count = int((~torch.isfinite(values)).sum())
        return f"`{name}` has {count} of {values.numel()} values that are not finite (NaN or infinite in float32)"
    if tensor.ndim == 4 and low == high:
        return f"`{name}` is constant (every value is {float(low):g}): the layer was not saved or was wiped"
    if name.endswith(".running_var") and low < 0:
        return f"`{name}` has negative variances (lowest {float(low):g}): not BatchNorm statistics, or damaged"
    return None
