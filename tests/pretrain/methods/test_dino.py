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
from torch.nn import functional as F

from pretrain.data.augment import BYOL_COLOUR_1, BYOL_COLOUR_2
from pretrain.methods import all_recipes
from pretrain.methods.dino import DINO, DINOConfig, NormalisedLinear, embed
from pretrain.nets.architectures import build_backbone
from pretrain.recipes import AdamWConfig, CosineSchedule

CURVE = Path(__file__).parent / "curves" / "dino.json"
N = 8
SMALL: dict[str, Any] = {
    "backbone": "toy",
    "hidden": 10,
    "bottleneck": 5,
    "outputs": 9,
    "freeze_last_layer": 3,
    "teacher_temperature": 0.07,
    "teacher_warmup": 10,
    "momentum": 0.9,
    "view_size": 16,
    "local_size": 8,
    "local_crops": 3,
}


def small(seed: int = 0, **changes: object) -> DINO:
    method: DINO = build(DINOConfig(**{**SMALL, **changes}), seed=seed)
    return method


def batches(step: int) -> list[Any]:
    return batch(N, step % 4)


def plain_curve(start: DINO, steps: int) -> list[float]:
    """Training in the order of the code, pair of views by pair, with the centre as a plain tensor."""
    student = torch.nn.ModuleList([start.student_backbone, start.student_head])
    student, config = copy.deepcopy(student), start.config
    teacher = copy.deepcopy(student)
    centre = torch.zeros(config.outputs).double()
    optimizer = sgd([student])
    losses = []

    def forward(net: Any, views: list[torch.Tensor]) -> torch.Tensor:
        sizes = sorted({x.shape[-1] for x in views}, reverse=True)
        pooled = [net[0](torch.cat([x for x in views if x.shape[-1] == size])).mean((2, 3)) for size in sizes]
        z = net[1].mlp(torch.cat(pooled))
        weight = net[1].last.weight / net[1].last.weight.norm(dim=1, keepdim=True)
        return z / z.norm(dim=1, keepdim=True) @ weight.T

    for step in range(steps):
        views = [view.pixels for view in batches(step)]
        with torch.no_grad():
            raw = forward(teacher, views[:2])
        warm = min(step / config.teacher_warmup, 1.0)
        temperature = config.teacher_start + (config.teacher_temperature - config.teacher_start) * warm
        answers = ((raw - centre) / temperature).softmax(1).split(N)
        outputs = (forward(student, views) / config.student_temperature).split(N)
        terms = [
            -(answers[u] * outputs[v].log_softmax(1)).sum(1).mean()
            for u in range(2)
            for v in range(len(views))
            if u != v
        ]
        loss = sum(terms) / len(terms)
        centre = centre * config.centre_momentum + raw.mean(0) * (1 - config.centre_momentum)
        optimizer.zero_grad()
        loss.backward()
        if step < config.freeze_last_layer:
            student[1].last.weight.grad = None
        optimizer.step()
        m = 1 + 0.5 * (config.momentum - 1) * (1 + math.cos(math.pi * step / steps))
        for p_s, p_t in zip(student.parameters(), teacher.parameters(), strict=True):
            p_t.data = m * p_t.data + (1 - m) * p_s.data
        losses.append(loss.item())
    return losses


def test_training_is_the_papers_code_and_gives_the_recorded_losses() -> None:
    """32 steps in float64; the last layer thaws after 3, the teacher's temperature warms up over 10."""
    got = train(small(), batches, 32)
    assert got == pytest.approx(plain_curve(small(), 32), rel=1e-9)
    assert got == pytest.approx(json.loads(CURVE.read_text()), rel=1e-7)


def test_batch_norm_in_the_head_and_learned_lengths() -> None:
    method = small(head_norm=True, norm_last_layer=False)
    method(batch(N, 0))["loss"].backward()
    last = method.student_head.last
    assert last.length.grad.any()
    # weight_norm's g is a column, which the code's rule, vectors and biases alone are spared, decays
    (decayed,) = (
        group["excluded"]
        for group in AdamWConfig(lr=1.0).groups(last.named_parameters())
        if any(p is last.length for _, p in group["params"])
    )
    assert decayed is False
    torch.testing.assert_close(last(torch.eye(5).double()), (last.length * F.normalize(last.weight, dim=1)).T)
    assert isinstance(method.student_head.mlp[1], torch.nn.BatchNorm1d)


def test_a_student_that_answers_like_the_teacher_has_the_teachers_entropy_to_pay() -> None:
    """Equal views, temperatures and networks, no centre: the loss is the entropy, and nothing is left to learn."""
    method = small(student_temperature=0.1, teacher_temperature=0.1, teacher_warmup=0, local_crops=0)
    views = batch(N, 0, small=0)
    method.eval()
    out = method([views[0], views[0]])
    torch.testing.assert_close(out["loss"].detach(), out["entropy"])
    assert abs(out["kl"].item()) < 1e-12
    assert out["accuracy"] == 1


def test_no_information_costs_log_of_k() -> None:
    method = small()
    for head in (method.student_head, method.teacher.head):
        head.last.weight.data[:] = head.last.weight.data[:1].clone()
    out = method(batch(N, 0))
    assert out["loss"].item() == pytest.approx(math.log(9), rel=1e-12)
    assert out["usage"].item() == pytest.approx(1, rel=1e-12)


def test_the_centre_follows_the_teachers_outputs_after_the_step() -> None:
    method, frozen = small(), small()
    views = batch(N, 0)
    method(views)
    assert not method.centre.any()
    method.after_step(1, 10)
    raw = frozen.teacher.head(frozen.backbone(torch.cat([v.pixels for v in views[:2]])).mean((2, 3)))
    torch.testing.assert_close(method.centre, 0.1 * raw.detach().mean(0))


def test_gradients_stop_at_the_teacher_and_the_last_layer_waits() -> None:
    method = small()
    start = method.student_head.last.weight.detach().clone()
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 0.1, 0.9, weight_decay=0.1)
    train(method, batches, 3, optimizer=optimizer)
    assert torch.equal(method.student_head.last.weight, start)
    train(method, batches, 4, first=3, optimizer=optimizer)
    assert not torch.equal(method.student_head.last.weight, start)
    for name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == name.startswith("student_"), name


def test_the_teachers_temperature() -> None:
    method = small()
    assert method.teacher_temperature() == 0.04
    method.after_step(5, 100)
    assert method.teacher_temperature() == pytest.approx(0.055)
    method.after_step(10, 100)
    assert method.teacher_temperature() == 0.07


def test_outputs_are_cosines_whatever_the_weights_length() -> None:
    layer = NormalisedLinear(5, 7, learn_length=False)
    x = F.normalize(torch.randn(3, 5), dim=1)
    y = layer(x)
    layer.weight.data *= torch.rand(7, 1) + 1
    torch.testing.assert_close(layer(x), y)
    torch.testing.assert_close(y, F.cosine_similarity(x[:, None], layer.weight[None], dim=2))


def test_a_transformer_is_seen_by_its_class_token() -> None:
    torch.manual_seed(0)
    method = DINOConfig(backbone="vit_tiny_patch16", hidden=16, bottleneck=8, outputs=12).build()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(embed(method.backbone, x), method.backbone.tokens(x)[:, 0])
    views = batch(2, 0, small=1)
    for view in views:
        view.pixels = F.interpolate(view.pixels.float(), 2 * view.pixels.shape[-1])
    method(views)["loss"].backward()
    assert all(p.grad is not None for p in method.student_backbone.parameters())


def test_imagenet_recipes_are_the_codes() -> None:
    small, resnet = (all_recipes()[f"dino-{name}-imagenet-100ep"] for name in ("vit-small", "resnet50"))
    assert small.method == DINOConfig(freeze_last_layer=2502, vit="dino")
    assert small.schedule == CosineSchedule(per="step", warmup_epochs=10, final=1e-3, warmup_full=True)
    assert resnet.schedule == CosineSchedule(per="step", warmup_epochs=10, final=1e-6 / 0.06, warmup_full=True)
    torch.manual_seed(0)
    method = DINOConfig(backbone="vit_tiny_patch16", hidden=16, bottleneck=8, outputs=12, vit="dino").build()
    student, teacher = method.student_backbone, method.backbone
    assert student.style == teacher.style == "dino" and torch.equal(student.cls_token, teacher.cls_token)
    assert student.cls_token.std().item() == pytest.approx(0.02, rel=0.2)
    given = build_backbone("vit_tiny_patch16")
    token = given.cls_token.detach().clone()
    method = DINOConfig(hidden=16, bottleneck=8, outputs=12, vit="dino").build(given)
    assert torch.equal(method.student_backbone.cls_token, token) and given.style == "dino"


def test_views_are_the_papers() -> None:
    first, second, *local = DINOConfig(backbone="resnet18", outputs=8).build().plan.specs
    assert (first.colour, second.colour) == (BYOL_COLOUR_1, BYOL_COLOUR_2)
    assert (first.size, first.scale, len(local)) == (224, (0.4, 1.0), 8)
    assert all((spec.size, spec.scale) == (96, (0.05, 0.4)) for spec in local)
    assert all(spec.interpolation == "bicubic" for spec in (first, second, *local))
