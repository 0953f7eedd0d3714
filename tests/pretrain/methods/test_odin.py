import copy
import math
from typing import Any

import geometric
import numpy as np
import pytest
import torch
from contrastive import reset_momentum
from geometric import SIDE, build, original_centre
from looping import sgd, train
from plain_kmeans import plain_kmeans
from siamese import recorded
from test_detcon import plain_loss
from torch import Tensor
from torch.nn import functional as F

from pretrain.data.views import View
from pretrain.methods import all_recipes
from pretrain.methods.detcon import region_loss
from pretrain.methods.odin import Odin, OdinConfig
from pretrain.parts.geometry import upright
from pretrain.recipes import CosineSchedule, LARSConfig

N, R, C, K, STEPS = 4, 4, 5, 3, 12
WHOLE = torch.tensor([[0.0, 0, 1, 1]] * N).double()
SMALL: dict[str, Any] = {
    "backbone": "toy",
    "hidden": 10,
    "dim": C,
    "regions": R,
    "clusters": K,
    "momentum": 0.9,
    "view_size": 4 * SIDE,
    "whole_size": 4 * SIDE,
}


def small(seed: int = 0, **changes: object) -> Odin:
    """Its cells are not zero, which would be equally far from every center of length 1."""
    method: Odin = build(OdinConfig(**{**SMALL, **changes}), seed=seed)
    method.backbone.get_parameter("conv2.bias").data += 2
    reset_momentum(method)
    return method


def batches(step: int) -> list[View]:
    """Two crops and the whole image of each."""
    rng = np.random.default_rng([66, step % 4])
    whole = torch.from_numpy(rng.standard_normal((N, 3, 4, 4)).repeat(SIDE, 2).repeat(SIDE, 3))
    return [*geometric.batch(N, step % 4), View(whole, *upright(WHOLE), torch.arange(N))]


def plain_cells(regions: list[list[int]], view: View, n: int) -> list[list[int]]:
    """The region of most of 8 x 8 points in each cell, looked up in the image's map of regions."""
    cells = []
    for r, c in np.ndindex(SIDE, SIDE):
        found = [0] * K
        for i, j in np.ndindex(8, 8):
            x, y = original_centre(view, n, 8 * r + i, 8 * c + j, 8 * SIDE)
            found[regions[n][int(y * SIDE) * SIDE + int(x * SIDE)]] += 1
        cells.append(int(np.argmax(found)))
    return [cells[r * SIDE : r * SIDE + SIDE] for r in range(SIDE)]


def plain_curve(start: Odin, steps: int = STEPS) -> list[float]:
    net, config = copy.deepcopy(start), start.config
    optimizer = sgd([net.backbone, net.projector, net.predictor])
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        *crops, whole = batches(step)
        starts = torch.rand(N, K)
        tau = net.momentum.backbone if net.discovery is None else net.discovery.backbone
        vectors = F.normalize(tau(whole.pixels), dim=1).flatten(2)
        regions = [plain_kmeans(list(vectors[n].T), starts[n].tolist())[0] for n in range(N)]
        p, t, ids = [], [], []
        for view in crops:
            maps = net.backbone(view.pixels), net.momentum.backbone(view.pixels)
            cells = torch.tensor([plain_cells(regions, view, n) for n in range(N)])
            u = torch.rand(N, R)
            present = [sorted(set(cells[a].flatten().tolist())) for a in range(N)]
            drawn = [[present[a][int(u[a, b] * len(present[a]))] for b in range(R)] for a in range(N)]
            pooled = [
                torch.stack([f[a][:, cells[a] == drawn[a][b]].mean(1) for a in range(N) for b in range(R)])
                for f in maps
            ]
            p.append(F.normalize(net.predictor(net.projector(pooled[0])), dim=1).view(N, R, -1))
            t.append(F.normalize(net.momentum.projector(pooled[1]), dim=1).view(N, R, -1).detach())
            ids.append(drawn)
        loss = plain_loss(p, t, ids, config.temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        m = 1 - (1 - config.momentum) * (1 + math.cos(math.pi * step / steps)) / 2
        follow(net.momentum.backbone, net.backbone, m)
        follow(net.momentum.projector, net.projector, m)
        if net.discovery is not None and config.discovery_momentum is not None:
            follow(net.discovery.backbone, net.backbone, config.discovery_momentum)
        losses.append(loss.item())
    return losses


def follow(average: torch.nn.Module, trained: torch.nn.Module, m: float) -> None:
    for xi, theta in zip(average.parameters(), trained.parameters(), strict=True):
        xi.data = m * xi.data + (1 - m) * theta.data


def test_training_is_the_plain_loop_and_gives_the_recorded_losses() -> None:
    """With a discovery network of its own rate; without, in the test below."""
    got = train(small(discovery_momentum=0.8), batches, STEPS)
    assert got == pytest.approx(plain_curve(small(discovery_momentum=0.8)), rel=1e-9)
    assert got == pytest.approx(recorded("odin"), rel=1e-7)
    assert sum(got[-4:]) < sum(got[:4])


def test_without_its_own_rate_the_discovery_network_is_the_momentum_network() -> None:
    method = small()
    assert method.discovery is None
    assert train(method, batches, 3) == pytest.approx(plain_curve(small(), 3), rel=1e-9)


def test_each_image_is_divided_by_itself_into_regions_of_its_own_cells() -> None:
    method = small().eval()
    whole = batches(0)[2]
    torch.manual_seed(0)
    regions = method.regions(whole)
    assert regions.shape == (N, SIDE, SIDE) and regions.min() >= 0 and regions.max() < K
    torch.manual_seed(0)
    other = View(whole.pixels.clone(), *upright(WHOLE), torch.arange(N))
    other.pixels[1:] = 0
    assert torch.equal(method.regions(other)[0], regions[0])
    assert not regions.requires_grad


def test_equal_views_have_equal_masks_and_one_cluster_is_the_whole_image() -> None:
    """Of K = 1 each image's region is its whole map, drawn R times: a contrast of images."""
    method = small(clusters=1)
    *crops, whole = batches(0)
    out = method([*crops, whole])
    assert out["shared"] == 1 and out["shown"] == 1
    ids = torch.zeros(N, R, dtype=torch.int64)
    fresh = small(clusters=1)
    p, t = [], []
    for view in crops:
        p.append(F.normalize(fresh.predictor(fresh.projector(twice(fresh.backbone(view.pixels)))), dim=1))
        t.append(F.normalize(fresh.momentum.projector(twice(fresh.momentum.backbone(view.pixels))), dim=1))
    p, t = [x.view(N, R, -1) for x in p], [x.view(N, R, -1).detach() for x in t]
    loss = sum(region_loss(p[v], t[1 - v], t[v], ids, ids, 0.1)["loss"] for v in (0, 1))
    torch.testing.assert_close(out["loss"], loss)
    assert method([crops[0], crops[0], whole])["shared"] == 1


def twice(maps: Tensor) -> Tensor:
    """The average of each map, R times."""
    return maps.mean((2, 3)).repeat_interleave(R, 0)


def test_numbering_clusters_differently_changes_nothing_but_the_draws() -> None:
    """With one draw from each map of one region."""
    method = small(regions=1, clusters=2)
    *crops, whole = batches(3)
    losses = []
    for number in (0, 1):
        method.regions = lambda _, number=number: torch.full((N, SIDE, SIDE), number)  # type: ignore[method-assign]
        losses.append(method([*crops, whole])["loss"].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_regions_that_a_view_does_not_show_are_not_drawn() -> None:
    method = small(clusters=2)
    method.regions = lambda _: torch.arange(2)[None, :, None].expand(N, -1, SIDE)  # type: ignore[method-assign]
    first, second, whole = batches(0)
    first.box, second.box = torch.tensor([[0, 0, 1, 0.4]] * N), torch.tensor([[0, 0.6, 1, 1]] * N)
    out = method([first, second, whole])
    assert out["loss"] == 0 and out["shared"] == 0 and out["shown"] == 1


@pytest.mark.parametrize("rate", [None, 0.8])
def test_gradients_reach_the_trained_network_alone(rate: float | None) -> None:
    method = small(discovery_momentum=rate)
    method(batches(0))["loss"].backward()
    for name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == (not name.startswith(("momentum.", "discovery."))), name


def test_the_recipe_is_detcons() -> None:
    recipe = all_recipes()["odin-imagenet-1000ep"]
    assert (recipe.epochs, recipe.batch_size) == (1000, 4096)
    assert recipe.optimizer == LARSConfig(lr=3.2, momentum=0.9, weight_decay=1.5e-6)
    assert recipe.schedule == CosineSchedule(per="step", warmup_epochs=10)
    assert recipe.method == OdinConfig(zero_init_residual=True, inputs="byol")
