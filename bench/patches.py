"""Feeds images of any size to backbones, although a Vision Transformer only takes whole patches."""

from __future__ import annotations

from math import log2
from typing import cast

from torch import Tensor, nn
from torch.nn.functional import interpolate


def patch_stride(patch: int) -> int:
    """Input pixels per cell of a ViT's map here: the nearest power of two, so that 14 counts as 16.

    >>> [patch_stride(patch) for patch in (8, 14, 16, 32)]
    [8, 16, 16, 32]
    """
    return 2 ** round(log2(patch))


def features(network: nn.Module, x: Tensor) -> list[Tensor]:
    """The four maps of normalized images (N, 3, H, W) of any size.

    The maps of a ViT have ceil(H / S) x ceil(W / S) cells with S = `patch_stride`. Where an image does not consist of
    whole patches, it is scaled to that many (bilinear, antialiased), so that the map covers the image and nothing else.
    A patch of 14 x 14 pixels then covers the place of one of 16 x 16.
    """
    patch = getattr(network, "patch", None)
    if patch is not None:
        stride = patch_stride(patch)
        size = tuple(-(-side // stride) * patch for side in x.shape[2:])
        if size != tuple(x.shape[2:]):
            x = interpolate(x, size, mode="bilinear", antialias=True)
    return cast(list[Tensor], network.features(x))  # type: ignore[operator]
