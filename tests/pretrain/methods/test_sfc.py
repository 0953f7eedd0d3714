import copy
import math

import geometric
import pytest
import torch
from contrastive import sgd
from geometric import batch, cell, original_centre, stopped_and_trained, train
from siamese import cosine, recorded
from torch import Tensor, nn

from pretrain.data.views import View
from pretrain.methods import all_recipes
from pretrain.methods.pixpro import positive_pairs
from pretrain.methods.sfc import SFC, SFCConfig
from pretrain.nets.architectures import build_backbone
from pretrain.nets.resnet import keep_stride_8
from pretrain.recipes import AdamWConfig

SMALL = {"backbone": "toy", "hidden": 10, "dim": 6, "view_size": 16, "momentum": 0.9}


def make(seed: int = 0, *, norm: bool = True, **changes: object) -> SFC:
    config = SFCConfig(**{**SMALL, **changes})  # type: ignore[arg-type]
    return geometric.build(config, norm=norm, seed=seed)


def plain_loss(p: Tensor, target: Tensor, a: View, b: View) -> Tensor:
    """-2 times the mean over images of the mean cosine over cells at most half a diagonal apart, pair by pair."""
    n, _, side, _ = p.shape
    total = torch.zeros((), dtype=p.dtype)
    for i in range(n):
        diagonal = max(math.hypot(*((v.box[i, 2:] - v.box[i, :2]) / side).tolist()) for v in (a, b))
        centres_a, centres_b = ([original_centre(v, i, *divmod(s, side)) for s in range(side**2)] for v in (a, b))
        cosines = []
        for s in range(side**2):
            for t in range(side**2):
                if math.dist(centres_a[s], centres_b[t]) / diagonal < 0.5:
                    cosines.append(cosine(cell(p, i, s), cell(target, i, t)))
        total = total + (sum(cosines) / len(cosines) if cosines else 0.0)
    return -2 * total / n


def plain_curve(start: SFC, n: int, steps: int) -> list[float]:
    """The training in the order of the authors' code: momentum moves between predictions and targets."""
    f = copy.deepcopy(nn.ModuleList([start.backbone, start.projector]))
    q = copy.deepcopy(start.predictor)
    f_k = copy.deepcopy(f)
    optimizer = sgd([f, q])
    losses = []
    for k in range(steps):
        v1, v2 = batch(n, (k + 1) % 8)
        p1, p2 = (q(f[1](f[0](v.pixels))) for v in (v1, v2))
        with torch.no_grad():
            m = 1 - (1 - start.config.momentum) * (math.cos(math.pi * k / steps) + 1) / 2
            for p, p_k in zip(f.parameters(), f_k.parameters(), strict=True):
                p_k.data = m * p_k.data + (1 - m) * p.data
            t1, t2 = (f_k[1](f_k[0](v.pixels)) for v in (v1, v2))
        loss = plain_loss(p1, t2, v1, v2) + plain_loss(p2, t1, v2, v1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_is_the_papers_code() -> None:
    """Cell by cell, with an image whose views share nothing; also the order of step and momentum."""
    assert train(make(), 2, 3) == pytest.approx(plain_curve(make(), 2, 3), rel=1e-9)


def test_training_gives_the_recorded_losses() -> None:
    """40 steps in float64, recorded from the plain loop; a change of this curve is a change of the method."""
    got = train(make(), 4, 40)
    assert got == pytest.approx(recorded("sfc"), rel=1e-7)
    assert sum(got[-8:]) < sum(got[:8])  # it learns


def view(pixels: Tensor, width: float, height: float, x: float = 0.0) -> View:
    n = len(pixels)
    box = torch.tensor([[x, 0.0, x + width, height]], dtype=torch.float64).repeat(n, 1)
    return View(pixels, box, torch.zeros(n, dtype=torch.bool), torch.arange(n))


def test_one_crop_twice_has_its_own_cells_as_positives() -> None:
    """Of cells whose sides' ratio is at least 1 / sqrt 3, alone; of longer ones, the neighbor along the short side."""
    pixels = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    for height, number in ((0.7, 49), (0.41, 49), (0.40, 49 + 2 * 7 * 6)):
        crop = view(pixels, 0.7, height)
        pairs = positive_pairs(crop, crop, 7, SFCConfig().positive_distance)[0]
        assert pairs.sum() == number and pairs.diagonal().all()


def test_the_bounds_of_the_loss() -> None:
    """-4 where the prediction is the target, 4 where it is its opposite, and 0 for views that share nothing."""
    method = make(norm=False)
    method.projector[1] = method.momentum.projector[1] = nn.Identity()
    method.predictor = nn.Identity()
    crop = view(torch.randn(2, 3, 16, 16, dtype=torch.float64), 0.7, 0.7)
    assert method([crop, crop])["loss"].item() == pytest.approx(-4)
    method.predictor = nn.Conv2d(6, 6, 1, bias=False).double()
    method.predictor.weight.data = -torch.eye(6, dtype=torch.float64)[:, :, None, None]
    assert method([crop, crop])["loss"].item() == pytest.approx(4)
    apart = view(crop.pixels, 0.2, 0.2, x=0.8)
    out = method([crop, apart])
    assert out["loss"] == 0 and out["matched"] == 0
    out["loss"].backward()
    assert all(not p.grad.any() for p in method.projector.parameters())


def test_symmetry_and_log() -> None:
    views = batch(4, 3)
    out, swapped = make()(views), make()(views[::-1])
    torch.testing.assert_close(out["loss"], swapped["loss"])
    assert -4 <= out["loss"] <= 4 and out["matched"] == 0.75  # the last image's views share nothing
    assert [name for name, value in out.items() if value.requires_grad] == ["loss"]


def test_gradients_stop_at_the_targets() -> None:
    method = make()
    method(batch(4, 0))["loss"].backward()
    stopped, trained = stopped_and_trained(method)
    assert stopped == {name for name, _ in method.named_parameters() if name.startswith("momentum.")}
    assert all(p.grad is None for name, p in method.named_parameters() if name in stopped)
    assert {name.partition(".")[0] for name in trained} == {"backbone", "projector", "predictor"}


def test_after_step_moves_the_momentum_network() -> None:
    method = make(momentum=0.75)
    start = copy.deepcopy(method)
    for parameter in method.parameters():
        if parameter.requires_grad:
            parameter.data.add_(1.0)
    method.after_step(2, 4)
    for name, p in method.momentum.named_parameters():
        expected = 0.875 * start.momentum.get_parameter(name) + 0.125 * method.get_parameter(name).data
        torch.testing.assert_close(p, expected, rtol=1e-12, atol=1e-12)  # half way from 0.75 to 1


def test_the_map_has_stride_8_and_the_weights_of_an_ordinary_resnet() -> None:
    method = SFCConfig(hidden=8, dim=4).build()
    with torch.no_grad():
        maps = method.backbone.eval().features(torch.zeros(1, 3, 64, 64))
    assert [m.shape[-1] for m in maps] == [16, 8, 8, 8]
    ordinary = build_backbone("resnet18")
    assert {k: v.shape for k, v in method.backbone.state_dict().items()} == {
        k: v.shape for k, v in ordinary.state_dict().items()
    }
    assert all(m.stride == (1, 1) for m in method.momentum.backbone.layer4.modules() if isinstance(m, nn.Conv2d))
    # layer3 with stride 1, sampled at every second cell, is not layer3 with stride 2, but its first block's shortcut is
    keep_stride_8(strided := build_backbone("resnet18"))
    strided.load_state_dict(ordinary.state_dict())
    x = torch.randn(1, 128, 8, 8)
    fine, coarse = (net.eval().layer3[0].downsample(x) for net in (strided, ordinary))
    torch.testing.assert_close(fine[..., ::2, ::2], coarse)


def test_the_paper_recipe_has_the_papers_settings() -> None:
    recipe = all_recipes()["sfc-youtubevos-20ep"]
    assert recipe.optimizer == AdamWConfig(lr=1e-3, weight_decay=0.0)
    assert (recipe.epochs, recipe.batch_size) == (20, 96)
    assert [recipe.schedule.factor(step, 10, 20) for step in (0, 1, 100, 199)] == [1, 1, 1, 1]
    config = recipe.method
    assert config == SFCConfig()
    assert (config.backbone, config.hidden, config.dim) == ("resnet18", 2048, 256)
    assert (config.positive_distance, config.momentum) == (0.5, 0.99)
    plan = config.build().plan
    assert [(s.size, s.flip, s.colour, s.interpolation) for s in plan.specs] == [(256, 0.0, (), "bilinear")] * 2
    assert all(s.ratio == (3 / 4, 4 / 3) and s.scale[0] < 1e-6 and s.scale[1] == 1 for s in plan.specs)
    assert plan.mean != (0.485, 0.456, 0.406)  # the authors' training does not normalize by ImageNet's values
