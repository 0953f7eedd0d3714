"""Decodes image files to RGB tensors.

JPEG is decoded by libjpeg-turbo through simplejpeg, which is the fastest; every other format by Pillow. Every picture
becomes 8-bit RGB: gray is replicated, CMYK converted, and alpha dropped; of 16 bits per channel the high byte is kept,
and of an animation the first frame. The EXIF orientation is ignored, as in the image folders and pipelines of the
papers (torchvision's `ImageFolder` with Pillow), so that boxes and masks for the stored pixels stay right.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
from torch import Tensor

from pretrain.data.pictures import check_pixels, open_picture
from pretrain.errors import PretrainError

_JPEG = b"\xff\xd8\xff"


class DamagedImageError(PretrainError):
    """An image file that cannot be read or decoded, or has too many pixels."""


def decode_file(path: Path) -> Tensor:
    """The picture in `path` as uint8 (3, H, W); raises DamagedImageError, which names the file and the remedies."""
    return decode_read(lambda: np.fromfile(path, dtype=np.uint8), lambda: str(path))


def decode_read(read: Callable[[], npt.NDArray[np.uint8]], where: Callable[[], str]) -> Tensor:
    """The picture in the bytes that `read` returns, as in `decode_file`; `where` names their origin in messages."""
    try:
        return decode_bytes(read())
    except (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
        raise  # The user's filters turn warnings into errors; these concern the program, not the file.
    except Exception as error:  # Damaged data makes decoders raise nearly anything; this is a fault of the file.
        raise DamagedImageError(
            f"damaged image {where()}: {_first_line(error)}.\n"
            'Remove the file, or take the next readable image in its place: on_damaged="skip" (--on-damaged skip).'
        ) from error


def decode_bytes(data: npt.NDArray[np.uint8]) -> Tensor:
    """The encoded picture in `data` (one dimension) as uint8 (3, H, W).

    Raises ValueError, before decoding, if it has more than `pictures.MAX_PIXELS`; on damaged data what Pillow raises:
    mostly OSError or ValueError.
    """
    if data.size == 0:
        raise ValueError("the file is empty")
    decoded = _decode_jpeg(data) if data[:3].tobytes() == _JPEG else None
    pixels = _decode_by_pillow(data) if decoded is None else decoded
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _decode_jpeg(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | None:
    """The JPEG picture in `data` as RGB (H, W, 3); None if Pillow should try it.

    Pillow reads a few more variants (odd chroma subsampling, extraneous bytes), and names what is wrong with the rest.
    """
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except (ValueError, KeyError):  # KeyError: subsampling 4:4:1 has no name there.
        return None
    check_pixels(width, height)
    four_inks = space in ("CMYK", "YCCK")
    try:
        # Strict, the default, refuses truncated data instead of making the rest of the picture gray.
        pixels = simplejpeg.decode_jpeg(data, "CMYK" if four_inks else "RGB", strict=True)
    except ValueError:
        return None
    return inverted_cmyk_to_rgb(pixels) if four_inks else pixels


def inverted_cmyk_to_rgb(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """RGB (H, W, 3) of CMYK (H, W, 4), which is inverted as in JPEG files: 255 means no ink.

    A channel is ink * black / 255, rounded to the nearest: Pillow's and torchvision's conversion. simplejpeg's own
    is up to two levels away.
    """
    # The sum is at most 255 * 255 + 127, which fits 16 bits; half a level does not occur, because 255 is odd.
    black = pixels[..., 3].astype(np.uint16)
    rgb = np.empty((*black.shape, 3), np.uint8)
    for channel in range(3):
        rgb[..., channel] = (pixels[..., channel] * black + 127) // 255
    return rgb


def _decode_by_pillow(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    with open_picture(io.BytesIO(data.tobytes())) as picture:
        # Pillow scales the values of a gray PPM picture of more than 8 bits to 0 to 65535, and calls them "I".
        if picture.mode.startswith("I;16") or (picture.format, picture.mode) == ("PPM", "I"):
            high = (np.asarray(picture) >> 8).astype(np.uint8)
            return np.repeat(high[:, :, None], 3, axis=2)
        if picture.mode in ("I", "F"):
            raise ValueError(f"{picture.format} with 32 bits per pixel has no defined range")
        picture.info.pop("transparency", None)  # Pillow would warn that the conversion loses it.
        return np.array(picture.convert("RGB"))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
