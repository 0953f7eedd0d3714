"""Vision transformers, with the map of four evenly spaced blocks.

Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021, arXiv 2010.11929; the small sizes: Touvron et al., 2020,
arXiv 2012.12877; scaled layers: Touvron et al., 2021, arXiv 2103.17239; registers: Darcet et al., 2023, arXiv
2309.16588; gated perceptrons, as DINOv2's ViT-g and Franca have them: Shazeer, 2020, arXiv 2002.05202. Names and shapes
of the state dict are those of timm's `vit_*` without `head.*`, so that weights can be exchanged without a converter;
with registers the position embedding has a row for the class token, as DINOv2's has.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.errors import PretrainError

Style = Literal["timm", "dino"]
"""The code that a ViT follows where they differ: in its initial class token, and in its positions for other sizes."""


class VisionTransformer(nn.Module):
    """A ViT without classifier.

    `width` is the number of channels of a token. The position embedding belongs to images of `grid` x `grid` patches;
    for other sizes it is interpolated (bicubic). Weights start as in timm: truncated normal with standard deviation
    0.02, biases zero; class token and registers nearly zero; layer scales 1e-5.

    Args:
        width: channels of a token.
        heads: number of attention heads in each block.
        depth: number of blocks, a multiple of four.
        patch: side of a patch in pixels.
        grid: patches per side of the images to which the position embedding belongs.
        registers: number of further tokens, besides class token and patches.
        layer_scale: whether each channel of a block's output has a learned factor.
        class_token: whether there is one; without it, the position embedding has a row for each patch alone.
        qkv_bias: whether queries, keys and values have a bias.
        gated: whether the perceptrons are gated.
    """

    style: Style
    """The code that the network follows; see `follow_dino`."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        depth: int = 12,
        patch: int = 16,
        grid: int = 14,
        registers: int = 0,
        layer_scale: bool = False,
        class_token: bool = True,
        qkv_bias: bool = True,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.width, self.patch, self.grid = width, patch, grid
        self.style = "timm"
        self.cls_token = nn.Parameter(torch.empty(1, 1, width)) if class_token else None
        self.reg_token = nn.Parameter(torch.empty(1, registers, width)) if registers else None
        self.pos_embed = nn.Parameter(torch.empty(1, class_token + grid**2, width))
        self.patch_embed = nn.Sequential(OrderedDict(proj=nn.Conv2d(3, width, patch, patch)))
        self.blocks = nn.ModuleList(Block(width, heads, layer_scale, qkv_bias, gated) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for token in (self.cls_token, self.reg_token):
            if token is not None:
                nn.init.normal_(token, std=1e-6)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def follow_dino(self, *, keep_weights: bool = False) -> None:
        """Follow DINO's code (facebookresearch/dino) from now on: the class token is drawn like the other weights, and
        positions of R x C patches are those of a grid that is (R + .1) / 14 and (C + .1) / 14 times as fine.

        The code adds .1 to avoid rounding errors, which shifts the interpolated positions by up to a tenth of a patch.
        """
        self.style = "dino"
        if not keep_weights and self.cls_token is not None:
            nn.init.trunc_normal_(self.cls_token, std=0.02)

    def tokens(self, x: Tensor) -> Tensor:
        """Normalized tokens (N, T, width) of images (N, 3, H, W): class token, registers, then patches by row."""
        for t in self._blocks(x):
            last = t
        return self.norm(last)

    def features(self, x: Tensor) -> list[Tensor]:
        """The maps (N, width, H / patch, W / patch) after each quarter of the blocks, each through the final norm."""
        quarter = len(self.blocks) // 4
        taken = [t for i, t in enumerate(self._blocks(x), start=1) if i % quarter == 0]
        return [self._map(self.norm(t), x) for t in taken]

    def forward(self, x: Tensor) -> Tensor:
        """The last map (N, width, H / patch, W / patch) of images (N, 3, H, W)."""
        return self._map(self.tokens(x), x)

    def last_queries_and_keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys (N, heads, T, width / heads) of the last block's attention, in the order of `tokens`."""
        *_, before = islice(self._blocks(x), len(self.blocks) - 1)
        last = self.blocks[-1]
        assert isinstance(last, Block)
        qkv: Tensor = last.attn.qkv(last.norm1(before))
        q, k, _ = qkv.view(*qkv.shape[:2], 3, last.attn.heads, -1).permute(2, 0, 3, 1, 4)
        return q, k

    def _blocks(self, x: Tensor) -> Iterator[Tensor]:
        """The tokens after each block."""
        height, width = x.shape[2:]
        if height % self.patch or width % self.patch:
            raise PretrainError(f"a ViT takes images whose sides are multiples of {self.patch}, not {height} x {width}")
        t = self.patch_embed(x).flatten(2).transpose(1, 2)
        if self.cls_token is not None:
            t = torch.cat([self.cls_token.expand(len(x), -1, -1), t], 1)
        t = t + self._positions(height, width)
        if self.reg_token is not None:
            t = torch.cat([t[:, : self._first], self.reg_token.expand(len(x), -1, -1), t[:, self._first :]], 1)
        for block in self.blocks:
            t = block(t)
            yield t

    @property
    def _first(self) -> int:
        """Number of class tokens."""
        return 0 if self.cls_token is None else 1

    def _positions(self, height: int, width: int) -> Tensor:
        """The position embedding of class token and patches for images of this size."""
        rows, columns = height // self.patch, width // self.patch
        if (rows, columns) == (self.grid, self.grid):
            return self.pos_embed
        grid = self.pos_embed[:, self._first :].view(1, self.grid, self.grid, self.width).permute(0, 3, 1, 2)
        with torch.autocast(grid.device.type, enabled=False):
            if self.style == "dino":
                scale = ((rows + 0.1) / self.grid, (columns + 0.1) / self.grid)
                grid = F.interpolate(grid, scale_factor=scale, mode="bicubic")
            else:
                grid = F.interpolate(grid, (rows, columns), mode="bicubic")
        return torch.cat([self.pos_embed[:, : self._first], grid.flatten(2).transpose(1, 2)], 1)

    def _map(self, t: Tensor, x: Tensor) -> Tensor:
        """The patch tokens as a map of the images `x`."""
        rows, columns = x.shape[2] // self.patch, x.shape[3] // self.patch
        return t[:, -rows * columns :].transpose(1, 2).reshape(len(x), self.width, rows, columns)


class Block(nn.Module):
    """Attention, then an MLP, each on normalized tokens and with a residual connection."""

    def __init__(self, width: int, heads: int, layer_scale: bool, qkv_bias: bool, gated: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads, qkv_bias)
        self.ls1 = LayerScale(width) if layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = GatedPerceptron(width) if gated else Perceptron(width)
        self.ls2 = LayerScale(width) if layer_scale else nn.Identity()

    def forward(self, t: Tensor) -> Tensor:
        """Tokens (N, T, width) to tokens."""
        t = t + self.ls1(self.attn(self.norm1(t)))
        return t + self.ls2(self.mlp(self.norm2(t)))


class LayerScale(nn.Module):
    """A learned factor for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, t: Tensor) -> Tensor:
        """Tokens (N, T, width) to tokens."""
        return t * self.gamma


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        """Tokens (N, T, width) to tokens."""
        n, length, width = t.shape
        q, k, v = self.qkv(t).view(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    """Linear to four times the width, GELU, linear."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, t: Tensor) -> Tensor:
        """Tokens (N, T, width) to tokens."""
        return self.fc2(F.gelu(self.fc1(t)))


class GatedPerceptron(nn.Module):
    """Linear to twice 8/3 of the width, rounded up to a multiple of 8; the SiLU of one half times the other; linear."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = -(-(4 * width * 2 // 3) // 8) * 8
        self.fc1 = nn.Linear(width, 2 * hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, t: Tensor) -> Tensor:
        """Tokens (N, T, width) to tokens."""
        gates, values = self.fc1(t).chunk(2, dim=-1)
        return self.fc2(F.silu(gates) * values)
