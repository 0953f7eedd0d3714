"""Vision transformers with 16 x 16 patches, with the map of four evenly spaced blocks.

Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021, arXiv 2010.11929; the small sizes: Touvron et al., 2020,
arXiv 2012.12877. Names and shapes of the state dict are those of timm's `vit_{tiny,small,base}_patch16_224` less
`head.*`, so that weights go both ways without a converter.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.errors import PretrainError

PATCH, DEPTH, GRID = 16, 12, 14

Style = Literal["timm", "dino"]
"""Whose code a ViT follows where they differ: how its class token starts, and its positions for other sizes."""


class VisionTransformer(nn.Module):
    """A ViT-Ti, -S or -B of 12 blocks without classifier.

    `width` is the number of channels of a token: 192, 384 or 768. The position embedding belongs to images of 224
    pixels; for other sizes it is interpolated (bicubic). Weights start as in timm: truncated normal with standard
    deviation 0.02, biases zero; the class token nearly zero.
    """

    style: Style
    """See `follow_dino`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width = width
        self.style = "timm"
        self.cls_token = nn.Parameter(torch.empty(1, 1, self.width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + GRID**2, self.width))
        self.patch_embed = nn.Sequential(OrderedDict(proj=nn.Conv2d(3, self.width, PATCH, PATCH)))
        self.blocks = nn.ModuleList(Block(self.width, heads) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(self.width, eps=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def follow_dino(self, *, keep_weights: bool = False) -> None:
        """From now on do as DINO's code (facebookresearch/dino): the class token is drawn like the other weights, and
        positions of R x C patches are those of a grid that is (R + .1) / 14 and (C + .1) / 14 times as fine.

        The tenth, which the code adds against rounding, moves what is interpolated by up to a tenth of a patch.
        """
        self.style = "dino"
        if not keep_weights:
            nn.init.trunc_normal_(self.cls_token, std=0.02)

    def tokens(self, x: Tensor) -> Tensor:
        """Normalised tokens (N, 1 + H W / 256, width) of images (N, 3, H, W): the class token, then patches by row."""
        for t in self._blocks(x):
            last = t
        return self.norm(last)

    def features(self, x: Tensor) -> list[Tensor]:
        """The maps (N, width, H / 16, W / 16) after blocks 3, 6, 9 and 12, each through the final norm."""
        taken = [t for i, t in enumerate(self._blocks(x), start=1) if i % (DEPTH // 4) == 0]
        return [self._map(self.norm(t), x) for t in taken]

    def forward(self, x: Tensor) -> Tensor:
        """The last map (N, width, H / 16, W / 16) of images (N, 3, H, W)."""
        return self._map(self.tokens(x), x)

    def _blocks(self, x: Tensor) -> Iterator[Tensor]:
        """The tokens after each block."""
        height, width = x.shape[2:]
        if height % PATCH or width % PATCH:
            raise PretrainError(f"a ViT takes images whose sides are multiples of {PATCH}, not {height} x {width}")
        patches = self.patch_embed(x).flatten(2).transpose(1, 2)
        t = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], 1) + self._positions(height, width)
        for block in self.blocks:
            t = block(t)
            yield t

    def _positions(self, height: int, width: int) -> Tensor:
        """The position embedding (1, 1 + P, width) for images of this size."""
        rows, columns = height // PATCH, width // PATCH
        if (rows, columns) == (GRID, GRID):
            return self.pos_embed
        grid = self.pos_embed[:, 1:].view(1, GRID, GRID, self.width).permute(0, 3, 1, 2)
        with torch.autocast(grid.device.type, enabled=False):
            if self.style == "dino":
                scale = ((rows + 0.1) / GRID, (columns + 0.1) / GRID)
                grid = F.interpolate(grid, scale_factor=scale, mode="bicubic")
            else:
                grid = F.interpolate(grid, (rows, columns), mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)], 1)

    def _map(self, t: Tensor, x: Tensor) -> Tensor:
        """The patch tokens as a map of the images `x`."""
        return t[:, 1:].transpose(1, 2).reshape(len(x), self.width, x.shape[2] // PATCH, x.shape[3] // PATCH)


class Block(nn.Module):
    """Attention, then a perceptron, each on normalised tokens and added to what it was given."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Perceptron(width)

    def forward(self, t: Tensor) -> Tensor:
        """Tokens (N, T, width) to tokens."""
        t = t + self.attn(self.norm1(t))
        return t + self.mlp(self.norm2(t))


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
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
