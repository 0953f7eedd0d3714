"""Loading steps: stored pixels, label maps, and what they say of files that they cannot read."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from bench.datasets.pixels import decode_pixels
from bench.errors import BenchError
from bench.openmmlab import prepare_openmmlab

prepare_openmmlab()

from mmengine.registry import TRANSFORMS  # noqa: E402


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 44, 3), np.uint8))


def load(path: Path) -> np.ndarray:
    results = TRANSFORMS.build({"type": "LoadStoredImage"})({"img_path": str(path)})
    assert results["img_shape"] == results["ori_shape"] == results["img"].shape[:2]
    return results["img"]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "ppm", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_those_stored(tmp_path: Path, picture: Image.Image, suffix: str, orientation: int) -> None:
    plain, tagged = tmp_path / f"plain.{suffix}", tmp_path / f"tagged.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    picture.save(plain, **options)
    picture.save(tagged, exif=exif, **options)
    assert np.array_equal(load(tagged), load(plain))
    if suffix != "jpg":
        assert np.array_equal(load(tagged)[:, :, ::-1], np.asarray(picture))
    elif orientation == 1:
        assert np.array_equal(load(plain), cv2.imread(str(plain)))  # as mmcv's step has it


def test_files_that_one_library_reads_and_another_does_not(picture: Image.Image, tmp_path: Path) -> None:
    for kind, reason in (("TGA", "not an image in a format"), ("PCX", "not an image in a format")):
        path = tmp_path / "a.jpg"
        picture.save(path, kind)
        with pytest.raises(BenchError, match=rf"a\.jpg is damaged: {reason}"):
            load(path)
    path = tmp_path / "short.png"
    picture.save(path)
    path.write_bytes(path.read_bytes()[:-2])
    with Image.open(path) as short:
        short.load()  # Pillow is content
    with pytest.raises(BenchError, match=r"short\.png is damaged: OpenCV cannot decode it"):
        load(path)


@pytest.mark.parametrize("mode", ["I;16", "F", "I"])
def test_tiff_without_defined_colors(mode: str, picture: Image.Image, tmp_path: Path) -> None:
    picture.convert("L").convert("I").convert(mode).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=f"a TIFF file of mode {mode} has no defined 8-bit colors"):
        decode_pixels((tmp_path / "a.tif").read_bytes())


def test_a_missing_picture_and_a_pipe(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"a\.jpg is missing"):
        load(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").symlink_to("/dev/zero")
    with pytest.raises(BenchError, match=r"b\.jpg is not a regular file"):
        load(tmp_path / "b.jpg")


def test_the_step_that_turns_pictures_is_refused() -> None:
    with pytest.raises(BenchError, match=r'use dict\(type="LoadStoredImage"\)'):
        TRANSFORMS.build({"type": "LoadImageFromFile"})
    TRANSFORMS.build({"type": "LoadImageFromFile", "color_type": "color_ignore_orientation"})


def labels(path: Path, **more: object) -> np.ndarray:
    results = {"seg_map_path": str(path), "seg_fields": [], **more}
    TRANSFORMS.build({"type": "LoadLabelMap"})(results)
    assert results["seg_fields"] == ["gt_seg_map"]
    return results["gt_seg_map"]


def test_label_maps_are_what_the_file_holds(tmp_path: Path) -> None:
    stored = np.array([[0, 3, 255], [3, 7, 0]], np.uint8)
    image = Image.fromarray(stored)
    image.putpalette(bytes(768))
    image.save(tmp_path / "a.png")
    assert np.array_equal(labels(tmp_path / "a.png"), stored)
    chosen = labels(tmp_path / "a.png", label_map={0: 255, 3: 0, 7: 3})
    assert np.array_equal(chosen, [[255, 0, 255], [0, 3, 255]])
    Image.fromarray(stored[:1]).save(tmp_path / "flat.png")
    assert labels(tmp_path / "flat.png").shape == (1, 3)
    with pytest.raises(BenchError, match="leave out reduce_zero_label"):
        labels(tmp_path / "a.png", reduce_zero_label=True)


def test_label_maps_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"a\.png is missing"):
        labels(tmp_path / "a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(BenchError, match=r"a\.png is a RGB image: a mask must hold one label per pixel"):
        labels(tmp_path / "a.png")
