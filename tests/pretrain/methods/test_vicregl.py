import copy
import json
import math
from pathlib import Path

import geometric
import pytest
import torch
from contrastive import sgd
from geometric import SIDE, batch, cell, original_centre, stopped_and_trained, train
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.data.views import View
from pretrain.errors import PretrainError
from pretrain.methods import all_recipes, vicregl
from pretrain.methods.vicregl import RECIPES, VICRegL, VICRegLConfig, matched, nearest, variance_and_covariance
from pretrain.recipes import CosineSchedule

CURVE = Path(__file__).parent / "curves" / "vicregl.json"
SMALL = {"backbone": "toy", "expander": 7, "local_expander": 5, "matches": (6, 3), "view_size": 16}


def make(seed: int = 0, **changes: object) -> VICRegL:
    return geometric.build(VICRegLConfig(**{**SMALL, **changes}), seed=seed)  # type: ignore[arg-type]


def plain_vicreg(a: Tensor, b: Tensor) -> Tensor:
    """25 s + 25 (v + v) / 2 + (c + c) / 2 of embeddings (N, D), coordinate by coordinate."""
    n, dim = a.shape
    loss = 25 * F.mse_loss(a, b)
    for x in (a, b):
        centred = x - x.mean(0)
        for d in range(dim):
            std = ((centred[:, d] ** 2).sum() / (n - 1) + 1e-4).sqrt()
            loss = loss + 25 * F.relu(1 - std) / dim / 2
            for e in range(dim):
                if d != e:
                    loss = loss + ((centred[:, d] * centred[:, e]).sum() / (n - 1)) ** 2 / dim / 2
    return loss


def plain_matches(far: list[list[float]], count: int) -> list[tuple[int, int]]:
    """The `count` cells of one image that are nearest to any of the other, in reading order, with that other."""
    best = [min(range(len(row)), key=row.__getitem__) for row in far]
    kept = sorted(sorted(range(len(far)), key=lambda s: far[s][best[s]])[:count])
    return [(s, best[s]) for s in kept]


def plain_local(a: Tensor, b: Tensor, far: list[list[list[float]]], count: int) -> Tensor:
    """VICReg of each match by itself, averaged over matches; `far` are distances image by image."""
    matches = [plain_matches(table, count) for table in far]
    total = torch.zeros((), dtype=a.dtype)
    for k in range(count):
        first = torch.stack([cell(a, i, m[k][0]) for i, m in enumerate(matches)])
        second = torch.stack([cell(b, i, m[k][1]) for i, m in enumerate(matches)])
        total = total + plain_vicreg(first, second) / count
    return total


def plain_loss(method: VICRegL, views: list[View], f: nn.ModuleList) -> Tensor:
    """The loss as the authors' code sums it: over ordered pairs, the first view with gamma 20, the second with 4."""
    config, n = method.config, len(views[0].pixels)
    maps = [f[0](v.pixels) for v in views]
    z = [f[1](B.mean((2, 3))) for B in maps]
    y = [f[2](B.permute(0, 2, 3, 1).flatten(0, 2)).view(n, SIDE, SIDE, -1).permute(0, 3, 1, 2) for B in maps]
    cells = range(SIDE**2)
    local = torch.zeros((), dtype=z[0].dtype)
    for a, b in ((0, 1), (1, 0)):
        for (p, q), gamma in (((a, b), config.matches[0]), ((b, a), config.matches[1])):
            look = [
                [[(cell(y[p], i, s) - cell(y[q], i, t)).norm().item() for t in cells] for s in cells] for i in range(n)
            ]
            centres = [
                [[original_centre(views[v], i, *divmod(s, SIDE)) for s in cells] for i in range(n)] for v in (p, q)
            ]
            place = [[[math.dist(centres[0][i][s], centres[1][i][t]) for t in cells] for s in cells] for i in range(n)]
            local = local + plain_local(y[p], y[q], look, SIDE**2) / 2
            local = local + plain_local(y[p], y[q], place, gamma) / 2
    return config.alpha * plain_vicreg(z[0], z[1]) + (1 - config.alpha) * local / 2


def plain_curve(start: VICRegL, n: int, steps: int) -> list[float]:
    f = copy.deepcopy(nn.ModuleList([start.backbone, start.expander, start.local_expander]))
    optimizer = sgd([f])
    losses = []
    for step in range(1, steps + 1):
        loss = plain_loss(start, batch(n, step % 8), f)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_is_the_papers_code() -> None:
    """Match by match and coordinate by coordinate, with an image whose views share nothing."""
    assert train(make(), 3, 2) == pytest.approx(plain_curve(make(), 3, 2), rel=1e-9)


def test_training_gives_the_recorded_losses() -> None:
    """32 steps in float64, recorded from the plain loop; a change of this curve is a change of the method."""
    got = train(make(), 4, 32)
    assert got == pytest.approx(json.loads(CURVE.read_text()), rel=1e-7)
    assert sum(got[-8:]) < sum(got[:8])  # it learns


def test_variance_and_covariance() -> None:
    torch.manual_seed(0)
    decorrelated = torch.linalg.qr(torch.randn(8, 3, dtype=torch.float64) - 0)[0]
    x = decorrelated - decorrelated.mean(0)
    x = torch.linalg.qr(x)[0] * 7**0.5 * 2  # centred columns of variance 4 that are orthogonal
    x = x - x.mean(0)
    torch.testing.assert_close(variance_and_covariance(x[:, None]), torch.zeros(2).double(), atol=1e-12, rtol=0)
    v, c = variance_and_covariance(torch.ones(8, 2, 3).double())
    assert v.item() == pytest.approx(1 - 1e-4**0.5)  # collapsed
    assert c == 0
    same = torch.randn(8, 1, 1).double().expand(8, 1, 3)  # one coordinate three times
    variance = same[:, 0, 0].var()
    torch.testing.assert_close(variance_and_covariance(same)[1], 2 * variance**2)
    # S matches are the mean of S losses
    x = torch.randn(6, 4, 3).double()
    parts = torch.stack([variance_and_covariance(x[:, s : s + 1]) for s in range(4)]).mean(0)
    torch.testing.assert_close(variance_and_covariance(x), parts)


def test_nearest_cells_come_in_reading_order() -> None:
    far = torch.tensor([[[5.0, 4.0], [1.0, 2.0], [9.0, 0.0], [3.0, 3.5]]])
    row, column = nearest(far, 3)
    assert row.tolist() == [[1, 2, 3]]
    assert column.tolist() == [[0, 1, 0]]
    a, b = torch.arange(4.0).view(1, 4, 1), torch.tensor([[[10.0], [20.0]]])
    first, second = matched(a, b, far, 2)
    assert first.flatten().tolist() == [1, 2]
    assert second.flatten().tolist() == [10, 20]
    first, second = matched(a, b, far)
    assert first.flatten().tolist() == [0, 1, 2, 3]
    assert second.flatten().tolist() == [20, 10, 20, 10]
    with pytest.raises(PretrainError, match="map of 4 cells has no 5"):
        nearest(far, 5)


def test_equal_views_match_themselves_and_a_flip_is_undone() -> None:
    method = make()
    view = batch(4, 0)[0]
    out = method([view, view])
    for name in ("global", "look", "place"):
        assert out[f"loss_{name}_invariance"] == 0
    assert out["accuracy"] == 1
    assert out["positive"].item() == pytest.approx(1)
    flipped = View(view.pixels, view.box, ~view.flip, view.image_id)
    for mirror, expected in ((True, torch.arange(16).view(4, 4).flip(1).flatten()), (False, torch.arange(16))):
        far = make(mirror_grid=mirror).place_distances([view, flipped], SIDE)
        assert torch.equal(far.argmin(2), expected.expand(4, 16))


def test_alpha_weighs_global_and_local() -> None:
    views = batch(4, 0)
    out = make(alpha=0.3)(views)
    assert [name for name, value in out.items() if value.requires_grad] == ["loss"]
    parts = {
        name: sum(out[f"loss_{name}_{term}"] for term in ("invariance", "variance", "covariance"))
        for name in ("global", "look", "place")
    }
    torch.testing.assert_close(out["loss"].detach(), 0.3 * parts["global"] + 0.7 * (parts["look"] + parts["place"]))
    torch.testing.assert_close(make()(views[::-1])["loss"], make()(views)["loss"])  # symmetric
    for alpha, unused in ((1.0, "local_expander."), (0.0, "expander.")):
        method = make(alpha=alpha)
        method(views)["loss"].backward()
        stopped, _ = stopped_and_trained(method)
        assert {name for name, _ in method.named_parameters() if name.startswith(unused)} <= stopped


def test_both_views_receive_gradients_and_matching_none() -> None:
    method = make()
    method(batch(4, 0))["loss"].backward()
    assert stopped_and_trained(method)[0] == set()
    a = torch.randn(2, 4, 3, requires_grad=True)
    assert not vicregl.distances_between(a, a).requires_grad


def test_log() -> None:
    method = make()
    views = batch(4, 1)
    frozen = copy.deepcopy(method)
    out = method(views)
    z = [F.normalize(frozen.expander(frozen.backbone(v.pixels).mean((2, 3))), dim=1).detach() for v in views]
    cosines = z[0] @ z[1].T
    torch.testing.assert_close(out["positive"], cosines.diagonal().mean())
    torch.testing.assert_close(out["negative"], cosines[~torch.eye(4, dtype=torch.bool)].mean())
    torch.testing.assert_close(out["std"], z[0].std(0, correction=0).mean() * 7**0.5)
    assert 0 <= out["accuracy"] <= 1


def test_paper_recipes_have_the_papers_settings() -> None:
    recipes = all_recipes()
    assert {recipe.name for recipe in RECIPES} <= set(recipes)
    for name, epochs, images, lr in (
        ("vicregl-imagenet-100ep", 100, 512, 0.6),
        ("vicregl-imagenet-300ep", 300, 2048, 1.6),
    ):
        recipe = recipes[name]
        assert (recipe.epochs, recipe.batch_size) == (epochs, images)
        assert (recipe.optimizer.lr, recipe.optimizer.weight_decay) == (lr, 1e-6)
        assert recipe.schedule == CosineSchedule(per="step", warmup_epochs=10, final=1e-3)
        config = recipe.method
        assert isinstance(config, VICRegLConfig)
        assert (config.expander, config.local_expander, config.matches, config.alpha) == (8192, 512, (20, 4), 0.75)
        assert (config.invariance, config.variance, config.covariance) == (25, 25, 1)
        assert not config.mirror_grid  # `--no-flip-grid` is 1 unless a command says otherwise, and none does
    plan = VICRegLConfig(backbone="resnet18", expander=8).build().plan
    assert [(s.size, s.scale, s.flip, s.interpolation) for s in plan.specs] == [(224, (0.08, 1.0), 0.5, "bicubic")] * 2
    assert plan.std == (0.228, 0.224, 0.225)
