"""The classifiers of frozen cells: multinomial logistic regression, and a vote of the nearest training cells.

Both see cells whose channels have mean 0 and variance 1 over the training cells. Neither draws a random number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, one_hot

from bench.probes.plans import ClassifierPlan

QUERIES = 2048
"""Number of cells that are compared with all training cells at once: it limits memory and changes no result."""

Scores = Callable[[Tensor], Sequence[Tensor]]
"""Function from an image's cells (n, C) to scores of the classes (n, K), one table per classifier; the highest wins."""


@dataclass(frozen=True)
class Scaling:
    """Scaling that gives training cells mean 0 and variance 1 in each channel."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Scaling:
        """The scaling for cells (n, C); a constant channel stays constant."""
        std, mean = torch.std_mean(x, 0, correction=0)
        return cls(mean, std.clamp(min=1e-6))

    def __call__(self, x: Tensor) -> Tensor:
        """The scaled cells (n, C)."""
        return (x - self.mean) / self.std


def fit(plan: ClassifierPlan, x: Tensor, y: Tensor, values: Sequence[float]) -> Scores:
    """Classifiers for cells x (n, C) with labels y (n,): one for each of `values` of the hyperparameter."""
    if plan.kind == "knn":
        return fit_neighbours(x, y, plan.classes, counts=[*map(int, values)], temperature=plan.options["temperature"])
    iterations = int(plan.options["iterations"])
    fitted = [fit_linear(x, y, plan.classes, penalty=value, iterations=iterations) for value in values]
    return lambda cells: [scores(cells) for scores in fitted]


def fit_linear(x: Tensor, y: Tensor, classes: int, *, penalty: float, iterations: int) -> Callable[[Tensor], Tensor]:
    """Logistic regression: minimizes mean cross entropy plus `penalty` / 2 times the squared weights (not the biases).

    The problem is convex; L-BFGS with a line search approaches its only minimum in at most `iterations` steps.
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
    # The scaling is merged into the weights, so that cells need not be scaled later.
    scaled = weight.detach() / scaling.std
    shift = bias.detach() - scaled @ scaling.mean
    return lambda cells: cells @ scaled.T + shift


def fit_neighbours(x: Tensor, y: Tensor, classes: int, *, counts: Sequence[int], temperature: float) -> Scores:
    """The votes of the training cells of highest cosine similarity s, each with weight exp(s / temperature).

    Each of `counts` is a number of voting cells; where there are fewer training cells, all vote. For the weighted vote
    see Wu et al., CVPR 2018, arXiv 1805.01978.
    """
    scaling = Scaling.of(x)
    bank = normalize(scaling(x), dim=1)
    labels = one_hot(y, classes).to(x.dtype)

    def vote(similarities: Tensor) -> list[Tensor]:
        found = []
        for count in counts:
            similarity, nearest = similarities.topk(min(count, len(bank)), 1)
            weights = ((similarity - similarity[:, :1]) / temperature).exp()
            found.append((weights[:, :, None] * labels[nearest]).sum(1) / weights.sum(1, keepdim=True))
        return found

    def scores(cells: Tensor) -> list[Tensor]:
        parts = [vote(normalize(scaling(part), dim=1) @ bank.T) for part in torch.split(cells, QUERIES)]
        return [torch.cat(of_count) for of_count in zip(*parts, strict=True)]

    return scores
