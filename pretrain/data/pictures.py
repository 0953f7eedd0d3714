"""Opening image files with Pillow, safely: which formats are read, and how many pixels at most.

Pretraining and `data check` open files through here, so that both accept the same ones. PyTorch is not imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Final

from PIL import Image, UnidentifiedImageError

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")
"""Pillow's names of the formats that are read, whatever a file's suffix says; they cover `sources.SUFFIXES`.

Pillow itself would try all that it knows, and hands PostScript, which is a program, to Ghostscript.
"""
MAX_PIXELS: Final = 2**28 // 3
"""No picture of more pixels is decoded: at 3 bytes a pixel the decoded picture takes 256 MiB.

It is also where Pillow warns of a decompression bomb by default: a megabyte of JPEG can hold a billion pixels, and
memory must not depend on what a file claims.
"""


def open_picture(file: Path | IO[bytes]) -> Image.Image:
    """The picture in `file`, opened by Pillow: its size and mode are known, its pixels are not decoded yet.

    Use it in a `with` statement. Raises ValueError if the file is in none of `FORMATS` or has more than `MAX_PIXELS`,
    and what Pillow raises on a damaged header: mostly OSError, SyntaxError or ValueError.
    """
    try:
        picture = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ValueError("not an image in a format that is read (JPEG, PNG, WebP, BMP, TIFF, PPM)") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # the latter made an error
        raise ValueError(_too_many("it has")) from error
    try:
        check_pixels(*picture.size)
    except ValueError:
        picture.close()
        raise
    return picture


def check_pixels(width: int, height: int) -> None:
    """Raise ValueError, with what to do, if a picture of this size has more than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise ValueError(_too_many(f"{width} x {height} pixels are"))


def _too_many(subject: str) -> str:
    return f"{subject} more than the {MAX_PIXELS:,} pixels that are decoded; scale it down or cut it into pieces"
