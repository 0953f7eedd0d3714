"""VOC 2007 with 2012: what is read, what is reported, and where it is asked for."""

from pathlib import Path

import pytest
from voc_0712 import with_voc2007

from bench.datasets import check, expected_in
from bench.datasets.classified import classified_images


@pytest.fixture
def root(tiny_data: Path, tmp_path: Path) -> Path:
    return with_voc2007(tiny_data, tmp_path / "data")


def test_both_years_are_trained_on_and_one_is_evaluated(root: Path, tiny_data: Path) -> None:
    report = check(root, "voc0712_det")
    assert report.errors == ()
    reference = report.reference()
    assert (reference.train_images, reference.val_images) == (8, 4)
    years = [path.parts[-3] for split in ("train", "val") for path in report.splits[split].images]
    assert years == ["VOC2007"] * 4 + ["VOC2012"] * 4 + ["VOC2007"] * 4
    usual = check(tiny_data, "voc2012_det")
    for split in ("train", "val"):
        assert report.splits[split].histogram == usual.splits[split].histogram


def test_2007_alone_is_checked_where_it_is_named(root: Path) -> None:
    report = check(root, "voc2007")
    assert report.errors == () and "voc2007" not in expected_in(root)
    assert (report.reference().train_images, report.reference().val_images) == (4, 4)
    assert any("4,952" in problem.message for problem in report.problems)
    images = classified_images(root, "voc2007", "val")
    assert [path.parts[-3] for path in images.paths] == ["VOC2007"] * 4
    has = report.splits["val"].histogram
    assert [name for name in images.classes if has[name]] == [
        name for name, column in zip(images.classes, images.labels.T, strict=True) if column.any()
    ]


def test_lists_of_another_length_than_the_published_ones_are_told(root: Path) -> None:
    told = [message for severity, message in check(root, "voc0712_det").problems if severity == "warning"]
    assert told[:2] == [
        f"{name} has {count} images, published results {published}: your values cannot be compared with theirs"
        for name, count, published in (("train", 8, "16,551"), ("val", 4, "4,952"))
    ]


@pytest.mark.parametrize("lost", ["VOC2012/ImageSets/Main/trainval.txt", "VOC2007/ImageSets/Main/test.txt"])
def test_a_missing_list_is_an_error(root: Path, lost: str) -> None:
    (root / "VOCdevkit" / lost).unlink()
    assert any(lost in message and "is missing" in message for message in check(root, "voc0712_det").errors)


def test_it_is_asked_for_where_voc_2007_is(root: Path, tiny_data: Path) -> None:
    assert "voc0712_det" in expected_in(root)
    assert "voc0712_det" not in expected_in(tiny_data)
    (message,) = check(tiny_data, "voc0712_det").errors
    assert message.startswith("no VOCdevkit/VOC2007 in ") and "VOC2007 with ImageSets/Main/test.txt" in message
