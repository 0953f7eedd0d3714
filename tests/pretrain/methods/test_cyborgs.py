from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from geometric import build
from looping import sgd, train
from multicrops import batch
from torch import Tensor, nn
from torch.nn import functional as F
from toy import write_images

from pretrain.data.batches import open_images
from pretrain.data.views import View
from pretrain.discovery.masks import Clusters, Segments
from pretrain.errors import PretrainError
from pretrain.methods import all_recipes
from pretrain.methods.cyborgs import CYBORGS, CYBORGSConfig, by_place, stacked
from pretrain.methods.detcon import region_loss
from pretrain.nets.architectures import build_backbone
from pretrain.parts.masks import draw_regions, most_frequent
from pretrain.recipes import LARSConfig, Recipe, StepSchedule

N, R, C, LABELS = 4, 5, 6, 9
SMALL: dict[str, Any] = {
    "backbone": "toy", "hidden": 10, "dim": C, "regions": R, "labels": LABELS, "momentum": 0.9, "view_size": 16
}  # fmt: skip


class ToyMasks:
    """Of image i the stripes 0 to i of the view, so that some views show fewer regions than are drawn."""

    def cells(self, view: View, size: int, samples: int = 8, count: int = LABELS) -> Tensor:
        assert count == LABELS
        stripes = torch.arange(size)[None].expand(len(view.image_id), -1)
        cells = torch.minimum(stripes, view.image_id[:, None])[:, None].expand(-1, size, -1)
        return torch.where(view.flip[:, None, None], cells.flip(2), cells).contiguous()


class Pyramid(nn.Module):
    """Three maps of 8 x 8, 4 x 4 and 2 x 2 cells of images of 16 x 16, and a finer one that is not used."""

    width = 5

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 4, 2, 2), nn.Conv2d(4, 6, 2, 2), nn.Conv2d(6, 5, 2, 2)])

    def features(self, x: Tensor) -> list[Tensor]:
        maps = [x]
        for layer in self.layers:
            maps.append(layer(maps[-1]).tanh())
        return maps

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)[-1]


def small(seed: int = 0, backbone: nn.Module | None = None, **changes: Any) -> CYBORGS:
    config = CYBORGSConfig(**{**SMALL, **changes})
    method: CYBORGS = build(config, seed=seed) if backbone is None else config.build(backbone).double()
    method.masks = ToyMasks()  # type: ignore[assignment]
    return method


def views(step: int) -> list[View]:
    given = batch(N, step % 4, small=0)
    for view, number in zip(given, range(2), strict=True):
        view.flip = torch.from_numpy(np.random.default_rng([3, step % 4, number]).random(N) < 0.5)
    return given


def plain_loss(p: list[Tensor], t: list[Tensor], ids: list[list[list[int]]], others: list[list[list[int]]]) -> Tensor:
    """Region by region: `p` of the regions `ids`, `t` of those that the momentum network drew, `others`; unit rows."""
    total = torch.zeros(()).to(p[0])
    for v, w in ((0, 1), (1, 0)):
        for a in range(N):
            for b in range(R):
                mine = ids[v][a][b]
                positives = [(a, c) for c in range(R) if others[w][a][c] == mine]
                if not positives:
                    continue
                cross = {(u, c): p[v][a, b] @ t[w][u, c] / 0.1 for u in range(N) for c in range(R)}
                same = [
                    p[v][a, b] @ t[v][u, c] / 0.1
                    for u in range(N)
                    for c in range(R)
                    if not (u == a and others[v][u][c] == mine)
                ]
                log_sum = torch.stack([*cross.values(), *same]).logsumexp(0)
                row = sum(log_sum - cross[key] for key in positives) / len(positives)
                total = total + row / ids[v][a].count(mine) / (N * R)
    return total


def plain_curve(start: CYBORGS, steps: int) -> list[float]:
    """The code's training written out, place by place and region by region."""
    net = copy.deepcopy(start)
    optimizer = sgd([net.backbone, net.projector, net.predictor])
    losses = []

    def embed(maps: list[Tensor], heads: list[nn.Module], cells: Tensor) -> tuple[Tensor, list[list[int]]]:
        side = maps[-1].shape[-1]
        drawn, _ = draw_regions(cells, R, count=LABELS, replacement=False)
        fine = []
        for x in maps[-3:]:
            s = x.shape[-1] // side
            fine.append(x.unfold(2, s, s).unfold(3, s, s).mean((4, 5)))
        table = torch.cat(fine, dim=1)
        out = []
        for place in range(R):
            rows = []
            for a in range(N):
                inside = cells[a] == drawn[a, place]
                rows.append(table[a][:, inside].mean(1) if inside.any() else torch.zeros(table.shape[1]).double())
            vectors = torch.stack(rows)
            for head in heads:
                vectors = head(vectors)
            out.append(F.normalize(vectors, dim=1))
        return torch.stack(out, dim=1), drawn.tolist()

    for step in range(steps):
        torch.manual_seed(step)
        p, t, ids, others = [], [], [], []
        for view in views(step):
            maps = (
                net.backbone.features(view.pixels) if hasattr(net.backbone, "features") else [net.backbone(view.pixels)]
            )
            cells = ToyMasks().cells(view, maps[-1].shape[-1])
            online, drawn = embed(maps, [net.projector, net.predictor], cells)
            with torch.no_grad():
                theirs = net.momentum.backbone
                maps = theirs.features(view.pixels) if hasattr(theirs, "features") else [theirs(view.pixels)]
                target, target_drawn = embed(maps, [net.momentum.projector], cells)
            p.append(online)
            t.append(target)
            ids.append(drawn)
            others.append(target_drawn)
        loss = plain_loss(p, t, ids, others)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for copied, trained in ((net.momentum.backbone, net.backbone), (net.momentum.projector, net.projector)):
            for xi, theta in zip(copied.parameters(), trained.parameters(), strict=True):
                xi.data = 0.9 * xi.data + 0.1 * theta.data
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("maps", ["one", "three"])
def test_training_is_the_code_written_out(maps: str) -> None:
    torch.manual_seed(0)
    method = small(backbone=Pyramid() if maps == "three" else None)
    expected = plain_curve(method, 5)
    assert train(method, views, 5) == pytest.approx(expected, rel=1e-9)


def test_maps_lie_side_by_side_the_finest_first() -> None:
    """Constant maps keep their values; others are averaged over the cells of the last."""

    class Constant(nn.Module):
        def features(self, x: Tensor) -> list[Tensor]:
            return [torch.full((1, c, s, s), float(c)) for c, s in ((2, 16), (3, 8), (4, 4), (5, 2))]

    out = stacked(Constant(), torch.zeros(1, 3, 4, 4))
    assert out[0, :, 0, 0].tolist() == [3.0] * 3 + [4.0] * 4 + [5.0] * 5 and out.shape == (1, 12, 2, 2)
    pyramid, x = Pyramid(), torch.randn(2, 3, 16, 16)
    fine = pyramid.features(x)[1]
    torch.testing.assert_close(stacked(pyramid, x)[:, :4, 1, 0], fine[:, :, 4:, :4].mean((2, 3)))
    assert small(backbone=Pyramid()).projector[0].in_features == 4 + 6 + 5


@pytest.mark.parametrize("size", [48, 80, 112, 224])
def test_views_of_every_size_have_stages_that_fit(size: int) -> None:
    backbone = build_backbone("resnet18").eval()
    with torch.no_grad():
        out = stacked(backbone, torch.zeros(1, 3, size, size))
    assert out.shape == (1, 128 + 256 + 512, math.ceil(size / 32), math.ceil(size / 32))


def test_large_labels_are_region_zero() -> None:
    """A map of nothing but labels from 81 on has one region, 0, on all 49 cells."""
    labels = torch.full((1, 224, 224), 200, dtype=torch.uint8)
    cells = most_frequent(labels, 7, count=81)
    assert cells.shape == (1, 7, 7) and not cells.any()
    labels[0, :32, :32] = 90
    labels[0, 5, 7] = 33  # a single pixel of a region that is seen is more than many that are not
    cells = most_frequent(labels, 7, count=81)
    assert cells[0, 0, 0] == 33 and not cells[0].flatten()[1:].any()


def test_regions_are_drawn_once() -> None:
    torch.manual_seed(0)
    cells = torch.randint(0, 6, (3, 7, 7))
    drawn, held = draw_regions(cells, 16, count=81, replacement=False)
    for row, count, shown in zip(drawn.tolist(), held.tolist(), cells, strict=True):
        assert len(set(row)) == 16
        assert set(row[:count]) == set(shown.flatten().tolist())


def test_places_are_normalized_by_themselves() -> None:
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    means = torch.randn(6, R, 3).double()
    before = by_place(copy.deepcopy(head), means)
    means[:, 1] += 5
    after = by_place(head, means)
    assert torch.equal(before[:, [0, 2, 3, 4]], after[:, [0, 2, 3, 4]]) and not torch.equal(before[:, 1], after[:, 1])
    assert head[1].num_batches_tracked == R
    torch.testing.assert_close(after.norm(dim=2), torch.ones(6, R).double())


def unit_rows(seed: int) -> Tensor:
    return F.normalize(torch.randn(N, R, C, generator=torch.manual_seed(seed)).double(), dim=2)


def one_direction(p: Tensor, other: Tensor, same: Tensor, *ids: Tensor) -> Tensor:
    mine, theirs, of_same = ids
    return region_loss(p, other, same, mine, theirs, 0.1, same_ids=of_same)["loss"]


def test_the_order_of_places_and_images_does_not_matter() -> None:
    tensors = [unit_rows(seed) for seed in range(3)]
    ids = [torch.stack([torch.randperm(LABELS)[:R] for _ in range(N)]) for _ in range(3)]
    expected = one_direction(*tensors, *ids)
    for place in range(3):
        order = torch.randperm(R)
        tensors[place] = tensors[place][:, order]
        ids[place] = ids[place][:, order]
        torch.testing.assert_close(one_direction(*tensors, *ids), expected)
    images = torch.randperm(N)
    torch.testing.assert_close(one_direction(*(x[images] for x in tensors), *(x[images] for x in ids)), expected)


def test_regions_that_no_other_view_has_give_nothing() -> None:
    p = unit_rows(0).requires_grad_()
    ids = torch.arange(R).expand(N, R)
    loss = one_direction(p, unit_rows(1), unit_rows(2), ids, ids + R, ids + 1)
    loss.backward()
    assert loss.item() == 0 and p.grad is not None and not p.grad.any()


def test_perfect_embeddings_of_different_regions_have_no_loss() -> None:
    """Each region its own axis: the loss goes to 0 as the temperature does."""
    axes = torch.eye(N * R).double().view(N, R, -1)
    ids = torch.arange(R).expand(N, R)
    assert region_loss(axes, axes, axes, ids, ids, 0.02, same_ids=ids)["loss"].item() < 1e-15
    far = region_loss(axes, -axes, axes, ids, ids, 0.02, same_ids=ids)["loss"].item()
    assert far == pytest.approx(50 + math.log(2 * N * R - 2), abs=1e-6)


def test_views_may_be_swapped() -> None:
    method = small()
    torch.manual_seed(1)
    pair = views(0)
    losses = []
    for given in (pair, pair[::-1]):
        # every region is shown or not, and all nine are drawn, so that the draws do not matter
        whole = copy.deepcopy(method)
        whole.config = replace(method.config, regions=LABELS)
        for module in whole.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.eval()
        losses.append(whole(given)["loss"])
    torch.testing.assert_close(*losses)


def test_without_its_stages_it_says_what_is_missing(tmp_path: Path) -> None:
    method = small()
    with pytest.raises(PretrainError, match="'masks-0' is not there: run a recipe that lists the stages"):
        method.prepare(open_images(write_images(tmp_path / "images", 3)), tmp_path)
    method.masks = None
    with pytest.raises(PretrainError, match=r"call prepare\(source, folder\) before training"):
        method(views(0))


def test_the_recipe_is_one_training_of_800_epochs() -> None:
    recipe = all_recipes()["cyborgs-coco-800ep"]
    trainings = [*(stage for stage in recipe.stages if isinstance(stage, Recipe)), recipe]
    assert [one.epochs for one in trainings] == [100] * 8
    assert [one.first_epoch for one in trainings] == list(range(0, 800, 100))
    assert [one.from_stage for one in trainings] == [False] + [True] * 7
    configs = [one.method for one in trainings]
    assert all(isinstance(config, CYBORGSConfig) for config in configs)
    assert [config.masks for config in configs] == [f"masks-{k}" for k in range(8)]  # type: ignore[attr-defined]
    assert {replace(config, masks="") for config in configs} == {CYBORGSConfig(masks="")}  # type: ignore[type-var]
    assert {one.optimizer for one in trainings} == {
        LARSConfig(lr=0.2, weight_decay=1.5e-6, momentum=0.9, variant="byol")
    }
    whole = StepSchedule(milestones=(768, 784), warmup_epochs=10, warmup_start=0.01)
    assert {one.schedule for one in trainings} == {whole}
    masks = [stage for stage in recipe.stages if not isinstance(stage, Recipe)]
    assert masks[0] == Segments("masks-0") and masks[1:] == [Clusters(f"masks-{k}", block=2) for k in range(1, 8)]
    assert masks[1] == Clusters(
        "masks-1", together=16, clusters=(2, 257), iterations=20, stage=2, block=2, resize=None, side=64
    )  # fmt: skip
