"""Optimisers against their equations in float64."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from pretrain.optim.lars import LARSVariant
from pretrain.optim.optimizers import AdamWConfig, LARSConfig, OptimizerConfig, SGDConfig


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_follows_its_equation(nesterov: bool) -> None:
    config = SGDConfig(lr=0.5, momentum=0.8, weight_decay=0.03, nesterov=nesterov)
    module = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)).double()
    optimizer = config.build(module.named_parameters())
    weights = {name: p.detach().clone() for name, p in module.named_parameters()}
    velocity = {name: torch.zeros_like(p) for name, p in weights.items()}
    for step in range(4):
        rate = config.lr / (step + 1)
        optimizer.param_groups[0]["lr"] = rate
        for name, p in module.named_parameters():
            p.grad = torch.randn(p.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
            decayed = p.grad + 0.03 * weights[name]
            velocity[name] = 0.8 * velocity[name] + decayed if step else decayed
            moved = decayed + 0.8 * velocity[name] if nesterov else velocity[name]
            weights[name] = weights[name] - rate * moved
        optimizer.step()
    for name, p in module.named_parameters():
        torch.testing.assert_close(p.detach(), weights[name])


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"body": nn.Linear(3, 2), "norm": nn.LayerNorm(2), "predictor": nn.Linear(2, 2)}).double()


def set_gradients(net: nn.Module, step: int) -> None:
    for i, p in enumerate(net.parameters()):
        p.grad = torch.from_numpy(np.random.default_rng([step, i]).standard_normal(p.shape))


@pytest.mark.parametrize("exclude", [True, False])
@pytest.mark.parametrize("variant", ["byol", "simclr", "airl", "larc"])
def test_lars_follows_its_equations(variant: LARSVariant, exclude: bool) -> None:
    """In numpy, tensor by tensor; one tensor of zeros, one gradient of zeros, and a rate that moves."""
    config = LARSConfig(lr=0.5, momentum=0.8, weight_decay=0.03, trust=0.1, variant=variant, exclude_norm_bias=exclude)
    net = module()
    net["predictor"].weight.data.zero_()
    optimizer = config.build(net.named_parameters())
    expected = {name: p.detach().numpy().copy() for name, p in net.named_parameters()}
    v = {name: np.zeros_like(w) for name, w in expected.items()}
    for step in range(5):
        factor = 1 / (step + 1)
        config.set_step(optimizer, factor, step / 5)
        set_gradients(net, step)
        if step == 2:
            net["body"].weight.grad.zero_()
        lr, mu = 0.5 * factor, 0.8
        for name, p in net.named_parameters():
            w, g = expected[name], p.grad.numpy()
            lam, ratio = 0.03, 1.0
            if exclude and w.ndim == 1:
                lam = 0.0
            else:
                w_norm, g_norm, d_norm = (float(np.sqrt((t**2).sum())) for t in (w, g, g + lam * w))
                if variant in ("byol", "simclr") and w_norm > 0 and d_norm > 0:
                    ratio = 0.1 * w_norm / d_norm
                elif variant == "airl" and w_norm > 0 and g_norm > 0:
                    ratio = 0.1 * w_norm / (g_norm + lam * w_norm)
                elif variant == "larc" and w_norm > 0 and g_norm > 0:
                    ratio = 0.1 * w_norm / (g_norm + lam * w_norm + 1e-8)
                elif variant == "larc":
                    lam = 0.0  # neither adapted nor decayed
            if variant in ("byol", "larc"):
                v[name] = mu * v[name] + ratio * (g + lam * w)
                expected[name] = w - lr * v[name]
            else:
                v[name] = mu * v[name] + lr * ratio * (g + lam * w)
                expected[name] = w - v[name]
        optimizer.step()
        for name, p in net.named_parameters():
            np.testing.assert_allclose(p.detach().numpy(), expected[name], rtol=1e-12, atol=1e-15)


def test_a_rate_inside_and_outside_the_buffer_are_the_same_while_it_is_constant() -> None:
    def trained(variant: LARSVariant, factors: list[float]) -> list[torch.Tensor]:
        net = module()
        config = LARSConfig(lr=0.5, weight_decay=0.03, variant=variant)
        optimizer = config.build(net.named_parameters())
        for step, factor in enumerate(factors):
            config.set_step(optimizer, factor, 0.0)
            set_gradients(net, step)
            optimizer.step()
        return [p.detach() for p in net.parameters()]

    torch.testing.assert_close(trained("byol", [1, 1, 1]), trained("simclr", [1, 1, 1]))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(trained("byol", [1, 0.5, 0.1]), trained("simclr", [1, 0.5, 0.1]))


def test_parameters_without_a_gradient_stay() -> None:
    net = module()
    optimizer = LARSConfig(lr=0.5).build(net.named_parameters())
    before = copy.deepcopy(net.state_dict())
    optimizer.step()
    net["body"].weight.grad = torch.ones_like(net["body"].weight)
    optimizer.step()
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"body.weight"}


@pytest.mark.parametrize("config", [SGDConfig(0.1), LARSConfig(0.1), AdamWConfig(0.1, final_weight_decay=0.4)])
def test_rates_and_weight_decay_of_a_step(config: OptimizerConfig) -> None:
    config = type(config)(**{**vars(config), "fixed_lr": ("predictor.",), "exclude_norm_bias": True})
    optimizer = config.build(module().named_parameters())
    assert config.set_step(optimizer, 0.25, 0.5) == 0.025
    settings = {
        name: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for name in group["param_names"]
    }
    decay = (0.05 + 0.4) / 2 if isinstance(config, AdamWConfig) else config.weight_decay
    assert settings == {
        "body.weight": (0.025, pytest.approx(decay)),
        "body.bias": (0.025, 0.0),
        "norm.weight": (0.025, 0.0),
        "norm.bias": (0.025, 0.0),
        "predictor.weight": (0.1, pytest.approx(decay)),
        "predictor.bias": (0.1, 0.0),
    }


def test_weight_decay_follows_its_cosine() -> None:
    config = AdamWConfig(lr=1.0, weight_decay=0.04, final_weight_decay=0.4)
    for progress in (0.0, 0.3, 1.0):
        expected = 0.4 + 0.5 * (0.04 - 0.4) * (1 + math.cos(math.pi * progress))  # DINO's schedule
        assert config.weight_decay_at(progress) == pytest.approx(expected)
    assert AdamWConfig(lr=1.0, weight_decay=0.04).weight_decay_at(0.7) == 0.04


@pytest.mark.parametrize("each", [False, True])
def test_clipping(each: bool) -> None:
    net = module()
    config = SGDConfig(lr=1.0, clip_norm=0.5, clip_each=each, exclude_norm_bias=True)
    optimizer = config.build(net.named_parameters())
    set_gradients(net, 0)
    net["norm"].bias.grad *= 1e-3
    net["norm"].weight.grad = None
    before = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    config.clip(optimizer)
    norm = torch.cat([g.flatten() for g in before.values()]).norm()
    for name, p in net.named_parameters():
        if p.grad is not None:
            factor = min(1.0, 0.5 / (before[name].norm() if each else norm))
            torch.testing.assert_close(p.grad, before[name] * factor, rtol=1e-5, atol=0)
    SGDConfig(lr=1.0).clip(optimizer)  # nothing to clip


def test_clipping_each_tensor_is_that_of_torch_bit_by_bit() -> None:
    """Lengths above, below and at the limit, of zero, not finite, and of a scalar."""
    generator = torch.Generator().manual_seed(0)
    scales = [10.0**x for x in range(-4, 3)] + [0.0, math.inf]
    shapes = [(3, 4), (5,), (), (16, 3, 3, 3), (1000,)]
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in shapes for _ in scales]
    alone = copy.deepcopy(parameters)
    for i, (p, q) in enumerate(zip(parameters, alone, strict=True)):
        p.grad = torch.randn(p.shape, generator=generator) * scales[i % len(scales)]
        q.grad = p.grad.clone()
        nn.utils.clip_grad_norm_([q], 0.5)
    config = SGDConfig(lr=1.0, clip_norm=0.5, clip_each=True)
    config.clip(config.build((str(i), p) for i, p in enumerate(parameters)))
    for p, q in zip(parameters, alone, strict=True):
        assert torch.equal(p.grad.nan_to_num(7.0), q.grad.nan_to_num(7.0))


def test_optimizer_state_of_one_group_is_that_of_plain_torch() -> None:
    """Checkpoints from before there were groups are read."""
    net = module()
    saved = torch.optim.SGD(list(net.named_parameters()), lr=0.3, momentum=0.9, weight_decay=1e-4)
    set_gradients(net, 0)
    saved.step()
    config = SGDConfig(lr=0.3)
    optimizer = config.build(net.named_parameters())
    optimizer.load_state_dict(saved.state_dict())
    config.set_step(optimizer, 0.5, 0.1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.15]
    assert len(optimizer.state) == 6
