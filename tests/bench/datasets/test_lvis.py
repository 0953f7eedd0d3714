"""LVIS's annotation files: what is read, and what the check says of files that cannot be used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_lvis import CLASSES, with_lvis

from bench.datasets import check, expected_in, lvis
from bench.errors import BenchError


@pytest.fixture
def root(tiny_data: Path, tmp_path: Path) -> Path:
    return with_lvis(tiny_data, tmp_path / "data")


def test_what_is_read(root: Path) -> None:
    path = lvis.annotation_file(root, "val")
    content, raw = lvis.load_lvis(path), json.loads(path.read_text())
    assert len(content.coco.images) == len(raw["images"]) and len(content.coco.objects) == len(raw["annotations"])
    assert all((root / "coco" / image.file_name).is_file() for image in content.coco.images.values())
    first = raw["images"][0]
    assert content.absent[first["id"]] == first["neg_category_ids"] and content.incomplete[first["id"]] == [1]
    assert len(content.frequency) == CLASSES and content.frequency[3] == "f"


def test_the_check_reads_images_and_annotations(root: Path) -> None:
    assert "lvis" in expected_in(root)
    report = check(root, "lvis")
    assert not report.errors and report.fingerprint
    assert [problem.message for problem in report.problems if "published" not in problem.message] == []
    raw = json.loads(lvis.annotation_file(root, "train").read_text())
    assert sum(report.splits["train"].histogram.values()) == len(raw["annotations"])
    assert set(report.splits["train"].histogram) == {"rare", "common", "frequent"}


DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "v0.5": (lambda c: c["images"][0].pop("coco_url"), "an image lacks id, coco_url"),
    "lists": (lambda c: c["images"][0].update(neg_category_ids="1"), "an image lacks id, coco_url"),
    "id": (lambda c: c["images"][0].update(id=[1]), "an image lacks id, coco_url"),
    "fewer classes": (lambda c: c["categories"].pop(), "not LVIS v1's 1,203"),
    "no frequency": (lambda c: c["categories"][5].pop("frequency"), "not LVIS v1's 1,203"),
    "no mask": (lambda c: c["annotations"][0].pop("segmentation"), "has no mask"),
    "a path outside": (lambda c: c["images"][0].update(coco_url="http://host/../a.jpg"), "file_name"),
    "another file": (lambda c: c.pop("categories"), "must hold the lists"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_files_that_cannot_be_used_are_reported(damage: str, root: Path) -> None:
    change, message = DAMAGE[damage]
    path = lvis.annotation_file(root, "val")
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    assert any(message in error for error in check(root, "lvis").errors)
    if damage != "no mask":
        with pytest.raises(BenchError, match=message):
            lvis.load_lvis(path)
