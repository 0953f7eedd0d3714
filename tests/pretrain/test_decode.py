"""Every kind of image file becomes the RGB picture that Pillow shows; damaged files are named."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pretrain.decode import DamagedImageError, decode_bytes, decode_file


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    return rough.resize((53, 37), Image.Resampling.BICUBIC)


def encode(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def rotated_by_exif(picture: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(picture, "JPEG", exif=exif)


KINDS: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg": lambda p: encode(p, "JPEG"),
    "jpeg-444": lambda p: encode(p, "JPEG", quality=98, subsampling=0),
    "jpeg-progressive": lambda p: encode(p, "JPEG", progressive=True),
    "jpeg-grey": lambda p: encode(p.convert("L"), "JPEG"),
    "jpeg-cmyk": lambda p: encode(p.convert("CMYK"), "JPEG"),
    "jpeg-exif": rotated_by_exif,
    "png": lambda p: encode(p, "PNG"),
    "png-grey": lambda p: encode(p.convert("L"), "PNG"),
    "png-grey-alpha": lambda p: encode(p.convert("LA"), "PNG"),
    "png-palette": lambda p: encode(p.convert("P"), "PNG"),
    "png-palette-transparent": lambda p: encode(p.convert("P"), "PNG", transparency=bytes(range(256))),
    "png-alpha": lambda p: encode(p.convert("RGBA"), "PNG"),
    "png-two-colours": lambda p: encode(p.convert("1"), "PNG"),
    "webp": lambda p: encode(p, "WEBP"),
    "webp-animated": lambda p: encode(p, "WEBP", save_all=True, append_images=[p.rotate(180)], lossless=True),
    "bmp": lambda p: encode(p, "BMP"),
    "tiff": lambda p: encode(p, "TIFF"),
    "ppm": lambda p: encode(p, "PPM"),
}


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_equals_pillow(kind: str, picture: Image.Image) -> None:
    data = KINDS[kind](picture)
    image = decode_bytes(np.frombuffer(data, np.uint8).copy())
    assert image.dtype == torch.uint8
    assert image.shape == (3, 37, 53)  # stored orientation, whatever EXIF says
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(opened.convert("RGBA").convert("RGB")).astype(int)
    # Two builds of the JPEG library may round apart by one or two levels; nothing else may differ.
    tolerance = 2 if kind.startswith("jpeg") else 0
    assert abs(image.permute(1, 2, 0).numpy().astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_of_sixteen_bits_the_high_byte_is_kept(format: str) -> None:
    grey = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    image = decode_bytes(np.frombuffer(encode(Image.fromarray(grey), format), np.uint8).copy())
    assert image.shape == (3, 32, 32)
    assert torch.equal(image, torch.from_numpy((grey // 256).astype(np.uint8)).expand(3, -1, -1))


def test_damaged_files_are_named_with_the_remedies(tmp_path: Path, picture: Image.Image) -> None:
    jpeg, png = encode(picture, "JPEG"), encode(picture, "PNG")
    broken = bytearray(png)
    broken[len(png) // 2 : len(png) // 2 + 20] = bytes(20)
    damaged = {
        "empty": b"",
        "truncated-jpeg": jpeg[: len(jpeg) // 2],
        "header-only": jpeg[:10],
        "truncated-png": png[: len(png) // 2],
        "broken-png": bytes(broken),
        "text": b"Not Found",
        "zeros": bytes(1000),
        "32-bit": encode(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"),
    }
    for name, data in damaged.items():
        path = tmp_path / f"{name}.jpg"
        path.write_bytes(data)
        with pytest.raises(DamagedImageError) as caught:
            decode_file(path)
        message = str(caught.value)
        assert str(path) in message
        assert "Remove the file" in message and 'on_damaged="skip"' in message
        assert len(message.splitlines()) == 2 and "0x" not in message
    with pytest.raises(DamagedImageError, match="No such file"):
        decode_file(tmp_path / "missing.jpg")


def test_random_damage_never_raises_anything_else(tmp_path: Path, picture: Image.Image) -> None:
    """Also guards against decoders that end the process, as torchvision's for PNG does."""
    rng = np.random.default_rng(1)
    originals = [
        np.frombuffer(KINDS[kind](picture), np.uint8) for kind in ("jpeg", "jpeg-cmyk", "png-alpha", "webp", "tiff")
    ]
    readable = 0
    for trial in range(150):
        data = originals[trial % len(originals)].copy()
        at = int(rng.integers(len(data)))
        data[at : at + 8] = rng.integers(0, 256, len(data[at : at + 8]))
        path = tmp_path / "image"
        data[: rng.integers(1, 2 * len(data))].tofile(path)
        try:
            image = decode_file(path)
        except DamagedImageError:
            continue
        readable += 1
        assert image.dtype == torch.uint8 and image.shape[0] == 3
    assert 10 < readable < 140
