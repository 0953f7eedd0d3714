import copy
import json
from pathlib import Path

import contrastive
import pytest
import torch
from contrastive import SMALL, batch, build, curve, plain_curve
from torch.nn import functional as F

from pretrain.data.augment import ColorJitter, GaussianBlur, Grayscale
from pretrain.errors import PretrainError
from pretrain.methods import all_recipes, moco
from pretrain.methods.moco import RECIPES, MoCo, MoCoConfig, MoCoV1Config
from pretrain.recipes import CosineSchedule, SGDConfig, StepSchedule

CURVES_OF = Path(__file__).parent / "curves"
CURVES = json.loads((Path(__file__).parent / "reference_curves.json").read_text())


def small(**changes: object) -> MoCoConfig:
    return MoCoConfig(**{**SMALL, **changes})


@pytest.mark.parametrize("bn_splits", [1, 2])
@pytest.mark.parametrize("kind", [MoCoConfig, MoCoV1Config])
def test_training_is_the_papers_code(kind: type[MoCoConfig], bn_splits: int) -> None:
    """Also shows that moving momentum after the step gives the keys of the code, which moves it before the keys."""
    method = build(kind(**{**SMALL, "bn_splits": bn_splits}))
    expected = plain_curve(method, n=8, steps=32)
    assert curve(method, n=8, steps=32) == pytest.approx(expected, rel=1e-9)


def test_training_gives_the_recorded_losses() -> None:
    """40 steps in float64; a change of this curve is a change of the method. Tolerance: 1e-7, relative."""
    got = curve(build(small(bn_splits=2)), n=8, steps=40)
    assert got == pytest.approx(CURVES["moco-v2"], rel=1e-7)
    assert got[-1] < got[8]  # it learns, once the random queue is flushed
    v1 = curve(build(MoCoV1Config(**{**SMALL, "bn_splits": 2})), n=8, steps=40)
    assert v1 == pytest.approx(json.loads((CURVES_OF / "moco-v1.json").read_text()), rel=1e-7)


def test_nothing_but_backbone_and_head_receives_a_gradient() -> None:
    method = build(small())
    out = method(batch(8, 0))
    out["loss"].backward()
    trained = {name for name, p in method.named_parameters() if p.grad is not None}
    assert trained == {name for name, _ in method.named_parameters() if name.startswith(("backbone.", "head."))}
    assert all(p.grad.any() for name, p in method.named_parameters() if name in trained)
    assert not method.queue.keys.requires_grad
    assert [name for name, value in out.items() if value.requires_grad] == ["loss"]


def test_after_step_moves_momentum_once_and_enqueues_the_keys() -> None:
    method = build(small(momentum=0.75))
    start = copy.deepcopy(method)
    views = batch(8, 0)
    for parameter in (*method.backbone.parameters(), *method.head.parameters()):
        parameter.data.add_(1.0)
    method(views)
    assert torch.equal(method.queue.keys, start.queue.keys)  # forward reads only
    method.after_step(1, 10)
    for name, theta in method.named_parameters():
        if name.startswith(("backbone.", "head.")):
            xi_0, xi_1 = start.get_parameter("momentum." + name), method.get_parameter("momentum." + name)
            torch.testing.assert_close(xi_1, 0.75 * xi_0 + 0.25 * theta.data, rtol=1e-14, atol=1e-14)
    keys = F.normalize(start.momentum.head(start.momentum.backbone(views[1].pixels).mean((2, 3))), dim=1)
    torch.testing.assert_close(method.queue.keys[:8], keys.detach())
    assert torch.equal(method.queue.keys[8:], start.queue.keys[8:])
    torch.testing.assert_close(method.queue.keys.norm(dim=1), torch.ones(32).double())
    assert method.queue.pointer == 8


def test_a_step_that_is_not_taken_leaves_no_trace_in_queue_and_momentum() -> None:
    method, other = build(small(bn_splits=2)), build(small(bn_splits=2))
    method(batch(8, 5))
    views = batch(8, 1)
    assert torch.equal(method(views)["loss"], other(views)["loss"])
    for m in (method, other):
        m.after_step(1, 10)
    assert torch.equal(method.queue.keys, other.queue.keys)


def test_loss_and_log() -> None:
    """Against the definition on the method's own embeddings."""
    method = build(small())
    views = batch(8, 0)
    frozen = copy.deepcopy(method)
    out = method(views)
    q = F.normalize(frozen.head(frozen.backbone(views[0].pixels).mean((2, 3))), dim=1)
    k = F.normalize(frozen.momentum.head(frozen.momentum.backbone(views[1].pixels).mean((2, 3))), dim=1)
    torch.testing.assert_close(out["loss"], contrastive.cross_entropy(q, k, frozen.queue.keys.T, 0.2))
    torch.testing.assert_close(out["positive"], (q * k).sum(1).mean())
    torch.testing.assert_close(out["negative"], (q @ frozen.queue.keys.T).mean())
    correct = (q * k).sum(1) > (q @ frozen.queue.keys.T).amax(1)
    torch.testing.assert_close(out["accuracy"], correct.double().mean())
    torch.testing.assert_close(out["std"], q.std(0, correction=0).mean() * 6**0.5)


def test_shuffle_gives_keys_other_partners_and_puts_them_back() -> None:
    """With split batch norm, a key's statistics come from other images than its query's do, in the old order."""
    method = build(small(bn_splits=2))
    views = batch(8, 0)
    order = method.shuffle(8).permutation
    assert order is not None
    assert set(order[:4].tolist()) != {0, 1, 2, 3}
    frozen = copy.deepcopy(method)
    method(views)
    method.after_step(1, 10)
    expected = torch.empty(8, 6).double()
    for half in order.chunk(2):  # a forward pass of its own for each half of the shuffled batch
        net = copy.deepcopy(frozen.momentum.backbone)
        net.norm.splits = 1
        keys = F.normalize(frozen.momentum.head(net(views[1].pixels[half]).mean((2, 3))), dim=1)
        expected[half] = keys.detach()
    torch.testing.assert_close(method.queue.keys[:8], expected)
    assert not torch.equal(method.shuffle(8).permutation, order)  # another one at the next step
    assert build(small()).shuffle(8).permutation is None


def test_equal_seeds_build_equal_methods() -> None:
    def make(seed: int) -> MoCo:
        torch.manual_seed(seed)
        return MoCoConfig(backbone="resnet18", queue=64).build()

    a, b, c = make(0), make(0), make(1)
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert a.seed == b.seed != c.seed


def test_views_are_the_papers() -> None:
    plan = MoCoConfig().build().plan
    query, key = plan.specs
    assert (query.name, key.name) == ("query", "key")
    for spec in plan.specs:
        assert (spec.size, spec.scale, spec.ratio, spec.flip) == (224, (0.2, 1.0), (3 / 4, 4 / 3), 0.5)
        assert spec.interpolation == "bilinear"
        assert spec.colour == (
            ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
            Grayscale(p=0.2),
            GaussianBlur(sigma=(0.1, 2.0), p=0.5),
        )
    v1 = MoCoV1Config(backbone="resnet18", queue=8).build()
    assert v1.config.temperature == 0.07
    assert v1.plan.specs[0].colour == (Grayscale(p=0.2), ColorJitter(0.4, 0.4, 0.4, 0.4, p=1.0))
    assert sorted(v1.head.state_dict()) == ["bias", "weight"]


def test_parts_of_batch_norm_are_shared_by_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for world, parts, each in ((1, 1, 1), (1, 8, 8), (2, 8, 4), (8, 8, 1), (16, 8, 1), (2, 1, 1)):
        monkeypatch.setattr(moco, "world_size", lambda world=world: world)
        assert moco.splits_per_process(parts) == each
    monkeypatch.setattr(moco, "world_size", lambda: 3)
    with pytest.raises(PretrainError, match="3 processes cannot share 8 parts of batch norm equally"):
        moco.splits_per_process(8)


def test_the_queue_must_hold_whole_batches() -> None:
    method = build(small())
    method(batch(6, 0))
    with pytest.raises(PretrainError, match="queue of 32 keys must be a multiple of the global batch of 6"):
        method.after_step(1, 10)


def test_recipes_fit_together() -> None:
    recipes = all_recipes()
    assert {recipe.name for recipe in RECIPES} <= set(recipes)
    for recipe in recipes.values():
        config = recipe.method
        if isinstance(config, MoCoConfig):
            assert config.queue % recipe.batch_size == 0, recipe.name
            assert recipe.batch_size % config.bn_splits == 0, recipe.name


def test_paper_recipes_have_the_papers_settings() -> None:
    recipes = all_recipes()
    for name, epochs, lr in (
        ("moco-v2-imagenet-200ep", 200, 0.03),
        ("moco-v2-imagenet-800ep", 800, 0.03),
        ("moco-v2-coco-800ep", 800, 0.3),
    ):
        recipe = recipes[name]
        assert (recipe.epochs, recipe.batch_size) == (epochs, 256)
        assert recipe.optimizer == SGDConfig(lr=lr, momentum=0.9, weight_decay=1e-4, nesterov=False)
        assert recipe.schedule == CosineSchedule(per="epoch", warmup_epochs=0, final=0)
        config = recipe.method
        assert isinstance(config, MoCoConfig)
        assert (config.backbone, config.head, config.hidden, config.dim) == ("resnet50", "mlp", 2048, 128)
        assert (config.queue, config.temperature, config.momentum) == (65536, 0.2, 0.999)
        assert config.bn_splits == 8  # 8 devices with 32 images each
        assert config.momentum_schedule == "constant"


def test_v1_has_the_papers_settings() -> None:
    recipe = all_recipes()["moco-v1-imagenet-200ep"]
    assert (recipe.epochs, recipe.batch_size) == (200, 256)
    assert recipe.optimizer == SGDConfig(lr=0.03, momentum=0.9, weight_decay=1e-4, nesterov=False)
    assert recipe.schedule == StepSchedule(milestones=(120, 160), gamma=0.1, warmup_epochs=0)
    factors = [recipe.schedule.factor(10 * epoch, 10, 200) for epoch in (0, 119, 120, 159, 160, 199)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    config = recipe.method
    assert isinstance(config, MoCoV1Config)
    assert (config.queue, config.temperature, config.momentum, config.dim) == (65536, 0.07, 0.999, 128)
