import copy
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from contrastive import SMALL, batch, batches, build, sgd
from torch import Tensor
from torch.nn import functional as F

from pretrain.errors import PretrainError
from pretrain.methods import all_recipes
from pretrain.methods.mochi import MoCHi, MoCHiConfig
from pretrain.methods.moco import MoCo, MoCoConfig

CURVE = Path(__file__).parent / "curves" / "mochi.json"
MIX = {"hardest": 6, "mixed": 4, "mixed_with_query": 3, "warmup": 0.0}


def small(**changes: object) -> MoCHiConfig:
    return MoCHiConfig(**{**SMALL, **MIX, **changes})


def curve(method: MoCo, steps: int, total: int | None = None, first: int = 1) -> list[float]:
    """Losses of training as the loop does it: PyTorch's generator is seeded for every step."""
    optimizer = sgd([method])
    losses = []
    for step, views in list(enumerate(batches(8, steps), start=1))[first - 1 :]:
        torch.manual_seed(step)
        loss = method(views)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step, total or steps)
        losses.append(loss.item())
    return losses


def plain_loss(
    q: Tensor, k: Tensor, queue: Tensor, draws: tuple[Tensor, Tensor, Tensor], config: MoCHiConfig
) -> Tensor:
    """Query by query, mixture by mixture, with a plain cross entropy over 1 + K + s + s' logits."""
    total = torch.zeros((), dtype=q.dtype)
    for r in range(len(q)):
        share, i, j = (d[r].tolist() for d in draws)
        order = sorted(range(len(queue)), key=lambda row: -(queue[row] @ q[r]).item())[: config.hardest]
        logits = [q[r] @ k[r], *(q[r] @ n for n in queue)]
        for m in range(config.mixed):
            mixture = share[m] * queue[order[i[m]]] + (1 - share[m]) * queue[order[j[m]]]
            logits.append(q[r] @ (mixture / mixture.norm()))
        for m in range(config.mixed, config.mixed + config.mixed_with_query):
            mixture = share[m] * q[r].detach() + (1 - share[m]) * queue[order[j[m]]]
            logits.append(q[r] @ (mixture / mixture.norm()))
        assert len(logits) == 1 + len(queue) + config.mixed + config.mixed_with_query
        total = total - F.log_softmax(torch.stack(logits) / config.temperature, dim=0)[0]
    return total / len(q)


def plain_curve(start: MoCHi, steps: int, total: int | None = None) -> list[float]:
    """The same training in the order of MoCo's code: momentum before the keys, mixtures from the queue as it was."""
    config = start.config
    f_q = copy.deepcopy(torch.nn.ModuleList([start.backbone, start.head]))
    f_k = copy.deepcopy(f_q)
    queue, pointer = start.queue.keys.clone(), 0
    optimizer = sgd([f_q])
    losses = []
    for step, (view_q, view_k) in enumerate(batches(8, steps), start=1):
        torch.manual_seed(step)
        q = F.normalize(f_q[1](f_q[0](view_q.pixels).mean((2, 3))), dim=1)
        with torch.no_grad():
            for p_q, p_k in zip(f_q.parameters(), f_k.parameters(), strict=True):
                p_k.data = p_k.data * config.momentum + p_q.data * (1 - config.momentum)
            k = F.normalize(f_k[1](f_k[0](view_k.pixels).mean((2, 3))), dim=1)
        mixing = step - 1 >= config.warmup * (total or steps)
        now = config if mixing else MoCHiConfig(**{**SMALL, **MIX, "mixed": 0, "mixed_with_query": 0})
        loss = plain_loss(q, k, queue, start.draw(q), now)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        queue[pointer : pointer + 8] = k
        pointer = (pointer + 8) % config.queue
        losses.append(loss.item())
    return losses


def test_training_is_the_plain_loop_and_the_recorded_curve() -> None:
    """32 steps in float64, the first quarter of them warm-up. Tolerance of the record: 1e-7, relative."""
    config = small(warmup=0.25)
    got = curve(build(config), 32)
    assert got == pytest.approx(plain_curve(build(config), 32), rel=1e-9)
    assert got == pytest.approx(json.loads(CURVE.read_text()), rel=1e-7)
    assert got[-1] < got[9]  # it learns, once the random queue is flushed and mixing has begun


def test_without_mixtures_it_is_moco_bit_by_bit() -> None:
    plain = build(MoCoConfig(**SMALL))
    for config in (small(mixed=0, mixed_with_query=0), small(warmup=1.0)):
        method = build(config)
        assert curve(method, 6) == curve(copy.deepcopy(plain), 6)


def test_mixing_starts_after_its_share_of_the_steps() -> None:
    method = build(small(warmup=0.05))
    started = []
    for step in range(1, 41):
        started.append(method.mixing)
        method.after_step(step, 40)
    assert started == [step > 2 for step in range(1, 41)]  # 2 of 40 steps without


def mixtures(config: MoCHiConfig, q: Tensor, queue: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor], Tensor]:
    """The mixtures (N, s + s', C), their draws, and each query's queue in order of similarity (N, K, C)."""
    method = build(config)
    method.queue.keys = queue
    torch.manual_seed(3)
    h = method.mixtures(q)
    torch.manual_seed(3)
    order = (q @ queue.T).argsort(dim=1, descending=True)
    return h, method.draw(q), queue[order]


def unit_rows(n: int, c: int, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return F.normalize(torch.randn(n, c, dtype=torch.float64), dim=1)


def test_mixtures_are_unit_and_harder_than_what_they_are_mixed_from() -> None:
    """The inequalities that give the method its name."""
    config = small(hardest=20, mixed=30, mixed_with_query=30)
    q, queue = unit_rows(5, 6, 0), unit_rows(32, 6, 1)
    h, (share, i, j), ordered = mixtures(config, q, queue)
    torch.testing.assert_close(h.norm(dim=2), torch.ones(5, 60).double())
    assert share[:, :30].max() <= 1 and share[:, 30:].max() <= 0.5 and share.min() >= 0
    assert share[:, :30].max() > 0.9 and share[:, 30:].max() > 0.45
    for r in range(5):
        for m in range(30):
            n_i, n_j, a = ordered[r, i[r, m]], ordered[r, j[r, m]], share[r, m]
            value = a * (q[r] @ n_i) + (1 - a) * (q[r] @ n_j)
            if value >= 0:
                assert q[r] @ h[r, m] >= value - 1e-12
        for m in range(30, 60):
            n_j = ordered[r, j[r, m]]
            assert q[r] @ h[r, m] >= q[r] @ n_j - 1e-12
            assert h[r, m] @ n_j >= h[r, m] @ q[r] - 1e-12  # the query never has the larger weight


def test_every_query_mixes_its_own_hardest_negatives() -> None:
    """Not those of the first query of the batch: with N = 1, both parents are the nearest key."""
    q, queue = unit_rows(7, 6, 4), unit_rows(32, 6, 5)
    h, _, ordered = mixtures(small(hardest=1, mixed=2, mixed_with_query=0), q, queue)
    torch.testing.assert_close(h, ordered[:, :1].expand(7, 2, 6))
    assert len(set((q @ queue.T).argmax(1).tolist())) > 2


def test_parents_are_drawn_with_replacement_from_all_of_the_hardest() -> None:
    _, (_, i, j), _ = mixtures(small(hardest=3, mixed=40, mixed_with_query=40), unit_rows(4, 6, 0), unit_rows(32, 6, 1))
    assert set(i.flatten().tolist()) == set(j.flatten().tolist()) == {0, 1, 2}
    assert i.shape == (4, 40) and j.shape == (4, 80)


def test_more_negatives_never_lower_the_loss() -> None:
    for seed in range(4):
        views = batch(8, seed)
        assert build(small(), seed=seed)(views)["loss"] > build(MoCoConfig(**SMALL), seed=seed)(views)["loss"]


def test_equal_logits_give_the_logarithm_of_their_number() -> None:
    """The temperature to infinity: log(1 + K + s + s')."""
    loss = build(small(temperature=1e9))(batch(8, 0))["loss"]
    assert loss.item() == pytest.approx(math.log(1 + 32 + 4 + 3), rel=1e-6)


def test_the_query_inside_a_mixture_is_a_constant() -> None:
    """The gradient is that of the plain loop, where the inner query is detached, and not that where it is not."""
    method = build(small(mixed=0, mixed_with_query=5))
    q = unit_rows(8, 6, 7).requires_grad_()
    k = unit_rows(8, 6, 8)

    def gradient(loss: Callable[[], Tensor]) -> Tensor:
        torch.manual_seed(0)
        return torch.autograd.grad(loss(), q)[0]

    got = gradient(lambda: method.contrast(q, k).loss)
    expected = gradient(lambda: plain_loss(q, k, method.queue.keys, method.draw(q), method.config))
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


def test_nothing_but_backbone_and_head_receives_a_gradient() -> None:
    method = build(small())
    out = method(batch(8, 0))
    out["loss"].backward()
    trained = {name for name, p in method.named_parameters() if p.grad is not None}
    assert trained == {name for name, _ in method.named_parameters() if name.startswith(("backbone.", "head."))}
    assert not method.queue.keys.requires_grad
    assert [name for name, value in out.items() if value.requires_grad] == ["loss"]


def test_mixtures_are_not_enqueued() -> None:
    method, plain = build(small()), build(MoCoConfig(**SMALL))
    for m in (method, plain):
        m(batch(8, 0))
        m.after_step(1, 10)
    assert torch.equal(method.queue.keys, plain.queue.keys)


def test_more_hard_negatives_than_the_queue_holds_are_refused() -> None:
    with pytest.raises(PretrainError, match="hardest"):
        build(small(hardest=33))


def test_recipes_have_the_papers_settings() -> None:
    first = all_recipes()["mochi-imagenet-200ep"].method
    assert isinstance(first, MoCHiConfig)
    assert (first.hardest, first.mixed, first.mixed_with_query) == (1024, 512, 256)
    assert (first.warmup * 200, first.temperature, first.queue, first.momentum) == (10, 0.2, 65536, 0.999)
    assert MoCHi.info.id == "mochi"
