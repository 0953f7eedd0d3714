"""Decodes pictures and label images, with the same code for `data check` and fine-tuning.

Pixels are used as the file stores them: an EXIF orientation is ignored. PyTorch is not imported.
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
"""Most bytes of a picture's file: `MAX_PIXELS` uncompressed pixels take less."""
SLIMMEST: Final = 200
"""Largest ratio of a picture's sides: beyond it, the short side vanishes at the scale of a network's input."""


def decode_pixels(content: bytes) -> npt.NDArray[np.uint8]:
    """The picture in a file, BGR (H, W, 3).

    OpenCV decodes it, as in the OpenMMLab libraries, to the same values. Pillow decodes TIFF files, because OpenCV
    always turns them as their orientation says. Raises ValueError for files that either library cannot read.
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
        raise ValueError("OpenCV cannot decode it; save it again")
    if pixels.shape != (height, width, 3):
        raise ValueError(f"OpenCV reads {pixels.shape[1]}x{pixels.shape[0]} pixels, Pillow {width}x{height}")
    return np.asarray(pixels, np.uint8)


def turn(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """The stored pixels (H, W, ...) as an EXIF orientation, 1 to 8, says that they are to be seen."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def decode_labels(content: bytes) -> npt.NDArray[np.uint8]:
    """The label image (H, W) in a file. Raises ValueError if it is damaged, WrongModeError if it is of another kind."""
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
    """A picture that is not a label image, because it does not hold one byte per pixel."""

    def __init__(self, mode: str) -> None:
        super().__init__(f"is a {mode} image: a mask must hold one label per pixel (8-bit grey or palette PNG)")


class quiet(warnings.catch_warnings):  # noqa: N801
    """Context without Pillow's warnings about odd but readable metadata, and sizes that `open_picture` refuses."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)


def first_line(error: Exception) -> str:
    """The text of an error, in one line."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
