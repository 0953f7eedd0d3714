"""The final weights of a run, as they are evaluated and stored."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from bench.errors import BenchError
from leaderboard.base.files import write_atomic

WEIGHTS = "weights.safetensors"
"""The file's name in the run's folder."""


def store_weights(model: nn.Module, file: Path) -> None:
    """Round the trained parameters to float16, in place, and write all: what is evaluated is what is stored.

    Running statistics and other buffers keep their type, as their range is not float16's, and so does what is frozen.

    Raises:
        BenchError: a weight is not finite in float16.
    """
    halves = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            half = parameter.half()
            if not half.isfinite().all():
                raise BenchError(f"the trained weight {name} is not finite in float16")
            parameter.copy_(half)
            halves[name] = half
    state = {name: halves.get(name, tensor).contiguous().cpu() for name, tensor in model.state_dict().items()}
    write_atomic(file, safetensors.torch.save(state))


def load_weights(model: nn.Module, file: Path) -> None:
    """Fill every tensor of `model` from a file of :func:`store_weights`.

    Raises:
        BenchError: the file is missing or damaged, or its tensors are not the model's.
    """
    try:
        state: dict[str, Tensor] = safetensors.torch.load_file(file)
        model.load_state_dict(state, strict=True)
    except FileNotFoundError as error:
        raise BenchError(f"{file} is missing: repeat the run") from error
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise BenchError(f"{file} is damaged or belongs to another protocol: {str(error).splitlines()[0]}") from error
