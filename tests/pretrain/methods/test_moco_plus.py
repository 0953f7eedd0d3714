import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from contrastive import cross_entropy, sgd
from geometric import build as build_on_toy
from multicrops import batch as crops
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.data.views import View
from pretrain.methods import METHODS, all_recipes
from pretrain.methods.moco_plus import MoCoPlus, MoCoPlusConfig, SMoCoPlus, SMoCoPlusConfig
from pretrain.recipes import SGDConfig

CURVE = Path(__file__).parent / "curves" / "moco-v2-plus.json"
SMALL = {"backbone": "toy", "hidden": 10, "dim": 6, "queue": 32, "momentum": 0.8, "view_size": 16}
KINDS = [MoCoPlusConfig(**SMALL), SMoCoPlusConfig(**SMALL)]
N = 8


def build(config: MoCoPlusConfig, seed: int = 0) -> MoCoPlus:
    method = build_on_toy(config, seed=seed)
    keys = np.random.default_rng([seed, 1000]).standard_normal((config.queue, config.dim))
    method.queue.keys = F.normalize(torch.from_numpy(keys), dim=1)
    return method


def batch(step: int) -> list[View]:
    return crops(N, step % 8, small=0)


def train(method: MoCoPlus, steps: int) -> list[float]:
    optimizer = sgd([method])
    losses = []
    for step in range(1, steps + 1):
        torch.manual_seed(step)
        loss = method(batch(step))["loss"]
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step, steps)
    return losses


def plain_train(start: MoCoPlus, steps: int) -> list[float]:
    """The papers' code in its order, with networks written out: all logits at once, zip over online parameters."""
    config = start.config
    online = copy.deepcopy(nn.Sequential(start.backbone, start.head, start.predictor))
    target = copy.deepcopy(nn.Sequential(start.backbone, start.head))
    queue, pointer = start.queue.keys.T.clone(), 0
    optimizer = sgd([online])
    losses = []

    def embed(net: nn.Sequential, x: Tensor) -> Tensor:
        z = net[0](x).mean((2, 3))
        for layer in net[1:]:
            z = layer(z)
        return F.normalize(z, dim=1)

    for step in range(1, steps + 1):
        x_1, x_2 = (view.pixels for view in batch(step))
        o_1, o_2 = embed(online, x_1), embed(online, x_2)
        with torch.no_grad():
            t_1, t_2 = embed(target, x_1), embed(target, x_2)
        loss = cross_entropy(o_1, t_2, queue, config.temperature) + cross_entropy(o_2, t_1, queue, config.temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        m = 1 - (1 - config.momentum) * (math.cos(math.pi * step / steps) + 1) / 2
        for p, q in zip(target.parameters(), online.parameters(), strict=False):  # the predictor comes last
            p.data = m * p.data + (1 - m) * q.data
        torch.manual_seed(step)
        queue[:, pointer : pointer + N] = (t_2 if torch.randint(2, ()) else t_1).T
        pointer = (pointer + N) % config.queue
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("config", KINDS)
def test_training_is_the_papers_code(config: MoCoPlusConfig) -> None:
    got = train(build(config), 32)
    assert got == pytest.approx(plain_train(build(config), 32), rel=1e-9)
    assert got == pytest.approx(json.loads(CURVE.read_text())[build(config).info.id], rel=1e-7)
    assert got[-1] < got[8]  # it learns, once the random queue is flushed


@pytest.mark.parametrize("config", KINDS)
def test_gradients_stop_at_the_momentum_network(config: MoCoPlusConfig) -> None:
    method = build(config)
    out = method(batch(0))
    out["loss"].backward()
    trained = {name for name, p in method.named_parameters() if p.grad is not None}
    online = ("backbone.", "head.", "predictor.")
    assert trained == {name for name, _ in method.named_parameters() if name.startswith(online)}
    assert [name for name, value in out.items() if value.requires_grad] == ["loss"]
    assert set(out) == {"loss", "positive", "negative", "accuracy", "std"}


def test_swapping_the_views_changes_nothing() -> None:
    first, second = batch(0)
    assert build(KINDS[0])([first, second])["loss"].item() == pytest.approx(
        build(KINDS[0])([second, first])["loss"].item(), rel=1e-12
    )


def test_momentum_ends_at_one_and_the_coin_falls_on_both_sides() -> None:
    method = build(KINDS[0])
    sides = []
    for step in range(1, 21):
        torch.manual_seed(step)
        before = copy.deepcopy(method)
        method(batch(step))
        keys = method._keys
        assert keys is not None
        for p in method.head.parameters():
            p.data.add_(0.1)
        method.after_step(step, 20)
        start = N * (step - 1) % 32
        enqueued = method.queue.keys[start : start + N]
        sides.append([torch.equal(enqueued, k) for k in keys].index(True))
        moved = not torch.equal(method.momentum.head[0].weight, before.momentum.head[0].weight)
        assert moved == (step < 20)
    assert 4 < sum(sides) < 16


def test_both_networks_of_the_symmetric_variant_are_alike() -> None:
    method = build(KINDS[1])
    assert method.head.state_dict().keys() == method.momentum.head.state_dict().keys()
    assert not list(method.predictor.parameters())
    biases = [layer.bias is not None for layer in method.head if isinstance(layer, nn.Linear)]
    assert biases == [True, False, True, False]
    plain = build(KINDS[0])
    linear = [layer for part in (plain.head, plain.predictor) for layer in part if isinstance(layer, nn.Linear)]
    assert [layer.bias is not None for layer in linear] == [True] * 4
    widths = [(layer.in_features, layer.out_features) for layer in linear]
    assert widths == [(8, 10), (10, 6), (6, 10), (10, 6)]
    assert [(x.in_features, x.out_features) for x in method.head if isinstance(x, nn.Linear)] == widths


def test_recipes_have_the_papers_settings() -> None:
    for kind in ("moco-v2-plus", "s-moco-v2-plus"):
        recipe = all_recipes()[f"{kind}-imagenet-200ep"]
        assert (recipe.epochs, recipe.batch_size) == (200, 256)
        assert recipe.optimizer == SGDConfig(lr=0.03, momentum=0.9, weight_decay=1e-4)
        rates = [0.03 * recipe.schedule.factor(step, 5, 200) for step in (0, 25, 50, 525, 1000)]
        # 10 warm-up epochs from 1e-6, then a cosine by steps
        assert rates == pytest.approx([1e-6, (0.03 + 1e-6) / 2, 0.03, 0.015, 0], abs=1e-12)
        config = recipe.method
        assert isinstance(config, MoCoPlusConfig)
        assert (config.hidden, config.dim, config.queue, config.temperature) == (4096, 256, 65536, 0.2)
        assert (config.momentum, config.momentum_schedule) == (0.99, "cosine")
    assert {MoCoPlus, SMoCoPlus} <= set(METHODS)
    assert (MoCoPlus.info.id, SMoCoPlus.info.id) == ("moco-v2-plus", "s-moco-v2-plus")
