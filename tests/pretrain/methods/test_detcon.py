import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from geometric import build
from looping import sgd, train
from multicrops import batch
from torch import Tensor
from torch.nn import functional as F

from pretrain.data.views import View
from pretrain.errors import PretrainError
from pretrain.methods import all_recipes
from pretrain.methods.detcon import DetCon, DetConConfig, region_loss
from pretrain.parts import turns
from pretrain.recipes import CosineSchedule, LARSConfig

CURVE = Path(__file__).parent / "curves" / "detcon.json"
N, R, C = 4, 6, 5
SMALL: dict[str, Any] = {"backbone": "toy", "hidden": 10, "dim": C, "regions": R, "momentum": 0.9, "view_size": 16}
PAIRS = (("momentum.backbone", "backbone"), ("momentum.projector", "projector"))


class ToyMasks:
    """Four vertical stripes of the whole image; image 1 has one region alone."""

    def cells(self, view: View, size: int) -> Tensor:
        centres = (torch.arange(size) + 0.5) / size
        x = view.box[:, :1] + (view.box[:, 2:3] - view.box[:, :1]) * centres
        stripes = (4 * x).long().clamp(0, 3)
        stripes = torch.where(view.flip[:, None], stripes.flip(1), stripes) * (view.image_id[:, None] != 1) + 7
        return stripes[:, None].expand(-1, size, -1).contiguous()


def small(seed: int = 0, **changes: object) -> DetCon:
    method: DetCon = build(DetConConfig(**{**SMALL, **changes}), seed=seed)
    method.masks = ToyMasks()
    return method


def batches(step: int) -> list[View]:
    views = batch(N, step % 4, small=0)
    rng = np.random.default_rng([3, step % 4])
    for view in views:
        low = rng.uniform(0, 0.6, (N, 1))
        high = rng.uniform(low + 0.2, 1)
        view.box = torch.from_numpy(np.concatenate([low, low * 0, high, high * 0 + 1], 1)).float()
        view.flip = torch.from_numpy(rng.random(N) < 0.5)
    return views


def plain_loss(p: list[Tensor], t: list[Tensor], ids: list[list[list[int]]], tau: float) -> Tensor:
    """Both directions, region by region; p and t (n, R, C) of each view, of unit length."""
    n, regions = p[0].shape[:2]
    total = torch.zeros(()).to(p[0])
    for v, w in ((0, 1), (1, 0)):
        for a in range(n):
            for b in range(regions):
                mine = ids[v][a][b]
                positives = [(a, c) for c in range(regions) if ids[w][a][c] == mine]
                if not positives:
                    continue
                cross = {(u, c): p[v][a, b] @ t[w][u, c] / tau for u in range(n) for c in range(regions)}
                same = [
                    p[v][a, b] @ t[v][u, c] / tau
                    for u in range(n)
                    for c in range(regions)
                    if not (u == a and ids[v][u][c] == mine)
                ]
                log_sum = torch.stack([*cross.values(), *same]).logsumexp(0)
                row = sum(log_sum - cross[key] for key in positives) / len(positives)
                total = total + row / ids[v][a].count(mine) / (n * regions)
    return total


def plain_curve(start: DetCon, steps: int) -> list[float]:
    net = copy.deepcopy(start)
    config, trained = start.config, [net.backbone, net.projector, net.predictor]
    optimizer = sgd(trained)
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        p, t, ids = [], [], []
        for view in batches(step):
            features, momentum_features = net.backbone(view.pixels), net.momentum.backbone(view.pixels)
            cells = ToyMasks().cells(view, features.shape[-1])
            u = torch.rand(N, R)
            present = [sorted(set(cells[a].flatten().tolist())) for a in range(N)]
            drawn = [[present[a][int(u[a, b] * len(present[a]))] for b in range(R)] for a in range(N)]
            pooled = [
                torch.stack([f[a][:, cells[a] == drawn[a][b]].mean(1) for a in range(N) for b in range(R)])
                for f in (features, momentum_features)
            ]
            p.append(F.normalize(net.predictor(net.projector(pooled[0])), dim=1).view(N, R, -1))
            t.append(F.normalize(net.momentum.projector(pooled[1]), dim=1).view(N, R, -1).detach())
            ids.append(drawn)
        loss = plain_loss(p, t, ids, config.temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        m = 1 - (1 - config.momentum) * (1 + math.cos(math.pi * step / steps)) / 2
        for target, source in PAIRS:
            pairs = zip(net.get_submodule(target).parameters(), net.get_submodule(source).parameters(), strict=True)
            for xi, theta in pairs:
                xi.data = m * xi.data + (1 - m) * theta.data
        losses.append(loss.item())
    return losses


def unit_rows(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.manual_seed(seed)).double(), dim=-1)


def test_training_is_the_papers_code_and_gives_the_recorded_losses() -> None:
    got = train(small(), batches, 32)
    assert got == pytest.approx(plain_curve(small(), 32), rel=1e-9)
    assert got == pytest.approx(json.loads(CURVE.read_text()), rel=1e-7)
    assert sum(got[-4:]) < sum(got[:4])


@pytest.mark.parametrize("most", [1 << 24, 1])
def test_loss_is_the_plain_loop_also_in_parts(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_LOGITS", most)
    p = [unit_rows(3, 4, C, seed=i).requires_grad_() for i in (0, 1)]
    t = [unit_rows(3, 4, C, seed=i) for i in (2, 3)]
    labels = [[[0, 0, 1, 2], [3, 3, 3, 3], [1, 2, 3, 4]], [[0, 1, 1, 5], [4, 4, 4, 4], [4, 3, 2, 1]]]
    ids = [torch.tensor(view) for view in labels]
    outs = [region_loss(p[v], t[1 - v], t[v], ids[v], ids[1 - v], 0.1) for v in (0, 1)]
    loss = outs[0]["loss"] + outs[1]["loss"]
    expected = plain_loss(p, t, labels, 0.1)
    torch.testing.assert_close(loss, expected)
    for a, b in zip(torch.autograd.grad(loss, p), torch.autograd.grad(expected, p), strict=True):
        torch.testing.assert_close(a, b)
        assert not b[1].any()  # nothing of image 1 is in both views
    assert outs[0]["shared"] == 7 / 12


def test_permuting_regions_or_images_changes_nothing() -> None:
    p, other, same = unit_rows(3, 4, C), unit_rows(3, 4, C, seed=1), unit_rows(3, 4, C, seed=2)
    ids, other_ids = torch.randint(0, 3, (3, 4)), torch.randint(0, 3, (3, 4))
    loss = region_loss(p, other, same, ids, other_ids, 0.1)["loss"]
    k = torch.randperm(4)
    torch.testing.assert_close(region_loss(p[:, k], other, same[:, k], ids[:, k], other_ids, 0.1)["loss"], loss)
    torch.testing.assert_close(region_loss(p, other[:, k], same, ids, other_ids[:, k], 0.1)["loss"], loss)
    k = torch.randperm(3)
    torch.testing.assert_close(region_loss(*(x[k] for x in (p, other, same, ids, other_ids)), 0.1)["loss"], loss)


def test_perfect_embeddings_cost_the_log_of_how_often_the_positive_was_drawn() -> None:
    vectors = torch.eye(8).double()
    ids, other_ids = torch.tensor([[0, 1]]), torch.tensor([[0, 0]])
    out = region_loss(vectors[ids], vectors[other_ids], vectors[ids], ids, other_ids, 0.01)
    assert out["loss"].item() == pytest.approx(math.log(2) / 2, rel=1e-9)  # one row of two has a positive, twice
    assert out["accuracy"] == 1
    assert out["positive"] == 1


def test_of_regions_that_are_all_alike_none_is_recognised() -> None:
    rows = torch.ones(2, 3, 4, dtype=torch.float64) / 2
    ids = torch.tensor([[0, 1, 1], [2, 3, 4]])
    out = region_loss(rows, rows, rows, ids, ids, 0.1)
    assert out["shared"] == 1
    assert out["accuracy"] == 0
    assert region_loss(rows, rows, rows, ids * 0, ids * 0, 0.1)["accuracy"] == 0  # those of the other image are alike


def test_regions_that_share_nothing_cost_nothing() -> None:
    p = unit_rows(2, 3, C).requires_grad_()
    ids, other_ids = torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.long)
    loss = region_loss(p, unit_rows(2, 3, C, seed=1), unit_rows(2, 3, C, seed=2), ids, other_ids, 0.1)["loss"]
    assert loss == 0
    assert not torch.autograd.grad(loss, p)[0].any()


def test_gradients_reach_the_trained_network_alone() -> None:
    method = small()
    method(batches(0))["loss"].backward()
    for name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == (not name.startswith("momentum.")), name


def test_masks_must_be_prepared(tmp_path: Path) -> None:
    method = small()
    method.masks = None
    with pytest.raises(PretrainError, match=r"call prepare\(source, folder\)"):
        method(batches(0))


def test_recipes_have_the_codes_settings() -> None:
    """BYOL's inputs; a warm-up of 1 % of the epochs; the last scale of each block starts at zero, as in Haiku."""
    for epochs in (300, 1000):
        recipe = all_recipes()[f"detcon-imagenet-{epochs}ep"]
        assert (recipe.epochs, recipe.batch_size) == (epochs, 4096)
        assert recipe.optimizer == LARSConfig(lr=3.2, momentum=0.9, weight_decay=1.5e-6)
        assert recipe.schedule == CosineSchedule(per="step", warmup_epochs=epochs // 100)
        assert recipe.method == DetConConfig(zero_init_residual=True, inputs="byol")


def test_no_region_cannot_be_drawn() -> None:
    with pytest.raises(PretrainError, match=r"0 regions of each view cannot be drawn; change method\.regions"):
        small(regions=0)
