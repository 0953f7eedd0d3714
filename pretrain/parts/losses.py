"""InfoNCE of queries with one positive key each and a queue of negatives, and values that show collapse."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from pretrain.parts.turns import rows_at_once


def full_precision(x: Tensor) -> Tensor:
    """`x` in float32 if it is half precision, else unchanged."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def unit(x: Tensor) -> Tensor:
    """`x` (N, C, ...) with vectors along C scaled to length 1, in full precision.

    >>> unit(torch.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """
    return F.normalize(full_precision(x), dim=1)


class InfoNCE(NamedTuple):
    """The loss, and detached scalars for the log: similarities of positives and negatives.

    `positive` and `negative` are mean similarities in [-1, 1] for unit vectors, before the temperature; `accuracy` is
    the share of queries whose positive beats every negative (the pretext task's top-1).
    """

    loss: Tensor
    positive: Tensor
    negative: Tensor
    accuracy: Tensor


def info_nce(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor,
    temperature: float,
    own_negatives: Tensor | None = None,
    *,
    decoupled: bool = False,
) -> InfoNCE:
    """L = -1/R sum_r log( exp(q_r.k_r / T) / (exp(q_r.k_r / T) + sum_j exp(q_r.n_j / T)) ).

    `queries` (R, C), `positives` (R, C) and `negatives` (K, C) are taken as they come: normalize them first. Only
    `queries` receive a gradient; keys are constants (MoCo, arXiv 1911.05722, equation 1; DenseCL, equations 2 and 3).
    `own_negatives` (R, M, C) are added to the sum over j of their row only; the logged `negative` leaves them out.
    `decoupled` leaves the positive out of the denominator (as decoupled contrastive learning does, arXiv 2110.06848).

    A query that is its own key, against one negative at a right angle:

    >>> nce = info_nce(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 0.5)
    >>> nce.loss, nce.positive, nce.negative, nce.accuracy  # the loss is log(1 + e^-2)
    (tensor(0.1269), tensor(1.), tensor(0.), tensor(1.))

    Computed in float32 (float64 for float64 input) also under autocast. The R x K logits are never held at once:
    forward processes the rows part by part and keeps only the gradient (R, C), which backward multiplies.
    """
    differentiable = queries.requires_grad and torch.is_grad_enabled()
    own = queries.new_empty(len(queries), 0, queries.shape[1]) if own_negatives is None else own_negatives
    return InfoNCE(*_InfoNCE.apply(queries, positives, negatives, own, temperature, decoupled, differentiable))


class _InfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        queries: Tensor,
        positives: Tensor,
        negatives: Tensor,
        own: Tensor,
        temperature: float,
        decoupled: bool,
        grad: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        with torch.autocast(queries.device.type, enabled=False):
            q = full_precision(queries)
            k, n, own = positives.to(q.dtype), negatives.to(q.dtype), own.to(q.dtype)
            rows = max(1, min(len(q), rows_at_once(len(n))))
            gradient = torch.empty_like(q) if grad else q.new_empty(0)
            log_losses, similarities, correct = [], [], []
            for start in range(0, len(q), rows):
                part = slice(start, start + rows)
                similarity = (q[part] * k[part]).sum(1)
                positive = similarity / temperature
                logits = (q[part] / temperature) @ n.T
                own_logits = (own[part] @ (q[part] / temperature)[:, :, None])[:, :, 0]
                largest_negative = logits.amax(1)
                if own.shape[1]:
                    largest_negative = torch.maximum(largest_negative, own_logits.amax(1))
                largest = largest_negative if decoupled else torch.maximum(largest_negative, positive)
                exp_negative = logits.sub_(largest[:, None]).exp_()
                exp_own = (own_logits - largest[:, None]).exp()
                sum_negative = exp_negative.sum(1) + exp_own.sum(1)
                total = sum_negative if decoupled else sum_negative + (positive - largest).exp()
                log_losses.append(total.log() + largest - positive)
                similarities.append(similarity)
                correct.append(positive > largest_negative)
                if grad:
                    # dL_r/dq_r = sum_j p_rj (n_j - k_r) / T with the softmax p
                    pull = exp_negative @ n + (exp_own[:, None] @ own[part])[:, 0]
                    pull = torch.addcmul(pull, sum_negative[:, None], k[part], value=-1)
                    gradient[part] = pull / (total[:, None] * (temperature * len(q)))
            loss = torch.cat(log_losses).mean()
            positive_mean = torch.cat(similarities).mean()
            negative_mean = (q.mean(0) * n.mean(0)).sum()  # the mean over all R K pairs
            accuracy = torch.cat(correct).to(q.dtype).mean()
        ctx.save_for_backward(gradient)
        ctx.query_dtype = queries.dtype  # type: ignore[attr-defined]
        ctx.mark_non_differentiable(positive_mean, negative_mean, accuracy)
        return loss, positive_mean, negative_mean, accuracy

    @staticmethod
    @once_differentiable
    def backward(ctx, loss: Tensor, *_: Tensor):  # type: ignore[no-untyped-def]
        (gradient,) = ctx.saved_tensors
        return (gradient * loss).to(ctx.query_dtype), None, None, None, None, None, None


@torch.no_grad()
def embedding_std(embeddings: Tensor) -> Tensor:
    """Spread of unit vectors (N, C): standard deviation over N, mean over C, times sqrt(C).

    About 1 if directions are uniform on the sphere, 0 if all collapsed to one point.

    >>> embedding_std(torch.tensor([[1.0, 0.0], [0.0, 1.0]])), embedding_std(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    (tensor(0.7071), tensor(0.))
    """
    return full_precision(embeddings).std(0, correction=0).mean() * embeddings.shape[1] ** 0.5


@torch.no_grad()
def effective_rank(embeddings: Tensor) -> Tensor:
    """How many dimensions vectors (N, C) use: exp of the entropy of their singular values, scaled to sum to 1.

    It is between 1 (all on one line through the origin) and min(N, C) (all directions equal), 0 if all vectors are
    zero, and NaN if one is not finite. Roy and Vetterli, The effective rank, EUSIPCO 2007.

    Singular values are the roots of the eigenvalues of the smaller of the two Gram matrices, in float64: with N in the
    thousands that costs a hundredth of decomposing the vectors. Those below about 1e-7 of the largest count as 0.
    """
    if not embeddings.isfinite().all():
        return embeddings.new_full((), float("nan"))
    x = embeddings.double()
    squares = torch.linalg.eigvalsh(x.T @ x if x.shape[0] > x.shape[1] else x @ x.T)
    # Eigenvalues have rounding errors relative to the largest: those that are not larger than these count as 0.
    squares = squares * (squares > len(squares) * torch.finfo(squares.dtype).eps * squares.amax())
    values = squares.sqrt()
    total = values.sum()
    shares = values / total.clamp_min(torch.finfo(total.dtype).tiny)
    rank = torch.special.entr(shares).sum().exp() * (total > 0)
    return rank.to(torch.promote_types(embeddings.dtype, torch.float32))


@torch.no_grad()
def matching(first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """Scalars for the log of a method without negatives: how well rows of `first` find their own in `second`.

    Both are unit vectors (N, C) of the same N images. `positive` is the mean similarity of own pairs, `negative` that
    of all others, `accuracy` the share of rows whose own partner is more similar than every other one; chance is 1 / N.

    In full precision also under autocast: in bfloat16 most similarities near 1 are equal. Ties count as wrong, as in
    `info_nce`: of a network that has collapsed to one point nothing is recognized.
    """
    n = len(first)
    with torch.autocast(first.device.type, enabled=False):
        similarity = full_precision(first) @ full_precision(second).T
    own = similarity.diagonal()
    return {
        "positive": own.mean(),
        "negative": (similarity.sum() - own.sum()) / max(1, n * (n - 1)),
        "accuracy": own_is_largest(similarity).to(own.dtype).mean(),
    }


def own_is_largest(similarity: Tensor) -> Tensor:
    """Which rows of `similarity` (..., N, N) have their strictly largest entry on the diagonal: bool (..., N).

    >>> own_is_largest(torch.tensor([[0.9, 0.1], [0.5, 0.5]]))
    tensor([ True, False])
    """
    itself = torch.eye(similarity.shape[-1], dtype=torch.bool, device=similarity.device)
    return similarity.diagonal(dim1=-2, dim2=-1) > similarity.masked_fill(itself, -torch.inf).amax(-1)
