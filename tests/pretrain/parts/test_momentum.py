import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pretrain.parts.momentum import Momentum, momentum_at, take_older_names


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()


def test_closed_form_after_n_steps() -> None:
    """xi_n = m^n xi_0 + (1 - m) sum_t m^(n - 1 - t) theta_t."""
    source, m, n = network(), 0.9, 7
    momentum = Momentum(network=source)
    target = momentum.network
    expected = [m**n * p.detach().clone() for p in target.parameters()]
    for t in range(n):
        for p, sum_ in zip(source.parameters(), expected, strict=True):
            p.data.add_(torch.randn_like(p))
            sum_ += (1 - m) * m ** (n - 1 - t) * p.data
        momentum.update(m)
    for got, want in zip(target.parameters(), expected, strict=True):
        torch.testing.assert_close(got.data, want, rtol=1e-12, atol=1e-12)


def test_copy_is_separate_equal_and_takes_no_gradient() -> None:
    source = network()
    target = Momentum(network=source).network
    assert all(p.requires_grad for p in source.parameters())
    assert not any(p.requires_grad for p in target.parameters())
    for (key, a), b in zip(source.state_dict().items(), target.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
        assert a.data_ptr() != b.data_ptr(), key


def test_buffers_stay_the_copys_own() -> None:
    source = network()
    momentum = Momentum(network=source)
    target = momentum.network
    source(torch.randn(5, 3).double() + 3)
    target(torch.randn(5, 3).double() - 3)
    own = [b.clone() for b in target.buffers()]
    momentum.update(0.5)
    assert all(torch.equal(a, b) for a, b in zip(own, target.buffers(), strict=True))
    assert not torch.equal(target[1].running_mean, source[1].running_mean)


@pytest.mark.parametrize(("m", "moved"), [(0.0, True), (1.0, False)])
def test_extreme_momentum(m: float, moved: bool) -> None:
    source = network()
    momentum, start = Momentum(network=source), copy.deepcopy(source)
    target = momentum.network
    for p in source.parameters():
        p.data.add_(1)
    momentum.update(m)
    for got, want in zip(target.parameters(), (source if moved else start).parameters(), strict=True):
        assert torch.equal(got, want)


def test_equal_networks_are_a_fixed_point() -> None:
    source = network().float()
    momentum = Momentum(network=source)
    target = momentum.network
    for _ in range(10):
        momentum.update(0.999)
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), source.parameters(), strict=True))


class Trained(nn.Module):
    """Two networks, of which the first copy is exported, and one deeper down."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.head = network(), network()
        self.teacher = Momentum(net=self.net, head=self.head)
        self.backbone = self.teacher.net
        self.branch = nn.Module()
        self.branch.part = network()
        self.branch.momentum = Momentum(part=self.branch.part)
        self.register_load_state_dict_pre_hook(take_older_names)


def test_sources_are_not_registered_and_a_deep_copy_follows_its_own() -> None:
    trained = Trained()
    assert all(key.startswith(("net.", "head.")) for key in trained.teacher.state_dict())
    assert len(trained.teacher.state_dict()) == 2 * len(network().state_dict())
    other = copy.deepcopy(trained)
    other.head[0].weight.data += 1
    other.teacher.update(0.0)
    assert torch.equal(other.teacher.head[0].weight, other.head[0].weight)
    assert not torch.equal(trained.teacher.head[0].weight, other.head[0].weight)


def test_added_modules_move_with_the_others() -> None:
    first, second = network(), network()
    momentum = Momentum(first=first)
    momentum.add(second=second)
    for p in (*first.parameters(), *second.parameters()):
        p.data += 1
    momentum.update(0.0)
    assert all(torch.equal(a, b) for a, b in zip(momentum.second.parameters(), second.parameters(), strict=True))
    assert not any(p.requires_grad for p in momentum.parameters())


def test_reset_takes_weights_and_statistics() -> None:
    source = network()
    momentum = Momentum(network=source)
    source(torch.randn(5, 3).double() + 3)
    source[0].weight.data += 1
    momentum.reset()
    for key, value in source.state_dict().items():
        assert torch.equal(momentum.network.state_dict()[key], value), key
    assert not any(p.requires_grad for p in momentum.parameters())


def test_checkpoints_of_before_are_loaded() -> None:
    trained = Trained()
    for p in trained.parameters():
        p.data = torch.randn_like(p)
    today = trained.state_dict()
    before = {
        key.replace("teacher.head.", "teacher_head.").replace("momentum.part.", "momentum_part."): value
        for key, value in today.items()
        if not key.startswith("teacher.net.")
    }
    assert "branch.momentum_part.0.weight" in before and "teacher_head.0.weight" in before
    loaded = Trained()
    loaded.load_state_dict(before)
    assert all(torch.equal(value, today[key]) for key, value in loaded.state_dict().items())


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
