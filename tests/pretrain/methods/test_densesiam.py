from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from contrastive import ToyBackbone
from geometric import batch as views_of
from geometric import draw
from looping import sgd, train
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.data.views import View
from pretrain.methods import all_recipes
from pretrain.methods.densesiam import DenseSiam, DenseSiamConfig, cosine_distance, region_contrast
from pretrain.parts.geometry import Frame
from pretrain.recipes import CosineSchedule

CURVE = Path(__file__).parent / "curves" / "densesiam.json"
STEPS = 32
K = 3
SMALL: dict[str, Any] = {
    "backbone": "toy",
    "dim": 7,
    "predictor_hidden": 5,
    "grid": K,
    "regions": 4,
    "region_dim": 6,
    "region_weight": 0.3,
    "pixel_weight": 0.8,
    "view_size": 16,
}


def build(*, norm: bool = True, seed: int = 0, **changes: Any) -> DenseSiam:
    """On a toy backbone with maps of 4 x 4, in float64, with every weight drawn from `seed`."""
    method = DenseSiamConfig(**{**SMALL, **changes}).build(ToyBackbone(norm=norm)).double()
    draw(method, seed)
    return method


def data(step: int) -> list[View]:
    return views_of(4, step % 8)


def sample(maps: Tensor, view: View, n: int, x: float, y: float) -> Tensor:
    """Image n's map at a point of the original image, bilinear, the border's value beyond the outermost centres."""
    x1, y1, x2, y2 = view.box[n].tolist()
    u, v = (x - x1) / (x2 - x1), (y - y1) / (y2 - y1)
    u = 1 - u if view.flip[n] else u
    side = maps.shape[2]
    a, b = (min(max(w * side - 0.5, 0), side - 1) for w in (v, u))
    weights = [[max(0, 1 - abs(a - i)) * max(0, 1 - abs(b - j)) for j in range(side)] for i in range(side)]
    return (maps[n] * torch.tensor(weights, dtype=maps.dtype)).sum((1, 2))


def shared_box(views: list[View], n: int) -> tuple[list[float], bool]:
    boxes = [view.box[n].tolist() for view in views]
    box = [max(b[i] for b in boxes) for i in (0, 1)] + [min(b[i] for b in boxes) for i in (2, 3)]
    exists = box[0] < box[2] and box[1] < box[3]
    return (box if exists else [0.0] * 4), exists


def plain_loss(method: DenseSiam, views: list[View]) -> Tensor:
    """The losses point by point and region by region, with the method's own layers."""
    n_images, config = len(views[0].pixels), method.config
    boxes = [shared_box(views, n) for n in range(n_images)]
    z, p, dense_z, dense_p, a, b = [], [], [], [], [], []
    for view in views:
        maps = method.backbone(view.pixels)
        z.append(method.projector(maps.mean((2, 3))))
        p.append(method.predictor(z[-1]))
        z_map = method.dense_projector(maps)
        p_map = method.dense_predictor(z_map)
        points = []
        for n in range(n_images):
            x1, y1, x2, y2 = boxes[n][0]
            for r in range(K):
                for c in range(K):
                    at = x1 + (c + 0.5) / K * (x2 - x1), y1 + (r + 0.5) / K * (y2 - y1)
                    points.append([sample(m, view, n, *at) for m in (z_map, p_map, maps)])
        z_points, p_points, f = (torch.stack(values) for values in zip(*points, strict=True))
        dense_z.append(z_points)
        dense_p.append(p_points)
        masks = method.masks(z_points.view(n_images, K, K, -1).permute(0, 3, 1, 2)).softmax(1).flatten(2)
        e = torch.stack(
            [
                sum((masks[n, m, s] * f[n * K * K + s] for s in range(K * K)), torch.zeros(()))
                for n in range(n_images)
                for m in range(config.regions)
            ]
        )
        b.append(method.region_projector(e))
        a.append(F.normalize(method.region_predictor(b[-1]), dim=1))
        b[-1] = F.normalize(b[-1], dim=1)
    total = torch.zeros((), dtype=torch.float64)
    for i, j in ((0, 1), (1, 0)):
        total = total - 0.5 * config.global_weight * F.cosine_similarity(p[i], z[j].detach()).mean()
        valid = [n for n in range(n_images) if boxes[n][1]]
        for n in valid:
            here = slice(n * K * K, (n + 1) * K * K)
            cosine = F.cosine_similarity(dense_p[i][here], dense_z[j][here].detach()).mean()
            total = total - 0.5 * config.pixel_weight * cosine / len(valid)
            rows = slice(n * config.regions, (n + 1) * config.regions)
            target = b[j][rows].detach() if config.region_stop_gradient else b[j][rows]
            logits = a[i][rows] @ target.T / config.region_temperature
            ce = F.cross_entropy(logits, torch.arange(config.regions))
            total = total + 0.5 * config.region_weight * ce / len(valid)
    return total


def plain_curve(method: DenseSiam, steps: int) -> list[float]:
    optimizer = sgd([method])
    losses = []
    for step in range(steps):
        loss = plain_loss(method, data(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_gives_the_losses_of_the_plain_loop() -> None:
    """32 steps that the plain loop recorded; a change of this curve is a change of the method.

    Kinds of processors differ by up to 5e-7: training magnifies what they round differently.
    """
    got = train(build(), data, STEPS)
    assert got == pytest.approx(json.loads(CURVE.read_text()), rel=1e-5)
    assert got[-1] < got[0]


def test_loss_and_gradient_are_those_of_the_plain_loop_also_without_stopping_at_regions() -> None:
    method = build(region_stop_gradient=False)
    plain = copy.deepcopy(method)
    loss, expected = method(data(0))["loss"], plain_loss(plain, data(0))
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    for (name, p), q in zip(method.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-9, atol=1e-11, msg=name)


def test_parts_add_up() -> None:
    out = build()(data(0))
    expected = out["loss_global"] + 0.8 * out["loss_pixel"] + 0.3 * out["loss_region"]
    torch.testing.assert_close(out["loss"].detach(), expected)
    assert [name for name, value in out.items() if value.requires_grad] == ["loss"]
    assert out["overlap"] == 0.75  # the last image's views share nothing


def test_gradients_stop_at_projections_and_reach_everything_else() -> None:
    method = build()
    method(data(0))["loss"].backward()
    trained = {name for name, p in method.named_parameters() if p.grad is not None and p.grad.any()}
    assert trained == set(dict(method.named_parameters()))
    p, z = (torch.randn(2, 5, 3, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    cosine_distance(p, z).mean().backward()
    assert p.grad is not None and z.grad is None
    # along its own direction a prediction gains nothing
    assert (p.grad * p).sum(1).abs().max() < 1e-12


def test_views_without_overlap_leave_the_image_loss_alone() -> None:
    method = build()
    views = data(0)
    for view, box in zip(views, ([0.0, 0.0, 0.4, 1.0], [0.5, 0.0, 1.0, 1.0]), strict=True):
        view.box[:] = torch.tensor(box)
    out = method(views)
    assert out["loss_pixel"] == out["loss_region"] == out["overlap"] == 0
    torch.testing.assert_close(out["loss"].detach(), out["loss_global"])
    out["loss"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())
    assert not method.dense_predictor[0].weight.grad.any()


def test_a_flip_is_undone() -> None:
    """With a network that works pixel by pixel, flipped views of one crop give the same points."""
    method = build(norm=False)
    method.backbone = nn.Conv2d(3, 8, 1).double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    box = torch.tensor([[0.1, 0.2, 0.7, 0.8]] * 2).double()
    plain = View(x, box, torch.tensor([False, False]), torch.arange(2))
    flipped = View(x.flip(3), box, torch.tensor([True, True]), torch.arange(2))
    shared = Frame(box, plain.flip)
    one, two = (method.points(method.backbone(v.pixels), v, shared) for v in (plain, flipped))
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b)


def test_region_loss_does_not_care_how_regions_are_numbered() -> None:
    torch.manual_seed(0)
    a, b = (F.normalize(torch.randn(3, 5, 6, dtype=torch.float64), dim=2) for _ in range(2))
    order = torch.randperm(5)
    for x, y in zip(region_contrast(a, b, 0.1), region_contrast(a[:, order], b[:, order], 0.1), strict=True):
        torch.testing.assert_close(x, y)
    same = F.normalize(torch.ones(1, 5, 6, dtype=torch.float64), dim=2)
    loss, found = region_contrast(same, same, 0.1)
    assert loss.item() == pytest.approx(math.log(5))
    assert not found.any()
    loss, found = region_contrast(a, a, 0.01)
    assert found.eq(1).all() and loss.max() < 1e-3


def test_hard_masks_sum_the_features_of_their_segment() -> None:
    """Through the region heads' input: masks of one-hot logits."""
    method = build(norm=False)
    logits = torch.full((1, 4, K, K), -1e4, dtype=torch.float64)
    label = torch.tensor([[0, 0, 1], [2, 1, 1], [2, 2, 3]])
    logits.scatter_(1, label[None, None], 1e4)
    method.masks.register_forward_hook(lambda *_: logits)
    seen = []
    method.region_projector.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    maps = torch.randn(1, 8, 4, 4, dtype=torch.float64)
    whole = View(torch.zeros(1), torch.tensor([[0.0, 0, 1, 1]]).double(), torch.tensor([False]), torch.arange(1))
    method.eval().points(maps, whole, Frame(whole.box, whole.flip))
    for m in range(4):
        cells = [(r, c) for r in range(K) for c in range(K) if label[r, c] == m]
        expected = sum(sample(maps, whole, 0, (c + 0.5) / K, (r + 0.5) / K) for r, c in cells)
        torch.testing.assert_close(seen[0][m], expected)


def test_recipes() -> None:
    recipe = all_recipes()["densesiam-imagenet-200ep"]
    assert (recipe.epochs, recipe.batch_size, recipe.schedule) == (200, 512, CosineSchedule(per="epoch"))
    assert recipe.optimizer.lr == pytest.approx(0.05 * 512 / 256)
    method = build()
    for prefix in recipe.optimizer.fixed_lr:
        assert any(name.startswith(prefix) for name, _ in method.named_parameters())
    assert DenseSiam.info.fidelity == "reconstruction"
