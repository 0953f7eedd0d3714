"""Pixels are used as stored; the check says where a picture has an EXIF orientation, and what fits only turned."""

from pathlib import Path

import pytest
from PIL import Image
from test_check import only_error, warnings

from bench.datasets import check
from bench.datasets import files as files_module

DETECTION = "VOCdevkit/VOC2012/JPEGImages"
PLACES = {"voc2012_det": DETECTION, "voc2012_seg": DETECTION, "coco2017": "coco/train2017"}
PLACES["cityscapes"] = "cityscapes/leftImg8bit/train"


def tag(path: Path, orientation: int, size: tuple[int, int] | None = None) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(path) as picture:
        changed = picture.resize(size or picture.size)
    changed.save(path, exif=exif)
    return path


def tagged(root: Path, dataset: str, orientation: int, *, turned: bool = False) -> Path:
    """A train image with a tag; `turned`: stored the other way up, so that annotations fit it when turned."""
    sizes = {path: Image.open(path).size for path in check(root, dataset).splits["train"].images}
    path, size = next((path, size) for path, size in sizes.items() if size[0] != size[1])
    return tag(path, orientation, size[::-1] if turned else size)


@pytest.mark.parametrize("dataset", PLACES)
def test_a_half_turn_cannot_be_told_from_sizes(root: Path, dataset: str) -> None:
    path = tagged(root, dataset, 3)
    report = check(root, dataset)
    assert report.errors == ()
    (message,) = warnings(report)
    assert message.startswith(f"{path.relative_to(root)} has the EXIF orientation 3, which is ignored")
    assert "sizes cannot tell" in message and "mogrify -auto-orient" in message


@pytest.mark.parametrize("dataset", PLACES)
def test_a_quarter_turn_that_the_annotations_do_not_follow(root: Path, dataset: str) -> None:
    tagged(root, dataset, 6)
    report = check(root, dataset)
    assert report.errors == ()
    assert warnings(report)[0].endswith("pixels are used as stored, which fits its annotations")


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("dataset", PLACES)
def test_annotations_that_fit_only_the_turned_picture(root: Path, dataset: str, orientation: int) -> None:
    path = tagged(root, dataset, orientation, turned=True)
    message = only_error(root, dataset)
    assert f"fits {path.relative_to(root)} only turned as its EXIF orientation {orientation} says" in message
    assert message.endswith(f"turn the pixels for good: mogrify -auto-orient {path.name}")


@pytest.mark.parametrize("dataset", ["voc2012_det", "cityscapes"])
def test_headers_tell_where_pixels_are_not_decoded(root: Path, dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "THOROUGH_BYTES", 1000)
    tagged(root, dataset, 8, turned=True)
    assert "only turned as its EXIF orientation 8 says" in only_error(root, dataset)


@pytest.mark.parametrize("orientation", [0, 1, 9])
def test_what_turns_nothing_is_not_reported(root: Path, orientation: int) -> None:
    tagged(root, "voc2012_seg", orientation)
    assert check(root, "voc2012_seg").problems == ()
