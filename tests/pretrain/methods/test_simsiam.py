import copy
from typing import Any

import pytest
import siamese
import torch
from looping import sgd, train
from siamese import cosine, recorded, views
from torch import nn
from torch.nn import functional as F

from pretrain.data.augment import ColorJitter, GaussianBlur, Grayscale
from pretrain.methods import all_recipes
from pretrain.methods.simsiam import SimSiam, SimSiamConfig, negative_cosine
from pretrain.recipes import CosineSchedule, SGDConfig

SMALL: dict[str, Any] = {"backbone": "toy", "dim": 10, "hidden": 6, "view_size": 16}


def build(seed: int = 0) -> Any:
    return siamese.build(SimSiamConfig(**SMALL), seed)


def plain_curve(start: SimSiam, steps: int) -> list[float]:
    """The same training image by image."""
    net = copy.deepcopy(nn.ModuleList([start.backbone, start.projector, start.predictor]))
    optimizer = sgd([net])
    losses = []
    for step in range(steps):
        z = [net[1](net[0](view.pixels).mean((2, 3))) for view in views(step)]
        p = [net[2](z_v) for z_v in z]
        n = len(z[0])
        loss = sum(-0.5 * cosine(p[a][i], z[1 - a][i].detach()) for i in range(n) for a in (0, 1)) / n
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_is_the_paper_written_out() -> None:
    method = build()
    got = train(copy.deepcopy(method), views, 40)
    assert got == pytest.approx(plain_curve(method, 40), rel=1e-9)
    assert got == pytest.approx(recorded("simsiam"), rel=1e-7)
    assert got[-1] < got[0]


def test_range_of_the_loss() -> None:
    torch.manual_seed(0)
    p, t = torch.randn(2, 5, 6)
    for targets, expected in ((3 * p, -1), (-p, 1)):
        assert negative_cosine(p, targets).item() == pytest.approx(expected)
    p.requires_grad_()
    t.requires_grad_()
    loss = negative_cosine(p, t)
    loss.backward()
    torch.testing.assert_close(loss, -torch.stack([cosine(a, b) for a, b in zip(p, t, strict=True)]).mean())
    assert p.grad is not None and t.grad is None
    with torch.autocast("cpu", torch.bfloat16):
        assert negative_cosine(p.bfloat16(), t.bfloat16()).dtype == torch.float32


def test_the_target_side_sends_no_gradient() -> None:
    """The backbone's gradient is that of a network whose targets are constants."""
    method = build()
    method(views(0))["loss"].backward()
    got = method.backbone.conv1.weight.grad.clone()
    method.zero_grad()
    z = [method.projector(method.backbone(view.pixels).mean((2, 3))) for view in views(0)]
    constants = [z_v.detach().clone() for z_v in z]
    p = [method.predictor(z_v) for z_v in z]
    pairs = ((p[0], constants[1]), (p[1], constants[0]))
    sum(-F.cosine_similarity(a, b).mean() / 2 for a, b in pairs).backward()
    torch.testing.assert_close(got, method.backbone.conv1.weight.grad)
    assert all(p.grad is not None for p in method.parameters())


def test_views_may_be_swapped_and_are_logged() -> None:
    method = build()
    pair = views(0)
    out = method(pair)
    torch.testing.assert_close(out["loss"], method(pair[::-1])["loss"])
    assert [name for name, value in out.items() if value.requires_grad] == ["loss"]
    assert -1 <= out["positive"] <= 1 and 0 <= out["accuracy"] <= 1
    assert method.embeddings.shape == (8, 10)


def test_spread_of_random_directions_is_one() -> None:
    """sqrt(C) times the paper's standard deviation, 1 / sqrt(C), of an output that did not collapse."""
    method = build()
    method.predictor = nn.Identity()
    torch.manual_seed(0)
    method.backbone = nn.Identity()
    method.projector = nn.Identity()
    pair = [type(v)(torch.randn(256, 64, 1, 1), v.box, v.flip, v.image_id) for v in views(0)]
    assert method(pair)["std"].item() == pytest.approx(1, abs=0.02)


def test_the_predictors_rate_does_not_fall() -> None:
    recipe = all_recipes()["simsiam-imagenet-100ep"]
    optimizer = recipe.optimizer.build(build().named_parameters())
    recipe.optimizer.set_step(optimizer, 0.25, 0.5)
    rates = {name: group["lr"] for group in optimizer.param_groups for name in group["param_names"]}
    assert {rate for name, rate in rates.items() if name.startswith("predictor.")} == {0.1}
    assert {rate for name, rate in rates.items() if not name.startswith("predictor.")} == {0.025}


def test_recipe_and_views_are_the_papers() -> None:
    recipe = all_recipes()["simsiam-imagenet-100ep"]
    assert (recipe.epochs, recipe.batch_size) == (100, 512)
    assert recipe.optimizer == SGDConfig(lr=0.05 * 512 / 256, momentum=0.9, weight_decay=1e-4, fixed_lr=("predictor.",))
    assert recipe.schedule == CosineSchedule(per="epoch")
    assert recipe.method == SimSiamConfig(dim=2048, hidden=512)
    for spec in SimSiamConfig(backbone="resnet18").build().plan.specs:
        assert (spec.size, spec.scale, spec.interpolation) == (224, (0.2, 1.0), "bilinear")
        assert spec.colour == (
            ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
            Grayscale(p=0.2),
            GaussianBlur(sigma=(0.1, 2.0), p=0.5),
        )
