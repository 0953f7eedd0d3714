"""bfloat16 for the modules that a protocol names; everything else, outputs and losses included, stays float32.

Autocasting a whole detector would compute box regression, losses and suppression with eight bits of mantissa. Here only
the convolution towers run in bfloat16, and they return float32.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from bench.errors import BenchError
from pretrain.run.precision import fast_bf16


def use_bf16(model: nn.Module, patterns: Sequence[str], device: torch.device) -> Literal["bf16", "fp32"]:
    """Run modules of `model` whose names match `patterns` (`*` is any one part) in bfloat16 where this is faster.

    Returns the precision that is used, for the result.

    Raises:
        BenchError: a pattern matches no module: the protocol names something that the built model does not have.
    """
    chosen = [module for pattern in patterns for module in _matching(model, pattern)]
    if not chosen or not fast_bf16(device):
        return "fp32"
    for module in chosen:
        _wrap(module, device.type)
    return "bf16"


def _matching(model: nn.Module, pattern: str) -> list[nn.Module]:
    depth = pattern.count(".")
    found = [m for name, m in model.named_modules() if name.count(".") == depth and fnmatch.fnmatchcase(name, pattern)]
    if not found:
        raise BenchError(f"the protocol asks for bfloat16 in {pattern!r}, but the built model has no such module")
    return found


def _wrap(module: nn.Module, device_type: str) -> None:
    """Replace the instance's forward; the class, its parameters and its state dict stay as they are."""
    forward = module.forward

    def forward_in_bf16(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device_type, torch.bfloat16):
            output = forward(*args, **kwargs)
        return _float32(output)

    module.forward = forward_in_bf16


def _float32(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float()
    if isinstance(value, (tuple, list)):
        return type(value)(_float32(item) for item in value)
    return value
