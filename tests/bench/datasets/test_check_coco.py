import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_check import only_error, warnings

from bench.datasets import check
from bench.datasets import coco as coco_module
from bench.datasets import files as files_module


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
    edit(lambda content: first(content).update(bbox=box, segmentation=[[0, 0, 9, 0, 9, 9, 0, 9]]))
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


@pytest.mark.parametrize("segmentation", [None, [], [[]], [[1, 2]], [[1, 2, 3, 4]], [[], [1, 2, 3, 4]]])
def test_an_object_without_a_mask_is_refused(root, edit, segmentation):
    content = edit(with_("segmentation", segmentation))
    message = only_error(root, "coco2017")
    assert message.startswith(f"{WHERE}: 1 of {len(content['annotations'])} annotations have no mask, such as")
    assert f"annotation {first(content)['id']} (its segmentation is missing, empty or of fewer than 3" in message


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"area": None}, "have no area, such as annotation 1: it is computed from their masks"),
        ({"iscrowd": None}, "have no iscrowd, such as annotation 1: it is taken for 0"),
        ({"ignore": 1}, "are marked `ignore`, such as annotation 1: they are not trained on"),
        ({"bbox": [3, 3, 0, 5]}, "have boxes without area, such as annotation 1: they are not trained on"),
        ({"bbox": [3, 3, 0.5, 5]}, "are of less than a pixel, such as annotation 1: they are not trained on"),
        ({"segmentation": [[3.1, 3.1, 3.2, 3.1, 3.2, 3.2]]}, "have masks without a pixel, such as annotation 1"),
        ({"segmentation": [[3, 3, 9, 3, 9, 9], [1, 2, 3, 4]]}, "have polygons of fewer than 3 points"),
        (
            {"segmentation": [[-20, 3, 9, 3, 9, 9]]},
            "have polygons outside their image, such as annotation 1: they are cut",
        ),
    ],
)
def test_what_is_peculiar_is_counted(root, edit, change, warning):
    edit(lambda content: first(content).update(change))
    report = check(root, "coco2017")
    assert report.errors == ()
    assert [m for m in warnings(report) if warning in m and m.startswith(f"{WHERE}: 1 of 19 annotations ")]


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 2, 3, 4, 5]], "a polygon is not a list of x, y pairs"),
        ([[1, 2, 3, 4, "a", 6]], "a polygon is not a list of x, y pairs"),
        ([[1, 2, 3, 4, True, 6]], "a polygon is not a list of x, y pairs"),
        ([1, 2, 3, 4, 5, 6], "it must be a list of polygons"),
        ([[0, 0, 1e9, 0, 1e9, 1e9]], "farther outside its image of 144x144 pixels than the image is large"),
        ([[0, 0, 10**400, 0, 9, 9]], "farther outside its image"),
        ([[0, 0, float("nan"), 0, 9, 9]], "farther outside its image"),
        ([[0, 0, 144, 144] * 10_000], "its polygons are 2,880,000 pixels long: at most 1,048,576 are drawn"),
        ({"counts": [3, 4], "size": [1, 7]}, "its run lengths are for size [1, 7]"),
        ({"counts": 5, "size": [144, 144]}, "neither a list nor a string"),
        ({"counts": [144 * 144 + 1, -1], "size": [144, 144]}, "do not add up"),
        ({"counts": "", "size": [144, 144]}, "are not in COCO's compressed form"),
        ({"counts": "0000", "size": [144, 144]}, "do not add up"),
        ({"counts": "P" * 12, "size": [144, 144]}, "are not in COCO's compressed form"),  # each announces another
        ({"counts": "\u00e9", "size": [144, 144]}, "are not in COCO's compressed form"),
        ([[0, 0, 9, 0, 9, 9]] * 10_001, "it has 10,001 polygons: at most 10,000 are joined"),
        (5, "neither a list of polygons nor run lengths"),
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
    assert only_error(root, "coco2017") == f"{WHERE}: annotation {number} has category 12, which `categories` lacks"


def test_category_ids_without_gaps_are_explained(root, edit):
    def change(content):
        for number, entry in enumerate(content["categories"], 1):
            entry["id"] = number

    edit(change)
    assert "ids run 1 to 80 without COCO's gaps" in only_error(root, "coco2017")


def test_a_missing_category_is_named(root, edit):
    edit(lambda content: content["categories"].pop(2))
    assert "ids up to 90 (1 missing: car); copy the list" in only_error(root, "coco2017")


def test_own_categories_are_named(root, edit):
    def change(content):
        content["categories"] = [{"id": 1, "name": "person"}, {"id": 2, "name": "tractor"}, {"id": 0, "name": "car"}]
        for annotation in content["annotations"]:
            annotation["category_id"] = 2

    edit(change)
    message = only_error(root, "coco2017")
    assert (
        "(other ids: car is 0, not 3; 1 of its own: 2 tractor; 78 missing: bicycle, motorcycle, airplane, ...)"
        in message
    )
    assert message.endswith("these benchmarks are of COCO's classes alone")


def test_an_annotation_of_an_unknown_image(root, edit):
    number = first(edit(with_("image_id", 77_777)))["id"]
    assert only_error(root, "coco2017") == f"{WHERE}: annotation {number} is of image 77777, not listed"


def test_duplicated_annotation_ids(root, edit):
    def change(content):
        content["annotations"][1]["id"] = content["annotations"][0]["id"]

    edit(change)
    assert only_error(root, "coco2017") == f"{WHERE}: annotation id 1 is listed twice"


def test_an_image_in_both_splits(root, edit, monkeypatch):
    val = json.loads((root / "coco/annotations/instances_val2017.json").read_text())
    name = val["images"][0]["file_name"]
    (root / "coco/train2017" / name).write_bytes((root / "coco/val2017" / name).read_bytes())
    edit(lambda content: content["images"].append(val["images"][0]))
    assert only_error(root, "coco2017") == f"coco/val2017/{name} (val) is a copy of coco/train2017/{name} (train)"
    monkeypatch.setattr(files_module, "THOROUGH_BYTES", 1000)
    assert only_error(root, "coco2017") == f"coco: image file {name} is in train and in val"


@pytest.mark.parametrize("thorough", [True, False])
def test_files_that_number_from_1_are_two_name_spaces(root, thorough, monkeypatch):
    if not thorough:
        monkeypatch.setattr(files_module, "THOROUGH_BYTES", 1000)
    for split in ("train", "val"):
        path = root / f"coco/annotations/instances_{split}2017.json"
        content = json.loads(path.read_text())
        numbers = {image["id"]: number for number, image in enumerate(content["images"], 1)}
        for image in content["images"]:
            (root / f"coco/{split}2017" / image["file_name"]).rename(
                root / f"coco/{split}2017/{numbers[image['id']]}.jpg"
            )
            image.update(id=numbers[image["id"]], file_name=f"{numbers[image['id']]}.jpg")
        for number, annotation in enumerate(content["annotations"], 1):
            annotation.update(id=number, image_id=numbers[annotation["image_id"]])
        path.write_text(json.dumps(content))
    assert check(root, "coco2017").problems == ()


def test_iscrowd_must_be_a_flag(root, edit):
    edit(with_("iscrowd", 2))
    assert "iscrowd 2: it must be 0 or 1" in only_error(root, "coco2017")


@pytest.mark.parametrize("name", ["../val2017/x.jpg", "/etc/passwd", "..\\x.jpg", "", "..", "\ud800", "a\0", "\x1b[2J"])
def test_images_elsewhere_are_refused(root, edit, name):
    edit(lambda content: content["images"][0].update(file_name=name))
    assert only_error(root, "coco2017") == (f"{WHERE}: image 1 has file_name {name!r}, which must be a plain file name")


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
    message = f"{WHERE} is missing; coco/annotations holds instances_val2017.json"
    assert only_error(root, "coco2017") == message


def test_an_empty_split(root, edit):
    edit(lambda content: content.update(images=[], annotations=[]))
    assert only_error(root, "coco2017") == f"coco: the train split is empty: {WHERE} lists no image"


@pytest.mark.parametrize(
    ("split", "change", "reason"),
    [
        ("train", {"iscrowd": 1}, "has no object to train on: all are crowds"),
        ("train", {"ignore": 1}, "has no object to train on: none has a whole pixel and is not ignored"),
        ("val", {"iscrowd": 1}, "has no object to find: all are crowds"),
        ("train", None, "has no object to train on: its list `annotations` is empty"),
        ("val", None, "has no object to find: its list `annotations` is empty"),
    ],
)
def test_nothing_to_train_on_or_to_find(root, split, change, reason):
    path = root / f"coco/annotations/instances_{split}2017.json"
    content = json.loads(path.read_text())
    content["annotations"] = [] if change is None else [a | change for a in content["annotations"]]
    path.write_text(json.dumps(content))
    assert f"instances_{split}2017.json {reason}" in only_error(root, "coco2017")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_any_unicode_is_read(root, encoding):
    (root / WHERE).write_bytes((root / WHERE).read_text().encode(encoding))
    assert check(root, "coco2017").problems == ()


@pytest.mark.parametrize("kind", ["pipe", "device", "long", "latin-1"])
def test_what_is_no_text_file_of_bounded_length_is_refused(root, kind, monkeypatch):
    path = root / WHERE
    text = path.read_text()
    path.unlink()
    reason = "is not a regular file"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "long":
        path.write_text(text)
        monkeypatch.setattr(coco_module, "LONGEST_FILE", len(text) - 1)  # that of val is shorter
        reason = f"is longer than {len(text) - 1:,} bytes"
    else:
        path.write_bytes(text.replace("person", "pers\xf6n").encode("latin-1"))
        reason = "it is no UTF-8, UTF-16 or UTF-32 text"
    message = only_error(root, "coco2017")
    assert message.startswith(f"{WHERE} cannot be read as COCO annotations: {reason}")


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1" + "0" * 5000, "1e400", "NaN", "-1.5", '"7"'])
@pytest.mark.parametrize("field", ["width", "box", "id"])
def test_numbers_that_cannot_be_meant(root, edit, number, field):
    def change(content):
        if field == "box":
            first(content)["bbox"][2] = "@"
        else:
            content["images"][0][field] = "@"

    edit(change)
    (root / WHERE).write_text((root / WHERE).read_text().replace('"@"', number))
    message = check(root, "coco2017").errors[0]
    assert message.startswith(WHERE)
    assert len(message) < 300


def test_masks_that_would_take_all_memory(root, edit):
    def change(content):
        image = content["images"][0]
        image.update(width=9000, height=9000)
        mask = {"counts": [9000 * 9000], "size": [9000, 9000]}
        entry = first(content) | {"image_id": image["id"], "segmentation": mask}
        content["annotations"] = [entry | {"id": number} for number in range(60)]

    edit(change)
    assert any(
        "the masks of image 1 take 4.5 GiB when it is loaded" in error for error in check(root, "coco2017").errors
    )


def test_hidden_files_of_macos_are_left_out(root):
    before = check(root, "coco2017")
    for path in list((root / "coco").rglob("*.*")):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    after = check(root, "coco2017")
    assert (after.problems, after.fingerprint) == (before.problems, before.fingerprint) == ((), after.fingerprint)
