import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_check import only_error, warnings

from bench.datasets import check


@pytest.fixture
def edit(root: Path) -> Callable[[Callable[[dict[str, Any]], None]], dict[str, Any]]:
    """Changes the train annotations in place."""
    path = root / "coco/annotations/instances_train2017.json"

    def apply(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return content

    return apply


WHERE = "coco/annotations/instances_train2017.json"


def first(content: dict[str, Any]) -> dict[str, Any]:
    return next(entry for entry in content["annotations"] if not entry["iscrowd"])


def with_(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: first(content).update({key: value})


def test_a_box_outside_its_image_names_the_annotation(root, edit):
    content = edit(with_("bbox", [100.0, 20.0, 300.0, 30.0]))
    number = first(content)["id"]
    image = next(i for i in content["images"] if i["id"] == first(content)["image_id"])
    assert only_error(root, "coco2017") == (
        f"{WHERE}: annotation {number} has box [100.0, 20.0, 300.0, 30.0], "
        f"outside its image of {image['width']}x{image['height']} pixels"
    )


@pytest.mark.parametrize("box", [[-0.6, 0.0, 10.0, 10.0], [0, 0, 10, 10]])
def test_rounding_and_whole_numbers_are_no_problem(root, edit, box):
    edit(with_("bbox", box))
    assert check(root, "coco2017").problems == ()


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([1, 2, 3], "it must be 4 numbers"),
        ([1, 2, 3, "4"], "it must be 4 numbers"),
        ([1, 2, float("nan"), 4], "it must be 4 numbers"),
        ([1, 2, -3, 4], "of negative size"),
    ],
)
def test_damaged_boxes(root, edit, box, message):
    edit(with_("bbox", box))
    assert message in only_error(root, "coco2017")


def test_an_empty_box_and_an_empty_mask_are_warnings(root, edit):
    def change(content):
        content["annotations"][1]["bbox"][2] = 0
        content["annotations"][1]["segmentation"] = []

    edit(change)
    report = check(root, "coco2017")
    assert report.errors == ()
    assert len(warnings(report)) == 2


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 2, 3, 4, 5]], "a polygon is not a list of x, y pairs"),
        ([[1, 2, 3, 4, "a", 6]], "a polygon is not a list of x, y pairs"),
        ({"counts": [3, 4], "size": [1, 7]}, "its run lengths are for size [1, 7]"),
        (None, "has no segmentation"),
        (5, "has no segmentation"),
    ],
)
def test_damaged_masks(root, edit, segmentation, message):
    edit(with_("segmentation", segmentation))
    assert message in only_error(root, "coco2017")


def test_run_lengths_that_do_not_add_up(root, edit):
    def change(content):
        crowd = next(entry for entry in content["annotations"] if entry["iscrowd"])
        crowd["segmentation"]["counts"][0] += 1

    edit(change)
    assert "do not add up to the image's pixels" in only_error(root, "coco2017")


def test_a_category_that_coco_lacks(root, edit):
    number = first(edit(with_("category_id", 12)))["id"]
    assert only_error(root, "coco2017") == f"{WHERE}: annotation {number} has category 12, which COCO lacks"


def test_category_ids_without_gaps_are_explained(root, edit):
    def change(content):
        for number, entry in enumerate(content["categories"], 1):
            entry["id"] = number

    edit(change)
    assert "ids run 1 to 80 without COCO's gaps" in only_error(root, "coco2017")


def test_a_missing_category_is_named(root, edit):
    edit(lambda content: content["categories"].pop(2))
    assert "wrong: car" in only_error(root, "coco2017")


def test_an_annotation_of_an_unknown_image(root, edit):
    number = first(edit(with_("image_id", 77_777)))["id"]
    assert only_error(root, "coco2017") == f"{WHERE}: annotation {number} is of image 77777, not listed"


def test_duplicated_annotation_ids(root, edit):
    def change(content):
        content["annotations"][1]["id"] = content["annotations"][0]["id"]

    edit(change)
    assert only_error(root, "coco2017") == "coco: annotation id 1 is in train 2 times"


def test_an_image_in_both_splits(root, edit):
    val = json.loads((root / "coco/annotations/instances_val2017.json").read_text())
    name = val["images"][0]["file_name"]
    (root / "coco/train2017" / name).write_bytes((root / "coco/val2017" / name).read_bytes())
    edit(lambda content: content["images"].append(val["images"][0]))
    errors = check(root, "coco2017").errors
    assert f"coco: image file {name} is in train and in val" in errors
    assert any("is a copy of" in error for error in errors)


def test_iscrowd_must_be_a_flag(root, edit):
    edit(with_("iscrowd", 2))
    assert "iscrowd 2: it must be 0 or 1" in only_error(root, "coco2017")


@pytest.mark.parametrize("name", ["../val2017/x.jpg", "/etc/passwd", "..\\x.jpg"])
def test_images_elsewhere_are_refused(root, edit, name):
    edit(lambda content: content["images"][0].update(file_name=name))
    errors = check(root, "coco2017").errors
    assert f"{WHERE}: {name!r} must be a plain file name" in errors


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_entries_of_wrong_types_are_reported_with_their_place(root, edit, key):
    edit(lambda content: content[key].insert(0, {"id": "1"}))
    assert f"{WHERE}: {key}[0] needs id, " in only_error(root, "coco2017")


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"images": []}', "[" * 100_000])
def test_a_file_that_is_no_annotation_file(root, content):
    (root / WHERE).write_text(content)
    errors = check(root, "coco2017").errors
    assert errors[0].startswith(WHERE)
    assert "is damaged" in errors[0] or "must hold the lists" in errors[0]


def test_a_missing_annotation_file(root):
    (root / WHERE).unlink()
    assert check(root, "coco2017").errors[0] == f"{WHERE} is missing"


def test_an_empty_split(root, edit):
    edit(lambda content: content.update(images=[], annotations=[]))
    assert "coco: the train split is empty" in " ".join(check(root, "coco2017").errors)
