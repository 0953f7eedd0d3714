# ruff: noqa: N806 - the paper's symbols

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from contrastive import SMALL, ToyBackbone, reset_momentum
from geometric import SIDE, draw, original_centre
from geometric import batch as views_of
from looping import sgd, train
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.data.views import View
from pretrain.errors import PretrainError
from pretrain.methods import all_recipes
from pretrain.methods.byol import BYOLConfig
from pretrain.methods.densecl import DenseCLConfig
from pretrain.methods.lc_loss import LCLoss, LCLossConfig, at_cells, local_contrast, mapped_centres
from pretrain.methods.moco import MoCoConfig
from pretrain.parts.geometry import align
from pretrain.parts.momentum import momentum_at

CURVE = Path(__file__).parent / "curves" / "lc-loss.json"
STEPS = 32
ON_BYOL = BYOLConfig(backbone="toy", hidden=10, dim=6, momentum=0.9, view_size=16)
ON_MOCO = MoCoConfig(**{**SMALL, "bn_splits": 2})


def build(base: Any = ON_BYOL, *, norm: bool = True, seed: int = 0, **changes: Any) -> Any:
    """On a toy backbone with maps of 4 x 4, in float64, with every weight drawn from `seed`."""

    settings = {"local_hidden": 7, "local_dim": 5, "local_weight": 0.5, **changes}
    method = LCLossConfig(base, **settings).build(ToyBackbone(norm=norm)).double()
    draw(method, seed)
    reset_momentum(method)
    if base is ON_MOCO:
        method.base.queue.keys = F.normalize(torch.arange(192.0).double().sin().view(32, 6) + seed, dim=1)
        method.base.seed = 7 + seed
    return method


def data(step: int) -> list[View]:
    return views_of(4, step % 8)


def loops(online: Tensor, target: Tensor, view: View, other: View, temperature: float = 0.1) -> Tensor:
    """L_LC from un-normalised local maps, image by image and cell by cell."""
    cells = [(r, c) for r in range(SIDE) for c in range(SIDE)]
    images = []
    for n in range(len(online)):
        terms = []
        x1, y1, x2, y2 = other.box[n].tolist()
        for r, c in cells:
            ox, oy = original_centre(view, n, r, c)
            u, v = (ox - x1) / (x2 - x1), (oy - y1) / (y2 - y1)
            if not (0 <= u <= 1 and 0 <= v <= 1):
                continue
            u = 1 - u if other.flip[n] else u
            f = F.normalize(online[n, :, r, c], dim=0)
            sample = torch.zeros_like(f)
            for i, j in cells:  # bilinear, the border's value beyond the outermost centres
                a = min(max(v * SIDE - 0.5, 0), SIDE - 1)
                b = min(max(u * SIDE - 0.5, 0), SIDE - 1)
                sample = sample + max(0, 1 - abs(a - i)) * max(0, 1 - abs(b - j)) * target[n, :, i, j]
            logits = [f @ F.normalize(sample, dim=0)]
            for i, j in cells:
                if math.hypot(u - (j + 0.5) / SIDE, v - (i + 0.5) / SIDE) * SIDE >= 1:
                    logits.append(f @ F.normalize(target[n, :, i, j], dim=0))
            logits = torch.stack(logits) / temperature
            terms.append(logits.logsumexp(0) - logits[0])
        if terms:
            images.append(torch.stack(terms).mean())
    return torch.stack(images).mean()


def plain_curve(start: LCLoss, steps: int) -> list[float]:
    """BYOL with the local loss, one thing after the other."""
    base = start.base
    theta = copy.deepcopy(nn.ModuleList([base.backbone, base.projector, start.local_head, base.predictor]))
    xi = copy.deepcopy(nn.ModuleList([base.momentum.backbone, base.momentum.projector, start.momentum.local_head]))
    optimizer = sgd([theta])
    losses = []
    for step in range(steps):
        views = data(step)
        maps = [theta[0](view.pixels) for view in views]
        with torch.no_grad():
            targets = [xi[0](view.pixels) for view in views]
        z = [theta[1](m.mean((2, 3))) for m in maps]
        p = [theta[3](v) for v in z]
        with torch.no_grad():
            t = [xi[1](m.mean((2, 3))) for m in targets]
        loss: Any = 0.0
        for a, b in ((0, 1), (1, 0)):
            loss = loss + (2 - 2 * F.cosine_similarity(p[a], t[b])).mean()
        for a, b in ((0, 1), (1, 0)):
            F_map = theta[2](maps[a])
            with torch.no_grad():
                T_map = xi[2](targets[b])
            loss = loss + 0.5 * 0.5 * loops(F_map, T_map, views[a], views[b])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        m = momentum_at(step + 1, steps, 0.9, "cosine")
        sources = [*theta[0].parameters(), *theta[1].parameters(), *theta[2].parameters()]
        for target, source in zip(xi.parameters(), sources, strict=True):
            target.data = m * target.data + (1 - m) * source.data
        losses.append(loss.item())
    return losses


def test_training_gives_the_losses_of_the_plain_loop() -> None:
    """32 steps that the plain loop recorded; a change of this curve is a change of the method."""
    got = train(build(), data, STEPS)
    assert got == pytest.approx(json.loads(CURVE.read_text()), rel=1e-7)
    assert got[-1] < got[0]


def test_on_moco_the_query_looks_for_its_cells_in_the_key() -> None:
    method = build(ON_MOCO)
    plain = copy.deepcopy(method)
    views = data(0)
    out = method(views)
    expected = copy.deepcopy(plain.base)(views)["loss"]
    order = plain.base.shuffle(4).permutation
    keys = plain.base.momentum.backbone(views[1].pixels[order])[torch.argsort(order)]
    local = loops(plain.local_head(plain.backbone(views[0].pixels)), plain.momentum.local_head(keys), *views)
    torch.testing.assert_close(out["loss_base"], expected.detach())
    torch.testing.assert_close(out["loss_local"], local.detach())
    torch.testing.assert_close(out["loss"], expected + 0.5 * local)
    method.after_step(1, 10)
    torch.testing.assert_close(method.base.queue.keys[4:], plain.base.queue.keys[4:])
    assert not torch.equal(method.base.queue.keys[:4], plain.base.queue.keys[:4])
    assert (method.info.name, LCLoss.info.name) == ("MoCo v2 + LC-loss", "LC-loss")


@pytest.mark.parametrize("base", [ON_BYOL, ON_MOCO])
def test_without_the_local_loss_it_is_the_base(base: Any) -> None:
    method = build(base, local_weight=0.0)
    plain = copy.deepcopy(method.base)
    assert train(method, data, 6) == train(plain, data, 6)
    theirs = method.base.state_dict()
    for key, value in plain.state_dict().items():
        assert torch.equal(value, theirs[key]), key


def whole(n: int = 2, flip: bool = False) -> View:
    box = torch.tensor([[0.1, 0.2, 0.7, 0.8]] * n).double()
    return View(torch.zeros(n, 3, 16, 16), box, torch.full((n,), flip), torch.arange(n))


def test_identical_views_match_cells_with_themselves_and_flipped_ones_with_the_mirrored() -> None:
    torch.manual_seed(0)
    T = torch.randn(2, 5, 4, 4, dtype=torch.float64)
    for flip in (False, True):
        x = mapped_centres(whole(), whole(flip=flip), 4)
        torch.testing.assert_close(at_cells(T, x), T.flip(3) if flip else T)
        y, valid = align(T, whole(flip=flip), whole(), 4)
        torch.testing.assert_close(y, T.flip(3) if flip else T)
        assert valid.all()


def test_uniform_features_cost_the_log_of_the_number_of_candidates() -> None:
    constant = F.normalize(torch.ones(1, 5, 4, 4, dtype=torch.float64), dim=1)
    x = mapped_centres(whole(1), whole(1), 4)
    loss = local_contrast(constant, constant, constant, x, 0.1).loss
    # at identical views only the cell itself is near: neighbours are exactly one cell away
    assert loss.item() == pytest.approx(math.log(1 + 15), abs=1e-9)


def test_disjoint_views_cost_nothing_and_send_no_gradient() -> None:
    away = View(whole().pixels, torch.tensor([[0.8, 0.0, 1.0, 0.2]] * 2).double(), whole().flip, whole().image_id)
    f = torch.randn(2, 5, 4, 4, dtype=torch.float64, requires_grad=True)
    local = local_contrast(F.normalize(f, dim=1), f.detach(), f.detach(), mapped_centres(whole(), away, 4), 0.1)
    assert [value.item() for value in local] == [0, 0, 0, 0]
    local.loss.backward()
    assert not f.grad.any()


def test_gradients_stop_where_the_targets_are() -> None:
    for base in (ON_BYOL, ON_MOCO):
        method = build(base, local_predictor=True)
        out = method(data(0))
        out["loss"].backward()
        trained = {name for name, p in method.named_parameters() if p.grad is not None and p.grad.any()}
        # a bias before batch norm changes nothing
        idle = {"base.projector.0.bias", "base.predictor.0.bias"}
        assert trained | idle >= {n for n, p in method.named_parameters() if p.requires_grad}
        assert not any("momentum" in name for name in trained)
        assert [name for name, value in out.items() if value.requires_grad] == ["loss"]
    f, t = (torch.randn(2, 5, 4, 4, dtype=torch.float64) for _ in range(2))
    assert local_contrast(f, t, t, mapped_centres(whole(), whole(), 4), 0.1).loss.isfinite()


def test_nearest_cells_can_be_positives() -> None:
    method, near = build(), build(match="nearest")
    views = data(0)
    a, b = method(views), near(views)
    assert a["loss_base"] == b["loss_base"] and a["loss_local"] != b["loss_local"]
    x = mapped_centres(views[0], views[1], SIDE)
    T = torch.arange(16.0).view(1, 1, 4, 4).expand(4, 1, 4, 4)
    picked = at_cells(T, x)
    for n in range(3):
        for r in range(4):
            for c in range(4):
                u, v = x[n, r, c].tolist()
                i, j = (min(max(math.floor(w * 4), 0), 3) for w in (v, u))
                assert picked[n, 0, r, c] == T[n, 0, i, j]


def test_recipes() -> None:
    recipes = all_recipes()
    paper = recipes["lc-loss-imagenet-200ep"]
    assert isinstance(paper.method, LCLossConfig) and paper.method.base == BYOLConfig()
    assert (paper.epochs, paper.batch_size, paper.optimizer.lr) == (200, 4096, 3.2)
    assert isinstance(recipes["lc-loss-moco-v2-imagenet-200ep"].method.base, MoCoConfig)
    assert LCLoss.info.fidelity == "reconstruction"


def test_a_base_whose_loss_is_not_of_its_maps_is_refused() -> None:
    with pytest.raises(PretrainError, match="cannot be added to DenseCL"):
        build(DenseCLConfig(**SMALL))
