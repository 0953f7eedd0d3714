"""The classifiers of frozen cells: multinomial logistic regression, and a vote of the nearest training cells.

Both see cells whose channels have mean 0 and variance 1 over the training cells. Neither draws a random number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, one_hot

from bench.probes.plan import ProbePlan

QUERIES = 2048
"""Cells that are compared with all training cells at once: bounds memory, changes no result."""

Scores = Callable[[Tensor], Tensor]
"""From cells (n, C) to a score for each class (n, K); the highest wins."""


@dataclass(frozen=True)
class Scaling:
    """What gives training cells mean 0 and variance 1 in each channel."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Scaling:
        """Of cells (n, C); a channel that is constant stays so."""
        std, mean = torch.std_mean(x, 0, correction=0)
        return cls(mean, std.clamp(min=1e-6))

    def __call__(self, x: Tensor) -> Tensor:
        """Cells (n, C), scaled."""
        return (x - self.mean) / self.std


def fit(plan: ProbePlan, x: Tensor, y: Tensor, value: float) -> Scores:
    """The plan's classifier of labels y (n,) of cells x (n, C), with `value` for the hyper-parameter that is chosen."""
    if plan.kind == "linear":
        return fit_linear(x, y, plan.classes, penalty=value, iterations=int(plan.options["iterations"]))
    return fit_neighbours(x, y, plan.classes, count=int(value), temperature=plan.options["temperature"])


def fit_linear(x: Tensor, y: Tensor, classes: int, *, penalty: float, iterations: int) -> Scores:
    """Logistic regression: the least mean cross entropy plus `penalty` / 2 times the squared weights (not the biases).

    The problem is convex; L-BFGS with a line search comes near its one minimum in at most `iterations` steps.
    """
    scaling = Scaling.of(x)
    x = scaling(x)
    weight = x.new_zeros(classes, x.shape[1], requires_grad=True)
    bias = x.new_zeros(classes, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=iterations, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        solver.zero_grad()
        loss = cross_entropy(x @ weight.T + bias, y) + penalty / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(objective)  # type: ignore[no-untyped-call]
    # The scaling goes into the weights: what is scored later need not be scaled.
    scaled = weight.detach() / scaling.std
    shift = bias.detach() - scaled @ scaling.mean
    return lambda cells: cells @ scaled.T + shift


def fit_neighbours(x: Tensor, y: Tensor, classes: int, *, count: int, temperature: float) -> Scores:
    """The vote of the `count` training cells of highest cosine similarity s, each with weight exp(s / temperature).

    The weighted vote: Wu et al., CVPR 2018, arXiv 1805.01978. All training cells vote where there are fewer.
    """
    scaling = Scaling.of(x)
    bank = normalize(scaling(x), dim=1)
    votes = one_hot(y, classes).to(x.dtype)
    count = min(count, len(bank))

    def scores(cells: Tensor) -> Tensor:
        parts = []
        for part in torch.split(cells, QUERIES):
            similarity, nearest = (normalize(scaling(part), dim=1) @ bank.T).topk(count, 1)
            weights = ((similarity - similarity[:, :1]) / temperature).exp()
            parts.append((weights[:, :, None] * votes[nearest]).sum(1) / weights.sum(1, keepdim=True))
        return torch.cat(parts)

    return scores
