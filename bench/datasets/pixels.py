"""Decoding pictures and label images: what `data check` calls readable is what fine-tuning reads, by the same code.

Pixels are those that the file stores: no EXIF orientation turns them. PyTorch is not imported.
"""

from __future__ import annotations

import io
import warnings
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from pretrain.data.pictures import open_picture

LARGEST_FILE: Final = 2**30
"""No picture's file of more bytes is read: uncompressed, `MAX_PIXELS` take less."""
SLIMMEST: Final = 200
"""No picture of a greater ratio of its sides is used: scaled to a network's input, its short side vanishes."""


def decode_pixels(content: bytes) -> npt.NDArray[np.uint8]:
    """The picture that a file holds, BGR (H, W, 3).

    OpenCV decodes it, as in the OpenMMLab libraries, to the same values; a TIFF file Pillow, for OpenCV turns it as
    its orientation says and cannot be told not to. Raises ValueError for what either library cannot read.
    """
    try:
        with quiet(), open_picture(io.BytesIO(content)) as picture:
            width, height = picture.size
            if picture.format == "TIFF":
                if picture.mode not in ("1", "L", "P", "RGB", "RGBA", "CMYK"):
                    raise ValueError(f"a TIFF file of mode {picture.mode} has no defined 8-bit colors")
                return np.ascontiguousarray(np.asarray(picture.convert("RGB"))[:, :, ::-1])
    except Exception as error:  # damaged data makes Pillow raise nearly anything
        raise ValueError(first_line(error)) from error
    try:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise ValueError(f"OpenCV cannot decode it: {first_line(error)}") from error
    if pixels is None:
        raise ValueError("OpenCV cannot decode it; save it anew")
    if pixels.shape != (height, width, 3):
        raise ValueError(f"OpenCV reads {pixels.shape[1]}x{pixels.shape[0]} pixels, Pillow {width}x{height}")
    return np.asarray(pixels, np.uint8)


def decode_labels(content: bytes) -> npt.NDArray[np.uint8]:
    """The label image (H, W) that a file holds. Raises ValueError if it is damaged, WrongModeError if it is none."""
    try:
        with quiet(), open_picture(io.BytesIO(content)) as picture:
            if picture.mode not in ("L", "P"):
                raise WrongModeError(picture.mode)
            return np.array(picture)
    except WrongModeError:
        raise
    except Exception as error:  # as above
        raise ValueError(first_line(error)) from error


class WrongModeError(ValueError):
    """A picture that is no label image, for it holds something else than one byte a pixel."""

    def __init__(self, mode: str) -> None:
        super().__init__(f"is a {mode} image: a mask must hold one label a pixel (8-bit grey or palette PNG)")


class quiet(warnings.catch_warnings):  # noqa: N801
    """Without Pillow's remarks about odd but readable metadata, and about sizes that `open_picture` refuses."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
