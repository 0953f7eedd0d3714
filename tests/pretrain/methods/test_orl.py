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
from hypothesis import given, settings
from hypothesis import strategies as st
from looping import sgd, train
from multicrops import batch
from siamese import cosine
from torch import nn
from toy import write_images

from pretrain.data.batches import Loading, crop_batches, open_images
from pretrain.data.proposals import overlaps
from pretrain.data.views import View
from pretrain.errors import PretrainError
from pretrain.methods import all_recipes
from pretrain.methods.byol import BYOLConfig
from pretrain.methods.orl import ORL, ObjectPlaces, ORLConfig, moved_box
from pretrain.recipes import CosineSchedule, Recipe, SGDConfig

N = 6
SMALL: dict[str, Any] = {"backbone": "toy", "hidden": 10, "dim": 5, "momentum": 0.9, "view_size": 16, "patch_size": 8}


def small(seed: int = 0, **changes: Any) -> ORL:
    method: ORL = build(ORLConfig(**{**SMALL, **changes}), seed=seed)
    return method


def views(step: int) -> list[View]:
    return batch(N, step % 4, small=4)


def plain_curve(start: ORL, steps: int) -> list[float]:
    """The paper written out: three pairs of views, each with its predictor, image by image."""
    theta = copy.deepcopy(nn.ModuleList([start.backbone, start.projector, start.predictor, start.box_predictors]))
    xi = copy.deepcopy(theta[:2])
    optimizer = sgd([theta])
    predictors = [theta[2], theta[3]["intra"], theta[3]["inter"]]
    losses = []
    for step in range(steps):
        x = [view.pixels for view in views(step)]
        loss = torch.zeros(()).double()
        for pair, predictor in enumerate(predictors):
            for one, other in ((2 * pair, 2 * pair + 1), (2 * pair + 1, 2 * pair)):
                p = predictor(theta[1](theta[0](x[one]).mean((2, 3))))
                t = xi[1](xi[0](x[other]).mean((2, 3))).detach()
                loss = loss + sum(2 - 2 * cosine(p[i], t[i]) for i in range(N)) / N
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        m = 1 - (1 - start.config.momentum) * (math.cos(math.pi * step / steps) + 1) / 2
        for target, online in zip(xi.parameters(), theta.parameters(), strict=False):
            target.data = m * target.data + (1 - m) * online.data
        losses.append(loss.item())
    return losses


def test_training_is_the_paper_written_out() -> None:
    method = small()
    expected = plain_curve(method, 8)
    got = train(method, views, 8)
    assert got == pytest.approx(expected, rel=1e-9)
    assert got[-1] < got[0]


def test_the_parts_add_up_and_each_has_its_predictor() -> None:
    method = small()
    out = method(views(0))
    torch.testing.assert_close(out["loss"].detach(), out["image"] + out["intra"] + out["inter"])
    assert all(0 <= out[part] <= 8 for part in ("image", "intra", "inter"))
    out["loss"].backward()
    for name, parameter in method.named_parameters():
        assert (parameter.grad is None) == name.startswith("momentum."), name
    heads = [method.predictor, *method.box_predictors.values()]
    assert len({id(head) for head in heads}) == 3
    assert len({head[0].weight.sum().item() for head in heads}) == 3


def test_the_first_training_is_byol() -> None:
    first = small(objects=False)
    byol = build(BYOLConfig(**{k: v for k, v in SMALL.items() if k != "patch_size"}))
    assert train(first, lambda step: views(step)[:2], 6) == train(byol, lambda step: views(step)[:2], 6)
    assert not first.box_predictors and len(first.plan.specs) == 2


def test_every_forward_pass_has_its_own_batch_norm() -> None:
    """What one pair sees changes nothing of another's loss."""
    method, given = small(), views(0)
    before = copy.deepcopy(method)(given)
    given[4].pixels += 1
    after = method(given)
    assert torch.equal(before["image"], after["image"]) and torch.equal(before["intra"], after["intra"])
    assert not torch.equal(before["inter"], after["inter"])


boxes = st.tuples(
    st.integers(20, 80), st.integers(20, 80), st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 1), st.floats(0.1, 1)
)


@settings(max_examples=50)
@given(boxes, st.integers(0, 2**32))
def test_a_moved_box_lies_inside_and_overlaps(numbers: tuple[Any, ...], seed: int) -> None:
    width, height, x, y, across, down = numbers
    w, h = math.ceil(across * width), math.ceil(down * height)
    box = np.array([int(x * (width - w)), int(y * (height - h)), w, h])
    moved = moved_box(np.random.default_rng(seed), box, width, height, ORLConfig())
    left, top, new_w, new_h = moved.tolist()
    assert left >= 0 and top >= 0 and left + new_w <= width and top + new_h <= height
    both = set_of(moved) & set_of(box)
    assert len(both) / len(set_of(moved) | set_of(box)) > 0.5
    if (moved != box).any():
        assert 0.45 < new_w / new_h < 2.2 or min(new_w, new_h) < 20
        assert 0.4 < new_w * new_h / (w * h) < 2.1 or min(new_w, new_h) < 20


def set_of(box: np.ndarray[Any, Any]) -> set[tuple[int, int]]:
    left, top, width, height = box.tolist()
    return {(x, y) for x in range(left, left + width) for y in range(top, top + height)}


def test_a_box_that_cannot_be_moved_is_taken_again() -> None:
    """The ratio of the moved box is between 1/2 and 2 whatever the box's: of one ten times as wide, none overlaps."""
    box = np.array([0, 40, 100, 10])
    assert moved_box(np.random.default_rng(0), box, 100, 100, ORLConfig()).tolist() == box.tolist()


@pytest.fixture
def places(tmp_path: Path) -> ObjectPlaces:
    """Of three images of 24 x 32 and 32 x 24 pixels; each has its own number of boxes, neighbors and pairs."""
    proposals = np.zeros((3, 4, 4), dtype=np.uint16)
    proposals[0, :1], proposals[1, :2], proposals[2, :4] = 5, [[1, 2, 9, 8], [0, 0, 20, 20]], 7
    neighbors = np.array([[1, 2], [2, 0], [0, 1]], dtype=np.int32)
    pairs = np.zeros((3, 2, 3, 8), dtype=np.uint16)
    for image in range(3):
        for rank in range(2):
            for place in range(image + 1):
                pairs[image, rank, place] = [image, rank, 10 + place, 10, 1 + rank, 1, 6, 5 + place]
    files = [tmp_path / name for name in ("proposals.npy", "neighbors.npy", "pairs.npy")]
    for file, table in zip(files, (proposals, neighbors, pairs), strict=True):
        np.save(file, table)
    return ObjectPlaces(ORLConfig(), *files)


def test_boxes_neighbors_and_pairs_are_drawn_evenly(places: ObjectPlaces) -> None:
    drawn = [places.draw(np.random.default_rng([1, i]), 1, 32, 24) for i in range(400)]
    first = [place["intra 1"] for place in drawn]
    assert 150 < first.count((1, (1, 2, 9, 8))) < 250 and 150 < first.count((1, (0, 0, 20, 20))) < 250
    assert all(place["intra 2"][0] == 1 for place in drawn)
    pairs = [(place["inter 1"], place["inter 2"]) for place in drawn]
    expected = {
        ((1, (1, rank, 10 + place, 10)), ((2, 0)[rank], (1 + rank, 1, 6, 5 + place)))
        for rank in range(2)
        for place in range(2)
    }
    assert set(pairs) == expected
    assert all(60 < pairs.count(pair) < 140 for pair in expected)


def test_the_loader_cuts_what_is_drawn(places: ObjectPlaces, tmp_path: Path) -> None:
    source = open_images(write_images(tmp_path / "images", 3))
    method = ORLConfig(**{**SMALL, "backbone": "resnet18"}).build()
    method.products = {"proposals": places.proposals, "neighbors": places.neighbors, "pairs": places.pairs}
    method.prepare(source, tmp_path)
    (crops,) = crop_batches(source, method.plan, Loading(batch_size=3, workers=0))
    assert [crop.pixels.shape[-1] for crop in crops] == [16, 16, 8, 8, 8, 8]
    ids = crops[0].image_id
    assert all(torch.equal(crop.image_id, ids) for crop in crops[1:5])
    neighbors = np.load(places.neighbors)
    for image, other in zip(ids.tolist(), crops[5].image_id.tolist(), strict=True):
        assert other in neighbors[image]
    for row, image in enumerate(ids.tolist()):
        height, width = source.decode(image).shape[1:]
        sides = np.array([width, height, width, height])
        box, moved = (np.rint(crop.box[row].numpy() * sides).astype(int) for crop in crops[2:4])
        box[2:] -= box[:2]
        moved[2:] -= moved[:2]
        assert box.tolist() in np.load(places.proposals)[image].tolist()
        assert overlaps(moved[None], box)[0] > 0.5


def test_without_its_stages_it_says_what_is_missing(tmp_path: Path) -> None:
    method = small()
    with pytest.raises(PretrainError, match="'proposals' is not there: run a recipe that lists the stages"):
        method.prepare(open_images(write_images(tmp_path / "images", 3)), tmp_path)


def test_the_recipe_is_that_of_the_code() -> None:
    recipe = all_recipes()["orl-coco-800ep"]
    assert (recipe.epochs, recipe.batch_size, recipe.from_stage) == (800, 512, False)
    assert recipe.optimizer == SGDConfig(lr=0.4, momentum=0.9, weight_decay=1e-4)
    assert recipe.schedule == CosineSchedule(per="step", warmup_epochs=4, warmup_start=1e-4)
    proposals, first, neighbors, pairs = recipe.stages
    assert isinstance(first, Recipe) and isinstance(recipe.method, ORLConfig)
    assert first.method == replace(recipe.method, objects=False)
    assert (first.epochs, first.batch_size, first.optimizer) == (800, 512, recipe.optimizer)
    assert vars(proposals) == {
        "name": "proposals", "search": "opencv", "min_side": 96, "max_ratio": 3.0, "max_overlap": 0.5, "limit": 100
    }  # fmt: skip
    assert vars(neighbors) == {"name": "neighbors", "number": 10, "resize": 256, "size": 224, "batch": 64}
    assert vars(pairs) == {"name": "pairs", "share": 0.1, "size": 224}
    method = recipe.method
    assert (method.momentum, method.patch_size, method.last_bias, method.hidden, method.dim) == (
        0.99,
        96,
        False,
        4096,
        256,
    )
    assert (method.blur, method.solarize, method.crop_scale) == ((1.0, 0.1), (0.0, 0.2), (0.08, 1.0))


def test_networks_start_as_in_the_code() -> None:
    """Kaiming normal, zero biases, and the momentum network a copy."""
    torch.manual_seed(0)
    method = ORLConfig(backbone="resnet18", hidden=256, dim=64).build()
    for head in (method.projector, method.predictor, *method.box_predictors.values()):
        assert head[0].weight.std().item() == pytest.approx((2 / head[0].in_features) ** 0.5, rel=0.05)
        assert not head[0].bias.any() and head[3].bias is None
    for copied, trained in zip(
        method.momentum.parameters(), [*method.backbone.parameters(), *method.projector.parameters()], strict=True
    ):
        assert torch.equal(copied, trained)
