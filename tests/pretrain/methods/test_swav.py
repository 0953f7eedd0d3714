# ruff: noqa: N806 - the paper's symbols

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from geometric import build
from looping import sgd, train
from multicrops import batch
from torch import Tensor
from torch.nn import functional as F

from pretrain.data.augment import SIMCLR_COLOUR
from pretrain.methods.swav import RECIPES, SwAV, SwAVConfig, sinkhorn

CURVE = Path(__file__).parent / "curves" / "swav.json"
N = 8
SMALL: dict[str, Any] = {
    "backbone": "toy",
    "hidden": 10,
    "dim": 6,
    "prototypes": 7,
    "freeze_prototypes": 3,
    "queue": 24,
    "queue_start": 5,
    "view_size": 16,
    "small_size": 8,
    "small_crops": 3,
}


def small(seed: int = 0, **changes: object) -> SwAV:
    method: SwAV = build(SwAVConfig(**{**SMALL, **changes}), seed=seed)
    method._normalise_prototypes()
    for i, queue in enumerate(method.queues):
        queue.keys = F.normalize(torch.randn(queue.keys.shape, generator=torch.manual_seed(i)), dim=1).double()
    return method


def batches(step: int) -> list[Any]:
    return batch(N, step % 4)


def plain_codes(scores: list[list[float]], epsilon: float, iterations: int) -> list[list[float]]:
    """The paper's listing, number by number."""
    Q = [[math.exp(s / epsilon) for s in row] for row in scores]
    B, K = len(Q), len(Q[0])
    total = sum(map(sum, Q))
    Q = [[q / total for q in row] for row in Q]
    for _ in range(iterations):
        for k in range(K):
            column = sum(row[k] for row in Q)
            for row in Q:
                row[k] /= column * K
        for row in Q:
            sample = sum(row)
            for k in range(K):
                row[k] /= sample * B
    return [[q * B for q in row] for row in Q]


def plain_curve(start: SwAV, steps: int) -> list[float]:
    """Training in the order of the code: prototypes are normalised before the forward pass, every crop has its own
    pass through the loss, and the queue is a list that begins to count when it is full."""
    net, config = copy.deepcopy(start), start.config
    C = net.prototypes.weight
    optimizer = sgd([net])
    queues: list[list[Tensor]] = [[], []]
    losses = []
    for step in range(steps):
        if step > config.freeze_prototypes:
            C.data = C.data / C.data.norm(dim=1, keepdim=True)
        views = [view.pixels for view in batches(step)]
        pooled = [net.backbone(torch.cat(views[:2])), net.backbone(torch.cat(views[2:]))]
        z = net.head(torch.cat([x.mean((2, 3)) for x in pooled]))
        z = z / z.norm(dim=1, keepdim=True)
        S = (z @ C.T).split(N)
        loss = torch.zeros(()).double()
        for i in range(2):
            rows = list(S[i].detach())
            if len(queues[i]) == config.queue:
                rows = [C.detach() @ old for old in queues[i]] + rows
            codes = plain_codes([row.tolist() for row in rows], config.epsilon, config.sinkhorn_iterations)[-N:]
            for v in range(len(views)):
                if v != i:
                    for n in range(N):
                        log_p = (S[v][n] / config.temperature).log_softmax(0)
                        loss = loss - sum(q * lp for q, lp in zip(codes[n], log_p, strict=True)) / N
            if step >= config.queue_start:
                queues[i] = (queues[i] + list(z.split(N)[i].detach()))[-config.queue :]
        loss = loss / (2 * (len(views) - 1))
        optimizer.zero_grad()
        loss.backward()
        if step < config.freeze_prototypes:
            C.grad = None
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_is_the_papers_code_and_gives_the_recorded_losses() -> None:
    """32 steps in float64; prototypes thaw after 3, the queue fills from 5 and is used from 8 on."""
    got = train(small(), batches, 32)
    assert got == pytest.approx(plain_curve(small(), 32), rel=1e-9)
    assert got == pytest.approx(json.loads(CURVE.read_text()), rel=1e-7)
    assert got[-1] < got[0]


def test_the_queue_changes_the_codes_once_it_is_full() -> None:
    without, with_queue = train(small(queue=0), batches, 10), train(small(), batches, 10)
    assert without[:8] == with_queue[:8]
    assert without[8] != with_queue[8]


def test_sinkhorn_is_the_listing() -> None:
    scores = torch.randn(6, 4, generator=torch.manual_seed(0)).double().tanh()
    expected = torch.tensor(plain_codes(scores.tolist(), 0.05, 3), dtype=torch.float64)
    torch.testing.assert_close(sinkhorn(scores, 0.05, 3), expected, rtol=1e-12, atol=1e-15)


def test_sinkhorn_shares_the_prototypes_equally() -> None:
    scores = torch.randn(12, 5, generator=torch.manual_seed(1)).double().tanh()
    codes = sinkhorn(scores, 0.05, 3)
    assert (codes >= 0).all()
    torch.testing.assert_close(codes.sum(1), torch.ones(12).double(), rtol=1e-12, atol=0)
    torch.testing.assert_close(sinkhorn(scores, 0.05, 300).sum(0), torch.full((5,), 12 / 5).double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(sinkhorn(torch.zeros(3, 4), 0.05, 3), torch.full((3, 4), 0.25))
    torch.testing.assert_close(sinkhorn(scores + 3, 0.05, 3), codes)
    rows, columns = torch.randperm(12), torch.randperm(5)
    torch.testing.assert_close(sinkhorn(scores[rows][:, columns], 0.05, 3), codes[rows][:, columns])


def test_sinkhorn_is_in_full_precision() -> None:
    scores = torch.randn(8, 5, generator=torch.manual_seed(2)).tanh().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        codes = sinkhorn(scores, 0.03, 3)
    assert codes.dtype == torch.float32
    torch.testing.assert_close(codes, sinkhorn(scores.double(), 0.03, 3).float(), rtol=1e-4, atol=1e-6)
    assert sinkhorn(1000 * scores, 0.03, 3).isfinite().all()


def test_no_information_costs_log_of_k() -> None:
    method = small(queue=0)
    method.prototypes.weight.data[:] = method.prototypes.weight.data[:1].clone()
    out = method(batch(N, 0))
    assert out["loss"].item() == pytest.approx(math.log(7), rel=1e-12)
    assert out["usage"].item() == pytest.approx(1, rel=1e-12)


def test_without_small_crops_it_swaps_two_views() -> None:
    method = small(queue=0, small_crops=0)
    views = batch(N, 0, small=0)
    z = F.normalize(method.head(method.embed(torch.cat([v.pixels for v in views]))), dim=1)
    s, t = (z @ method.prototypes.weight.T).chunk(2)
    q_s, q_t = sinkhorn(s, 0.05, 3), sinkhorn(t, 0.05, 3)
    expected = (F.cross_entropy(t / 0.1, q_s) + F.cross_entropy(s / 0.1, q_t)) / 2
    out = method(views)
    torch.testing.assert_close(out["loss"], expected)
    torch.testing.assert_close(out["positive"], F.cosine_similarity(*z.chunk(2)).mean())
    accuracy = torch.cat([s.argmax(1) == q_t.argmax(1), t.argmax(1) == q_s.argmax(1)]).double().mean()
    torch.testing.assert_close(out["accuracy"], accuracy)


def test_prototypes_are_frozen_bit_by_bit_and_then_of_unit_length() -> None:
    method = small()
    start = method.prototypes.weight.detach().clone()
    optimizer = torch.optim.SGD(method.parameters(), 0.1, 0.9, weight_decay=0.1)
    train(method, batches, 3, optimizer=optimizer)
    assert torch.equal(method.prototypes.weight, start)
    train(method, batches, 4, first=3, optimizer=optimizer)
    assert not torch.equal(method.prototypes.weight, start)
    torch.testing.assert_close(method.prototypes.weight.norm(dim=1), torch.ones(7).double())


def test_every_weight_gets_a_gradient_and_nothing_moves_in_forward() -> None:
    method = small()
    before = copy.deepcopy(method.state_dict())
    method(batch(N, 0))["loss"].backward()
    assert all(p.grad is not None for p in method.parameters())
    for key, value in method.state_dict().items():
        assert "running" in key or "tracked" in key or torch.equal(value, before[key]), key


def test_views_are_the_papers() -> None:
    plan = SwAVConfig(backbone="resnet18").build().plan
    assert [spec.size for spec in plan.specs] == [224] * 2 + [96] * 6
    assert [spec.scale for spec in plan.specs] == [(0.14, 1.0)] * 2 + [(0.05, 0.14)] * 6
    assert all(spec.colour == SIMCLR_COLOUR and spec.interpolation == "bilinear" for spec in plan.specs)
    assert plan.std == (0.228, 0.224, 0.225)


def test_registered_and_recipes_fit_together() -> None:
    for recipe in RECIPES:
        assert isinstance(recipe.method, SwAVConfig)
        assert recipe.schedule.warmup_full == ("imagenet" in recipe.name and recipe.batch_size == 4096)
        assert recipe.method.queue % recipe.batch_size == 0
