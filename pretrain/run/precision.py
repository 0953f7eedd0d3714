"""On which devices bfloat16 is faster than float32."""

from __future__ import annotations

from typing import Literal

import torch


def fast_bf16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 matrices faster than float32 ones.

    A CPU does with tiles (AMX). With vectors alone (AVX512-BF16) a step of a ResNet-18 took 1.1 to 1.5 times as long.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.cpu._is_amx_tile_supported())


def slow_precision(precision: Literal["fp32", "bf16"], device: str | None) -> str:
    """What to say where `precision` is slow on `device` (None: a GPU, if there is one); empty where it is not."""
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if precision != "bf16" or not kind.startswith("cpu") or fast_bf16(torch.device("cpu")):
        return ""
    return "this processor computes bfloat16 no faster than float32: --set precision=fp32 may be faster"
