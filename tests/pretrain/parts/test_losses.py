import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from pretrain.parts import turns
from pretrain.parts.losses import effective_rank, embedding_std, info_nce, matching, own_is_largest, unit


def loops(q: Tensor, k: Tensor, n: Tensor, temperature: float) -> float:
    """The definition, number by number."""

    def dot(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    total = 0.0
    for q_r, k_r in zip(q.tolist(), k.tolist(), strict=True):
        positive = math.exp(dot(q_r, k_r) / temperature)
        negative = sum(math.exp(dot(q_r, n_j) / temperature) for n_j in n.tolist())
        total -= math.log(positive / (positive + negative))
    return total / len(q)


def plain(q: Tensor, k: Tensor, n: Tensor, temperature: float) -> Tensor:
    """The usual code: all logits at once and cross entropy."""
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ n.T], 1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64))


def draw(r: int, k: int, c: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(r * 100 + k)
    return tuple(unit(torch.randn(n, c, dtype=dtype)) for n in (r, r, k))


@given(r=st.integers(1, 6), k=st.integers(1, 9), c=st.integers(1, 5), temperature=st.floats(0.05, 10))
@settings(deadline=None)
def test_equals_the_double_loop(r: int, k: int, c: int, temperature: float) -> None:
    q, pos, neg = draw(r, k, c)
    assert info_nce(q, pos, neg, temperature).loss.item() == pytest.approx(loops(q, pos, neg, temperature), rel=1e-10)


@pytest.mark.parametrize("held", [1, 20, 60, 10**6])
def test_equals_plain_code_with_gradient_for_any_number_of_rows_at_once(
    held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MAX_LOGITS", held)
    q, k, n = draw(7, 20, 5)
    ours, theirs = q.clone().requires_grad_(), q.clone().requires_grad_()
    loss, expected = info_nce(ours, k, n, 0.2).loss, plain(theirs, k, n, 0.2)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    (3 * loss).backward()
    (3 * expected).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("held", [20, 10**6])
def test_own_negatives_join_the_logits_of_their_row_alone(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_LOGITS", held)
    q, k, n = draw(7, 20, 5)
    own = unit(torch.randn(7 * 3, 5, dtype=torch.float64)).view(7, 3, 5)
    own[0, 1] = q[0]  # one that beats the positive
    ours, theirs = q.clone().requires_grad_(), q.clone().requires_grad_()
    nce = info_nce(ours, k, n, 0.2, own)
    rows = [plain(theirs[r : r + 1], k[r : r + 1], torch.cat((n, own[r])), 0.2) for r in range(7)]
    expected = torch.stack(rows).mean()
    torch.testing.assert_close(nce.loss, expected, rtol=1e-12, atol=1e-12)
    nce.loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)
    beaten = [bool((torch.cat((n, own[r])) @ q[r] >= k[r] @ q[r]).any()) for r in range(7)]
    assert nce.accuracy.item() == pytest.approx(1 - sum(beaten) / 7)
    assert torch.equal(nce.negative, info_nce(q, k, n, 0.2).negative)


@pytest.mark.parametrize("held", [20, 10**6])
def test_decoupled_leaves_the_positive_out_of_the_denominator(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_LOGITS", held)
    q, k, n = draw(7, 20, 5)
    k = 300 * q  # far above every negative: nothing may overflow
    ours, theirs = q.clone().requires_grad_(), q.clone().requires_grad_()
    loss = info_nce(ours, k, n, 0.2, decoupled=True).loss
    expected = (torch.logsumexp(theirs @ n.T / 0.2, dim=1) - (theirs * k).sum(1) / 0.2).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)


def test_gradient_is_the_numerical_one() -> None:
    q, k, n = draw(3, 5, 4)
    assert torch.autograd.gradcheck(lambda q: info_nce(q, k, n, 0.3).loss, (q.requires_grad_(),))


def test_orthogonal_equal_and_hot_logits_give_log_of_k_plus_1() -> None:
    eye = torch.eye(8, dtype=torch.float64)
    orthogonal = info_nce(eye[:2], eye[2:4], eye[4:], 0.2)
    same = info_nce(eye[:1], eye[:1], eye[:1].expand(6, 8), 0.2)
    hot = info_nce(*draw(4, 9, 3), 1e9)
    assert orthogonal.loss.item() == pytest.approx(math.log(5), rel=1e-12)
    assert same.loss.item() == pytest.approx(math.log(7), rel=1e-12)
    assert hot.loss.item() == pytest.approx(math.log(10), rel=1e-8)
    paper = info_nce(eye[:1], eye[1:2], eye[2:3].expand(65536, 8), 0.2)
    assert paper.loss.item() == pytest.approx(11.0904, abs=5e-5)


def test_only_queries_receive_a_gradient() -> None:
    q, k, n = (x.requires_grad_() for x in draw(3, 5, 4))
    result = info_nce(q, k, n, 0.2)
    result.loss.backward()
    assert q.grad is not None
    assert k.grad is None
    assert n.grad is None
    assert not any(x.requires_grad for x in result[1:])
    with torch.no_grad():
        assert torch.equal(info_nce(q, k, n, 0.2).loss, result.loss)


def test_scalars_for_the_log() -> None:
    q, k, n = draw(40, 6, 3)
    result = info_nce(q, k, n, 0.2)
    similarity = q @ n.T
    positive = (q * k).sum(1)
    assert result.positive.item() == pytest.approx(positive.mean().item())
    assert result.negative.item() == pytest.approx(similarity.mean().item())
    assert result.accuracy.item() == pytest.approx((positive > similarity.amax(1)).double().mean().item())


def test_full_precision_under_autocast() -> None:
    q, k, n = draw(16, 64, 32, torch.float32)
    ours, reference = q.clone().requires_grad_(), q.clone().requires_grad_()
    expected = info_nce(reference, k, n, 0.07).loss
    expected.backward()
    with torch.autocast("cpu", torch.bfloat16):
        loss = info_nce(ours, k, n, 0.07).loss
        loss.backward()
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)
    assert torch.equal(ours.grad, reference.grad)
    half = q.bfloat16().requires_grad_()
    info_nce(half, k, n, 0.07).loss.backward()
    assert half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(half.grad.float(), reference.grad, rtol=0.05, atol=1e-3)


def test_no_overflow_at_a_tiny_temperature() -> None:
    q, k, n = draw(5, 7, 4, torch.float32)
    q.requires_grad_()
    loss = info_nce(q, k, n, 1e-4).loss
    loss.backward()
    torch.testing.assert_close(loss.double(), plain(q.double(), k.double(), n.double(), 1e-4), rtol=1e-4, atol=1e-4)
    assert q.grad.isfinite().all()


def test_embedding_std() -> None:
    torch.manual_seed(0)
    assert embedding_std(unit(torch.randn(4000, 64))).item() == pytest.approx(1, abs=0.02)
    assert embedding_std(unit(torch.ones(10, 64))).item() == pytest.approx(0, abs=1e-6)


def test_effective_rank() -> None:
    """Equal singular values count fully; one direction is 1; otherwise the written-out entropy."""
    assert effective_rank(torch.eye(5)).item() == pytest.approx(5)
    assert effective_rank(torch.ones(6, 4)).item() == pytest.approx(1, abs=1e-4)
    assert effective_rank(torch.zeros(6, 4)).item() == 0
    assert effective_rank(torch.full((6, 4), math.inf)).isnan()
    shares = [0.5, 0.3, 0.2]
    expected = math.exp(-sum(p * math.log(p) for p in shares))
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).Q
    rows = torch.cat([torch.diag(torch.tensor(shares, dtype=torch.float64)) * 7, torch.zeros(2, 3)]) @ rotation
    assert effective_rank(rows).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "c", "decay"), [(64, 128, 0.9), (300, 40, 0.7), (50, 50, 1e-3), (200, 256, 0.95)])
def test_effective_rank_is_that_of_the_singular_values(n: int, c: int, decay: float) -> None:
    """Within 1e-6 of an SVD in float64, and within 1e-4 where nearly all singular values are rounding errors of a few:
    those below 1e-7 of the largest do not count here.
    """
    generator = torch.Generator().manual_seed(n)
    left, right = (torch.linalg.qr(torch.randn(m, m, generator=generator, dtype=torch.float64)).Q for m in (n, c))
    shares = decay ** torch.arange(min(n, c), dtype=torch.float64)
    x = (left[:, : len(shares)] * shares) @ right[:, : len(shares)].T
    for rows in (x, x.float()):
        values = torch.linalg.svdvals(rows.double())
        p = values / values.sum()
        expected = torch.special.entr(p).sum().exp().item()
        found = effective_rank(rows)
        assert found.dtype == rows.dtype
        close = pytest.approx(expected, rel=1e-4 if decay < 0.1 else 1e-6)
        assert [effective_rank(y).item() for y in (rows, rows.T, 1e12 * rows)] == [close] * 3


def test_effective_rank_of_copies_is_that_of_one() -> None:
    """Thousands of rows on a line or a plane: what rounding leaves of the other directions does not count."""
    directions = unit(torch.randn(2, 256, generator=torch.Generator().manual_seed(0)))
    assert effective_rank(directions[:1].repeat(4000, 1)).item() == pytest.approx(1, abs=1e-6)
    two = torch.linalg.qr(directions.T).Q.T.repeat(2000, 1)
    assert effective_rank(two).item() == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("noise", [0.0, 1e-2, 1e-1, 1.0])
def test_matching_is_counted_in_full_precision_also_under_autocast(noise: float, autocast: bool) -> None:
    """64 pairs, alike but for noise: what float64 finds, and none where all are the same."""
    generator = torch.Generator().manual_seed(0)
    point = torch.randn(1, 128, generator=generator)
    first, second = (unit(point + noise * torch.randn(64, 128, generator=generator)) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = matching(first, second)
    similarity = first.double() @ second.double().T
    own = similarity.diagonal()
    others = similarity.masked_fill(torch.eye(64) > 0, -2).amax(1)
    assert found["accuracy"].item() == ((own > others).double().mean().item() if noise else 0)
    assert found["positive"].item() == pytest.approx(own.mean().item(), abs=1e-6)
    assert found["negative"].item() == pytest.approx((similarity.sum() - own.sum()).item() / (64 * 63), abs=1e-6)


def test_own_is_largest_where_nothing_is_as_large() -> None:
    similarity = torch.tensor([[1.0, 0.5, 0.9], [0.2, 0.2, 0.1], [0.3, 0.8, 0.7]])
    assert own_is_largest(similarity).tolist() == [True, False, False]
    assert own_is_largest(similarity.expand(2, 3, 3)).tolist() == [[True, False, False]] * 2
    assert own_is_largest(torch.ones(1, 1)).tolist() == [True]
