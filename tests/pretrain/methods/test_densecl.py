# ruff: noqa: N803, N806 - the paper's symbols

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from contrastive import SMALL, batch, build, cross_entropy, curve, plain_curve
from torch.nn import functional as F

from pretrain.errors import PretrainError
from pretrain.methods import all_recipes
from pretrain.methods.densecl import DenseCLConfig, correspondence, rows
from pretrain.methods.moco import MoCoConfig
from pretrain.recipes import CosineSchedule, SGDConfig

CURVES = json.loads((Path(__file__).parent / "reference_curves.json").read_text())


def small(**changes: object) -> DenseCLConfig:
    return DenseCLConfig(**{**SMALL, **changes})


@pytest.mark.parametrize(
    ("bn_splits", "grid", "size", "negatives"), [(1, None, 8, "mean"), (2, 2, 12, "mean"), (2, None, 8, "cell")]
)
def test_training_is_the_papers_code(bn_splits: int, grid: int | None, size: int, negatives: str) -> None:
    """Cell by cell; with `grid`, 3 x 3 maps are pooled to 2 x 2 before matching and projection."""
    method = build(small(bn_splits=bn_splits, grid=grid, dense_negatives=negatives))
    steps = 12 if grid else 32
    expected = plain_curve(method, n=4, steps=steps, size=size)
    assert curve(method, n=4, steps=steps, size=size) == pytest.approx(expected, rel=1e-9)


def test_training_gives_the_recorded_losses() -> None:
    """40 steps in float64; a change of this curve is a change of the method. Tolerance: 1e-7, relative."""
    got = curve(build(small(bn_splits=2)), n=8, steps=40)
    assert got == pytest.approx(CURVES["densecl"], rel=1e-7)
    assert got[-1] < got[8]  # it learns, once the random queue is flushed


def test_without_the_dense_loss_it_is_moco() -> None:
    """lambda = 0: the same losses, weights and queue, bit by bit."""
    dense = build(small(dense_weight=0.0, bn_splits=2))
    plain = build(MoCoConfig(**{**SMALL, "bn_splits": 2}))
    assert curve(dense, n=8, steps=6) == curve(plain, n=8, steps=6)
    theirs = dense.state_dict()
    for key, value in plain.state_dict().items():
        assert torch.equal(value, theirs[key]), key


def test_loss_is_the_weighted_sum_of_its_parts() -> None:
    for weight in (0.0, 0.3, 1.0):
        out = build(small(dense_weight=weight))(batch(4, 0))
        expected = (1 - weight) * out["loss_global"] + weight * out["loss_dense"]
        torch.testing.assert_close(out["loss"].detach(), expected)


def test_warmup_turns_the_dense_loss_off() -> None:
    method = build(small(dense_weight=1.0, dense_warmup=1))
    out = method(batch(4, 0))
    assert out["loss"] == out["loss_global"]
    method.after_step(1, 10)
    out = method(batch(4, 0))
    assert out["loss"] == out["loss_dense"]


def test_same_view_and_weights_match_every_cell_with_itself() -> None:
    torch.manual_seed(0)
    B = torch.randn(3, 16, 25)
    assert torch.equal(correspondence(B, B), torch.arange(25).expand(3, 25))


def test_a_flipped_key_is_matched_with_the_mirrored_cell() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 5, 5)
    pixelwise = torch.nn.Conv2d(3, 16, 1)
    B_q, B_k = (pixelwise(x).relu().flatten(2) for x in (images, images.flip(3)))
    mirrored = torch.arange(25).view(5, 5).flip(1).flatten()
    assert torch.equal(correspondence(B_q, B_k), mirrored.expand(2, 25))


def test_correspondence_is_the_largest_cosine_and_carries_no_gradient() -> None:
    torch.manual_seed(0)
    B_q = torch.randn(2, 5, 4, requires_grad=True)
    B_k = torch.randn(2, 5, 6) * torch.rand(2, 1, 6).exp() * 10
    c = correspondence(B_q, B_k)
    assert c.dtype == torch.int64
    assert not c.requires_grad
    for n in range(2):
        for s in range(4):
            cosines = [F.cosine_similarity(B_q[n, :, s], B_k[n, :, t], dim=0).item() for t in range(6)]
            assert c[n, s] == cosines.index(max(cosines))


def test_correspondence_stays_in_float32_under_autocast() -> None:
    """Cells of one image are alike: in bfloat16 most of these cosines would be equal."""
    torch.manual_seed(0)
    B = 1 + 0.02 * torch.randn(1, 64, 49)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(correspondence(B, B), torch.arange(49)[None])


def test_permuting_key_cells_permutes_matches_but_not_what_is_matched() -> None:
    torch.manual_seed(0)
    B_q, B_k, D_k = torch.randn(2, 7, 9), torch.randn(2, 7, 9), torch.randn(2, 4, 9)
    order = torch.randperm(9)
    c, c_permuted = correspondence(B_q, B_k), correspondence(B_q, B_k[:, :, order])
    assert torch.equal(order[c_permuted], c)

    def matched(D: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return D.gather(2, c[:, None].expand(2, 4, 9))

    assert torch.equal(matched(D_k, c), matched(D_k[:, :, order], c_permuted))


def test_rows_are_cells_image_by_image() -> None:
    D = torch.arange(24).view(2, 3, 4)
    assert torch.equal(rows(D)[5], D[1, :, 1])


def test_one_cell_with_tied_heads_is_the_global_loss() -> None:
    """S = 1: the dense branch sees the pooled map, so tied weights and queues give the same loss and the same keys."""
    method = build(small(grid=1))
    for dense, head in (
        (method.dense_head, method.head),
        (method.momentum.dense_head, method.momentum.head),
    ):
        for i in (0, 2):
            dense[i].weight.data = head[i].weight.data[:, :, None, None].clone()
            dense[i].bias.data = head[i].bias.data.clone()
    method.dense_queue.load_state_dict(method.queue.state_dict())
    out = method(batch(8, 0))
    torch.testing.assert_close(out["loss_dense"], out["loss_global"], rtol=1e-12, atol=1e-12)
    for name in ("positive", "negative", "accuracy", "std"):
        torch.testing.assert_close(out["dense_" + name], out[name], rtol=1e-12, atol=1e-12)
    method.after_step(1, 10)
    torch.testing.assert_close(method.dense_queue.keys, method.queue.keys, rtol=1e-12, atol=1e-12)


def test_no_information_costs_log_of_k_plus_1() -> None:
    """Dense projections that are one constant vector, orthogonal to nothing in particular: all logits equal."""
    method = build(small(dense_weight=1.0))
    for head in (method.dense_head, method.momentum.dense_head):
        head[2].weight.data.zero_()
    constant = F.normalize(method.dense_head[2].bias.data, dim=0)
    method.momentum.dense_head[2].bias.data = constant.clone()
    method.dense_queue.keys = constant.expand(32, 6).clone()
    assert method(batch(4, 0))["loss"].item() == pytest.approx(math.log(33), rel=1e-12)


def test_gradients_stop_where_the_paper_stops_them() -> None:
    method = build(small())
    method(batch(8, 0))["loss"].backward()
    trained = {name for name, p in method.named_parameters() if p.grad is not None and p.grad.any()}
    prefixes = ("backbone.", "head.", "dense_head.")
    assert trained == {name for name, _ in method.named_parameters() if name.startswith(prefixes)}
    assert not any(p.grad is not None for name, p in method.named_parameters() if not name.startswith(prefixes))

    # With a dense head that ignores its input only the matching sees the backbone: its gradient must be exactly zero.
    method = build(small(dense_weight=1.0))
    method.dense_head[0].weight.data.zero_()
    method(batch(8, 0))["loss"].backward()
    assert all(not p.grad.any() for p in method.backbone.parameters())
    assert method.dense_head[2].weight.grad.any()
    # and with lambda = 1 nothing reaches the global head
    assert all(not p.grad.any() for p in method.head.parameters())


def test_queues_take_the_global_key_and_the_pooled_dense_key() -> None:
    method = build(small())
    frozen = copy.deepcopy(method)
    views = batch(8, 0)
    method(views)
    assert torch.equal(method.dense_queue.keys, frozen.dense_queue.keys)
    method.after_step(1, 10)
    B_k = frozen.momentum.backbone(views[1].pixels)
    pooled = F.normalize(frozen.momentum.dense_head(B_k).mean((2, 3)), dim=1).detach()  # pooled, then normalised
    g_k = F.normalize(frozen.momentum.head(B_k.mean((2, 3))), dim=1).detach()
    torch.testing.assert_close(method.dense_queue.keys[:8], pooled)
    torch.testing.assert_close(method.queue.keys[:8], g_k)
    for queue, before in ((method.queue, frozen.queue), (method.dense_queue, frozen.dense_queue)):
        assert torch.equal(queue.keys[8:], before.keys[8:])
        assert queue.pointer == 8
        torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(32).double())


def test_after_step_moves_the_dense_momentum_head() -> None:
    method = build(small(momentum=0.75))
    start = copy.deepcopy(method)
    for parameter in method.dense_head.parameters():
        parameter.data.add_(1.0)
    method.after_step(1, 10)
    for old, new, theta in zip(
        start.momentum.dense_head.parameters(),
        method.momentum.dense_head.parameters(),
        method.dense_head.parameters(),
        strict=True,
    ):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * theta.data, rtol=1e-14, atol=1e-14)


def test_all_four_key_tensors_are_unshuffled() -> None:
    """Where batch norm is gone, the shuffle must not be seen at all."""
    method, unshuffled = build(small(bn_splits=2), norm=False), build(small(bn_splits=1), norm=False)
    views = batch(8, 0)
    assert method.shuffle(8).permutation is not None
    assert unshuffled.shuffle(8).permutation is None
    a, b = method(views), unshuffled(views)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-12, atol=1e-12)
    for m in (method, unshuffled):
        m.after_step(1, 10)
    torch.testing.assert_close(method.queue.keys, unshuffled.queue.keys, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(method.dense_queue.keys, unshuffled.dense_queue.keys, rtol=1e-12, atol=1e-12)


def test_global_part_is_mocos_loss() -> None:
    method = build(small())
    frozen = copy.deepcopy(method)
    views = batch(8, 0)
    out = method(views)
    q = F.normalize(frozen.head(frozen.backbone(views[0].pixels).mean((2, 3))), dim=1)
    k = F.normalize(frozen.momentum.head(frozen.momentum.backbone(views[1].pixels).mean((2, 3))), dim=1)
    expected = cross_entropy(q, k, frozen.queue.keys.T, 0.2).detach()
    torch.testing.assert_close(out["loss_global"], expected)
    assert [name for name, value in out.items() if value.requires_grad] == ["loss"]


def test_paper_recipes_have_the_papers_settings() -> None:
    for name, epochs, lr in (("densecl-imagenet-200ep", 200, 0.03), ("densecl-coco-800ep", 800, 0.3)):
        recipe = all_recipes()[name]
        assert (recipe.epochs, recipe.batch_size) == (epochs, 256)
        assert recipe.optimizer == SGDConfig(lr=lr, momentum=0.9, weight_decay=1e-4, nesterov=False)
        assert recipe.schedule == CosineSchedule(per="epoch", warmup_epochs=0, final=0)
        config = recipe.method
        assert isinstance(config, DenseCLConfig)
        assert (config.backbone, config.hidden, config.dim, config.queue) == ("resnet50", 2048, 128, 65536)
        assert (config.temperature, config.momentum, config.dense_weight) == (0.2, 0.999, 0.5)
        assert (config.dense_warmup, config.grid, config.init) == (0, None, "openselfsup")


def test_real_networks_have_the_papers_heads_and_equal_a_moco_of_the_same_seed() -> None:
    torch.manual_seed(0)
    dense = DenseCLConfig(queue=64).build()
    torch.manual_seed(0)
    plain = MoCoConfig(queue=64).build()
    assert [tuple(p.shape) for p in dense.dense_head.parameters()] == [
        (2048, 2048, 1, 1),
        (2048,),
        (128, 2048, 1, 1),
        (128,),
    ]
    theirs = dense.state_dict()
    for key, value in plain.state_dict().items():
        if key != "_extra_state":
            assert torch.equal(value, theirs[key]), key


def test_a_grid_has_a_cell() -> None:
    with pytest.raises(PretrainError, match=r"a grid of 0 x 0 cells has no cell; change method\.grid"):
        build(small(grid=0))
