# ruff: noqa: N806 - the paper's symbols

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contrastive import ToyBackbone
from looping import sgd, train
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from toy import write_images

from leaderboard.records import read_card_json
from pretrain.data.batches import open_images
from pretrain.data.views import View
from pretrain.errors import PretrainError
from pretrain.export import export
from pretrain.methods import all_recipes, cp2
from pretrain.methods.cp2 import (
    CP2,
    CP2Config,
    at_centres,
    background_of,
    dense_loss,
    draw_rectangles,
    output_stride_16,
)
from pretrain.nets.architectures import build_backbone
from pretrain.nets.resnet import ResNet
from pretrain.nets.segmentation_heads import ASPPHead, FCNHead
from pretrain.parts.distributed import inverse
from pretrain.recipes import CosineSchedule, SGDConfig, override
from pretrain.run.train import train as pretrain

CURVE = Path(__file__).parent / "curves" / "cp2.json"
STEPS = 32
SMALL: dict[str, Any] = {
    "backbone": "toy",
    "channels": 5,
    "dilations": (1, 2),
    "dim": 6,
    "queue": 32,
    "momentum": 0.9,
    "view_size": 16,
    "bn_splits": 2,
}


def build(*, norm: bool = True, seed: int = 0, **changes: Any) -> CP2:
    """On a toy backbone with cells of 4 pixels, in float64, with every weight drawn from `seed`."""

    method = CP2Config(**{**SMALL, **changes}).build(ToyBackbone(norm=norm)).double()
    rng = np.random.default_rng(seed)
    for target, source in pairs(method):
        for p in source.parameters():
            if p.dim() > 1:
                p.data = torch.from_numpy(rng.standard_normal(tuple(p.shape))) / p[0].numel() ** 0.5
            else:
                p.data = torch.from_numpy(rng.uniform(0.5, 1.5, tuple(p.shape)))
        target.load_state_dict(source.state_dict())
    method.queue.keys = F.normalize(torch.from_numpy(rng.standard_normal((32, 6))), dim=1)
    return method


def pairs(method: CP2) -> list[tuple[nn.Module, nn.Module]]:
    return [
        (method.momentum.backbone, method.backbone),
        (method.momentum.decode_head, method.decode_head),
        (method.momentum.contrast_conv, method.contrast_conv),
    ]


def data(step: int, n: int = 8) -> list[View]:
    """Four views: query and key alike, and two backgrounds."""
    rng = np.random.default_rng([7, step % 8])
    image = rng.standard_normal((n, 3, 4, 4)).repeat(4, axis=2).repeat(4, axis=3)
    noise = 0.3 * rng.standard_normal((4, n, 3, 16, 16))
    pixels = torch.from_numpy(np.stack([image, image, -image, image[:, :, ::-1]]) + noise)
    return [View(p, torch.zeros(n, 4), torch.zeros(n, dtype=torch.bool), torch.arange(n)) for p in pixels]


def plain_curve(start: CP2, steps: int) -> list[float]:
    """In the order of the released code: composites, momentum, keys, both losses pair by pair."""
    config = start.config
    f_q = copy.deepcopy(nn.ModuleList([source for _, source in pairs(start)]))
    f_k = copy.deepcopy(f_q)
    queue = start.queue.keys.T.clone()
    optimizer = sgd([f_q])
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        views = [view.pixels for view in data(step)]
        n = len(views[0])
        masks = [draw_rectangles(n, 16, (0.5, 0.8), (0.8, 1.25)).tolist() for _ in range(2)]
        lenders = background_of(n)
        x = []
        for v in range(2):
            composites = []
            for i in range(n):
                top, left, bottom, right = masks[v][i]
                pasted = views[2 + v][lenders[v][i]].clone()
                pasted[:, top:bottom, left:right] = views[v][i, :, top:bottom, left:right]
                composites.append(pasted)
            x.append(torch.stack(composites))
        order = torch.randperm(n)
        out = f_q[2](f_q[1](f_q[0](x[0])))
        with torch.no_grad():
            for p_q, p_k in zip(f_q.parameters(), f_k.parameters(), strict=True):
                p_k.data = p_k.data * config.momentum + p_q.data * (1 - config.momentum)
            keys = f_k[2](f_k[1](f_k[0](x[1][order])))[inverse(order)]
        dense, rows, new = torch.zeros((), dtype=torch.float64), [], []
        for i in range(n):
            cells = []
            for mask in (masks[0][i], masks[1][i]):
                top, left, bottom, right = mask
                centres = [(4 * r + 2, 4 * c + 2) for r in range(4) for c in range(4)]
                cells.append([top <= y < bottom and left <= z < right for y, z in centres])
            a, b = (F.normalize(m[i].flatten(1), dim=0) for m in (out, keys))
            S = a.T @ b
            terms = [
                S[:, t].logsumexp(0) - S[s, t] for s in range(16) for t in range(16) if cells[0][s] and cells[1][t]
            ]
            dense = dense + torch.stack(terms).mean() / n
            q = F.normalize(a[:, torch.tensor(cells[0])].sum(1), dim=0)
            k = F.normalize(b[:, torch.tensor(cells[1])].sum(1), dim=0)
            logits = torch.cat(((q @ k)[None], q @ queue)) / config.temperature
            rows.append(logits.logsumexp(0) - logits[0])
            new.append(k)
        loss = torch.stack(rows).mean() + config.dense_weight * dense
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        at = step * n % config.queue
        queue[:, at : at + n] = torch.stack(new, dim=1)
        losses.append(loss.item())
    return losses


def test_training_is_the_plain_loop() -> None:
    assert train(build(), data, 5) == pytest.approx(plain_curve(build(), 5), rel=1e-9)


def test_training_gives_the_recorded_losses() -> None:
    """32 steps that the plain loop recorded; a change of this curve is a change of the method."""
    got = train(build(), data, STEPS)
    assert got == pytest.approx(json.loads(CURVE.read_text()), rel=1e-7)
    assert got[-1] < got[8]


def test_composites_are_foreground_inside_and_background_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit by bit, as the network sees them."""
    method = build(norm=False, bn_splits=1)
    seen = []
    method.backbone.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    method.momentum.backbone.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    torch.manual_seed(3)
    method(data(0))
    torch.manual_seed(3)
    boxes = [draw_rectangles(8, 16, (0.5, 0.8), (0.8, 1.25)) for _ in range(2)]
    lenders = background_of(8)
    views = [view.pixels for view in data(0)]
    for v in range(2):
        for i, (top, left, bottom, right) in enumerate(boxes[v].tolist()):
            inside = torch.zeros(16, 16, dtype=torch.bool)
            inside[top:bottom, left:right] = True
            assert torch.equal(seen[v][i][:, inside], views[v][i][:, inside])
            assert torch.equal(seen[v][i][:, ~inside], views[2 + v][lenders[v][i]][:, ~inside])


def test_rectangles_follow_random_erasing() -> None:
    torch.manual_seed(0)
    boxes = draw_rectangles(20000, 224, (0.5, 0.8), (0.8, 1.25))
    height, width = (boxes[:, 2] - boxes[:, 0]).double(), (boxes[:, 3] - boxes[:, 1]).double()
    assert boxes.min() >= 0 and boxes.max() <= 224 and height.max() < 224 and width.max() < 224
    share = height * width / 224**2
    assert share.min() > 0.49 and share.max() < 0.81
    assert share.mean().item() == pytest.approx(0.65, abs=0.01)
    assert (height / width).min() > 0.79 and (height / width).max() < 1.27
    for start, side in ((boxes[:, 0], height), (boxes[:, 1], width)):
        assert (start / (224 - side)).mean().item() == pytest.approx(0.5, abs=0.01)
    impossible = draw_rectangles(3, 8, (0.99, 1.0), (1.0, 1.0))  # rounds to the whole view, never smaller than it
    assert ((impossible[:, 2:] - impossible[:, :2]) == 8).all()


def test_backgrounds_are_never_the_images_own() -> None:
    torch.manual_seed(0)
    pairs_seen = set()
    for _ in range(50):
        a, b = background_of(5)
        at = torch.arange(5)
        assert not (a == at).any() and not (b == at).any() and not (a == b).any()
        assert sorted(a.tolist()) == sorted(b.tolist()) == at.tolist()
        pairs_seen.add((int(a[0]), int(b[0])))
    assert len(pairs_seen) == 12
    assert [x.tolist() for x in background_of(2)] == [[1, 0], [1, 0]]
    assert [x.tolist() for x in background_of(1)] == [[0], [0]]


def test_masks_are_sampled_at_the_centres_of_cells() -> None:
    mask = torch.rand(2, 224, 224) < 0.5
    cells = at_centres(mask, 14)
    assert cells.shape == (2, 14, 14)
    assert all(cells[1, r, c] == mask[1, 16 * r + 8, 16 * c + 8] for r in range(14) for c in range(14))
    with pytest.raises(PretrainError, match="no whole number of 15 cells"):
        at_centres(mask, 15)


@pytest.mark.parametrize("axis", ["query", "key"])
def test_dense_loss_by_loops(axis: Any) -> None:
    torch.manual_seed(0)
    S = torch.randn(3, 4, 4, dtype=torch.float64)
    M_q, M_k = (torch.tensor(m).double() for m in ([[1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]], [[1, 0, 1, 0]] * 3))
    total = 0.0
    for i in range(2):  # the third image has no foreground and adds nothing
        terms = []
        for x in range(4):
            for y in range(4):
                if M_q[i, x] and M_k[i, y]:
                    among = S[i, :, y] if axis == "query" else S[i, x, :]
                    terms.append(math.log(sum(math.exp(v) for v in among.tolist())) - S[i, x, y].item())
        total += sum(terms) / len(terms)
    assert dense_loss(S, M_q, M_k, axis).item() == pytest.approx(total / 3)


def test_range_of_the_dense_loss() -> None:
    """Without temperature: ln P for uninformative features, and at best little below it."""
    M = torch.zeros(1, 196, dtype=torch.float64)
    M[:, :127] = 1
    assert dense_loss(torch.zeros(1, 196, 196).double(), M, M, "query").item() == pytest.approx(math.log(196))
    best = 2 * M[:, :, None] * M[:, None] - 1
    assert dense_loss(best, M, M, "query").item() == pytest.approx(4.92, abs=0.01)
    order = torch.randperm(196)
    S, M_k = torch.randn(1, 196, 196).double(), M
    torch.testing.assert_close(dense_loss(S, M, M_k, "query"), dense_loss(S[:, :, order], M, M_k[:, order], "query"))


def test_gradients_stop_where_the_paper_stops_them() -> None:
    method = build()
    out = method(data(0))
    out["loss"].backward()
    trained = {name for name, p in method.named_parameters() if p.grad is not None and p.grad.any()}
    assert trained == {n for n, p in method.named_parameters() if p.requires_grad}
    assert all(n.startswith(("backbone.", "decode_head.", "contrast_conv.")) for n in trained)
    assert [name for name, value in out.items() if value.requires_grad] == ["loss"]


def test_full_masks_pool_the_whole_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the embedding is the normalised mean of unit cells, and the loss MoCo's on it."""
    monkeypatch.setattr(cp2, "draw_rectangles", lambda n, size, *_: torch.tensor([[0, 0, size, size]] * n))
    method = build(norm=False, bn_splits=1)
    views = data(0)
    out = method(views)

    def embed(*modules: nn.Module, x: Tensor) -> Tensor:
        for module in modules:
            x = module(x)
        return F.normalize(F.normalize(x, dim=1).mean((2, 3)), dim=1)

    q = embed(*(s for _, s in pairs(method)), x=views[0].pixels)
    k = embed(*(t for t, _ in pairs(method)), x=views[1].pixels)
    logits = torch.cat(((q * k).sum(1, keepdim=True), q @ method.queue.keys.T), 1) / 0.2
    expected = F.cross_entropy(logits, torch.zeros(8, dtype=torch.int64))
    torch.testing.assert_close(out["loss_instance"], expected.detach())


def test_backbone_of_stride_16_keeps_its_weights() -> None:
    for name in ("resnet18", "resnet50"):
        torch.manual_seed(0)
        plain = build_backbone(name)
        torch.manual_seed(0)
        dilated = build_backbone(name)
        output_stride_16(dilated.eval())
        assert dilated(torch.zeros(1, 3, 64, 64)).shape == (1, plain.width, 4, 4)
        theirs = dilated.state_dict()
        assert all(torch.equal(value, theirs[key]) for key, value in plain.state_dict().items())
    convolutions = {n: m for n, m in dilated.layer4.named_modules() if isinstance(m, nn.Conv2d)}
    assert {n for n, m in convolutions.items() if m.dilation == (2, 2)} == {"1.conv2", "2.conv2"}


def test_heads_have_mmsegmentations_names_and_keep_the_map() -> None:
    aspp = ASPPHead(16, 4, (1, 2, 3)).eval()
    fcn = FCNHead(16, 4).eval()
    x = torch.randn(2, 16, 5, 7)
    assert aspp(x).shape == fcn(x).shape == (2, 4, 5, 7)
    assert {k.rsplit(".", 2)[0] for k in aspp.state_dict()} == {
        "image_pool.1", "aspp_modules.0", "aspp_modules.1", "aspp_modules.2", "bottleneck"
    }  # fmt: skip
    assert aspp.aspp_modules[0].conv.kernel_size == (1, 1)
    assert aspp.aspp_modules[2].conv.dilation == (3, 3)
    assert {k.rsplit(".", 2)[0] for k in fcn.state_dict()} == {"convs.0", "convs.1", "conv_cat"}
    pooled = aspp.image_pool(x)
    parts = [pooled.expand(-1, -1, 5, 7), *(module(x) for module in aspp.aspp_modules)]
    torch.testing.assert_close(aspp(x), aspp.bottleneck(torch.cat(parts, 1)))


@pytest.mark.slow
def test_export_has_the_head_and_quick_tuning_starts_from_it(tmp_path: Path) -> None:
    images = open_images(write_images(tmp_path / "pictures", 8))
    settings = {"method.view_size": 32, "method.queue": 8, "method.channels": 8, "epochs": 1, "batch_size": 4}
    small, tuning = (
        override(all_recipes()[name], [f"{key}={value}" for key, value in settings.items()])
        for name in ("cp2-mini", "cp2-quick-mini")
    )
    run = pretrain(small, images, tmp_path / "run", workers=0)
    folder = export(run)
    trained = torch.load(run / "checkpoint.pt", weights_only=True)["method"]
    head = load_file(folder / "head.safetensors")
    assert sorted(head) == sorted(k.removeprefix("decode_head.") for k in trained if k.startswith("decode_head."))
    assert all(torch.equal(value, trained[f"decode_head.{key}"]) for key, value in head.items())
    backbone = load_file(folder / "backbone.safetensors")
    assert sorted(backbone) == sorted(build_backbone("resnet18").state_dict())

    with pytest.raises(PretrainError, match="cp2-quick-mini tunes a trained resnet18: name its checkpoint, --init"):
        pretrain(tuning, images, tmp_path / "tuned", workers=0)
    sha256 = read_card_json((folder / "card.json").read_bytes()).sha256
    tuned = pretrain(tuning, images, tmp_path / "tuned", init=folder, workers=0)
    card = read_card_json((export(tuned) / "card.json").read_bytes())
    assert card.pretraining.recipe is not None and f"from backbone {sha256[:12]}" in card.pretraining.recipe


def test_the_dilated_backbone_and_its_copy_start_from_given_weights() -> None:
    method = CP2(CP2Config(backbone="resnet18", channels=8, queue=8, view_size=32, bn_splits=2))
    weights = build_backbone("resnet18").state_dict()
    method.start_from(weights)
    copies = [m for m in method.modules() if isinstance(m, ResNet)]
    assert len(copies) == 2
    for network in copies:
        assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())


def test_paper_recipes_have_the_published_settings() -> None:
    recipes = all_recipes()
    for name, epochs in (("cp2-imagenet-200ep", 200), ("cp2-imagenet-600ep", 600), ("cp2-quick-imagenet-20ep", 20)):
        recipe = recipes[name]
        assert (recipe.epochs, recipe.batch_size) == (epochs, 256)
        assert recipe.optimizer == SGDConfig(lr=0.015, momentum=0.9, weight_decay=1e-4)
        assert recipe.schedule == CosineSchedule(per="epoch")
        config = recipe.method
        assert isinstance(config, CP2Config)
        assert (config.channels, config.dilations, config.queue) == (512, (1, 6, 12, 18), 65536)
        assert (config.dense_weight, config.temperature, config.momentum) == (0.2, 0.2, 0.999)
        assert config.zero_init_residual is not recipe.needs_init  # where weights are read, they decide


def test_residual_blocks_can_start_as_identities() -> None:
    method = replace(cp2.MINI, zero_init_residual=True).build()
    scales = [m.bn2.weight for m in method.backbone.modules() if hasattr(m, "bn2")]
    assert len(scales) == 8 and not any(scale.any() for scale in scales)
    assert all(m.bn2.weight.all() for m in cp2.MINI.build().backbone.modules() if hasattr(m, "bn2"))


def test_a_vit_takes_the_place_of_the_resnet() -> None:
    """Its map has stride 16, as the dilated ResNet's: a cell for each patch enters both losses."""
    torch.manual_seed(0)
    changes = {"backbone": "vit_small_patch16", "view_size": 64, "bn_splits": 1}
    method = CP2Config(**{**SMALL, **changes}).build()
    nothing = torch.zeros(2, 4), torch.zeros(2, dtype=torch.bool), torch.arange(2)
    views = [View(torch.randn(2, 3, 64, 64), *nothing) for _ in range(4)]
    losses = method(views)
    losses["loss"].backward()
    assert method.decode_head(method.backbone(views[0].pixels)).shape == (2, 5, 4, 4)
    assert losses["loss"].isfinite() and losses["dense_std"] > 0
    assert all(p.grad is not None for p in method.backbone.parameters())
