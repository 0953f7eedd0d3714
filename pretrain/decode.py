"""Image files to RGB tensors.

Decoded by torchvision where it can (JPEG, PNG, WebP) and by Pillow otherwise. Every picture becomes 8-bit RGB: grey
is replicated, CMYK converted, alpha dropped, 16 bits a channel rounded to 8, and of an animation the first frame is
taken. The EXIF orientation is ignored, as in the image folders and pipelines of the papers (torchvision's
`ImageFolder` with Pillow), so that boxes and masks made for the stored pixels stay right.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from pretrain.errors import PretrainError


class DamagedImageError(PretrainError):
    """An image file that cannot be read or decoded."""


def decode_file(path: Path) -> Tensor:
    """The picture in `path` as uint8 (3, H, W); raises DamagedImageError, which names the file and the remedies."""
    try:
        data = np.fromfile(path, dtype=np.uint8)
        return decode_bytes(data)
    except (OSError, ValueError, RuntimeError, SyntaxError, Image.DecompressionBombError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DamagedImageError(
            f'damaged image {path}: {reason.rstrip(".")}.\nRemove the file, or pass on_damaged="skip" to train on '
            f"the next readable image in its place."
        ) from error


def decode_bytes(data: npt.NDArray[np.uint8]) -> Tensor:
    """The encoded picture in `data` (uint8, one dimension) as uint8 (3, H, W).

    Raises what the decoders raise: ValueError, RuntimeError, OSError or SyntaxError.
    """
    if data.size == 0:
        raise ValueError("the file is empty")
    try:
        image = decode_image(torch.from_numpy(data), mode=ImageReadMode.RGB)
    except RuntimeError:
        # Another format, or a variant that torchvision's decoder refuses; Pillow's message names what is wrong.
        return _decode_with_pillow(data)
    if image.ndim == 4:
        image = image[0]
    if image.dtype == torch.uint16:
        image = torch.from_numpy(_to_eight_bits(image.numpy()))
    return image


def _decode_with_pillow(data: npt.NDArray[np.uint8]) -> Tensor:
    with Image.open(io.BytesIO(data.tobytes())) as image:
        if image.mode.startswith("I;16"):
            grey = _to_eight_bits(np.asarray(image))
            pixels = np.repeat(grey[:, :, None], 3, axis=2)
        elif image.mode in ("I", "F"):
            raise ValueError(f"{image.format} with 32 bits a pixel has no defined 8-bit range")
        else:
            pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _to_eight_bits(pixels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Sixteen bits to the nearest of 256 levels (65535 / 255 = 257)."""
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
