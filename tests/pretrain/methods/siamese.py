"""Small networks for the methods of two networks side by side, in float64, with every number drawn from a seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contrastive import ToyBackbone, batch, reset_momentum
from torch import Tensor

from pretrain.data.views import View


def build(config: Any, seed: int = 0) -> Any:
    """The method of `config` on a toy backbone."""
    method = config.build(ToyBackbone()).double()
    for i, (name, parameter) in enumerate(method.named_parameters()):
        if parameter.requires_grad:
            drawn = np.random.default_rng([seed, i]).standard_normal(tuple(parameter.shape))
            norm_scale = parameter.ndim == 1 and name.endswith("weight")
            parameter.data = torch.from_numpy(drawn / max(1, parameter[0].numel()) ** 0.5 + norm_scale)
    reset_momentum(method)
    return method


def views(step: int) -> list[View]:
    """Two views of 8 images; eight batches in turns."""
    return batch(8, step % 8)


def recorded(name: str) -> list[float]:
    """The reference curve of the method `name`, written by its plain loop."""
    return json.loads((Path(__file__).parent / "curves" / f"{name}.json").read_text())


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Of two vectors (C,)."""
    return (a * b).sum() / (a.square().sum().sqrt() * b.square().sum().sqrt())
