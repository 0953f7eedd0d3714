# ruff: noqa: N806 - the paper's symbols

from __future__ import annotations

import copy
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from contrastive import SMALL, ToyBackbone, batch, fill
from geometric import draw
from looping import sgd, train
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.errors import PretrainError
from pretrain.methods.densecl import DenseCLConfig
from pretrain.methods.moco import MoCoConfig
from pretrain.methods.regioncl import (
    RECIPES,
    Region,
    RegionCL,
    RegionCLConfig,
    canvas_and_paste,
    composite,
    draw_region,
    partners,
)
from pretrain.methods.simsiam import SimSiamConfig
from pretrain.parts.distributed import batch_permutation, inverse
from pretrain.recipes import CosineSchedule, SGDConfig, override

ON_SIMSIAM = SimSiamConfig(backbone="toy", dim=7, hidden=5, view_size=16)
CURVE = Path(__file__).parent / "curves" / "regioncl.json"
STEPS = 32


def build(
    base: MoCoConfig | SimSiamConfig | None = None, *, norm: bool = True, seed: int = 0, **changes: Any
) -> RegionCL:
    """On a toy backbone with cells of 4 pixels, in float64, with every number drawn from `seed`."""

    base = base or MoCoConfig(**{**SMALL, "bn_splits": 2})
    settings = {"region_cells": (1, 3), "stride": 4, "swap_parts": 2, **changes}
    method = RegionCLConfig(base, **settings).build(ToyBackbone(norm=norm)).double()
    if isinstance(base, SimSiamConfig):
        draw(method, seed)
    else:
        method.base.seed = 7 + seed
        fill(method.base, seed)
    return method


def data(step: int) -> list[Any]:
    return batch(8, step % 8)


def region_terms(
    backbone: nn.Module, head: nn.Module, x: Tensor, k: Tensor, queue: Tensor, region: Region, parts: int, tau: float
) -> Tensor:
    """L_region image by image and cell by cell."""
    n, side = len(x), len(x) // parts
    left, top, right, bottom = region.pixels
    partner = [i // side * side + side - 1 - i % side for i in range(n)]
    mixed = torch.stack(
        [
            torch.stack(
                [
                    torch.stack(
                        [
                            x[partner[i] if top <= r < bottom and left <= c < right else i, :, r, c]
                            for c in range(x.shape[3])
                        ],
                        dim=1,
                    )
                    for r in range(x.shape[2])
                ],
                dim=1,
            )
            for i in range(n)
        ]
    )
    B = backbone(mixed)
    left, top, right, bottom = region.cells
    total = torch.zeros((), dtype=x.dtype)
    for i in range(n):
        cells: dict[bool, list[Tensor]] = {True: [], False: []}
        for r in range(B.shape[2]):
            for c in range(B.shape[3]):
                cells[top <= r < bottom and left <= c < right].append(B[i, :, r, c])
        p, canvas = (F.normalize(head(torch.stack(cells[here]).mean(0)[None]), dim=1)[0] for here in (True, False))
        for own, key, other in ((canvas, k[i], p), (p, k[partner[i]], canvas)):
            logits = torch.cat(((own @ key)[None], own @ queue, (own @ other.detach())[None])) / tau
            assert len(logits) == queue.shape[1] + 2
            total = total - logits[0] + logits.logsumexp(0)
    return total / (2 * n)


def plain_curve(start: RegionCL, steps: int) -> list[float]:
    """RegionCL-M in the order of the released code: momentum moves before the keys, queues are (C, K)."""
    base, parts = start.base.config, start.base.bn_splits
    f_q = copy.deepcopy(nn.ModuleList([start.base.backbone, start.base.head]))
    f_k = copy.deepcopy(f_q)
    queue = start.base.queue.keys.T.clone()
    optimizer = sgd([f_q])
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        region = draw_region(4, (1, 3), 4)
        view_q, view_k = data(step)
        n = len(view_q.pixels)
        q = F.normalize(f_q[1](f_q[0](view_q.pixels).mean((2, 3))), dim=1)
        with torch.no_grad():
            for p_q, p_k in zip(f_q.parameters(), f_k.parameters(), strict=True):
                p_k.data = p_k.data * base.momentum + p_q.data * (1 - base.momentum)
            order = batch_permutation(n, start.base.seed, step)
            k = F.normalize(f_k[1](f_k[0](view_k.pixels[order])[inverse(order)].mean((2, 3))), dim=1)
        logits = torch.cat(((q * k).sum(1, keepdim=True), q @ queue), 1) / base.temperature
        loss = F.cross_entropy(logits, torch.zeros(n, dtype=torch.int64))
        loss = loss + region_terms(f_q[0], f_q[1], view_q.pixels, k, queue, region, parts, base.temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        at = step * n % base.queue
        queue[:, at : at + n] = k.T
        losses.append(loss.item())
    return losses


def test_training_is_the_plain_loop() -> None:
    assert train(build(), data, 8) == pytest.approx(plain_curve(build(), 8), rel=1e-9)


def test_training_gives_the_recorded_losses() -> None:
    """32 steps that the plain loop recorded; a change of this curve is a change of the method."""
    got = train(build(), data, STEPS)
    assert got == pytest.approx(json.loads(CURVE.read_text()), rel=1e-7)
    assert got[-1] < got[8]


@pytest.mark.parametrize("legacy", [False, True])
def test_on_densecl_the_region_term_joins_densecls_loss(legacy: bool) -> None:
    base = DenseCLConfig(**{**SMALL, "bn_splits": 2})
    method = build(base, region_weight=0.5, legacy_offset=legacy)
    plain = copy.deepcopy(method.base)
    torch.manual_seed(0)
    out = method(data(0))
    torch.manual_seed(0)
    region = draw_region(4, (1, 3), 4, legacy=legacy)
    expected = plain(data(0))["loss"]
    terms = region_terms(
        plain.backbone, plain.head, data(0)[0].pixels, plain.targets, plain.queue.keys.T, region, 2, 0.2
    )
    torch.testing.assert_close(out["loss"], expected + 0.5 * terms)
    assert out["loss_base"] == expected
    torch.testing.assert_close(out["loss_region"], terms.detach())
    assert (method.info.name, build().info.name, RegionCL.info.name) == ("RegionCL-D", "RegionCL-M", "RegionCL")
    method.after_step(1, 10)
    assert not torch.equal(method.base.dense_queue.keys, plain.dense_queue.keys)
    assert method.base.steps == 1


def test_on_simsiam_regions_predict_the_projection_of_their_own_image() -> None:
    method = build(ON_SIMSIAM)
    plain = copy.deepcopy(method.base)
    views = data(0)
    torch.manual_seed(0)
    out = method(views)
    torch.manual_seed(0)
    region = draw_region(4, (1, 3), 4)
    expected = copy.deepcopy(plain)(views)["loss"]
    mixed = plain.backbone(composite(views[0].pixels, partners(8, 2), region))
    left, top, right, bottom = region.cells
    inside = [(r, c) for r in range(4) for c in range(4) if top <= r < bottom and left <= c < right]
    outside = [(r, c) for r in range(4) for c in range(4) if (r, c) not in inside]
    means = [
        torch.stack([torch.stack([mixed[i, :, r, c] for r, c in cells]).mean(0) for i in range(8)])
        for cells in (outside, inside)
    ]
    h = plain.predictor(plain.projector(torch.cat(means)))
    z = plain.projector(plain.backbone(views[1].pixels).mean((2, 3)))
    terms = [-F.cosine_similarity(h[i], z[i], dim=0) for i in range(8)]
    terms += [-F.cosine_similarity(h[8 + i], z[[3, 2, 1, 0, 7, 6, 5, 4][i]], dim=0) for i in range(8)]
    torch.testing.assert_close(out["loss_region"], torch.stack(terms).mean().detach())
    torch.testing.assert_close(out["loss"].detach(), expected.detach() + out["loss_region"])
    assert method.info.name == "RegionCL-S"


def test_on_simsiam_training_and_gradients() -> None:
    method = build(ON_SIMSIAM)
    out = method(data(0))
    out["loss"].backward()
    assert all(p.grad is not None and p.grad.any() for p in method.parameters())
    assert [name for name, value in out.items() if value.requires_grad] == ["loss"]
    losses = train(build(ON_SIMSIAM), data, 12)
    assert losses[-1] < losses[0]


def test_without_the_region_term_it_is_the_base() -> None:
    for base in (None, ON_SIMSIAM):
        siamese, plain_siamese = build(base, region_weight=0.0, norm=False), build(base, norm=False).base
        assert train(siamese, data, 2)[0] == train(plain_siamese, data, 2)[0]
    method, plain = build(region_weight=0.0, norm=False), build(norm=False).base
    assert train(method, data, 6) == train(plain, data, 6)
    for key, value in plain.state_dict().items():
        assert torch.equal(value, method.base.state_dict()[key]), key


def test_partners_swap_within_their_part() -> None:
    assert partners(6, 1).tolist() == [5, 4, 3, 2, 1, 0]
    assert partners(6, 2).tolist() == [2, 1, 0, 5, 4, 3]
    for n, parts in ((8, 4), (5, 1), (9, 3)):
        partner = partners(n, parts)
        assert torch.equal(partner[partner], torch.arange(n))


def test_swapping_twice_restores_the_batch() -> None:
    torch.manual_seed(0)
    x, partner = torch.randn(4, 3, 8, 8), partners(4, 1)
    region = Region((0, 1, 1, 2), (0, 4, 4, 8))
    once = composite(x, partner, region)
    assert torch.equal(composite(once, partner, region), x)
    assert torch.equal(once[0, :, 4:, :4], x[3, :, 4:, :4])
    assert torch.equal(once[0, :, :4], x[0, :, :4]) and torch.equal(once[0, :, 4:, 4:], x[0, :, 4:, 4:])
    same = x[:1].expand(4, -1, -1, -1)
    assert torch.equal(composite(same, partner, region), same)


def test_canvas_and_paste_are_means_that_add_up_to_the_map() -> None:
    torch.manual_seed(0)
    B = torch.randn(2, 5, 7, 7, dtype=torch.float64)
    canvas, paste = canvas_and_paste(B, Region((1, 2, 4, 6), (0, 0, 0, 0)))
    torch.testing.assert_close(paste, B[:, :, 2:6, 1:4].mean((2, 3)))
    torch.testing.assert_close(canvas * (49 - 12) + paste * 12, B.sum((2, 3)))
    canvas, paste = canvas_and_paste(torch.full((1, 3, 7, 7), 0.25), Region((0, 0, 3, 3), (0, 0, 0, 0)))
    assert torch.equal(canvas, paste)


def test_regions_fit_their_cells_and_are_uniform() -> None:
    torch.manual_seed(0)
    drawn = [draw_region(7, (3, 5), 32) for _ in range(3000)]
    for region in drawn:
        assert region.pixels == tuple(32 * c for c in region.cells)
        left, top, right, bottom = region.cells
        assert 0 <= left < right <= 7 and 0 <= top < bottom <= 7
    sizes = Counter((r.cells[2] - r.cells[0], r.cells[3] - r.cells[1]) for r in drawn)
    assert sizes.keys() == {(w, h) for w in (3, 4, 5) for h in (3, 4, 5)}
    assert max(abs(count / 3000 - 1 / 9) for count in sizes.values()) < 0.03
    starts = Counter(r.cells[0] for r in drawn if r.cells[2] - r.cells[0] == 4)
    assert all(abs(starts[s] / starts.total() - 1 / 4) < 0.06 for s in range(4))


@pytest.mark.parametrize(("size", "share", "at_the_end"), [(3, 0.50, 0.64), (4, 0.64, 0.79), (5, 0.79, 0.92)])
def test_legacy_regions_miss_their_cells_as_often_as_the_released_code(
    size: int, share: float, at_the_end: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By enumeration of the start pixels of one axis, each beside the released code's arithmetic."""
    missed, last = 0, 0
    for u in range(224):
        draws = iter((size, u, size, 0))
        monkeypatch.setattr(torch, "randint", lambda *_, draws=draws: torch.tensor(next(draws)))
        region = draw_region(7, (size, size), 32, legacy=True)
        assert 0 <= region.pixels[0] < region.pixels[2] <= 224 and region.cells[2] <= 7
        offset = region.pixels[0] - 32 * region.cells[0]
        assert offset in (0, 31)
        missed += offset > 0
        start = min(round(u / 32) * 32, 224 - 1 - size * 32)
        assert region.pixels[::2] == (int(start), int(start) + size * 32)
        assert region.cells[::2] == (int(start / 32), int(start / 32) + size)
        last += region.cells[0] == 6 - size
    assert missed / 224 == pytest.approx(share, abs=0.005)
    assert last / 224 == pytest.approx(at_the_end, abs=0.005)


def test_gradients_stop_where_the_paper_stops_them() -> None:
    method = build()
    out = method(data(0))
    out["loss"].backward()
    trained = {name for name, p in method.named_parameters() if p.grad is not None and p.grad.any()}
    assert trained == {n for n, _ in method.named_parameters() if n.startswith(("backbone.", "base.head."))}
    assert not any(p.grad is not None for p in method.base.momentum.backbone.parameters())
    assert [name for name, value in out.items() if value.requires_grad] == ["loss"]


def test_parts_of_one_constant_map_cost_log_of_k_plus_2() -> None:
    method = build(region_weight=1.0)
    for head in (method.base.head, method.base.momentum.head):
        head[2].weight.data.zero_()
    constant = F.normalize(method.base.head[2].bias.data, dim=0)
    method.base.momentum.head[2].bias.data = constant.clone()
    method.base.queue.keys = constant.expand(32, 6).clone()
    out = method(data(0))
    assert out["loss_region"].item() == pytest.approx(math.log(34), rel=1e-12)
    assert out["loss_base"].item() == pytest.approx(math.log(33), rel=1e-12)
    assert out["region_other"].item() == pytest.approx(1)


def test_regions_that_do_not_fit_are_refused() -> None:
    for changes in ({"region_cells": (1, 4)}, {"region_cells": (0, 2)}, {"region_cells": (3, 2)}, {"stride": 3}):
        with pytest.raises(PretrainError, match="do not fit into views of 16 pixels"):
            build(**changes)
    with pytest.raises(PretrainError, match="cannot be cut into 3 equal parts that swap"):
        partners(8, 3)
    with pytest.raises(PretrainError, match="maps of"):
        build(stride=8, region_cells=(1, 1))(data(0))


def test_paper_recipes_have_the_published_settings() -> None:
    recipes = {recipe.name: recipe for recipe in RECIPES}
    for name, kind in (("regioncl-m-imagenet-200ep", MoCoConfig), ("regioncl-d-imagenet-200ep", DenseCLConfig)):
        recipe = recipes[name]
        assert (recipe.epochs, recipe.batch_size) == (200, 1024)
        assert recipe.optimizer == SGDConfig(lr=0.15, momentum=0.9, weight_decay=1e-4)
        assert recipe.schedule == CosineSchedule(per="epoch")
        config = recipe.method
        assert isinstance(config, RegionCLConfig) and type(config.base) is kind
        assert (config.region_cells, config.region_weight, config.legacy_offset) == ((3, 5), 1.0, False)
        assert (config.base.queue, config.base.temperature, config.base.init) == (65536, 0.2, "openselfsup")
    changed = override(recipes["regioncl-mini"], ["method.base.temperature=0.1", "method.region_cells=1,1"])
    assert changed.method.base.temperature == 0.1
    assert changed.backbone == "resnet18"
    assert changed.sha256 != recipes["regioncl-mini"].sha256
