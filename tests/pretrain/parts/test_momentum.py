import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pretrain.parts.momentum import momentum_at, momentum_copy, momentum_update


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()


def test_closed_form_after_n_steps() -> None:
    """xi_n = m^n xi_0 + (1 - m) sum_t m^(n - 1 - t) theta_t."""
    source, m, n = network(), 0.9, 7
    target = momentum_copy(source)
    expected = [m**n * p.detach().clone() for p in target.parameters()]
    for t in range(n):
        for p, sum_ in zip(source.parameters(), expected, strict=True):
            p.data.add_(torch.randn_like(p))
            sum_ += (1 - m) * m ** (n - 1 - t) * p.data
        momentum_update(target, source, m)
    for got, want in zip(target.parameters(), expected, strict=True):
        torch.testing.assert_close(got.data, want, rtol=1e-12, atol=1e-12)


def test_copy_is_separate_equal_and_takes_no_gradient() -> None:
    source = network()
    target = momentum_copy(source)
    assert all(p.requires_grad for p in source.parameters())
    assert not any(p.requires_grad for p in target.parameters())
    for (key, a), b in zip(source.state_dict().items(), target.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
        assert a.data_ptr() != b.data_ptr(), key


def test_buffers_stay_the_copys_own() -> None:
    source = network()
    target = momentum_copy(source)
    source(torch.randn(5, 3).double() + 3)
    target(torch.randn(5, 3).double() - 3)
    own = [b.clone() for b in target.buffers()]
    momentum_update(target, source, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(own, target.buffers(), strict=True))
    assert not torch.equal(target[1].running_mean, source[1].running_mean)


@pytest.mark.parametrize(("m", "moved"), [(0.0, True), (1.0, False)])
def test_extreme_momentum(m: float, moved: bool) -> None:
    source = network()
    target, start = momentum_copy(source), momentum_copy(source)
    for p in source.parameters():
        p.data.add_(1)
    momentum_update(target, source, m)
    for got, want in zip(target.parameters(), (source if moved else start).parameters(), strict=True):
        assert torch.equal(got, want)


def test_equal_networks_are_a_fixed_point() -> None:
    source = network().float()
    target = momentum_copy(source)
    for _ in range(10):
        momentum_update(target, source, 0.999)
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), source.parameters(), strict=True))


@given(total=st.integers(1, 1000), base=st.floats(0, 1), data=st.data())
def test_schedules(total: int, base: float, data: st.DataObject) -> None:
    step = data.draw(st.integers(1, total))
    assert momentum_at(step, total, base, "constant") == base
    expected = 1 - (1 - base) * (math.cos(math.pi * (step - 1) / total) + 1) / 2
    assert momentum_at(step, total, base, "cosine") == pytest.approx(expected)
    assert momentum_at(1, total, base, "cosine") == pytest.approx(base)
    assert momentum_at(total + 1, total, base, "cosine") == pytest.approx(1)
    if step < total:
        assert momentum_at(step, total, base, "cosine") <= momentum_at(step + 1, total, base, "cosine") + 1e-12
