from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_check import only_error, warnings

from bench.datasets import check


@pytest.fixture
def mask(root: Path) -> Path:
    return sorted((root / "cityscapes/gtFine/train").rglob("*.png"))[0]


def test_label_ids_instead_of_train_ids_are_explained(root, mask):
    labels = np.array(Image.open(mask))
    labels[labels == 13] = 26
    labels[0, 0] = 23
    Image.fromarray(labels).save(mask)
    message = only_error(root, "cityscapes")
    assert message.startswith(f"{mask.relative_to(root)} has labels 23, 26 on ")
    assert "If these are Cityscapes' labelIds (0 to 33), make them with `csCreateTrainIdLabelImgs`" in message
    assert "map ids of your own" in message


def test_only_label_ids_present_is_explained(root, mask):
    mask.rename(mask.with_name(mask.name.replace("labelTrainIds", "labelIds")))
    message = only_error(root, "cityscapes")
    assert message.startswith(f"{mask.relative_to(root)} is missing, only its labelIds exist")


def test_other_wrong_labels(root, mask):
    labels = np.array(Image.open(mask))
    labels[:2, :2] = 100
    Image.fromarray(labels).save(mask)
    message = only_error(root, "cityscapes")
    assert message == f"{mask.relative_to(root)} has label 100 on 4 pixels: trainIds are 0 to 18, and 255 = void"


def test_a_missing_mask(root, mask):
    mask.unlink()
    assert only_error(root, "cityscapes") == f"{mask.relative_to(root)} is missing"


def test_a_mask_of_another_size(root, mask):
    Image.open(mask).resize((100, 50), Image.Resampling.NEAREST).save(mask)
    assert "is 100x50, but its image" in only_error(root, "cityscapes")


def test_a_colour_mask(root, mask):
    Image.open(mask).convert("RGB").save(mask)
    assert "one label a pixel" in only_error(root, "cityscapes")


def test_an_empty_split(root):
    for path in (root / "cityscapes/leftImg8bit/val").rglob("*.png"):
        path.unlink()
    report = check(root, "cityscapes")
    assert report.errors == (
        "cityscapes/leftImg8bit/val has no image: expected CITY/*_leftImg8bit.png (or .jpg) in it, it holds no file",
    )
    assert len(warnings(report)) == 2


def test_one_city_in_both_splits_is_a_warning(root):
    for kind in ("leftImg8bit", "gtFine"):
        (root / "cityscapes" / kind / "val/calder").rename(root / "cityscapes" / kind / "val/arden")
    report = check(root, "cityscapes")
    assert report.errors == ()
    assert "arden in both train and val" in warnings(report)[0]


def test_images_may_be_jpeg_but_not_both_sorts(root):
    images = sorted((root / "cityscapes/leftImg8bit").rglob("*.png"))

    def convert(path: Path) -> None:
        Image.open(path).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()

    convert(images[0])
    assert "both .png and .jpg" in only_error(root, "cityscapes")
    for path in images[1:]:
        convert(path)
    assert check(root, "cityscapes").problems == ()
