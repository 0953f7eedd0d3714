import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import geometric
import numpy as np
import pytest
import torch
from geometric import SIDE, build
from looping import sgd, train
from plain_kmeans import plain_kmeans
from siamese import cosine, recorded
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.data.views import View
from pretrain.errors import PretrainError
from pretrain.methods import all_recipes
from pretrain.methods.r2o import R2O, R2OConfig, refine
from pretrain.optim.schedules import CurriculumSchedule
from pretrain.parts.geometry import upright, warp_soft
from pretrain.parts.masks import one_hot
from pretrain.recipes import LARSConfig

N, PIXELS, SUPERPIXELS, STEPS = 4, 8, 6, 16
WHOLE = torch.tensor([[0.0, 0, 1, 1]] * N).double()
SMALL: dict[str, Any] = {
    "backbone": "toy",
    "hidden": 10,
    "dim": 5,
    "momentum": 0.9,
    "view_size": 4 * SIDE,
    "whole_size": 4 * SIDE,
    "superpixels": SUPERPIXELS,
    "mask_side": PIXELS,
    "clusters": (5, 2),
    "images_together": 2,
}


class ToySuperpixels:
    """Blocks of pixels, of which image 2 has no more than three."""

    def of(self, image_id: Tensor, device: torch.device | None = None) -> Tensor:
        tall = torch.arange(6).view(2, 3).repeat_interleave(4, 0).repeat_interleave(3, 1)[:, :PIXELS]
        wide = torch.arange(3)[:, None].repeat_interleave(3, 0)[:PIXELS].expand(-1, PIXELS)
        return torch.stack([wide if n == 2 else tall.roll(int(n), 1) for n in image_id]).to(torch.uint8)


def small(seed: int = 0, **changes: object) -> R2O:
    method: R2O = build(R2OConfig(**{**SMALL, **changes}), seed=seed)
    method.superpixels = ToySuperpixels()
    return method


def batches(step: int) -> list[View]:
    """Two crops and the whole image of each."""
    rng = np.random.default_rng([66, step % 4])
    whole = torch.from_numpy(rng.standard_normal((N, 3, 4, 4)).repeat(SIDE, 2).repeat(SIDE, 3))
    return [*geometric.batch(N, step % 4), View(whole, *upright(WHOLE), torch.arange(N))]


def plain_regions(features: Tensor, draws: Tensor) -> Tensor:
    """The cluster of every pixel, from superpixel means image by image; 2 images share clusters."""
    superpixels = ToySuperpixels().of(torch.arange(N)).long()
    regions = torch.empty_like(superpixels)
    for first in range(0, N, 2):
        keys, vectors = [], []
        for n in (first, first + 1):
            for s in superpixels[n].unique().tolist():
                share = (superpixels[n] == s).double()[None]
                weight = F.interpolate(share[None], size=(SIDE, SIDE), mode="bilinear")[0, 0]
                mean = sum(weight[r, c] * features[n, :, r, c] for r in range(SIDE) for c in range(SIDE))
                vectors.append(mean / mean.square().sum().sqrt() if mean.any() else mean)
                keys.append((n, s))
        for (n, s), label in zip(keys, plain_kmeans(vectors, draws[first // 2].tolist())[0], strict=True):
            regions[n][superpixels[n] == s] = label
    return regions


def plain_mask(region: Tensor, box: list[float], flip: bool) -> Tensor:
    """RoIAlign by its definition: each cell is the mean of bilinear samples, as many as it has pixels, rounded up."""
    x1, y1, x2, y2 = (PIXELS * edge for edge in box)
    down, across = math.ceil((y2 - y1) / SIDE), math.ceil((x2 - x1) / SIDE)
    pixels, cells = region.tolist(), np.zeros((SIDE, SIDE))
    for r, c, i, j in np.ndindex(SIDE, SIDE, down, across):
        y = min(max(y1 + (r + (i + 0.5) / down) / SIDE * (y2 - y1) - 0.5, 0), PIXELS - 1)
        x = min(max(x1 + (c + (j + 0.5) / across) / SIDE * (x2 - x1) - 0.5, 0), PIXELS - 1)
        a, b = math.floor(y), math.floor(x)
        for row, col in ((a, b), (a, b + 1), (a + 1, b), (a + 1, b + 1)):
            weight = max(0, 1 - abs(y - row)) * max(0, 1 - abs(x - col))
            if weight:
                cells[r, c] += weight * pixels[row][col] / (down * across)
    return torch.from_numpy(cells[:, ::-1].copy() if flip else cells)


def plain_curve(start: R2O) -> list[float]:
    net, config = copy.deepcopy(start), start.config
    optimizer = sgd([net.backbone, net.projector, net.predictor])
    losses = []
    for step in range(STEPS):
        torch.manual_seed(step)
        *crops, whole = batches(step)
        high, low = config.clusters
        clusters = int(math.cos(math.pi / 2 * step / STEPS) * (high - low) + low)
        draws = torch.rand(N // 2, clusters)
        regions = plain_regions(net.momentum.backbone(whole.pixels), draws)
        x = torch.cat([view.pixels for view in crops])
        masks = {
            (v, n, k): plain_mask((regions[n] == k).double(), crops[v].box[n].tolist(), bool(crops[v].flip[n]))
            for v, n, k in np.ndindex(2, N, clusters)
        }
        means: tuple[list[Tensor], list[Tensor]] = ([], [])
        for maps, pooled in zip((net.backbone(x), net.momentum.backbone(x)), means, strict=True):
            for (v, n, _), mask in masks.items():
                pooled.append((maps[v * N + n] * mask).sum((1, 2)) / max(1.0, mask.sum().item()))
        p = net.predictor(net.projector(torch.stack(means[0]))).view(2, N, clusters, -1)
        t = net.momentum.projector(torch.stack(means[1])).view(2, N, clusters, -1).detach()
        total, count = torch.zeros(()).double(), 0
        for n, k in np.ndindex(N, clusters):
            if all(masks[v, n, k].sum() > 1e-3 for v in (0, 1)):
                total = total + sum(2 - 2 * cosine(p[v, n, k], t[1 - v, n, k]) for v in (0, 1))
                count += 2
        loss = total / count
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        m = 1 - (1 - config.momentum) * (1 + math.cos(math.pi * (step + 1) / STEPS)) / 2
        for target, source in (("momentum.backbone", net.backbone), ("momentum.projector", net.projector)):
            for xi, theta in zip(net.get_submodule(target).parameters(), source.parameters(), strict=True):
                xi.data = m * xi.data + (1 - m) * theta.data
        losses.append(loss.item())
    return losses


def test_training_is_the_plain_loop_and_gives_the_recorded_losses() -> None:
    got = train(small(), batches, STEPS)
    assert got == pytest.approx(plain_curve(small()), rel=1e-9)
    assert got == pytest.approx(recorded("r2o"), rel=1e-7)
    assert sum(got[-4:]) < sum(got[:4])


def test_superpixels_alike_become_one_region_also_of_two_images() -> None:
    """Two directions of features, whose lengths do not matter: each is a region, found in both images."""
    superpixels = torch.arange(4).view(2, 2).repeat_interleave(4, 0).repeat_interleave(4, 1)[None].repeat(2, 1, 1)
    features = torch.zeros(2, 2, 2, 2)
    features[0, 0, 0], features[0, 1, 1] = torch.tensor([1.0, 9.0]), torch.tensor([2.0, 0.5])
    features[1, 1, 0], features[1, 0, 1] = torch.tensor([3.0, 1.0]), torch.tensor([1.0, 1.0])
    regions = refine(superpixels, features, 4, torch.tensor([[0.1, 0.5]]), 10)
    top = regions[0, 0, 0]
    assert set(regions.unique().tolist()) == {0, 1}
    assert (regions[0, :4] == top).all() and (regions[0, 4:] != top).all()
    assert (regions[1, :4] != top).all() and (regions[1, 4:] == top).all()
    alone = refine(superpixels, features, 4, torch.tensor([[0.1, 0.5]] * 2), 10)
    for n in range(2):
        assert len(alone[n, :4].unique()) == len(alone[n, 4:].unique()) == 1


def test_regions_divide_the_image_and_masks_each_cell_of_the_whole() -> None:
    method = small()
    regions = method.regions(batches(0)[-1])
    assert regions.shape == (N, PIXELS, PIXELS)
    for n, superpixels in enumerate(ToySuperpixels().of(torch.arange(N))):
        assert all(len(regions[n][superpixels == s].unique()) == 1 for s in superpixels.unique())
    masks = one_hot(regions, method.clusters, torch.float64)
    assert (masks.sum(1) == 1).all()
    whole = warp_soft(masks, upright(WHOLE), SIDE)
    torch.testing.assert_close(whole.sum(1), torch.ones(N, SIDE, SIDE).double())


def test_equal_views_of_equal_networks_cost_nothing() -> None:
    """With the identity as predictor; the two views' masks are the same."""
    method = small()
    method.predictor = nn.Identity()
    first, _, whole = batches(1)
    out = method([first, first, whole])
    assert out["loss"].item() == pytest.approx(0, abs=1e-12)
    assert out["positive"].item() == pytest.approx(1)


def test_one_cluster_is_byol_of_averaged_maps() -> None:
    method = small(clusters=(1, 1))
    views = batches(2)
    x = torch.cat([view.pixels for view in views[:2]])
    p = method.predictor(method.projector(method.backbone(x).mean((2, 3)))).chunk(2)
    t = method.momentum.projector(method.momentum.backbone(x).mean((2, 3))).chunk(2)
    expected = sum(2 - 2 * cosine(p[v][n], t[1 - v][n]) for v in (0, 1) for n in range(N)) / (2 * N)
    out = method(views)
    torch.testing.assert_close(out["loss"], expected)
    assert 0 <= out["loss"] <= 4
    assert out["shared"] == out["clusters"] == 1


def test_numbering_clusters_differently_changes_nothing() -> None:
    method, views = small(), batches(0)
    torch.manual_seed(0)
    regions = method.regions(views[2])
    losses = []
    for order in ([0, 1, 2, 3, 4], [3, 0, 4, 1, 2]):
        renumbered = torch.tensor(order)[regions]
        method.regions = lambda _, renumbered=renumbered: renumbered  # type: ignore[method-assign]
        losses.append(method(views)["loss"].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_views_that_share_no_region_cost_nothing() -> None:
    """Of one image alone, one view in the upper and one in the lower half, which differ."""
    method = small(images_together=1, clusters=(2, 2))
    method.regions = lambda whole: torch.arange(2)[None, :, None].expand(N, -1, PIXELS)  # type: ignore[method-assign]
    first, second, whole = batches(0)
    first.box, second.box = torch.tensor([[0, 0, 1, 0.25]] * N), torch.tensor([[0, 0.75, 1, 1]] * N)
    out = method([first, second, whole])
    assert out["loss"] == 0 and out["shared"] == 0


def test_k_falls_along_a_quarter_cosine_and_is_in_the_state() -> None:
    method = small(clusters=(128, 4))
    seen = []
    for step in (0, 50, 100, 150, 200, 250, 275, 290, 300):
        if step:
            method.after_step(step, 300)
        seen.append(method.clusters)
    assert seen == [128, 123, 111, 91, 66, 36, 20, 10, 4]
    other = small(clusters=(128, 4))
    method.after_step(200, 300)
    other.load_state_dict(method.state_dict())
    assert other.clusters == 66


def test_gradients_reach_the_trained_network_alone() -> None:
    method = small()
    method(batches(0))["loss"].backward()
    for name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == (not name.startswith("momentum.")), name


def test_what_is_missing_or_does_not_fit_is_said() -> None:
    with pytest.raises(PretrainError, match=r"4 images of a process cannot share clusters by 3: see images_together"):
        small(images_together=3)(batches(0))
    method = small()
    method.superpixels = None
    with pytest.raises(PretrainError, match=r"call prepare\(source, folder\)"):
        method(batches(0))


def test_the_recipe_has_the_codes_settings(tmp_path: Path) -> None:
    recipe = all_recipes()["r2o-imagenet-300ep"]
    assert (recipe.epochs, recipe.batch_size) == (300, 4096)
    assert recipe.optimizer == LARSConfig(lr=4.8, momentum=0.9, weight_decay=1e-6, variant="airl")
    assert recipe.schedule == CurriculumSchedule(warmup_epochs=3, clusters=(128, 4), clusters_of_lr=16)
    config = recipe.method
    assert isinstance(config, R2OConfig) and config == R2OConfig()
    assert (config.momentum, config.clusters, config.superpixels, config.last_bias) == (0.99, (128, 4), 100, True)
    whole = replace(config, backbone="resnet18").build().plan.specs[2]
    assert (whole.size, whole.flip, whole.colour) == (224, 0, ())
