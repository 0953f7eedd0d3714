import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from geometric import build
from looping import sgd, train
from multicrops import batch
from torch import Tensor
from torch.nn import functional as F

from pretrain.data.augment import BYOL_COLOUR_1, BYOL_COLOUR_2
from pretrain.data.views import View
from pretrain.errors import PretrainError
from pretrain.methods.relicv2 import ReLICv2, ReLICv2Config, draw_candidates

CURVE = Path(__file__).parent / "curves" / "relicv2.json"
N = 8
SMALL: dict[str, Any] = {
    "backbone": "toy",
    "hidden": 10,
    "dim": 5,
    "negatives": 3,
    "contrastive_weight": 0.7,
    "invariance_weight": 2.0,
    "momentum": 0.9,
    "large_crops": 2,
    "small_crops": 1,
    "view_size": 16,
    "small_size": 8,
    "background_removal": 0.5,
}
PAIRS = (("momentum.backbone", "backbone"), ("momentum.projector", "projector"))


class ToyMasks:
    """The left half of every view is foreground."""

    def crop(self, view: View, size: int) -> Tensor:
        return (torch.arange(size) < size // 2).to(torch.uint8).expand(len(view.box), size, size)


def small(seed: int = 0, **changes: object) -> ReLICv2:
    method: ReLICv2 = build(ReLICv2Config(**{**SMALL, **changes}), seed=seed)
    method.masks = ToyMasks()
    return method


def batches(step: int) -> list[View]:
    return batch(N, step % 4, small=1)


def among(o: Tensor, t: Tensor, rows: list[int], tau: float) -> Tensor:
    """P(m) of image rows[0] over the images `rows`."""
    return torch.stack([o[rows[0]] @ t[m] / tau for m in rows]).softmax(0)


def plain_curve(start: ReLICv2, steps: int) -> list[float]:
    """Training image by image and pair of views by pair of views."""
    net, config = copy.deepcopy(start), start.config
    optimizer = sgd([net.backbone, net.projector, net.predictor])
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (net.plan.mean, net.plan.std))
    grey = (0.5 - mean) / std
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        x = [view.pixels.clone() for view in batches(step)]
        removed = torch.rand(N, 2) < config.background_removal
        for n in range(N):
            for v in range(2):
                if removed[n, v]:
                    x[v][n, :, :, 8:] = grey[:, None, None]
        draws = torch.randint(N - 1, (N, config.negatives))
        o = [F.normalize(net.predictor(net.projector(net.backbone(p).mean((2, 3)))), dim=1) for p in x]
        with torch.no_grad():
            t = [F.normalize(net.momentum.projector(net.momentum.backbone(p).mean((2, 3))), dim=1) for p in x[:2]]
        loss = torch.zeros(()).double()
        for n in range(N):
            rows = [n] + [(n + 1 + int(u)) % N for u in draws[n]]
            assert n not in rows[1:]

            for i in range(3):
                for j in range(2):
                    p = among(o[i], t[j], rows, config.temperature)
                    reference = among(o[j], t[i if i < 2 else j], rows, config.temperature).detach()
                    kl = (reference * (reference / p).log()).sum()
                    loss = loss - config.contrastive_weight * p[0].log() + config.invariance_weight * kl
        loss = loss / (N * 6)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        m = 1 - (1 - config.momentum) * (1 + math.cos(math.pi * step / steps)) / 2
        for target, source in PAIRS:
            pairs = zip(net.get_submodule(target).parameters(), net.get_submodule(source).parameters(), strict=True)
            for xi, theta in pairs:
                xi.data = m * xi.data + (1 - m) * theta.data
        losses.append(loss.item())
    return losses


def test_training_is_the_plain_loop_and_gives_the_recorded_losses() -> None:
    got = train(small(), batches, 32)
    assert got == pytest.approx(plain_curve(small(), 32), rel=1e-9)
    assert got == pytest.approx(json.loads(CURVE.read_text()), rel=1e-7)
    assert got[-1] < got[0]


def test_parts_of_the_loss() -> None:
    out = small()(batches(0))
    torch.testing.assert_close(out["loss"].detach(), 0.7 * out["loss_contrastive"] + 2 * out["loss_invariance"])
    assert out["loss_invariance"] > 0
    # No other images: the image is certain, and all distributions are one.
    out = small(negatives=0)(batches(0))
    assert out["loss"] == 0


def test_one_view_twice_and_equal_networks_leave_nothing_to_make_invariant() -> None:
    method = small(small_crops=0, background_removal=0.0)
    view = batches(0)[0]
    out = method([view, view])
    assert abs(out["loss_invariance"].item()) < 1e-12


def test_orthogonal_targets_cost_the_log_of_the_candidates() -> None:
    method = small(background_removal=0.0)
    for layer in (method.predictor[-1], method.momentum.projector[-1]):
        layer.weight.data.zero_()
        layer.register_parameter("bias", torch.nn.Parameter(torch.zeros(5).double()))
    method.predictor[-1].bias.data[0] = 1.0
    method.momentum.projector[-1].bias.data[1] = 1.0
    out = method(batches(0))
    assert out["loss_contrastive"].item() == pytest.approx(math.log(4), rel=1e-12)


def test_two_large_crops_that_skip_themselves_are_the_symmetric_loss() -> None:
    method = small(
        small_crops=0, same_crop=False, background_removal=0.0, invariance_weight=0.0, contrastive_weight=1.0
    )
    views = batch(N, 0, small=0)
    frozen = copy.deepcopy(method)
    torch.manual_seed(5)
    loss = method(views)["loss"]
    torch.manual_seed(5)
    rows = draw_candidates(N, 3)
    z = [frozen.projector(frozen.backbone(v.pixels).mean((2, 3))) for v in views]
    o = [F.normalize(frozen.predictor(x), dim=1) for x in z]
    momentum = [frozen.momentum.projector(frozen.momentum.backbone(v.pixels).mean((2, 3))) for v in views]
    t = [F.normalize(x, dim=1) for x in momentum]
    label = torch.zeros(N, dtype=torch.long)
    terms = [F.cross_entropy(torch.einsum("nc,nmc->nm", o[i], t[1 - i][rows]) / 0.2, label) for i in (0, 1)]
    torch.testing.assert_close(loss, (terms[0] + terms[1]) / 2)


def test_candidates_are_the_image_and_others() -> None:
    rows = draw_candidates(6, 500)
    assert rows[:, 0].tolist() == list(range(6))
    for n in range(6):
        assert set(rows[n, 1:].tolist()) == set(range(6)) - {n}
    with pytest.raises(PretrainError, match="one image holds no negatives"):
        draw_candidates(1, 2)


@pytest.mark.parametrize("fill", ["black", "grey", "mean"])
def test_background_is_replaced_by_one_colour(fill: str) -> None:
    method = small(background_removal=1.0, background_fill=fill)
    views = batches(0)
    found = method.without_background(views[:2])
    colour = found[0] * torch.tensor(method.plan.std).view(3, 1, 1) + torch.tensor(method.plan.mean).view(3, 1, 1)
    expected = {"black": [0.0] * 3, "grey": [0.5] * 3, "mean": list(method.plan.mean)}[fill]
    for view, pixels in zip(views, found, strict=False):
        assert torch.equal(pixels[..., :8], view.pixels[..., :8])
    torch.testing.assert_close(colour[0, :, 3, 12], torch.tensor(expected).double(), atol=1e-6, rtol=0)


def test_background_is_drawn_for_each_crop_or_sticks_to_the_image() -> None:
    views = batch(400, 0, large=4, small=0)

    def removed(**changes: object) -> Tensor:
        torch.manual_seed(0)
        found = small(large_crops=4, background_removal=0.3, **changes).without_background(views)
        return torch.stack([(x != view.pixels).flatten(1).any(1) for x, view in zip(found, views, strict=True)], dim=1)

    independent, sticky = removed(), removed(background_sticky=True)
    assert independent.double().mean(0).tolist() == pytest.approx([0.3] * 4, abs=0.08)
    assert torch.equal(sticky, independent.cumsum(1) > 0)


def test_without_removal_no_masks_are_needed_and_otherwise_they_are(tmp_path: Path) -> None:
    method = small(background_removal=0.0)
    method.masks = None
    method(batches(0))
    method = small()
    method.masks = None
    with pytest.raises(PretrainError, match=r"call prepare\(source, folder\)"):
        method(batches(0))


def test_gradients_reach_the_trained_network_alone_and_small_crops_never_the_other() -> None:
    method = small(small_crops=3)
    seen: list[tuple[int, ...]] = []
    method.momentum.backbone.register_forward_hook(lambda module, args, out: seen.append(tuple(args[0].shape)))
    method(batch(N, 0))["loss"].backward()
    assert seen == [(N, 3, 16, 16)] * 2
    for name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == (not name.startswith("momentum.")), name


def test_views_are_byols_in_turns() -> None:
    specs = ReLICv2Config(backbone="resnet18").build().plan.specs
    assert [spec.size for spec in specs] == [224] * 4 + [96] * 2
    assert [spec.colour for spec in specs] == [BYOL_COLOUR_1, BYOL_COLOUR_2] * 3
