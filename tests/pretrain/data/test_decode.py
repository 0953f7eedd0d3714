"""Every kind of image file becomes the RGB picture that Pillow shows; damaged files are named."""

from __future__ import annotations

import base64
import io
import os
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch
import torchvision
from PIL import EpsImagePlugin, Image
from torch import Tensor

from pretrain.data.decode import DamagedImageError, decode_bytes, decode_file, decode_read, inverted_cmyk_to_rgb


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    return rough.resize((53, 37), Image.Resampling.BICUBIC)


def encode(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> Tensor:
    return decode_bytes(np.frombuffer(data, np.uint8).copy())


def with_orientation(picture: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(picture, "JPEG", exif=exif)


ADOBE = b"\xff\xee\x00\x0eAdobe\x00d\x00\x00\x00\x00"
"""Adobe's segment but for its last byte, the color transform: 0 is CMYK, 2 is YCCK (of four inks)."""


def cmyk(picture: Image.Image) -> bytes:
    data = encode(picture.convert("CMYK"), "JPEG")
    assert data.count(ADOBE + b"\0") == 1
    return data


def ycck(picture: Image.Image) -> bytes:
    return cmyk(picture).replace(ADOBE + b"\0", ADOBE + b"\2")


def plain_cmyk(picture: Image.Image) -> bytes:
    """Without Adobe's segment. It is shown inverted all the same, by Pillow and by torchvision."""
    return cmyk(picture).replace(ADOBE + b"\0", b"")


def extraneous(picture: Image.Image) -> bytes:
    """With bytes between two segments that belong to none: decoders warn, and read the picture."""
    data = encode(picture, "JPEG")
    at = data.index(b"\xff\xdb")
    return data[:at] + b"abc" + data[at:]


KINDS: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg": lambda p: encode(p, "JPEG"),
    "jpeg-444": lambda p: encode(p, "JPEG", quality=98, subsampling=0),
    "jpeg-progressive": lambda p: encode(p, "JPEG", progressive=True),
    "jpeg-grey": lambda p: encode(p.convert("L"), "JPEG"),
    "jpeg-cmyk": lambda p: encode(p.convert("CMYK"), "JPEG"),
    "jpeg-exif": lambda p: with_orientation(p, 6),
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
    image = decoded(data)
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
    image = decoded(encode(Image.fromarray(grey), format))
    assert image.shape == (3, 32, 32)
    assert torch.equal(image, torch.from_numpy((grey // 256).astype(np.uint8)).expand(3, -1, -1))


@pytest.mark.parametrize("highest", [1023, 65535])
def test_a_gray_netpbm_picture_of_sixteen_bits_has_the_range_that_it_states(highest: int) -> None:
    grey = np.linspace(0, highest, 64).astype(np.uint16).reshape(8, 8)
    image = decoded(b"P5 8 8 %d\n" % highest + grey.astype(">u2").tobytes())
    assert np.abs(image[0].numpy() - grey * 255.0 / highest).max() <= 1
    assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])


JPEGS: dict[str, Callable[[Image.Image], bytes]] = {
    **{kind: make for kind, make in KINDS.items() if kind.startswith("jpeg")},
    "jpeg-422": lambda p: encode(p, "JPEG", subsampling=1),
    "jpeg-420-poor": lambda p: encode(p, "JPEG", quality=5),
    "jpeg-440": lambda p: simplejpeg.encode_jpeg(np.array(p), colorsubsampling="440"),
    "jpeg-411": lambda p: simplejpeg.encode_jpeg(np.array(p), colorsubsampling="411"),
    "jpeg-422-progressive": lambda p: encode(p, "JPEG", subsampling=1, progressive=True),
    "jpeg-grey-progressive": lambda p: encode(p.convert("L"), "JPEG", progressive=True),
    "jpeg-rgb": lambda p: encode(p, "JPEG", keep_rgb=True),
    "jpeg-restarts": lambda p: encode(p, "JPEG", restart_marker_blocks=2),
    "jpeg-restarts-progressive": lambda p: encode(p, "JPEG", restart_marker_rows=1, progressive=True),
    "jpeg-cmyk-progressive": lambda p: encode(p.convert("CMYK"), "JPEG", progressive=True),
    "jpeg-cmyk-plain": plain_cmyk,
    "jpeg-ycck": ycck,
    "jpeg-ycck-420": lambda p: simplejpeg.encode_jpeg(
        np.array(p.convert("CMYK")), colorspace="CMYK", colorsubsampling="420"
    ),
    "jpeg-extraneous-bytes": extraneous,
    "jpeg-bytes-behind": lambda p: encode(p, "JPEG") + b"abc",
    "jpeg-two-pictures": lambda p: encode(p, "MPO", save_all=True, append_images=[p.rotate(180)]),
}


def by_torchvision(data: bytes) -> Tensor:
    """The picture by torchvision's decoder, which this package used until torchvision announced to remove it."""
    return torchvision.io.decode_jpeg(
        torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=torchvision.io.ImageReadMode.RGB
    )


# 0.26 and 0.27 carry libjpeg-turbo 2.0, which upsamples chroma of half the height (4:4:0) in another way.
needs_torchvisions_decoder = pytest.mark.skipif(
    not hasattr(torchvision.io, "decode_jpeg") or tuple(map(int, torchvision.__version__.split(".")[:2])) < (0, 28),
    reason="torchvision has no JPEG decoder, or an old one",
)


@needs_torchvisions_decoder
@pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision are deprecated")
class TestEqualsTorchvision:
    """To the bit: results from the time when torchvision decoded stay what they were."""

    @pytest.mark.parametrize("size", [(53, 37), (64, 48), (1, 9), (9, 1), (1, 1), (16, 17)], ids=str)
    @pytest.mark.parametrize("kind", JPEGS)
    def test_of_every_kind(self, kind: str, size: tuple[int, int], picture: Image.Image) -> None:
        data = JPEGS[kind](picture.resize(size))
        image = decoded(data)
        assert image.shape == (3, size[1], size[0])
        assert torch.equal(image, by_torchvision(data))

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_whatever_exif_says(self, orientation: int, picture: Image.Image) -> None:
        data = with_orientation(picture, orientation)
        assert torch.equal(decoded(data), by_torchvision(data))
        assert torch.equal(decoded(data), decoded(encode(picture, "JPEG")))

    def test_on_photographs(self, shared_data: Path) -> None:
        files = sorted(shared_data.rglob("*.jpg"))[::50]
        assert len(files) > 50
        for file in files:
            data = file.read_bytes()
            assert torch.equal(decoded(data), by_torchvision(data)), file

    @pytest.mark.parametrize("kind", ["jpeg", "jpeg-progressive", "jpeg-cmyk", "jpeg-grey"])
    def test_refuses_truncated_data(self, kind: str, picture: Image.Image) -> None:
        data = JPEGS[kind](picture)
        for share in (0.3, 0.6, 0.9):
            cut = data[: int(share * len(data))]
            with pytest.raises(RuntimeError):
                by_torchvision(cut)
            with pytest.raises((OSError, SyntaxError)):
                decoded(cut)


def compressed(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


CMYK_SQUARES = compressed(
    "eNr7f+P/OwY+x5T8pFSGFAYQ+H+bwZmBkULw/wCDCAeDAIMAi7Mgg68gQ6Qgg7cgw/8jDOJgoxmQADcXJztQQkQARRTsklsMfCzODL4MkQzeDAz2DLNL"
    "W0wWsjz9wF1tfOoCazm7gzXj+QN+rDoGsf9vAgAdbB82"
)
"""Four squares of 8 x 8 pixels of one color each, of four inks with Adobe's segment."""


@pytest.mark.parametrize(
    ("segment", "colors"),
    [
        (ADOBE + b"\0", [[1, 4, 3], [171, 10, 89], [0, 0, 0], [53, 33, 16]]),
        (ADOBE + b"\2", [[3, 5, 1], [8, 0, 147], [115, 54, 115], [16, 0, 0]]),
        (b"", [[1, 4, 3], [171, 10, 89], [0, 0, 0], [53, 33, 16]]),
    ],
    ids=["cmyk", "ycck", "plain"],
)
def test_colors_of_four_inks_are_frozen(segment: bytes, colors: list[list[int]]) -> None:
    """torchvision 0.29's, for the time when it has no decoder any more."""
    assert CMYK_SQUARES.count(ADOBE + b"\0") == 1
    image = decoded(CMYK_SQUARES.replace(ADOBE + b"\0", segment))
    squares = torch.tensor(colors, dtype=torch.uint8).view(2, 2, 3).permute(2, 0, 1)
    assert torch.equal(image, squares.repeat_interleave(8, 1).repeat_interleave(8, 2))


def test_four_inks_become_rgb_as_by_pillow() -> None:
    """Every ink with every black."""
    ink, black = (x.astype(np.uint8) for x in np.mgrid[:256, :256])
    pixels = np.stack([ink, 255 - ink, ink // 2, black], axis=2)
    expected = np.asarray(Image.fromarray(255 - pixels, "CMYK").convert("RGB"))
    assert np.array_equal(inverted_cmyk_to_rgb(pixels), expected)
    assert inverted_cmyk_to_rgb(np.array([[[255, 0, 128, 100]]], np.uint8)).tolist() == [[[100, 0, 50]]]


@pytest.mark.parametrize(
    ("text", "shape", "first", "last"),
    [
        (
            "eNr7f+P/AwYBLzdPNwZGRgYGRiBk+H+bwRnIowyADGGk2JADDIIcDBoMHMyMIgxMgozMgoz/jzCIgRzHgAK4OIHiIgJookCvAFUzoqvmZGIH"
            "issLAo3hRJFhY+cQlwqPXLbi6vX/txh4mBmBdjILMtgznP7oxtmfNYH3UaZeRdubyYbMcdvV7i2z8WGIZVT5fxMA0vsnXg==",
            (3, 40, 8),
            [200, 31, 90],
            [3, 100, 181],
        ),
        (
            "eNr7f+P/AwYBLzdPNwZGRgYGRiBk+H+bwRnIowyADGGk2JADDIIcDBwMcsyMhgxMgozMgoz/jzCIgRzHgALYOIHiEgKMDMyoEqwuzYdBOhjRdXCw"
            "cwHFZQQZGJlZUSU43T3a2o8d/3+LgQdoGJMgsyCDPcPpL3/exv5Yfq4lU/nmb8eUulnB52oqGA+k9/y/CQAtrCuX",
            (3, 8, 30),
            [200, 31, 90],
            [3, 100, 181],
        ),
    ],
    ids=["a quarter of the height", "a third of the width"],
)
def test_odd_chroma_subsampling(text: str, shape: tuple[int, ...], first: list[int], last: list[int]) -> None:
    """simplejpeg refuses both, Pillow reads them; the colors are torchvision 0.29's."""
    with pytest.raises((KeyError, ValueError)):
        simplejpeg.decode_jpeg_header(compressed(text))
    image = decoded(compressed(text))
    assert image.shape == shape
    assert (image[:, 0, 0].tolist(), image[:, -1, -1].tolist()) == (first, last)


def too_large(format: str) -> bytes:
    """A small file whose header says 30000 x 20000 pixels."""
    data = bytearray(encode(Image.new("RGB", (8, 8)), format))
    if format == "JPEG":
        at = data.index(b"\xff\xc0") + 5  # the frame's header: marker, length, bits, height, width
        data[at : at + 4] = (20000).to_bytes(2, "big") + (30000).to_bytes(2, "big")
    elif format == "PNG":
        data[16:24] = (30000).to_bytes(4, "big") + (20000).to_bytes(4, "big")
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    else:
        assert format == "PPM"
        data = bytearray(data.replace(b"8 8", b"30000 20000"))
    return bytes(data)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "PPM"])
def test_too_many_pixels_are_refused_by_the_header(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # the limit is ours, whatever a program does to Pillow's
    path = tmp_path / "image"
    path.write_bytes(too_large(format))
    with pytest.raises(DamagedImageError) as caught:
        decode_file(path)
    assert str(caught.value).splitlines() == [
        f"damaged image {path}: 30000 x 20000 pixels are more than the 89,478,485 pixels that are decoded; "
        "scale it down or cut it into pieces.",
        'Remove the file, or take the next readable image in its place: on_damaged="skip" (--on-damaged skip).',
    ]


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("made_errors", [False, True])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_refused_beside_pillows_own_limit(
    format: str, made_errors: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow warns up to twice its limit and raises beyond, unless the warning is made an error."""
    with warnings.catch_warnings():
        if made_errors:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
        with pytest.raises(ValueError, match="more than the 89,478,485 pixels that are decoded; scale it down"):
            decoded(too_large(format))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30000 * 20000 - 1)
        with pytest.raises(ValueError, match="more than the 89,478,485 pixels that are decoded; scale it down"):
            decoded(too_large(format))


def test_postscript_runs_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow alone would hand it to Ghostscript, whatever the file's name."""
    called = tmp_path / "called"
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\necho 10.0; touch {called}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # Pillow looks for it once
    path = tmp_path / "image.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(DamagedImageError, match=r"not an image in a format that is read \(JPEG, PNG, WebP"):
        decode_file(path)
    assert not called.exists()


@pytest.mark.parametrize("category", [DeprecationWarning, PendingDeprecationWarning, FutureWarning])
def test_a_deprecation_made_an_error_damages_no_file(category: type[Warning]) -> None:
    def read() -> np.ndarray:
        warnings.warn("will be removed", category, stacklevel=1)
        raise AssertionError("the warning is an error")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(category, match="will be removed"):
            decode_read(read, lambda: "image")


def test_jpeg_decodes_without_any_warning(picture: Image.Image) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decoded(encode(picture, "JPEG")).shape == (3, 37, 53)


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
    """Also guards against decoders that end the process, as torchvision's for PNG did."""
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
