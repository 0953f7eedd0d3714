"""LARS: SGD with momentum whose steps are proportional to the norm of the tensor that they change.

You et al., Large Batch Training of Convolutional Networks, 2017, arXiv 1708.03888. The codes of self-supervised
methods differ in how weight decay enters the ratio and whether the rate is inside the momentum buffer; the variants
here are named after the code that uses them. For a tensor w with gradient g, rate lr, momentum mu, weight
decay lam and trust eta:

    byol      r = eta |w| / |g + lam w|,   v <- mu v + r (g + lam w),      w <- w - lr v
    simclr    r = eta |w| / |g + lam w|,   v <- mu v + lr r (g + lam w),   w <- w - v
    airl      r = eta |w| / (|g| + lam |w|),   v <- mu v + lr r (g + lam w),   w <- w - v
    larc      r = eta |w| / (|g| + lam |w| + 1e-8),   v <- mu v + r (g + lam w),   w <- w - lr v

`byol` is also the algebra of Barlow Twins, VICReg, PixPro and CYBORGS, `larc` that of SwAV, `airl` that of MoCo v2+ and
R2O. Where a norm is zero r is 1, except that `larc` does not move a tensor whose gradient is zero. A tensor of a group
with `excluded` has r = 1 and lam = 0. With a constant rate, a rate inside and one outside of v are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor

LARSVariant = Literal["byol", "simclr", "airl", "larc"]


class LARS(torch.optim.Optimizer):
    """The optimizer of the equations above. The groups of `params` may have a key `excluded`."""

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        trust: float,
        variant: LARSVariant,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "variant": variant}
        super().__init__(params, defaults | {"excluded": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step with the gradients that the parameters have; `closure` is not supported."""
        if closure is not None:
            raise NotImplementedError("LARS takes no closure")
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            if not weights:
                continue
            buffers = [self._buffer(w) for w in weights]
            updates = [w.grad for w in weights] if group["excluded"] else _adapted(weights, group)
            rate_inside = group["variant"] in ("simclr", "airl")
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, updates, alpha=group["lr"] if rate_inside else 1)
            torch._foreach_add_(weights, buffers, alpha=-1 if rate_inside else -group["lr"])

    def _buffer(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        return state["momentum_buffer"]


def _adapted(weights: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
    """The value r (g + lam w) of each tensor, computed without the host waiting for a norm."""
    variant, eta, lam = group["variant"], group["trust"], group["weight_decay"]
    gradients = [w.grad for w in weights if w.grad is not None]
    decayed = torch._foreach_add(gradients, weights, alpha=lam)
    w_norm = torch.stack(torch._foreach_norm(weights))
    if variant in ("byol", "simclr"):
        g_norm = torch.stack(torch._foreach_norm(decayed))
        denominator = g_norm
    else:
        g_norm = torch.stack(torch._foreach_norm(gradients))
        denominator = g_norm + lam * w_norm + (1e-8 if variant == "larc" else 0.0)
    ratio = torch.where((w_norm > 0) & (g_norm > 0), eta * w_norm / denominator, 1.0)
    if variant == "larc":
        ratio = torch.where((w_norm > 0) & (g_norm == 0), 0.0, ratio)
    return list(torch._foreach_mul(decayed, ratio.unbind()))
