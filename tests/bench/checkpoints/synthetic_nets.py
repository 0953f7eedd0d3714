"""State dicts made at run time from torchvision's networks: nothing is stored, nothing is downloaded."""

from collections.abc import Callable

import torch
from torch import Tensor

StateDict = dict[str, Tensor]


def trained_like(build: Callable[[], torch.nn.Module], seed: int = 0) -> StateDict:
    """A state dict with positive random values, one an output channel: it takes little memory and few bytes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        state = build().state_dict()
    return {
        name: torch.rand(len(t), *[1] * (t.ndim - 1), generator=generator).expand(t.shape)
        if t.ndim
        else torch.tensor(1000)
        for name, t in state.items()
    }


def with_prefix(state: StateDict, prefix: str) -> StateDict:
    return {prefix + name: tensor for name, tensor in state.items()}


def shapes_only(net: torch.nn.Module, prefix: str = "") -> StateDict:
    """A state dict of the right shapes that takes no memory."""
    return {prefix + n: torch.zeros((), dtype=t.dtype).expand(t.shape) for n, t in net.state_dict().items()}
