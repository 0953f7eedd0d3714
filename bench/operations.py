"""Counts the floating-point operations of networks: forward, for one image, by PyTorch while they are executed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench.patches import features


def count(call: Callable[[], Any]) -> int:
    """Operations of what `call` computes: convolutions, matrix products and attention, a multiplication and an addition
    as two."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return int(counter.get_total_flops())


def black(network: nn.Module, height: int, width: int) -> Tensor:
    """An image of zeros (1, 3, height, width) on the network's device."""
    return torch.zeros(1, 3, height, width, device=next(network.parameters()).device)


def backbone_operations(network: nn.Module, height: int, width: int) -> int:
    """Operations of a backbone in evaluation mode for one image, fed as in every evaluation (see `bench.patches`)."""
    image = black(network, height, width)
    return count(lambda: features(network, image))
