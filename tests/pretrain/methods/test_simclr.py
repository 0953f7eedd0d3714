import copy
import math
from typing import Any

import pytest
import siamese
import torch
from contrastive import batch
from looping import sgd, train
from siamese import cosine, recorded, views
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.data.augment import ColorJitter, GaussianBlur, Grayscale
from pretrain.data.tensorflow_color import simclr_code_color
from pretrain.methods import all_recipes
from pretrain.methods.simclr import SimCLR, SimCLRConfig, nt_xent
from pretrain.recipes import CosineSchedule, LARSConfig

SMALL: dict[str, Any] = {"backbone": "toy", "hidden": 10, "dim": 6, "view_size": 16, "temperature": 0.2}


def build(seed: int = 0) -> Any:
    return siamese.build(SimCLRConfig(**SMALL), seed)


def plain_loss(z_1: Tensor, z_2: Tensor, temperature: float) -> Tensor:
    """The code's loss, anchor by anchor and term by term, for vectors of any length: a mean for each view, added."""
    z = [*z_1, *z_2]
    n = len(z_1)
    total = torch.zeros((), dtype=z_1.dtype)
    for i, anchor in enumerate(z):
        terms = {k: (cosine(anchor, other) / temperature).exp() for k, other in enumerate(z) if k != i}
        total = total - (terms[(i + n) % (2 * n)] / sum(terms.values())).log()
    return total / n


def plain_curve(start: SimCLR, steps: int) -> list[float]:
    net = copy.deepcopy(nn.ModuleList([start.backbone, start.head]))
    optimizer = sgd([net])
    losses = []
    for step in range(steps):
        z_1, z_2 = net[1](net[0](torch.cat([view.pixels for view in views(step)])).mean((2, 3))).chunk(2)
        loss = plain_loss(z_1, z_2, start.config.temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_is_the_paper_written_out() -> None:
    method = build()
    got = train(copy.deepcopy(method), views, 40)
    assert got[:12] == pytest.approx(plain_curve(method, 12), rel=1e-9)
    assert got == pytest.approx(recorded("simclr"), rel=1e-7)
    assert got[-1] < got[0]


def test_closed_forms() -> None:
    n = 5
    same = torch.ones(n, 3).double() / 3**0.5
    assert nt_xent(same, same, 0.1).loss.item() == pytest.approx(2 * math.log(2 * n - 1))
    hot = torch.eye(n).double()
    out = nt_xent(hot, hot, 0.1)
    assert out.loss.item() == pytest.approx(2 * math.log(1 + (2 * n - 2) * math.exp(-10)))
    assert (out.positive, out.negative, out.accuracy) == (1, 0, 1)
    assert nt_xent(hot, hot.roll(1, 0), 1e9).loss.item() == pytest.approx(2 * math.log(2 * n - 1))


def test_the_scale_is_the_codes() -> None:
    """Each direction's mean by itself, as the code adds them, among the other view's and its own embeddings."""
    torch.manual_seed(1)
    a, b = F.normalize(torch.randn(2, 7, 5).double(), dim=2)
    rest = torch.eye(7).bool()
    forth = torch.cat([a @ b.T, (a @ a.T).masked_fill(rest, -1e9)], 1) / 0.3
    back = torch.cat([b @ a.T, (b @ b.T).masked_fill(rest, -1e9)], 1) / 0.3
    expected = F.cross_entropy(forth, torch.arange(7)) + F.cross_entropy(back, torch.arange(7))
    torch.testing.assert_close(nt_xent(a, b, 0.3).loss, expected)


def test_order_of_images_and_views_does_not_matter() -> None:
    torch.manual_seed(0)
    z_1, z_2 = F.normalize(torch.randn(2, 6, 4).double(), dim=2)
    loss = nt_xent(z_1, z_2, 0.2).loss
    torch.testing.assert_close(loss, plain_loss(z_1, z_2, 0.2))
    torch.testing.assert_close(nt_xent(z_2, z_1, 0.2).loss, loss)
    order = torch.randperm(6)
    torch.testing.assert_close(nt_xent(z_1[order], z_2[order], 0.2).loss, loss)


def test_negatives_receive_gradients() -> None:
    """The gradient is that of the written-out loss, in which every embedding is anchor, positive and negative."""
    torch.manual_seed(0)
    z = F.normalize(torch.randn(2, 4, 3).double(), dim=2).requires_grad_()
    nt_xent(z[0], z[1], 0.2).loss.backward()
    got, z.grad = z.grad, None
    plain_loss_of_units = torch.zeros(())
    rows = z.flatten(0, 1)
    for i in range(8):
        terms = [(rows[i] @ rows[k] / 0.2).exp() for k in range(8) if k != i]
        plain_loss_of_units = plain_loss_of_units - ((rows[i] @ rows[(i + 4) % 8] / 0.2).exp() / sum(terms)).log() / 4
    plain_loss_of_units.backward()
    torch.testing.assert_close(got, z.grad)


def test_gradients_and_log() -> None:
    method = build()
    out = method(views(0))
    out["loss"].backward()
    assert {name for name, p in method.named_parameters() if p.grad is None} == {"head.4.bias"}  # the shift that stays
    assert [name for name, value in out.items() if value.requires_grad] == ["loss"]
    z = F.normalize(method.head(method.backbone(torch.cat([v.pixels for v in views(0)])).mean((2, 3))), dim=1)
    table = z @ z.T
    partner = torch.eye(16, dtype=torch.bool).roll(8, 1)
    others = ~(partner | torch.eye(16, dtype=torch.bool))
    torch.testing.assert_close(out["positive"], table[partner].mean().detach())
    torch.testing.assert_close(out["negative"], table[others].mean().detach())
    best = (table - 9 * torch.eye(16)).argmax(1)
    torch.testing.assert_close(out["accuracy"], (best == partner.long().argmax(1)).double().mean())
    assert method.embeddings.shape == (8, 6)


def test_half_precision_is_left_for_the_loss() -> None:
    torch.manual_seed(0)
    z_1, z_2 = F.normalize(torch.randn(2, 8, 4), dim=2)
    with torch.autocast("cpu", torch.bfloat16):
        loss = nt_xent(z_1, z_2, 0.1).loss
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), plain_loss(z_1.double(), z_2.double(), 0.1), rtol=1e-5, atol=0)


def test_recipes_and_views_are_the_papers() -> None:
    for epochs in (100, 1000):
        recipe = all_recipes()[f"simclr-imagenet-{epochs}ep"]
        assert (recipe.epochs, recipe.batch_size) == (epochs, 4096)
        assert recipe.optimizer == LARSConfig(lr=4.8, momentum=0.9, weight_decay=1e-6, trust=1e-3, variant="simclr")
        assert recipe.schedule == CosineSchedule(per="step", warmup_epochs=10)
        assert recipe.method == SimCLRConfig(hidden=2048, dim=128, temperature=0.1)
        assert recipe.method.inputs == "simclr"
    plan = SimCLRConfig(backbone="resnet18").build().plan
    assert (plan.mean, plan.std) == ((0, 0, 0), (1, 1, 1))
    for spec in plan.specs:
        assert (spec.size, spec.scale, spec.ratio) == (224, (0.08, 1.0), (3 / 4, 4 / 3))
        assert (spec.rules, spec.interpolation, spec.flip) == ("simclr", "bicubic", 0.5)
        assert spec.colour == simclr_code_color((0.1, 2.0))
    for spec in SimCLRConfig(backbone="resnet18", inputs="torchvision").build().plan.specs:
        assert (spec.rules, spec.interpolation) == ("torchvision", "bicubic")
        assert spec.colour == (
            ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
            Grayscale(p=0.2),
            GaussianBlur(sigma=(0.1, 2.0), p=0.5),
        )


def test_a_real_network_starts_as_the_codes() -> None:
    torch.manual_seed(0)
    method = SimCLRConfig(backbone="resnet18", hidden=64).build()
    assert method.head[0].weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not any(m.bn2.weight.any() for m in method.backbone.modules() if hasattr(m, "bn2"))
    pair = [type(v)(v.pixels.float(), v.box, v.flip, v.image_id) for v in batch(4, 0, 33)]
    with torch.autocast("cpu", torch.bfloat16):
        loss = method(pair)["loss"]
    loss.backward()
    assert loss.isfinite() and method.head[4].bias.grad is None
