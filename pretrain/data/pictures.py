"""Opening image files with Pillow, safely: which formats are read, and how many pixels at most; pixels as stored.

Pretraining, `data check` and fine-tuning open files through here, so that all accept the same ones. PyTorch is not
imported. No picture is turned as its EXIF orientation says: boxes and masks are made for stored pixels.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO, Final

from PIL import Image, TiffImagePlugin, UnidentifiedImageError
from PIL.ExifTags import Base

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")
"""Pillow's names of the formats that are read, whatever a file's suffix says; they cover `sources.SUFFIXES`.

Pillow itself would try all that it knows, and hands PostScript, which is a program, to Ghostscript.
"""
MAX_PIXELS: Final = 2**28 // 3
"""No picture of more pixels is decoded: at 3 bytes a pixel the decoded picture takes 256 MiB.

It is also where Pillow warns of a decompression bomb by default: a megabyte of JPEG can hold a billion pixels, and
memory must not depend on what a file claims.
"""
QUARTER_TURNS: Final = (5, 6, 7, 8)
"""EXIF orientations by which width and height change places."""
_BACK: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""From the picture turned as its EXIF orientation says to the stored one."""
_ORIENTATION: Final = "stored orientation"


def open_picture(file: Path | IO[bytes]) -> Image.Image:
    """The picture in `file` as it is stored, opened by Pillow: size and mode are known, pixels not decoded yet.

    Use it in a `with` statement. (A TIFF file with an orientation is decoded at once: Pillow turns it as it decodes,
    of all formats only this one, and it is turned back.) Raises ValueError if the file is in none of `FORMATS` or has
    more than `MAX_PIXELS`, and what Pillow raises on a damaged header: mostly OSError, SyntaxError or ValueError.
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
    return _as_stored(picture)


def orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, that a picture of `open_picture` is tagged with; 1, also without a tag: as stored.

    Of a PNG file it may stand behind the pixels, which are then decoded.
    """
    try:
        found = picture.info.get(_ORIENTATION) or picture.getexif().get(Base.Orientation, 1)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return 1  # EXIF data that nobody can read turn no picture
    return found if found in _BACK else 1


def _as_stored(picture: Image.Image) -> Image.Image:
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return picture
    turned = picture.tag_v2.get(Base.Orientation, 1)
    if turned not in _BACK:
        return picture
    with picture:
        stored = picture.transpose(_BACK[turned])
    stored.format = picture.format
    stored.info[_ORIENTATION] = turned
    return stored


def check_pixels(width: int, height: int) -> None:
    """Raise ValueError, with what to do, if a picture of this size has more than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise ValueError(_too_many(f"{width} x {height} pixels are"))


def _too_many(subject: str) -> str:
    return f"{subject} more than the {MAX_PIXELS:,} pixels that are decoded; scale it down or cut it into pieces"
