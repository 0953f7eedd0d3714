"""Image files to RGB tensors.

JPEG is decoded by torchvision, which is the fastest; every other format by Pillow, because torchvision's PNG decoder
can end the process on a damaged file. Every picture becomes 8-bit RGB: grey is replicated, CMYK converted, alpha
dropped, of 16 bits a channel the high byte is kept, and of an animation the first frame. The EXIF orientation is
ignored, as in the image folders and pipelines of the papers (torchvision's `ImageFolder` with Pillow), so that boxes
and masks made for the stored pixels stay right.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from pretrain.errors import PretrainError

_JPEG = b"\xff\xd8\xff"


class DamagedImageError(PretrainError):
    """An image file that cannot be read or decoded."""


def decode_file(path: Path) -> Tensor:
    """The picture in `path` as uint8 (3, H, W); raises DamagedImageError, which names the file and the remedies."""
    return decode_read(lambda: np.fromfile(path, dtype=np.uint8), lambda: str(path))


def decode_read(read: Callable[[], npt.NDArray[np.uint8]], where: Callable[[], str]) -> Tensor:
    """The picture in the bytes that `read` returns, as `decode_file`; `where` says for the message whose they are."""
    try:
        return decode_bytes(read())
    except Exception as error:  # Damaged data makes decoders raise nearly anything; the file is at fault here.
        reason = "not in a known format" if isinstance(error, UnidentifiedImageError) else _first_line(error)
        raise DamagedImageError(
            f"damaged image {where()}: {reason}.\n"
            'Remove the file, or take the next readable image in its place: on_damaged="skip" (--on-damaged skip).'
        ) from error


def decode_bytes(data: npt.NDArray[np.uint8]) -> Tensor:
    """The encoded picture in `data` (one dimension) as uint8 (3, H, W).

    Raises what Pillow raises on damaged data: mostly OSError or ValueError.
    """
    if data.size == 0:
        raise ValueError("the file is empty")
    if data[:3].tobytes() == _JPEG:
        try:
            image: Tensor = decode_jpeg(torch.from_numpy(data), mode=ImageReadMode.RGB)
            return image
        except RuntimeError:
            pass  # Pillow reads a few more variants, and names what is wrong with the rest.
    with Image.open(io.BytesIO(data.tobytes())) as picture:
        if picture.mode.startswith("I;16"):
            high = (np.asarray(picture) >> 8).astype(np.uint8)
            pixels = np.repeat(high[:, :, None], 3, axis=2)
        elif picture.mode in ("I", "F"):
            raise ValueError(f"{picture.format} with 32 bits a pixel has no defined range")
        else:
            picture.info.pop("transparency", None)  # Pillow would warn that the conversion loses it.
            pixels = np.array(picture.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
