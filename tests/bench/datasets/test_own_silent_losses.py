"""Own data: what would lose or exchange objects without a word is read, or told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from own_data import CLASSES, coco_data, describe, picture, save, yolo_data

from bench.datasets import check
from bench.datasets.own.check import check_own, usable
from bench.datasets.own.description import DETECTION, INSTANCES, SEGMENTATION, read_own
from bench.datasets.own.maps import own_pairs
from bench.datasets.own.objects import load_objects
from bench.datasets.own.pictures import files_below
from bench.errors import BenchError

PARTS = {part: {"images": part, "annotations": f"{part}.json"} for part in ("train", "val")}


def renumber(root: Path, names: dict[int, str]) -> None:
    """Give the categories of val other names."""
    content = json.loads((root / "val.json").read_text())
    content["categories"] = [{"id": key, "name": name} for key, name in names.items()]
    (root / "val.json").write_text(json.dumps(content))


def test_categories_that_are_numbered_otherwise_are_told(tmp_path: Path) -> None:
    root = coco_data(tmp_path)
    renumber(root, {**CLASSES, 3: "nut", 7: "bolt"})
    first, second = check_own(root).errors
    assert first.startswith("the category 3 is bolt in train.json and nut in val.json: number the categories of both")
    assert second.startswith("the category 7 is nut in train.json and bolt in val.json")


def test_names_that_no_object_has_and_those_that_are_ignored_may_differ(tmp_path: Path) -> None:
    root = coco_data(tmp_path, lambda content: content["categories"].append({"id": 30, "name": "gear"}))
    renumber(root, {**CLASSES, 20: "ring", 30: "wheel"})
    assert len(check_own(root).errors) == 1
    describe(root, format="coco", classes={3: "a", 7: "b"}, ignore=[20], **PARTS)
    assert not check_own(root).problems


def many(root: Path, count: int) -> Path:
    """Data with masks of objects whose description has `count` classes; those of the objects are the last ones."""
    others = {-number: f"kind {number}" for number in range(1, count - len(CLASSES) + 1)}
    return describe(coco_data(root), format="coco", classes={**others, **CLASSES}, **PARTS)


def test_as_many_classes_are_drawn_as_a_map_can_hold(tmp_path: Path) -> None:
    root = many(tmp_path, 254)
    assert not check(root, SEGMENTATION).problems and SEGMENTATION in usable(root)
    labels = own_pairs(read_own(root), "train")[1].load_labels()
    assert set(np.unique(labels)) == {0, 252, 254}


def test_more_classes_than_a_map_can_hold_are_told(tmp_path: Path) -> None:
    root = many(tmp_path, 255)
    (told,) = check(root, SEGMENTATION).errors
    assert "has 255 classes of objects, and a label map can hold 254: use custom_det or custom_inst" in told
    assert [problem.severity for problem in check_own(root).problems] == ["warning"]
    assert not check(root, INSTANCES).problems and not check(root, DETECTION).problems
    assert usable(root) == (DETECTION, INSTANCES)
    with pytest.raises(BenchError, match="a label map can hold 254"):
        own_pairs(read_own(root), "train")


def test_texts_that_belong_to_no_image_are_told(tmp_path: Path) -> None:
    root = yolo_data(tmp_path)
    folder = root / "labels" / "train"
    (folder / "classes.txt").write_text("weed\ncrop\n")  # no boxes
    save(picture(4), root / "images" / "train" / "left-out.png")
    (root / "train.txt").write_text("0\n1\n2\n3\n")
    parts = {part: {"images": f"images/{part}", "annotations": f"labels/{part}"} for part in ("train", "val")}
    describe(
        root, format="yolo", classes=["weed", "crop"], **{**parts, "train": {**parts["train"], "list": "train.txt"}}
    )
    (folder / "left-out.txt").write_text("0 0.5 0.5 0.1 0.1\n")  # of an image that is not listed
    assert not check_own(root).problems
    for number in (0, 1):  # half of the four
        (folder / f"{number}.txt").rename(folder / f"image_{number}.txt")
    (problem,) = check_own(root).problems
    assert problem.severity == "warning"
    assert problem.message.startswith(
        "labels/train: 2 texts with boxes, such as labels/train/image_0.txt, belong to no"
    )
    (folder / "2.txt").rename(folder / "image_2.txt")
    (told,) = check_own(root).errors
    assert "3 texts with boxes" in told and "3 of the 4 images of train have no text: NAME.jpg has NAME.txt" in told


def test_folders_behind_links_are_read(tmp_path: Path) -> None:
    root = yolo_data(tmp_path / "data")
    far = yolo_data(tmp_path / "far")
    for kind in ("images", "labels"):
        (root / kind / "train" / "a day").symlink_to(far / kind / "train")
    names = [image.file_name for image in load_objects(read_own(root), "train").content.images.values()]
    assert names == [f"{i}.png" for i in range(4)] + [f"a day/{i}.png" for i in range(4)]
    assert check_own(root).splits["train"].counts["objects"] == 16


def test_a_folder_that_is_reached_twice_counts_once_under_its_own_name(tmp_path: Path) -> None:
    for name in ("a", "b/c"):
        save(picture(0), tmp_path / "data" / name / "0.png")
    (tmp_path / "data" / "a" / "again").symlink_to(tmp_path / "data" / "b")
    (tmp_path / "data" / "b" / "whole").symlink_to(tmp_path / "data")
    (tmp_path / "data" / ".hidden").symlink_to(tmp_path)
    assert list(files_below(tmp_path / "data", (".png",))) == ["a/0.png", "b/c/0.png"]
    assert list(files_below(tmp_path / "data" / "a" / "again", (".png",))) == ["c/0.png", "whole/a/0.png"]
