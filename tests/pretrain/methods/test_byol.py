import copy
import math
from typing import Any

import pytest
import siamese
import torch
from contrastive import batch
from looping import sgd, train
from siamese import cosine, recorded, views
from torch import nn

from pretrain.data.augment import ColorJitter, GaussianBlur, Grayscale, Solarize
from pretrain.data.tensorflow_color import byol_code_color
from pretrain.methods import METHODS, all_recipes
from pretrain.methods.byol import BYOL, BYOLSGD, BYOLConfig, BYOLSGDConfig, regression_loss
from pretrain.recipes import CosineSchedule, LARSConfig, SGDConfig

SMALL: dict[str, Any] = {"backbone": "toy", "hidden": 10, "dim": 6, "momentum": 0.9, "view_size": 16}


def build(config: BYOLConfig | None = None, seed: int = 0) -> Any:
    return siamese.build(config or BYOLConfig(**SMALL), seed)


def plain_curve(start: BYOL, steps: int, *, first: int = 0) -> list[float]:
    """The same training written out: image by image, and momentum by the paper's formula (t from `first`)."""
    theta = nn.ModuleList([start.backbone, start.projector, start.predictor])
    theta = copy.deepcopy(theta)
    xi = copy.deepcopy(nn.ModuleList([start.backbone, start.projector]))
    optimizer = sgd([theta])
    losses = []
    for step in range(steps):
        x = [view.pixels for view in views(step)]
        p = [theta[2](theta[1](theta[0](v).mean((2, 3)))) for v in x]
        with torch.no_grad():
            t = [xi[1](xi[0](v).mean((2, 3))) for v in x]
        n = len(x[0])
        loss = sum(2 - 2 * cosine(p[a][i], t[1 - a][i]) for i in range(n) for a in (0, 1)) / n
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tau = 1 - (1 - start.config.momentum) * (math.cos(math.pi * (step + first) / steps) + 1) / 2
        for target, online in zip(xi.parameters(), theta.parameters(), strict=False):  # the predictor comes last
            target.data = tau * target.data + (1 - tau) * online.data
        losses.append(loss.item())
    return losses


def test_training_is_the_paper_written_out() -> None:
    method = build()
    expected = plain_curve(method, 40)
    got = train(method, views, 40)
    assert got == pytest.approx(expected, rel=1e-9)
    assert got == pytest.approx(recorded("byol"), rel=1e-7)
    assert got[-1] < got[0]


def test_sgd_variant_counts_momentum_from_one_and_has_biases() -> None:
    method = build(BYOLSGDConfig(**SMALL))
    assert train(copy.deepcopy(method), views, 32) == pytest.approx(plain_curve(method, 32, first=1), rel=1e-9)
    assert method.momentum_after(10, 10) == 1
    for head in (method.projector, method.predictor):
        assert head[0].bias is not None and head[-1].bias is not None
    assert build().projector[-1].bias is None


def test_distances_of_the_regression() -> None:
    a, b = torch.eye(4, 6)[:2], torch.eye(4, 6)[2:]
    for targets, expected in ((a, 0.0), (b, 2.0), (-a, 4.0)):
        assert regression_loss(a, targets).item() == pytest.approx(expected)
    torch.manual_seed(0)
    p, t = torch.randn(5, 6, requires_grad=True), torch.randn(5, 6, requires_grad=True)
    loss = regression_loss(p, t)
    torch.testing.assert_close(regression_loss(3 * p, 0.1 * t), loss)
    loss.backward()
    assert p.grad is not None and t.grad is None
    torch.testing.assert_close((p.grad * p).sum(1), torch.zeros(5), atol=1e-6, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert regression_loss(p.bfloat16(), t.bfloat16()).dtype == torch.float32


def test_views_may_be_swapped() -> None:
    method = build()
    pair = batch(8, 0)
    torch.testing.assert_close(method(pair)["loss"], method(pair[::-1])["loss"])


def test_gradients_reach_the_trained_networks_alone() -> None:
    method = build()
    out = method(views(0))
    out["loss"].backward()
    for name, p in method.named_parameters():
        assert (p.grad is None) == name.startswith("momentum."), name
    for part in ("backbone.conv1.weight", "projector.0.weight", "predictor.3.weight"):
        assert method.get_parameter(part).grad.any()
    assert [name for name, value in out.items() if value.requires_grad] == ["loss"]


def test_the_log() -> None:
    method = build()
    frozen = copy.deepcopy(method)
    out = method(views(0))
    x_1, x_2 = (view.pixels for view in views(0))
    p = frozen.predictor(frozen.projector(frozen.backbone(x_1).mean((2, 3))))
    t = frozen.momentum.projector(frozen.momentum.backbone(x_2).mean((2, 3)))
    table = torch.tensor([[cosine(a, b).item() for b in t] for a in p]).double()
    own = torch.eye(8, dtype=torch.bool)
    torch.testing.assert_close(out["positive"], table[own].mean())
    torch.testing.assert_close(out["negative"], table[~own].mean())
    torch.testing.assert_close(out["accuracy"], (table.argmax(1) == torch.arange(8)).double().mean())
    assert method.embeddings.shape == (8, 6)


def test_momentum_moves_parameters_after_the_step_and_no_buffers() -> None:
    method = build(BYOLConfig(**{**SMALL, "momentum": 0.75, "momentum_schedule": "constant"}))
    method(views(0))
    start = copy.deepcopy(method)
    for p in (*method.backbone.parameters(), *method.projector.parameters()):
        p.data.add_(1.0)
    method.after_step(1, 10)
    for name, xi in start.named_parameters():
        if name.startswith("momentum."):
            theta = method.get_parameter(name.removeprefix("momentum."))
            torch.testing.assert_close(method.get_parameter(name), 0.75 * xi + 0.25 * theta.data)
    for name, buffer in start.named_buffers():
        assert torch.equal(buffer, method.get_buffer(name)), name
    assert start.momentum.backbone.norm.num_batches_tracked == 2  # it works in training mode, on its own inputs


def test_views_are_the_papers() -> None:
    for spec, blur, solarize in zip(
        BYOLConfig(backbone="resnet18").build().plan.specs, (1, 0.1), (0, 0.2), strict=True
    ):
        assert (spec.size, spec.scale, spec.interpolation, spec.flip) == (224, (0.08, 1.0), "bicubic", 0.5)
        assert spec.colour == (
            ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.8),
            Grayscale(p=0.2),
            GaussianBlur(sigma=(0.1, 2.0), p=blur),
            Solarize(threshold=0.5, p=solarize),
        )


def test_views_can_be_the_codes() -> None:
    specs = BYOLConfig(backbone="resnet18", inputs="byol", interpolation="bilinear").build().plan.specs
    for spec, blur, solarize in zip(specs, (1, 0.1), (0, 0.2), strict=True):
        assert (spec.size, spec.scale, spec.ratio) == (224, (0.08, 1.0), (3 / 4, 4 / 3))
        assert (spec.rules, spec.interpolation, spec.flip) == ("byol", "bicubic", 0.5)
        assert spec.colour == byol_code_color((0.1, 2.0), blur=blur, solarize=solarize)


def test_residual_blocks_can_start_as_identities() -> None:
    method = BYOLConfig(backbone="resnet18", hidden=16, dim=8, zero_init_residual=True).build()
    scales = [m.bn2.weight for m in method.backbone.modules() if hasattr(m, "bn2")]
    assert len(scales) == 8 and not any(scale.any() for scale in scales)
    assert method.backbone.bn1.weight.all()


def test_recipes_have_the_papers_settings() -> None:
    assert {BYOL, BYOLSGD} <= set(METHODS)
    recipes = all_recipes()
    for name, lr, decay, momentum in (("300", 0.3, 1e-6, 0.99), ("1000", 0.2, 1.5e-6, 0.996)):
        recipe = recipes[f"byol-imagenet-{name}ep"]
        assert (recipe.epochs, recipe.batch_size) == (int(name), 4096)
        assert recipe.optimizer == LARSConfig(
            lr=pytest.approx(lr * 4096 / 256), momentum=0.9, weight_decay=decay, trust=1e-3, variant="byol"
        )
        assert recipe.optimizer.exclude_norm_bias
        assert recipe.schedule == CosineSchedule(per="step", warmup_epochs=10)
        assert recipe.method == BYOLConfig(
            hidden=4096, dim=256, momentum=momentum, momentum_schedule="cosine", inputs="byol"
        )
    recipe = recipes["byol-sgd-imagenet-200ep"]
    assert recipe.optimizer == SGDConfig(lr=0.03, momentum=0.9, weight_decay=1e-4)
    assert (recipe.epochs, recipe.batch_size, recipe.method.momentum) == (200, 256, 0.99)
