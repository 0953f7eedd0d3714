"""Opens image files safely with Pillow: in a few formats, up to a number of pixels, with pixels as stored.

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

Pillow itself would try all formats that it knows, and it passes PostScript, which is a program, to Ghostscript.
"""
MAX_PIXELS: Final = 2**28 // 3
"""Most pixels of a picture that is decoded: at 3 bytes per pixel it takes 256 MiB.

Pillow's default warning of a decompression bomb has the same limit: a megabyte of JPEG can hold a billion pixels, and
memory must not depend on what a file claims.
"""
QUARTER_TURNS: Final = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""
_BACK: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""Operation, by EXIF orientation, that restores the stored picture from one that was turned as the tag says."""
_ORIENTATION: Final = "stored orientation"


def open_picture(file: Path | IO[bytes]) -> Image.Image:
    """The picture in `file` as it is stored, opened by Pillow: size and mode are known, pixels not decoded yet.

    Use it in a `with` statement. (A TIFF file with an orientation is decoded at once: Pillow turns pictures of this
    format alone when it decodes them, and they are turned back.) Raises ValueError if the file is in none of `FORMATS`
    or has more than `MAX_PIXELS`, and Pillow's errors for a damaged header: mostly OSError, SyntaxError or ValueError.
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
    """The EXIF orientation, 1 to 8, in the tag of a picture from `open_picture`; 1 (as stored) if there is no tag.

    In a PNG file it may come after the pixels: it counts for nothing there. So ask before they are decoded.
    """
    if picture.format == "PNG" and "exif" not in picture.info:
        return 1
    try:
        found = picture.info.get(_ORIENTATION) or picture.getexif().get(Base.Orientation, 1)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return 1  # unreadable EXIF data do not turn a picture
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
