"""VOC 2012 with the list train_aug: which mask belongs to an image, and what is said of other lists."""

from pathlib import Path

import numpy as np
import pytest
from augmented_voc import VOC, with_train_aug
from PIL import Image
from test_check import only_error, text, warnings

from bench.datasets import check, check_voc, expected_in
from bench.datasets.report import Strict
from bench.datasets.voc import read_augmented
from bench.errors import BenchError

DATASET = "voc2012aug_seg"


@pytest.fixture
def augmented(generated: Path, tmp_path: Path) -> Path:
    return with_train_aug(generated, tmp_path / "augmented")


def lists(root: Path, name: str) -> Path:
    return root / VOC / "ImageSets/Segmentation" / f"{name}.txt"


def test_an_image_of_vocs_own_list_has_vocs_mask_and_the_others_sbds(augmented: Path) -> None:
    own = set(lists(augmented, "train").read_text().split())
    entries = read_augmented(augmented / VOC, Strict())
    assert [entry.id for entry in entries] == lists(augmented, "trainaug").read_text().split()
    assert {entry.id for entry in entries if entry.annotation.parent.name == "SegmentationClass"} == own
    assert {entry.annotation.parent.name for entry in entries if entry.id not in own} == {"SegmentationClassAug"}
    assert all(entry.image.is_file() and entry.annotation.is_file() for entry in entries)


def test_sbds_mask_of_an_image_that_has_vocs_is_not_used(augmented: Path) -> None:
    """The usual archives of `SegmentationClassAug` hold a mask of every image."""
    first = check(augmented, DATASET)
    name = lists(augmented, "train").read_text().split()[0]
    Image.fromarray(np.full((9, 9), 99, np.uint8)).save(augmented / VOC / "SegmentationClassAug" / f"{name}.png")
    second = check(augmented, DATASET)
    assert second.problems == first.problems and second.fingerprint == first.fingerprint


def test_other_lists_than_the_published_ones_are_a_warning(augmented: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = check(augmented, DATASET)
    reference = report.reference()
    assert (reference.name, reference.train_images, reference.val_images) == (DATASET, 6, 4)
    train, val = warnings(report)
    assert train.startswith("train has 6 images, published results 10,582: ")
    assert val.startswith("val has 4 images, published results 1,449: ")
    assert "can be used" in text(report)
    monkeypatch.setattr(check_voc, "_PUBLISHED", {"train": 6, "val": 4})
    assert check(augmented, DATASET).problems == ()


def test_what_is_missing_is_named(augmented: Path) -> None:
    mask = next((augmented / VOC / "SegmentationClassAug").iterdir())
    mask.unlink()
    assert only_error(augmented, DATASET) == f"{VOC}/SegmentationClassAug/{mask.name} is missing"
    lists(augmented, "trainaug").unlink()
    assert only_error(augmented, DATASET).startswith(f"{VOC}/ImageSets/Segmentation/trainaug.txt is missing; ")


def test_a_val_image_in_train_aug_is_an_error(augmented: Path) -> None:
    """SBD's own lists hold VOC's val images."""
    name = lists(augmented, "val").read_text().split()[0]
    with lists(augmented, "trainaug").open("a") as file:
        file.write(f"{name}\n")
    (augmented / VOC / "SegmentationClassAug" / f"{name}.png").symlink_to(
        augmented / VOC / "SegmentationClass" / f"{name}.png"
    )
    assert f"{VOC}/ImageSets/Segmentation: {name} is in train and in val" in check(augmented, DATASET).errors


def test_a_root_is_checked_for_it_where_it_has_it(generated: Path, augmented: Path) -> None:
    assert DATASET not in expected_in(generated) and DATASET in expected_in(augmented)
    message = only_error(generated, DATASET)
    assert "SegmentationClassAug" in message and "trainaug" in message
    with pytest.raises(BenchError, match="cannot be used"):
        check(generated, DATASET).reference()
