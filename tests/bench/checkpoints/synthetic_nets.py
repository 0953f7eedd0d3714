"""State dicts made at run time from torchvision's networks: nothing is stored, nothing is downloaded."""

import torch
from torch import Tensor

StateDict = dict[str, Tensor]


def trained_like(net: torch.nn.Module) -> StateDict:
    """The state dict of `net`, with BatchNorm statistics as after training."""
    generator = torch.Generator().manual_seed(1)
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for name, tensor in state.items():
        if name.endswith("running_mean"):
            tensor.normal_(generator=generator)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=generator)
        elif name.endswith("num_batches_tracked"):
            tensor.fill_(1000)
    return state


def with_prefix(state: StateDict, prefix: str) -> StateDict:
    return {prefix + name: tensor for name, tensor in state.items()}


def shapes_only(net: torch.nn.Module, prefix: str = "") -> StateDict:
    """A state dict of the right shapes that takes no memory."""
    return {prefix + n: torch.zeros((), dtype=t.dtype).expand(t.shape) for n, t in net.state_dict().items()}
