import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_check import only_error, warnings

from bench.datasets import check


@pytest.fixture
def mask(root: Path) -> Path:
    return sorted((root / "cityscapes/gtFine/train").rglob("*_labelTrainIds.png"))[0]


def test_label_ids_instead_of_train_ids_are_explained(root, mask):
    labels = np.array(Image.open(mask))
    labels[labels == 13] = 26
    labels[0, 0] = 23
    Image.fromarray(labels).save(mask)
    message = only_error(root, "cityscapes")
    assert message.startswith(f"{mask.relative_to(root)} has labels 23, 26 on ")
    assert "If these are Cityscapes' labelIds (0 to 33), call the files *_gtFine_labelIds.png and make" in message
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
    assert "one label per pixel" in only_error(root, "cityscapes")


def test_an_empty_split(root):
    for path in (root / "cityscapes/leftImg8bit/val").rglob("*.png"):
        path.unlink()
    report = check(root, "cityscapes")
    assert report.errors == (
        "cityscapes/leftImg8bit/val has no image: expected CITY/*_leftImg8bit.png (or .jpg) in it; "
        "the folder holds no file",
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


def test_what_was_found_in_place_of_images(root):
    for path in (root / "cityscapes/leftImg8bit/val").rglob("*.png"):
        path.rename(path.with_name(path.name.replace("_leftImg8bit", "")))
    message = only_error(root, "cityscapes")
    assert message.startswith(
        "cityscapes/leftImg8bit/val has no image: expected CITY/*_leftImg8bit.png (or .jpg) in it; "
    )
    assert message.endswith("the folder holds calder/calder_000000_000019.png, calder/calder_000001_000019.png")
    shutil.rmtree(root / "cityscapes/leftImg8bit/val")
    assert only_error(root, "cityscapes").endswith("(or .jpg) in it; the folder does not exist")


def test_images_elsewhere_are_neither_checked_nor_fingerprinted(root):
    before = check(root, "cityscapes")
    city = before.splits["train"].images[0].parent
    (city / "more").mkdir()
    shutil.copy(before.splits["val"].images[0], city / "more")
    shutil.copy(before.splits["val"].images[0], city.parent)
    after = check(root, "cityscapes")
    assert (after.fingerprint, after.splits) == (before.fingerprint, before.splits)
    assert [message.partition(" is not used: ")[0] for message in warnings(after)] == [
        str((city / "more").relative_to(root)),
        str((city.parent / before.splits["val"].images[0].name).relative_to(root)),
    ]


def test_a_city_may_be_a_link_and_hidden_files_are_left_out(root):
    before = check(root, "cityscapes")
    for path in list((root / "cityscapes").rglob("*.png")):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    (root / "cityscapes/leftImg8bit/train/.trash").mkdir()
    for kind in ("leftImg8bit", "gtFine"):
        (root / f"cityscapes/{kind}/train/arden").rename(root / f"{kind}-arden")
        (root / f"cityscapes/{kind}/train/arden").symlink_to(root / f"{kind}-arden")
    after = check(root, "cityscapes")
    assert after.problems == ()
    assert after.fingerprint == before.fingerprint


def test_a_folder_that_cannot_be_read_is_an_error(root, monkeypatch):
    listed = Path.iterdir

    def refuse(self: Path):
        if self.name == "arden":
            raise PermissionError(13, "Permission denied", str(self))
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    errors = check(root, "cityscapes").errors
    assert errors[0].startswith("cityscapes/leftImg8bit/train/arden cannot be read: Permission denied")


def test_names_that_are_not_utf8(root):
    for kind in ("leftImg8bit", "gtFine"):
        folder = root / f"cityscapes/{kind}/train/arden"
        folder.rename(folder.with_name("arden\udcff"))
    report = check(root, "cityscapes")
    assert report.errors == () and len(report.fingerprint) == 64
    report.splits["train"].images[0].unlink()
    (message,) = warnings(check(root, "cityscapes"))
    assert "arden\\udcff" in message


@pytest.mark.parametrize(
    ("labels", "explained"),
    [
        (lambda label: label + 1, "yours seem to begin with 1 for road: subtract 1"),
        (lambda label: np.where(label == 0, 40, label), "trainIds are 0 to 18, and 255 = void"),
        (lambda label: np.where(label == 0, 24, label), "map ids of your own to trainIds"),
    ],
)
def test_labels_of_ones_own(root, labels, explained):
    for path in (root / "cityscapes/gtFine").rglob("*TrainIds.png"):
        changed = np.array(Image.open(path))
        changed[:2, :2], changed[2:4, :2] = 0, 18
        Image.fromarray(labels(np.where(changed == 255, 0, changed)).astype(np.uint8)).save(path)
    errors = check(root, "cityscapes").errors
    assert errors and all(message.endswith(explained) for message in errors if not message.startswith("..."))
