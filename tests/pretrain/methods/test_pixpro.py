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
from pretrain.methods import all_recipes
from pretrain.methods.pixpro import (
    RECIPES,
    PixPro,
    PixProConfig,
    positive_pairs,
    propagate,
)
from pretrain.recipes import CosineSchedule

CURVE = Path(__file__).parent / "curves" / "pixpro.json"
SMALL = {"backbone": "toy", "hidden": 10, "dim": 6, "view_size": 16, "momentum": 0.9}


def make(seed: int = 0, *, norm: bool = True, **changes: object) -> PixPro:
    config = PixProConfig(**{**SMALL, **changes})  # type: ignore[arg-type]
    return geometric.build(config, norm=norm, seed=seed)


def plain_loss(y: Tensor, target: Tensor, a: View, b: View) -> Tensor:
    """-2 times the mean over images of the mean cosine over pairs of cells that are near, pair by pair."""
    n, _, side, _ = y.shape
    total = torch.zeros((), dtype=y.dtype)
    for i in range(n):
        extents = [(v.box[i, 2:] - v.box[i, :2]).tolist() for v in (a, b)]
        diagonal = max(math.hypot(w / side, h / side) for w, h in extents)
        cosines = []
        for s in range(side**2):
            for t in range(side**2):
                distance = math.dist(original_centre(a, i, *divmod(s, side)), original_centre(b, i, *divmod(t, side)))
                if distance / diagonal < 0.7:
                    cosines.append(F.cosine_similarity(cell(y, i, s), cell(target, i, t), dim=0))
        total = total + (sum(cosines) / len(cosines) if cosines else 0.0)
    return -2 * total / n


def plain_propagate(x: Tensor, g: nn.Conv2d, sharpness: float) -> Tensor:
    n, _, side, _ = x.shape
    y = torch.zeros_like(x)
    for i in range(n):
        for s in range(side**2):
            for t in range(side**2):
                likeness = F.cosine_similarity(cell(x, i, s), cell(x, i, t), dim=0).clamp(min=0) ** sharpness
                value = g.weight[:, :, 0, 0] @ cell(x, i, t) + g.bias
                y[i, :, s // side, s % side] = y[i, :, s // side, s % side] + likeness * F.normalize(value, dim=0)
    return y


def plain_curve(start: PixPro, n: int, steps: int, *, propagation: bool) -> list[float]:
    """The training in the order of the authors' code: momentum moves before the targets are computed.

    With `propagation`, cells are also smoothed one by one, which takes its time.
    """
    f = copy.deepcopy(nn.ModuleList([start.backbone, start.projector]))
    g = copy.deepcopy(start.value)
    f_k = copy.deepcopy(f)
    optimizer = sgd([f, g])
    losses = []
    for k in range(steps):
        v1, v2 = batch(n, (k + 1) % 8)
        x1, x2 = f[1](f[0](v1.pixels)), f[1](f[0](v2.pixels))
        smooth = plain_propagate if propagation else (lambda x, g, p: propagate(x, g(x), p))
        y1, y2 = (smooth(x, g, start.config.sharpness) for x in (x1, x2))
        with torch.no_grad():
            m = 1 - (1 - start.config.momentum) * (math.cos(math.pi * k / steps) + 1) / 2
            for p, p_k in zip(f.parameters(), f_k.parameters(), strict=True):
                p_k.data = m * p_k.data + (1 - m) * p.data
            t1, t2 = f_k[1](f_k[0](v1.pixels)), f_k[1](f_k[0](v2.pixels))
        loss = plain_loss(y1, t2, v1, v2) + plain_loss(y2, t1, v2, v1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_is_the_papers_code() -> None:
    """Cell by cell, with an image whose views share nothing; also the order of step and momentum."""
    assert train(make(), 2, 4) == pytest.approx(plain_curve(make(), 2, 4, propagation=True), rel=1e-9)


def test_training_gives_the_recorded_losses() -> None:
    """40 steps in float64, recorded from the plain loop; a change of this curve is a change of the method."""
    got = train(make(), 4, 40)
    assert got == pytest.approx(json.loads(CURVE.read_text()), rel=1e-7)
    assert sum(got[-8:]) < sum(got[:8])  # it learns


def test_the_propagation_module() -> None:
    torch.manual_seed(0)
    g = nn.Conv2d(5, 5, 1).double()
    x = torch.randn(2, 5, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(propagate(x, g(x), 2.0), plain_propagate(x, g, 2.0))
    torch.testing.assert_close(propagate(x, g(x), 1.5), plain_propagate(x, g, 1.5))
    # A cell that is like no other keeps its own value alone; cells of opposite sign do not mix.
    x = torch.eye(9, dtype=torch.float64).view(1, 9, 3, 3)
    torch.testing.assert_close(propagate(x, x, 2.0), x)
    x = torch.cat([torch.ones(1, 4, 1, 2), -torch.ones(1, 4, 1, 2)], dim=2).double()
    torch.testing.assert_close(propagate(x, x, 2.0), x * 2 * 0.5)  # two unit vectors of entries 1/2 each
    with pytest.raises(PretrainError, match="sharpness"):
        PixProConfig(sharpness=0.5)


def test_scale_of_the_features_does_not_matter() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 3, 3)
    torch.testing.assert_close(propagate(x, 3 * x, 2.0), propagate(7 * x, x, 2.0))


def placed(width: float, height: float, *, x: float = 0.0, flip: bool = False) -> View:
    box = torch.tensor([[x, 0.0, x + width, height]], dtype=torch.float64)
    return View(torch.zeros(1), box, torch.tensor([flip]), torch.zeros(1))


def test_positives_of_one_crop_with_itself() -> None:
    """0.7 < 1 / sqrt 2: of square cells only the same; of flat ones the neighbour along the short side as well."""
    square = placed(0.7, 0.7)
    assert torch.equal(positive_pairs(square, square, 7, 0.7)[0], torch.eye(49, dtype=torch.bool))
    assert positive_pairs(placed(0.8, 1.0), placed(0.8, 1.0), 7, 0.7).sum() == 133
    mirrored = positive_pairs(square, placed(0.7, 0.7, flip=True), 7, 0.7)[0]
    assert torch.equal(mirrored.int().argmax(1), torch.arange(49).view(7, 7).flip(1).flatten())
    assert not positive_pairs(placed(0.3, 0.3), placed(0.3, 0.3, x=0.6), 7, 0.7).any()
    # the larger cell's diagonal is the measure, whichever view has it
    wide, narrow = placed(1.0, 1.0), placed(0.2, 0.2, x=0.3)
    pairs = positive_pairs(wide, narrow, 2, 0.7)
    assert pairs.any() and torch.equal(pairs, positive_pairs(narrow, wide, 2, 0.7).transpose(1, 2))


def test_images_without_a_common_place_count_as_zero() -> None:
    """Without batch norm an image's part does not depend on the others."""
    method = make(norm=False)
    views = batch(4, 3)
    method.projector[1], method.momentum.projector[1] = nn.Identity(), nn.Identity()
    whole = method(views)
    assert whole["matched"] == 0.75
    matched = method([View(*(t[:3] for t in (v.pixels, v.box, v.flip, v.image_id))) for v in views])
    torch.testing.assert_close(whole["loss"], matched["loss"] * 0.75)
    apart = method([View(*(t[3:] for t in (v.pixels, v.box, v.flip, v.image_id))) for v in views])
    assert apart["loss"] == 0
    apart["loss"].backward()
    assert all(not p.grad.any() for p in method.projector.parameters())


def test_range_and_symmetry() -> None:
    method = make()
    views = batch(4, 0)
    loss = method(views)["loss"]
    assert -4 <= loss <= 4
    torch.testing.assert_close(method(views[::-1])["loss"], loss)


def test_log() -> None:
    method = make()
    views = batch(4, 1)
    frozen = copy.deepcopy(method)
    out = method(views)
    assert [name for name, value in out.items() if value.requires_grad] == ["loss"]
    x = frozen.projector(frozen.backbone(views[0].pixels))
    y = F.normalize(propagate(x, frozen.value(x), 2.0).flatten(2), dim=1)
    t = F.normalize(frozen.momentum.projector(frozen.momentum.backbone(views[1].pixels)).flatten(2), dim=1)
    pairs = positive_pairs(*views, SIDE, 0.7)
    positive, negative, correct, possible = [], [], 0, 0
    for i in range(4):
        similarity = y[i].T @ t[i]
        for s in range(SIDE**2):
            positive += similarity[s][pairs[i, s]].tolist()
            negative += similarity[s][~pairs[i, s]].tolist()
            possible += int(pairs[i, s].any())
            correct += int(pairs[i, s, similarity[s].argmax()])
    assert out["positive"].item() == pytest.approx(sum(positive) / len(positive))
    assert out["negative"].item() == pytest.approx(sum(negative) / len(negative))
    assert out["accuracy"].item() == pytest.approx(correct / possible)
    rows = F.normalize(x.permute(0, 2, 3, 1).flatten(0, 2), dim=1)
    torch.testing.assert_close(out["std"], (rows.std(0, correction=0).mean() * 6**0.5).detach())


def test_gradients_stop_at_the_targets() -> None:
    for weight in (0.0, 1.0):
        method = make(instance_weight=weight)
        method(batch(4, 0))["loss"].backward()
        stopped, _ = stopped_and_trained(method)
        assert stopped == {name for name, _ in method.named_parameters() if "momentum." in name}
        assert all(p.grad is None for name, p in method.named_parameters() if name in stopped)


def test_the_instance_branch_is_byol_on_pooled_maps() -> None:
    method = make(instance_weight=0.5)
    views = batch(4, 0)
    frozen = copy.deepcopy(method)
    out = method(views)
    torch.testing.assert_close(out["loss"].detach(), out["loss_pixel"] + 0.5 * out["loss_instance"])
    instance = frozen.instance
    pooled = [instance.predictor(instance.projector(frozen.backbone(v.pixels))).mean((2, 3)) for v in views]
    targets = [instance.momentum.projector(frozen.momentum.backbone(v.pixels)).mean((2, 3)) for v in views]
    expected = sum(-2 * F.cosine_similarity(pooled[i], targets[1 - i]).mean() for i in range(2))
    torch.testing.assert_close(out["loss_instance"], expected.detach())
    torch.testing.assert_close(make()(views)["loss"].detach(), out["loss_pixel"])


def test_after_step_moves_the_momentum_network() -> None:
    method = make(instance_weight=1.0, momentum=0.75)
    start = copy.deepcopy(method)
    for parameter in method.parameters():
        if parameter.requires_grad:
            parameter.data.add_(1.0)
    method(batch(4, 0))
    method.after_step(2, 4)
    for name, p in method.named_parameters():
        if "momentum." in name:
            theta = method.get_parameter(name.replace("momentum.", ""))
            expected = 0.875 * start.get_parameter(name) + 0.125 * theta.data  # half way from 0.75 to 1
            torch.testing.assert_close(p, expected, rtol=1e-12, atol=1e-12)
    moved = copy.deepcopy(method)
    method.after_step(4, 4)  # at the end of the cosine nothing moves any more
    assert all(torch.equal(p, moved.get_parameter(name)) for name, p in method.named_parameters())


def test_paper_recipes_have_the_papers_settings() -> None:
    recipes = all_recipes()
    assert {recipe.name for recipe in RECIPES} <= set(recipes)
    for name, epochs, instance in (
        ("pixpro-imagenet-100ep", 100, 0),
        ("pixpro-imagenet-400ep", 400, 0),
        ("pixpro-imagenet-400ep-instance", 400, 1),
    ):
        recipe = recipes[name]
        assert (recipe.epochs, recipe.batch_size) == (epochs, 1024)
        assert (recipe.optimizer.lr, recipe.optimizer.weight_decay, recipe.optimizer.momentum) == (4.0, 1e-5, 0.9)
        assert isinstance(recipe.schedule, CosineSchedule)
        assert (recipe.schedule.per, recipe.schedule.warmup_epochs) == ("step", 5)
        config = recipe.method
        assert isinstance(config, PixProConfig)
        assert (config.backbone, config.hidden, config.dim) == ("resnet50", 4096, 256)
        assert (config.sharpness, config.positive_distance, config.momentum) == (2, 0.7, 0.99)
        assert config.instance_weight == instance
        plan = PixProConfig(backbone="resnet18").build().plan
        assert [(s.size, s.scale, s.flip, s.interpolation) for s in plan.specs] == [
            (224, (0.08, 1.0), 0.5, "bilinear")
        ] * 2
