import copy
import json
from pathlib import Path

import pytest
import torch
from contrastive import SMALL, build, curve, sgd
from multicrops import batch as crops
from torch import Tensor
from torch.nn import functional as F

from pretrain.data.augment import MOCO_V2_COLOUR
from pretrain.data.autoaugment import AutoAugment, Either
from pretrain.data.views import View
from pretrain.errors import PretrainError
from pretrain.methods import all_recipes
from pretrain.methods.moco import MoCoConfig
from pretrain.methods.moco_multicrop import MoCoMultiCrop, MoCoMultiCropConfig
from pretrain.parts.distributed import batch_permutation, inverse
from pretrain.parts.shuffling import Shuffle

CURVE = Path(__file__).parent / "curves" / "moco-multicrop.json"
OFF = {"small_crops": 0, "overlap": 0.0, "autoaugment": 0.0, "neighbour_weight": 0.0}
N = 4


def small(**changes: object) -> MoCoMultiCropConfig:
    ours = {"small_crops": 3, "small_size": 8, "neighbours": 5, "neighbour_warmup": 0.25}
    return MoCoMultiCropConfig(**{**SMALL, **ours, **changes})


def make(config: MoCoMultiCropConfig, seed: int = 0) -> MoCoMultiCrop:
    method = build(config, seed=seed)
    if method.feature_queue is not None:
        torch.manual_seed(100 + seed)
        method.feature_queue.keys = F.normalize(torch.randn(config.queue, 8, dtype=torch.float64), dim=1)
    return method


def train(method: MoCoMultiCrop, steps: int) -> list[float]:
    optimizer = sgd([method])
    losses = []
    for step in range(1, steps + 1):
        loss = method(crops(N, step % 8))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step, steps)
        losses.append(loss.item())
    return losses


def plain_neighbours(u: Tensor, h: Tensor, queue: Tensor, features: Tensor, config: MoCoMultiCropConfig) -> Tensor:
    """Crop by crop and neighbour by neighbour."""
    total = torch.zeros((), dtype=u.dtype)
    for u_r, h_r in zip(u, h, strict=True):
        near = sorted(range(len(queue)), key=lambda j: -F.cosine_similarity(h_r, features[j], dim=0).item())
        log_p = F.log_softmax(torch.stack([u_r @ n for n in queue]) / config.temperature, dim=0)
        total = total - sum(log_p[j] for j in near[: config.neighbours]) / config.neighbours
    return total / len(u)


def plain_train(start: MoCoMultiCrop, steps: int) -> list[float]:
    """In the order of the papers' code: momentum before the keys, both queues as they were before the step."""
    config = start.config
    f_q = copy.deepcopy(torch.nn.ModuleList([start.backbone, start.head]))
    f_k = copy.deepcopy(f_q)
    assert start.feature_queue is not None
    queue, features, pointer = start.queue.keys.clone(), start.feature_queue.keys.clone(), 0
    optimizer = sgd([f_q])
    losses = []
    for step in range(1, steps + 1):
        x_q, x_k, *x_small = (view.pixels for view in crops(N, step % 8))
        h_large = f_q[0](x_q).mean((2, 3))
        by_image = torch.stack([x[i] for i in range(N) for x in x_small])  # image by image
        h_small = f_q[0](by_image).mean((2, 3))
        with torch.no_grad():
            for p_q, p_k in zip(f_q.parameters(), f_k.parameters(), strict=True):
                p_k.data = p_k.data * config.momentum + p_q.data * (1 - config.momentum)
            order = batch_permutation(N, start.seed, step - 1) if config.bn_splits > 1 else torch.arange(N)
            h_k = f_k[0](x_k[order])[inverse(order)].mean((2, 3))
            k = F.normalize(f_k[1](h_k), dim=1)
        total = torch.zeros((), dtype=x_q.dtype)
        h, u = [], []
        for i in range(N):
            for h_r in (h_large[i], *h_small[i * len(x_small) : (i + 1) * len(x_small)]):
                u_r = F.normalize(f_q[1](h_r), dim=0)
                logits = torch.stack([u_r @ k[i], *(u_r @ n for n in queue)]) / config.temperature
                total = total - F.log_softmax(logits, dim=0)[0]
                h.append(h_r)
                u.append(u_r)
        loss = total / len(u)
        if step - 1 >= config.neighbour_warmup * steps:
            near = plain_neighbours(torch.stack(u), torch.stack(h), queue, features, config)
            loss = loss + config.neighbour_weight * near
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        queue[pointer : pointer + N] = k
        features[pointer : pointer + N] = F.normalize(h_k, dim=1)
        pointer = (pointer + N) % config.queue
        losses.append(loss.item())
    return losses


def test_training_is_the_plain_loop_and_the_recorded_curve() -> None:
    """32 steps in float64 with split batch norm, the first quarter of them without neighbours."""
    config = small(bn_splits=2)
    got = train(make(config), 32)
    assert got == pytest.approx(plain_train(make(config), 32), rel=1e-9)
    assert got == pytest.approx(json.loads(CURVE.read_text()), rel=1e-7)
    assert got[-1] < got[12]  # it learns, once the random queue is flushed


def test_all_switches_off_is_moco_bit_by_bit() -> None:
    method, plain = make(small(**OFF)), build(MoCoConfig(**SMALL))
    assert curve(method, n=8, steps=6) == curve(plain, n=8, steps=6)
    assert method.state_dict().keys() == plain.state_dict().keys()
    assert method.plan == plain.plan


def test_each_switch_works_alone() -> None:
    views = crops(N, 0)
    full = make(small(neighbour_warmup=0.0))(views)
    assert full["loss"] > full["loss_contrast"]
    assert torch.equal(full["loss"].detach(), full["loss_contrast"] + 0.4 * full["loss_neighbours"])
    without = make(small(neighbour_weight=0.0))(views)
    assert "loss_neighbours" not in without
    assert torch.equal(without["loss"].detach(), full["loss_contrast"])
    assert len(make(small(small_crops=0)).plan.specs) == 2
    assert [spec.overlap for spec in make(small(overlap=0.0)).plan.specs] == [None] * 5
    assert all(not isinstance(spec.colour[0], Either) for spec in make(small(autoaugment=0.0)).plan.specs)


def test_all_of_the_queue_as_neighbours_gives_the_mean_log_softmax() -> None:
    method = make(small(neighbours=32))
    views = crops(N, 1)
    out = method(views)
    log_p = F.log_softmax(method.embeddings @ method.queue.keys.T / 0.2, dim=1)
    torch.testing.assert_close(out["loss_neighbours"], -log_p.mean())


def test_nothing_but_backbone_and_head_receives_a_gradient() -> None:
    method = make(small(neighbour_warmup=0.0))
    out = method(crops(N, 0))
    out["loss"].backward()
    trained = {name for name, p in method.named_parameters() if p.grad is not None}
    assert trained == {name for name, _ in method.named_parameters() if name.startswith(("backbone.", "head."))}
    assert [name for name, value in out.items() if value.requires_grad] == ["loss"]


def test_queues_stay_in_step_and_hold_what_belongs_together() -> None:
    method = make(small())
    for step in range(1, 11):
        views = crops(N, step)
        frozen = copy.deepcopy(method)
        method(views)
        assert torch.equal(method.queue.keys, frozen.queue.keys)  # forward reads only
        method.after_step(step, 20)
        assert method.feature_queue is not None and frozen.feature_queue is not None
        assert method.queue.pointer == method.feature_queue.pointer == 4 * step % 32
        rows = slice(4 * (step - 1) % 32, 4 * (step - 1) % 32 + 4)
        h = frozen.momentum.backbone(views[1].pixels).mean((2, 3)).detach()
        torch.testing.assert_close(method.feature_queue.keys[rows], F.normalize(h, dim=1))
        torch.testing.assert_close(method.queue.keys[rows], F.normalize(frozen.momentum.head(h), dim=1).detach())
    torch.testing.assert_close(method.feature_queue.keys.norm(dim=1), torch.ones(32).double())


def test_small_crops_of_an_image_stay_together_in_split_batch_norm() -> None:
    """With one part an image, other images cannot change its loss: two images give the mean of each alone."""
    views = crops(2, 0)
    losses = []
    for rows in (slice(0, 2), slice(0, 1), slice(1, 2)):
        method = make(small(bn_splits=2 if rows == slice(0, 2) else 1, neighbour_warmup=0.0))
        method.shuffle = lambda n: Shuffle(None)  # type: ignore[method-assign]
        part = [View(v.pixels[rows], v.box[rows], v.flip[rows], v.image_id[rows]) for v in views]
        losses.append(method(part)["loss"].item())
    assert losses[0] == pytest.approx((losses[1] + losses[2]) / 2, rel=1e-9)


def test_views_are_the_papers() -> None:
    query, key, *smalls = MoCoMultiCropConfig(backbone="resnet18", queue=32).build().plan.specs
    assert (query.size, query.scale, key.size, key.scale) == (160, (0.2, 1.0), 160, (0.2, 1.0))
    assert key.colour == MOCO_V2_COLOUR
    strong = (Either((AutoAugment(),), MOCO_V2_COLOUR, 0.5),)
    assert query.colour == strong
    assert query.overlap is None and key.overlap is None
    assert len(smalls) == 4
    for spec in smalls:
        assert (spec.size, spec.scale, spec.flip, spec.colour) == (96, (0.05, 0.14), 0.5, strong)
        assert spec.overlap == ("key", 0.1)


def test_recipes_have_the_papers_settings() -> None:
    for epochs, warmup in ((200, 5), (800, 20)):
        recipe = all_recipes()[f"moco-multicrop-coco-{epochs}ep"]
        assert (recipe.epochs, recipe.batch_size, recipe.optimizer.lr) == (epochs, 256, 0.3)
        config = recipe.method
        assert config == MoCoMultiCropConfig(bn_splits=2)  # trained on two GPUs
        assert (config.momentum, config.temperature, config.queue) == (0.995, 0.2, 65536)
        assert (config.neighbours, config.neighbour_weight) == (20, 0.4)
        assert config.neighbour_warmup * epochs == pytest.approx(warmup)
    assert MoCoMultiCrop.info.id == "moco-multicrop"


@pytest.mark.parametrize("count", [0, 17])
def test_neighbors_that_the_queue_does_not_hold(count: int) -> None:
    with pytest.raises(PretrainError, match=f"the {count} nearest neighbors must be at least 1 and at most the queue"):
        build(small(neighbours=count, queue=16))
    assert build(small(neighbours=17, queue=16, neighbour_weight=0.0)).feature_queue is None
