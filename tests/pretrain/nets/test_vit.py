"""ViTs against timm's names and a forward pass written out with plain operations."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pretrain.errors import PretrainError
from pretrain.nets.architectures import build_backbone, find_architecture
from pretrain.nets.vit import VisionTransformer


def timm_shapes(width: int) -> dict[str, tuple[int, ...]]:
    """timm's state dict without `head.*`; compared by hand with timm 1.0.31."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 197, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for block in range(12):
        for name, rows, columns in (("qkv", 3, 1), ("proj", 1, 1)):
            shapes[f"blocks.{block}.attn.{name}.weight"] = (rows * width, columns * width)
            shapes[f"blocks.{block}.attn.{name}.bias"] = (rows * width,)
        for name, rows, columns in (("fc1", 4, 1), ("fc2", 1, 4)):
            shapes[f"blocks.{block}.mlp.{name}.weight"] = (rows * width, columns * width)
            shapes[f"blocks.{block}.mlp.{name}.bias"] = (rows * width,)
        for norm in ("norm1", "norm2"):
            shapes[f"blocks.{block}.{norm}.weight"] = shapes[f"blocks.{block}.{norm}.bias"] = (width,)
    return shapes


@pytest.mark.parametrize(
    ("name", "millions"), [("vit_tiny_patch16", 5.524), ("vit_small_patch16", 21.666), ("vit_base_patch16", 85.799)]
)
def test_state_dict_is_timms_without_head(name: str, millions: float) -> None:
    with torch.device("meta"):
        net = build_backbone(name, bn_splits=8)
    assert {key: tuple(value.shape) for key, value in net.state_dict().items()} == timm_shapes(net.width)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, abs=1e-3)
    assert net.width == find_architecture(name).channels[-1]


@pytest.fixture(scope="module")
def tiny() -> VisionTransformer:
    torch.manual_seed(0)
    net = build_backbone("vit_tiny_patch16").double().eval()
    for p in net.parameters():
        p.data += 0.05 * torch.randn_like(p)
    return net


def plain_blocks(net: VisionTransformer, x: Tensor, positions: Tensor) -> list[Tensor]:
    """Tokens after each block, from the state dict, patch by patch and head by head."""
    w, one = net.state_dict(), torch.ones(())

    def linear(t: Tensor, name: str) -> Tensor:
        return t @ w[f"{name}.weight"].flatten(1).T + w.get(f"{name}.bias", torch.zeros(()))

    def norm(t: Tensor, name: str) -> Tensor:
        centred = t - t.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    patches = [
        linear(x[:, :, r : r + 16, c : c + 16].flatten(1), "patch_embed.proj")
        for r in range(0, x.shape[2], 16)
        for c in range(0, x.shape[3], 16)
    ]
    first = [w["cls_token"][0].expand(len(x), -1)] if "cls_token" in w else []
    t = torch.stack([*first, *patches], 1) + positions
    if "reg_token" in w:
        t = torch.cat([t[:, :1], w["reg_token"].expand(len(x), -1, -1), t[:, 1:]], 1)
    after = []
    for i in range(12):
        qkv = linear(norm(t, f"blocks.{i}.norm1"), f"blocks.{i}.attn.qkv")
        q, k, v = qkv.split(192, dim=2)
        heads = []
        for h in range(3):
            part = slice(64 * h, 64 * (h + 1))
            attention = (q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(64)).softmax(-1)
            heads.append(attention @ v[..., part])
        t = t + w.get(f"blocks.{i}.ls1.gamma", one) * linear(torch.cat(heads, -1), f"blocks.{i}.attn.proj")
        hidden = linear(norm(t, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1")
        activated = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        t = t + w.get(f"blocks.{i}.ls2.gamma", one) * linear(activated, f"blocks.{i}.mlp.fc2")
        after.append(norm(t, "norm"))
    return after


def test_it_is_the_papers_network(tiny: VisionTransformer) -> None:
    x = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    with torch.no_grad():
        after = plain_blocks(tiny, x, tiny.pos_embed)
        torch.testing.assert_close(tiny.tokens(x), after[-1])
        maps = tiny.features(x)
        assert len(maps) == 4
        for got, tokens in zip(maps, after[2::3], strict=True):
            assert got.shape == (1, 192, 14, 14)
            for row, column in ((0, 0), (0, 5), (13, 2)):
                torch.testing.assert_close(got[0, :, row, column], tokens[0, 1 + 14 * row + column])
        assert torch.equal(tiny(x), maps[-1])


@pytest.mark.parametrize("name", ["vit_tiny_patch16_48_reg4_ls", "vit_tiny_patch16_48_nocls_nobias"])
def test_registers_layer_scale_and_what_may_be_absent(name: str) -> None:
    torch.manual_seed(0)
    net = build_backbone(name).double().eval()
    assert isinstance(net, VisionTransformer)
    for p in net.parameters():
        p.data += 0.05 * torch.randn_like(p)
    x = torch.randn(2, 3, 48, 48, dtype=torch.float64)
    with torch.no_grad():
        after = plain_blocks(net, x, net.pos_embed)
        torch.testing.assert_close(net.tokens(x), after[-1])
        for got, tokens in zip(net.features(x), after[2::3], strict=True):
            torch.testing.assert_close(got.flatten(2), tokens[:, -9:].transpose(1, 2))


def test_other_sizes_interpolate_the_positions(tiny: VisionTransformer) -> None:
    x = torch.randn(2, 3, 48, 96, dtype=torch.float64)
    grid = tiny.pos_embed[0, 1:].view(14, 14, 192).permute(2, 0, 1)
    small = F.interpolate(grid[None], size=(3, 6), mode="bicubic")[0]
    positions = torch.cat([tiny.pos_embed[0, :1], small.permute(1, 2, 0).reshape(18, 192)])
    with torch.no_grad():
        torch.testing.assert_close(tiny.tokens(x), plain_blocks(tiny, x, positions)[-1])
        assert tiny(x).shape == (2, 192, 3, 6)


def test_dinos_positions_are_those_of_its_scale_factor(tiny: VisionTransformer) -> None:
    """Sampled by hand where the code's resize does: cell i of R at (i + .5) 14 / (R + .1) - .5, cubic with a = -.75."""
    net = copy.deepcopy(tiny)
    net.follow_dino(keep_weights=True)
    assert torch.equal(net.cls_token, tiny.cls_token)
    assert torch.equal(net._positions(224, 224), tiny.pos_embed)

    def matrix(cells: int) -> Tensor:
        weights = torch.zeros(cells, 14, dtype=torch.float64)
        for i in range(cells):
            place = (i + 0.5) * 14 / (cells + 0.1) - 0.5
            for j in range(math.floor(place) - 1, math.floor(place) + 3):
                x, a = abs(place - j), -0.75
                near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * (x**3 - 5 * x**2 + 8 * x - 4)
                weights[i, min(max(j, 0), 13)] += near if x <= 1 else far
        return weights

    grid = tiny.pos_embed[0, 1:].view(14, 14, 192).detach()
    expected = torch.einsum("ra,cb,abk->rck", matrix(6), matrix(9), grid)
    torch.testing.assert_close(net._positions(96, 144)[0, 1:].view(6, 9, 192), expected, rtol=0, atol=1e-12)
    assert not torch.allclose(net._positions(96, 96), tiny._positions(96, 96), atol=1e-3)


def test_class_tokens_start_as_timms_or_as_dinos() -> None:
    torch.manual_seed(0)
    net = build_backbone("vit_tiny_patch16")
    assert net.cls_token.abs().max() < 1e-5
    net.follow_dino()
    assert net.cls_token.std().item() == pytest.approx(0.02, rel=0.2)


def test_every_parameter_is_trained(tiny: VisionTransformer) -> None:
    tiny.tokens(torch.randn(1, 3, 32, 32, dtype=torch.float64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in tiny.parameters())
    tiny.zero_grad()


def test_it_works_under_autocast() -> None:
    net = build_backbone("vit_tiny_patch16")
    with torch.autocast("cpu", torch.bfloat16):
        assert net(torch.randn(1, 3, 32, 32)).isfinite().all()


def test_wrong_names_and_sizes_are_refused(tiny: VisionTransformer) -> None:
    with pytest.raises(PretrainError, match=r"no backbone 'vit_huge'.*vit_small_patch16"):
        build_backbone("vit_huge")
    with pytest.raises(PretrainError, match=r"no backbone 'vit_huge'.*vit_small_patch16"):
        build_backbone("vit_huge")
    with pytest.raises(PretrainError, match="multiples of 16, not 40 x 32"):
        tiny(torch.zeros(1, 3, 40, 32, dtype=torch.float64))
