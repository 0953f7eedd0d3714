from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contrastive import ToyBackbone
from geometric import batch as views_of
from geometric import draw
from looping import sgd, train
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.data.crops import draw_box
from pretrain.data.views import View
from pretrain.methods import all_recipes
from pretrain.methods.densesiam import (
    DenseSiam,
    DenseSiamConfig,
    TopDown,
    cosine_distance,
    cross_entropy,
    label_loss,
    region_contrast,
)
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
    "extra": 9,
    "region_dim": 6,
    "region_weight": 0.3,
    "pixel_weight": 0.8,
    "view_size": 16,
}
SEGMENTATION: dict[str, Any] = {
    "decoder": 5,
    "similarity": "cross entropy",
    "global_weight": 0.0,
    "label_weight": 0.7,
    "region_start": 0.0,
}


class Staged(ToyBackbone):
    """The toy backbone with the maps of both of its convolutions: (N, 6, 2 S, 2 S) and (N, 8, S, S)."""

    def features(self, x: Tensor) -> list[Tensor]:
        first = F.relu(self.norm(self.conv1(x)))
        return [first, F.relu(self.conv2(first))]


def build(*, norm: bool = True, seed: int = 0, **changes: Any) -> DenseSiam:
    """On a toy backbone with maps of 4 x 4, in float64, with every weight drawn from `seed`."""
    method = DenseSiamConfig(**{**SMALL, **changes}).build(Staged(norm=norm)).double()
    draw(method, seed)
    return method


def data(step: int) -> list[View]:
    return views_of(4, step % 8)


def bilinear(maps: Tensor, v: float, u: float) -> Tensor:
    """A map (C, H, W) at a point of the unit square, the border's value beyond the outermost centres."""
    height, width = maps.shape[1:]
    a, b = min(max(v * height - 0.5, 0), height - 1), min(max(u * width - 0.5, 0), width - 1)
    weights = [[max(0, 1 - abs(a - i)) * max(0, 1 - abs(b - j)) for j in range(width)] for i in range(height)]
    return (maps * torch.tensor(weights, dtype=maps.dtype)).sum((1, 2))


def sample(maps: Tensor, view: View, n: int, x: float, y: float) -> Tensor:
    """Image n's map at a point of the original image."""
    x1, y1, x2, y2 = view.box[n].tolist()
    u, v = (x - x1) / (x2 - x1), (y - y1) / (y2 - y1)
    return bilinear(maps[n], v, 1 - u if view.flip[n] else u)


def shared_box(views: list[View], n: int) -> tuple[list[float], bool]:
    boxes = [view.box[n].tolist() for view in views]
    box = [max(b[i] for b in boxes) for i in (0, 1)] + [min(b[i] for b in boxes) for i in (2, 3)]
    return box, box[0] < box[2] and box[1] < box[3]


def enlarged(maps: Tensor, height: int, width: int) -> Tensor:
    """Maps (N, C, H, W) of another size, point by point."""
    rows = [
        [torch.stack([bilinear(m, (i + 0.5) / height, (j + 0.5) / width) for m in maps]) for j in range(width)]
        for i in range(height)
    ]
    return torch.stack([torch.stack(row, 2) for row in rows], 2)


def plain_distance(similarity: str, p: Tensor, z: Tensor) -> Tensor:
    """D of one prediction and one projection (C,)."""
    z = z.detach()
    if similarity == "cosine":
        return -(p @ z) / (p @ p).sqrt() / (z @ z).sqrt()
    share = z.exp() / z.exp().sum()
    return -(share * (p - p.exp().sum().log())).sum()


def plain_loss(method: DenseSiam, views: list[View]) -> Tensor:
    """The losses point by point and region by region, with the method's own layers."""
    config, n_images = method.config, len(views[0].pixels)
    valid = [n for n in range(n_images) if shared_box(views, n)[1]]
    total = torch.zeros((), dtype=torch.float64)
    images, features = [], []
    for view in views:
        maps = method.backbone(view.pixels)
        images.append(maps.mean((2, 3)))
        if config.decoder:
            fine, coarse = method.backbone.features(view.pixels)
            maps = method.decoder.laterals[0](fine) + enlarged(method.decoder.laterals[1](coarse), *fine.shape[2:])
        points = []
        for n in range(n_images):
            shared, exists = shared_box(views, n)
            x1, y1, x2, y2 = shared if exists else view.box[n].tolist()
            for r in range(K):
                for c in range(K):
                    points.append(sample(maps, view, n, x1 + (c + 0.5) / K * (x2 - x1), y1 + (r + 0.5) / K * (y2 - y1)))
        features.append(torch.stack(points))

    if config.global_weight:
        z = [method.projector(x) for x in images]
        p = [method.predictor(x) for x in z]
        for i, j in ((0, 1), (1, 0)):
            total = total - 0.5 * config.global_weight * F.cosine_similarity(p[i], z[j].detach()).mean()

    def at_points(head: nn.Module, rows: Tensor) -> Tensor:
        maps = rows.view(n_images, K, K, -1).permute(0, 3, 1, 2)
        return head(maps).permute(0, 2, 3, 1).flatten(0, 2)

    both = math.log(config.regions) + math.log(config.extra)
    for projector, predictor, weight in (
        (method.dense_projector, method.dense_predictor, math.log(config.extra) / both),
        (method.extra_projector, method.extra_predictor, math.log(config.regions) / both),
    ):
        z = [at_points(projector, rows) for rows in features]
        p = [at_points(predictor, rows) for rows in z]
        for i, j in ((0, 1), (1, 0)):
            for n in valid:
                for s in range(n * K * K, (n + 1) * K * K):
                    distance = plain_distance(config.similarity, p[i][s], z[j][s])
                    total = total + 0.5 * weight * config.pixel_weight * distance / K**2 / len(valid)

    z = [at_points(method.dense_projector, rows) for rows in features]
    inside = [s for n in valid for s in range(n * K * K, (n + 1) * K * K)]
    for rows in z:
        labels = [max(range(config.regions), key=lambda c, s=s: rows[s, c].item()) for s in range(len(rows))]
        for s in inside:
            share = sum(labels[t] == labels[s] for t in inside) / len(inside)
            log_probability = rows[s, labels[s]] - rows[s].exp().sum().log()
            total = total - 0.5 * config.label_weight * share * log_probability / len(inside)

    if method.progress >= config.region_start:
        a, b = [], []
        for rows, f in zip(z, features, strict=True):
            masks = rows.exp() / rows.exp().sum(1, keepdim=True)
            e = torch.stack(
                [
                    sum((masks[s, m] * f[s] for s in range(n * K * K, (n + 1) * K * K)), torch.zeros(()))
                    for n in range(n_images)
                    for m in range(config.regions)
                ]
            )
            b.append(method.region_projector(e))
            a.append(F.normalize(method.region_predictor(b[-1]), dim=1))
            b[-1] = F.normalize(b[-1], dim=1)
        for i, j in ((0, 1), (1, 0)):
            for n in valid:
                own = slice(n * config.regions, (n + 1) * config.regions)
                target = b[j][own].detach() if config.region_stop_gradient else b[j][own]
                ce = F.cross_entropy(a[i][own] @ target.T / config.region_temperature, torch.arange(config.regions))
                total = total + 0.5 * config.region_weight * ce / len(valid)
    return total


def plain_curve(method: DenseSiam, steps: int) -> list[float]:
    optimizer = sgd([method])
    losses = []
    for step in range(steps):
        method.progress = step / steps
        loss = plain_loss(method, data(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_gives_the_losses_of_the_plain_loop() -> None:
    """32 steps that the plain loop recorded, the last 6 with the region loss; a change of this curve is a change of the
    method.

    Kinds of processors differ by up to 5e-7: training magnifies what they round differently.
    """
    got = train(build(), data, STEPS)
    assert got == pytest.approx(json.loads(CURVE.read_text()), rel=1e-5)
    assert got[25] < got[0]


@pytest.mark.parametrize(
    "changes",
    [{"region_start": 0.0}, {"region_start": 0.0, "region_stop_gradient": True}, SEGMENTATION],
    ids=["pretraining", "stopped at regions", "segmentation"],
)
def test_loss_and_gradient_are_those_of_the_plain_loop(changes: dict[str, Any]) -> None:
    method = build(**changes)
    plain = copy.deepcopy(method)
    loss, expected = method(data(0))["loss"], plain_loss(plain, data(0))
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    for (name, p), q in zip(method.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-9, atol=1e-11, msg=name)
    trained = {name for name, p in method.named_parameters() if p.grad.any()}
    biases = {name for name, _ in method.named_parameters() if name.endswith("projector.6.bias")}  # before batch norm
    assert trained | biases == set(dict(method.named_parameters()))


def test_parts_add_up() -> None:
    method = build(**{**SEGMENTATION, "global_weight": 0.5})
    out = method(data(0))
    expected = 0.5 * out["loss_global"] + 0.8 * out["loss_pixel"] + 0.3 * out["loss_region"] + 0.7 * out["loss_label"]
    torch.testing.assert_close(out["loss"].detach(), expected)
    assert [name for name, value in out.items() if value.requires_grad] == ["loss"]
    assert out["overlap"] == 0.75  # the last image's views share nothing
    assert 1 <= out["regions_used"] <= 4


def test_regions_begin_after_four_fifths_of_all_steps_also_of_a_resumed_run() -> None:
    method = build()
    for step, begun in ((0, False), (899, False), (900, True), (1124, True)):
        if step:
            method.after_step(step, 1125)
        resumed = build(seed=1)
        resumed.load_state_dict(method.state_dict())
        for one in (method, resumed):
            one.zero_grad()
            one(data(0))["loss"].backward()
            weight = one.region_projector[0].weight
            assert bool(weight.grad.any()) == begun
            one.before_update(step + 1, 1125)  # without a gradient the optimizer leaves the heads alone, decay included
            assert (weight.grad is not None) == begun


def test_gradients_stop_at_projections() -> None:
    p, z = (torch.randn(2, 5, 3, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    for distance in (cosine_distance, cross_entropy):
        distance(p, z).mean().backward()
        assert p.grad is not None and z.grad is None
    p.grad = None
    cosine_distance(p, z).mean().backward()
    # along its own direction a prediction gains nothing
    assert (p.grad * p).sum(1).abs().max() < 1e-12


def test_cross_entropy_is_least_where_the_prediction_is_the_projection() -> None:
    """Where it is the projection's entropy: between 0 and log C."""
    torch.manual_seed(0)
    p, z = torch.randn(2, 6, 5, 3, 3, dtype=torch.float64)
    entropy = torch.special.entr(z.softmax(1)).sum(1)
    torch.testing.assert_close(cross_entropy(z, z), entropy)
    assert (cross_entropy(p, z) > entropy).all()
    with torch.autocast("cpu", torch.bfloat16):
        assert cross_entropy(p.bfloat16(), z.bfloat16()).dtype == torch.float32


def test_labels_weigh_by_their_frequency() -> None:
    """Two images of two points, and one that does not count: label 0 thrice, label 2 once."""
    large = math.log(8)
    z = torch.zeros(3, 3, 1, 2, dtype=torch.float64)
    for n, s, label in ((0, 0, 0), (0, 1, 0), (1, 0, 2), (1, 1, 0), (2, 0, 1), (2, 1, 1)):
        z[n, label, 0, s] = large
    ce = -math.log(8 / 10)
    got = label_loss(z, torch.tensor([True, True, False]))
    assert got.tolist() == pytest.approx([0.75 * ce, (0.25 + 0.75) / 2 * ce, 0])
    assert label_loss(z, torch.zeros(3, dtype=torch.bool)).tolist() == [0, 0, 0]


def test_views_without_overlap_leave_the_image_loss_alone() -> None:
    method = build(region_start=0.0, label_weight=1.0)
    views = data(0)
    for view, box in zip(views, ([0.0, 0.0, 0.4, 1.0], [0.5, 0.0, 1.0, 1.0]), strict=True):
        view.box[:] = torch.tensor(box)
    out = method(views)
    assert out["loss_pixel"] == out["loss_region"] == out["loss_label"] == out["overlap"] == 0
    torch.testing.assert_close(out["loss"].detach(), out["loss_global"])
    out["loss"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())
    assert not method.dense_predictor[0].weight.grad.any()


def test_a_flip_is_undone() -> None:
    """With a network that works pixel by pixel, flipped views of one crop give the same features."""
    method = build(norm=False)
    method.backbone = nn.Conv2d(3, 8, 1).double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    box = torch.tensor([[0.1, 0.2, 0.7, 0.8]] * 2).double()
    plain = View(x, box, torch.tensor([False, False]), torch.arange(2))
    flipped = View(x.flip(3), box, torch.tensor([True, True]), torch.arange(2))
    (_, one), (_, two) = (method.encode(view, box, torch.ones(2, dtype=torch.bool)) for view in (plain, flipped))
    torch.testing.assert_close(one, two)


def test_a_crop_of_the_whole_image_is_taken_cell_by_cell() -> None:
    """As in the code: the crop's own cells, here in the order of the unflipped image, and the whole image's there."""
    method = build(norm=False, grid=4)
    method.backbone = nn.Identity()
    maps = torch.randn(1, 8, 4, 4, dtype=torch.float64)
    box = torch.tensor([[0.25, 0.0, 0.75, 0.5]]).double()
    crop = View(maps, box, torch.tensor([True]), torch.arange(1))
    whole = View(maps, torch.tensor([[0.0, 0, 1, 1]]).double(), torch.tensor([False]), torch.arange(1))
    (_, one), (_, two) = (method.encode(view, box, torch.ones(1, dtype=torch.bool)) for view in (crop, whole))
    torch.testing.assert_close(one, maps.flip(3))
    expected = [[sample(maps, whole, 0, 0.25 + (c + 0.5) / 8, (r + 0.5) / 8) for c in range(4)] for r in range(4)]
    torch.testing.assert_close(two[0], torch.stack([torch.stack(row, 1) for row in expected], 1))


def test_the_decoder_adds_what_is_enlarged() -> None:
    torch.manual_seed(0)
    decoder = TopDown([3, 4, 5], 6).double()
    stages = [torch.randn(2, c, s, s + 1, dtype=torch.float64) for c, s in ((3, 8), (4, 4), (5, 2))]
    fine, middle, coarse = (layer(maps) for layer, maps in zip(decoder.laterals, stages, strict=True))
    expected = fine + enlarged(middle + enlarged(coarse, 4, 5), 8, 9)
    torch.testing.assert_close(decoder(stages), expected)


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
    """Seen at the region heads' input."""
    method = build(norm=False).eval()
    label = torch.tensor([[0, 0, 1], [2, 1, 1], [2, 2, 3]])
    masks = F.one_hot(label).permute(2, 0, 1)[None].double()
    seen = []
    method.region_projector.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    f = torch.randn(1, 8, K, K, dtype=torch.float64)
    method.regions(f, masks)
    for m in range(4):
        torch.testing.assert_close(seen[0][m], f[0][:, label == m].sum(1))


def test_recipes() -> None:
    recipe = all_recipes()["densesiam-imagenet-200ep"]
    assert (recipe.epochs, recipe.batch_size, recipe.schedule) == (200, 512, CosineSchedule(per="epoch"))
    assert recipe.optimizer.lr == pytest.approx(0.05 * 512 / 256)
    names = [name for name, _ in build().named_parameters()]
    for prefix in recipe.optimizer.fixed_lr:
        assert any(name.startswith(prefix) for name in names)
    assert DenseSiam.info.fidelity == "reconstruction"

    segmentation = all_recipes()["densesiam-segmentation-coco-10ep"]
    assert segmentation.needs_init
    assert {segmentation.schedule.factor(step, 100, 10) for step in (0, 500, 999)} == {1.0}
    config = segmentation.method
    shares = [math.log(n) / math.log(config.regions * config.extra) for n in (config.extra, config.regions)]
    assert shares == pytest.approx([0.5955, 0.4045], abs=1e-4)


def test_networks_and_views_of_the_segmentation() -> None:
    """As in the code: a decoder of 128 channels, heads of 27 and 128, and the whole image's square beside a crop."""
    config = all_recipes()["densesiam-segmentation-coco-10ep"].method
    method = config.build()
    sizes = [tuple(conv.weight.shape[:2]) for conv in method.decoder.laterals]
    assert sizes == [(128, 64), (128, 128), (128, 256), (128, 512)]
    for projector, channels in ((method.dense_projector, 27), (method.extra_projector, 128)):
        assert [layer.weight.shape[0] for layer in projector if isinstance(layer, nn.Conv2d)] == [128, 128, channels]
        assert not projector[-1].affine
    assert not hasattr(method, "projector")
    rng = np.random.default_rng(0)
    crop, whole = (draw_box(rng, 640, 480, spec.scale, spec.ratio) for spec in method.plan.specs)
    assert whole == (80, 0, 480, 480)  # left, top, width, height
    assert crop[2] == crop[3] >= 277  # half of the image's root of area
    assert method.plan.specs[1].flip == 0
