"""Pictures are opened in one place, which says what is read."""

import ast
import io
from pathlib import Path

import pytest
from PIL import Image

from pretrain.data import pictures
from pretrain.data.pictures import FORMATS, check_pixels, open_picture, orientation
from pretrain.data.sources import SUFFIXES

ROOT = Path(__file__).parents[3]


def test_the_formats_cover_the_suffixes() -> None:
    Image.init()
    assert {Image.EXTENSION[suffix] for suffix in SUFFIXES} == set(FORMATS)


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("kind", ["TIFF", "PNG", "JPEG", "WEBP"])
def test_pictures_are_as_stored_and_say_how_they_are_tagged(kind: str, turned: int) -> None:
    """Pillow turns TIFF files, and only these, as it decodes them."""
    plain = Image.radial_gradient("L").crop((0, 0, 60, 100)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = turned
    untagged, tagged = io.BytesIO(), io.BytesIO()
    plain.save(untagged, kind)
    plain.save(tagged, kind, exif=exif)
    with open_picture(untagged) as expected, open_picture(tagged) as picture:
        assert picture.size == (60, 100) and picture.format == kind
        assert picture.convert("RGB").tobytes() == expected.convert("RGB").tobytes()
        assert (orientation(picture), orientation(expected)) == (turned, 1)


def test_formats_outside_are_refused_whatever_pillow_reads() -> None:
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "GIF")
    with Image.open(file) as picture:
        assert picture.size == (8, 8)
    with pytest.raises(ValueError, match="not an image in a format that is read"), open_picture(file):
        pass


def test_the_limit_counts_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_PIXELS", 6000)
    check_pixels(60, 100)
    with pytest.raises(ValueError, match="61 x 100 pixels are more than the 6,000 pixels"):
        check_pixels(61, 100)
    file = io.BytesIO()
    Image.new("L", (60, 100)).save(file, "BMP")
    with open_picture(file) as picture:
        assert picture.size == (60, 100)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 5999)
    with pytest.raises(ValueError, match="60 x 100 pixels are more"), open_picture(file):
        pass


@pytest.mark.parametrize(
    "file", [f for room in ("bench", "leaderboard", "pretrain") for f in sorted((ROOT / room).rglob("*.py"))], ids=str
)
def test_nothing_else_opens_pictures_with_pillow(file: Path) -> None:
    tree = ast.parse(file.read_text())
    pillow = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "PIL"
        for alias in node.names
        if alias.name == "Image"
    }
    opened = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "open" and getattr(node.value, "id", None) in pillow
    ]
    assert opened == [] or file.name == "pictures.py"
    assert not any(
        isinstance(node, ast.Import) and any(a.name.startswith("PIL") for a in node.names) for node in ast.walk(tree)
    )
