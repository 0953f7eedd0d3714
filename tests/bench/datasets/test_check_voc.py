import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_check import only_error, warnings

from bench.datasets import check
from bench.datasets.names import voc_palette


def folder(root: Path) -> Path:
    return root / "VOCdevkit" / "VOC2012"


def first(root: Path, split: str = "train") -> str:
    return (folder(root) / "ImageSets/Main" / f"{split}.txt").read_text().split()[0]


def edit_xml(root: Path, old: str, new: str, count: int = 1) -> str:
    path = folder(root) / "Annotations" / f"{first(root)}.xml"
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new, count))
    return f"VOCdevkit/VOC2012/Annotations/{path.name}"


def set_box(root: Path, *box: object) -> str:
    """Give the first object of the first train image another box."""
    path = folder(root) / "Annotations" / f"{first(root)}.xml"
    content = path.read_text()
    start, end = content.index("<bndbox>"), content.index("</bndbox>")
    keys = ("xmin", "ymin", "xmax", "ymax")
    inner = "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, box, strict=False))
    path.write_text(content[:start] + "<bndbox>" + inner + content[end:])
    return path.name


@pytest.fixture
def size(root: Path) -> tuple[int, int]:
    return Image.open(folder(root) / "JPEGImages" / f"{first(root)}.jpg").size


def test_a_box_outside_its_image(root, size):
    name = set_box(root, 5, 5, size[0] + 9, 20)
    message = only_error(root, "voc2012_det")
    assert f"{name}: box of object 1" in message
    assert message.endswith(f"is [5, 5, {size[0] + 9}, 20], outside the image of {size[0]}x{size[1]}")


def test_a_box_up_to_a_pixel_outside_is_a_warning(root, size):
    set_box(root, 0, 1, size[0], 20)
    report = check(root, "voc2012_det")
    assert report.errors == ()
    assert "up to a pixel outside" in warnings(report)[0]


def test_boxes_may_be_fractional_and_touch_the_border(root, size):
    set_box(root, 1, 1.5, size[0], size[1])
    assert check(root, "voc2012_det").problems == ()


@pytest.mark.parametrize("box", [(20, 5, 10, 30), (5, 30, 20, 10)])
def test_a_box_turned_inside_out(root, box):
    set_box(root, *box)
    assert "exceeds xmax or ymax" in only_error(root, "voc2012_det")


@pytest.mark.parametrize("box", [(1, 1, 20), (1, "x", 20, 20), ("nan", 1, 20, 20), ("inf", 1, 20, 20)])
def test_a_box_without_numbers(root, box):
    set_box(root, *box)
    assert "missing or unreadable coordinates" in only_error(root, "voc2012_det")


def test_an_unknown_class(root):
    kind = check(root, "voc2012_det")
    assert kind.errors == ()
    content = (folder(root) / "Annotations" / f"{first(root)}.xml").read_text()
    old = content[content.index("<name>") : content.index("</name>")]
    name = edit_xml(root, old, "<name>unicorn")
    assert only_error(root, "voc2012_det") == f"{name}: object 1 is a 'unicorn', which is none of VOC's 20 classes"


def test_a_wrong_size_in_the_xml(root, size):
    name = edit_xml(root, f"<width>{size[0]}</width>", "<width>7</width>")
    assert only_error(root, "voc2012_det") == (
        f"{name} says 7x{size[1]}, but its image {first(root)}.jpg is {size[0]}x{size[1]}"
    )
    edit_xml(root, "<width>7</width>", "")
    assert only_error(root, "voc2012_det") == (f"{name} says no valid size (<size> with <width> and <height>)")


def test_a_damaged_xml(root):
    name = edit_xml(root, "</annotation>", "")
    assert only_error(root, "voc2012_det").startswith(f"{name} is damaged: no element found")


def test_a_missing_xml(root):
    (folder(root) / "Annotations" / f"{first(root)}.xml").unlink()
    assert only_error(root, "voc2012_det").endswith(f"Annotations/{first(root)}.xml is missing")


@pytest.mark.parametrize(("dataset", "task"), [("voc2012_det", "Main"), ("voc2012_seg", "Segmentation")])
class TestLists:
    def path(self, root: Path, task: str, split: str) -> Path:
        return folder(root) / "ImageSets" / task / f"{split}.txt"

    def test_missing(self, root, dataset, task):
        self.path(root, task, "val").unlink()
        expected = f"VOCdevkit/VOC2012/ImageSets/{task}/val.txt is missing; its folder holds train.txt, trainval.txt"
        assert only_error(root, dataset) == expected

    def test_empty(self, root, dataset, task):
        self.path(root, task, "train").write_text("\n")
        assert only_error(root, dataset).endswith(
            f"ImageSets/{task}/train.txt lists no image: expected one image id a line, such as 2007_000032"
        )

    def test_duplicated(self, root, dataset, task):
        path = self.path(root, task, "train")
        path.write_text(path.read_text() + first(root) + "\n")
        assert only_error(root, dataset).endswith(f"{first(root)} is in train 2 times")

    def test_in_both_splits(self, root, dataset, task):
        path = self.path(root, task, "val")
        path.write_text(path.read_text() + first(root) + "\n")
        assert only_error(root, dataset).endswith(f"{first(root)} is in train and in val")

    @pytest.mark.parametrize("line", ["2007_000001 x", "../../secret", "JPEGImages/a.jpg Annotations/a.xml"])
    def test_with_wrong_lines(self, root, dataset, task, line):
        path = self.path(root, task, "val")
        path.write_text(path.read_text() + line + "\n")
        assert only_error(root, dataset) == f"VOCdevkit/VOC2012/ImageSets/{task}/val.txt: {line!r} is not an image id"

    @pytest.mark.parametrize(
        "write",
        [
            lambda ids: "\r\n".join(ids).encode() + b"\r\n\r\n",
            lambda ids: "  \t\n\n \n".join(ids).encode(),
            lambda ids: b"\xef\xbb\xbf" + "\n".join(ids).encode(),
            lambda ids: "\n".join(ids).encode("utf-16"),
        ],
        ids=["Windows", "blanks", "mark", "UTF-16"],
    )
    def test_as_editors_write_them(self, root, dataset, task, write):
        before = check(root, dataset)
        for split in ("train", "val"):
            path = self.path(root, task, split)
            path.write_bytes(write(path.read_text().split()))
        after = check(root, dataset)
        assert after.problems == ()
        assert after.splits["val"].images == before.splits["val"].images

    def test_with_a_column_of_labels(self, root, dataset, task):
        path = self.path(root, task, "val")
        path.write_text(
            "".join(f"{line} {label:2}\n" for line, label in zip(path.read_text().split(), (-1, 0, 1, 1), strict=True))
        )
        report = check(root, dataset)
        assert report.errors == () and len(report.splits["val"].images) == 4
        assert warnings(report) == [
            f"VOCdevkit/VOC2012/ImageSets/{task}/val.txt has labels behind the ids: they are not used"
        ]

    def test_that_never_end(self, root, dataset, task):
        path = self.path(root, task, "val")
        path.unlink()
        os.mkfifo(path)
        assert only_error(root, dataset).endswith("val.txt is not a regular file")
        path.unlink()
        path.symlink_to("/dev/zero")
        assert only_error(root, dataset).endswith("val.txt is not a regular file")

    @pytest.mark.parametrize("line", ["..", "a\0b", "x" * 5000, "a\x1bb"])
    def test_with_ids_that_no_file_can_have(self, root, dataset, task, line):
        path = self.path(root, task, "val")
        path.write_text(path.read_text() + line + "\n")
        message = only_error(root, dataset)
        assert "is not an image id" in message or "holds NUL" in message
        assert message.isprintable() and len(message) <= 1500


def test_photos_by_other_names_and_macos_litter(root):
    """`.jpeg`, `.JPG` and `.png` are found; `._a.jpg` beside each file, as macOS leaves them, is not looked at."""
    photos = sorted((folder(root) / "JPEGImages").iterdir())
    for path, suffix in zip(photos, (".jpeg", ".JPG", ".png", ".Png"), strict=False):
        path.rename(path.with_suffix(suffix))
    for path in list(folder(root).rglob("*.*")):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    for dataset in ("voc2012_det", "voc2012_seg"):
        report = check(root, dataset)
        assert report.problems == ()
        assert all(path.is_file() for split in report.splits.values() for path in split.images)


def test_an_id_of_two_images(root):
    path = folder(root) / "JPEGImages" / f"{first(root)}.jpg"
    Image.open(path).save(path.with_suffix(".png"))
    message = only_error(root, "voc2012_det")
    assert message == f"VOCdevkit/VOC2012/JPEGImages holds {path.name} and {path.stem}.png: keep one"


def set_difficult(root: Path, text: str, split: str = "train") -> None:
    for name in (folder(root) / "ImageSets/Main" / f"{split}.txt").read_text().split():
        path = folder(root) / "Annotations" / f"{name}.xml"
        path.write_text(re.sub(r"<difficult>.*?</difficult>", text, path.read_text()))


@pytest.mark.parametrize(
    "text", ["", "<difficult/>", "<difficult> Unspecified </difficult>", "<difficult>False</difficult>"]
)
def test_difficult_as_tools_write_it(root, text):
    set_difficult(root, text)
    report = check(root, "voc2012_det")
    assert report.problems == () and report.splits["train"].counts["difficult"] == 0


@pytest.mark.parametrize("text", ["2", "maybe", "-1"])
def test_difficult_that_says_nothing(root, text):
    set_difficult(root, f"<difficult>{text}</difficult>")
    message = check(root, "voc2012_det").errors[0]
    assert message.endswith(f"has <difficult>{text}</difficult>: it must be 0 or 1")


def test_only_difficult_objects_in_val(root):
    set_difficult(root, "<difficult>1</difficult>")
    assert check(root, "voc2012_det").errors == ()  # they are trained on
    set_difficult(root, "<difficult>1</difficult>", "val")
    assert only_error(root, "voc2012_det").startswith("every object of val is marked difficult")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_objects(root, split):
    for name in (folder(root) / "ImageSets/Main" / f"{split}.txt").read_text().split():
        path = folder(root) / "Annotations" / f"{name}.xml"
        path.write_text(re.sub(r"<object>.*</object>", "", path.read_text(), flags=re.DOTALL))
    assert only_error(root, "voc2012_det") == f"no image of {split} has an object"


def test_an_object_that_is_there_twice(root):
    path = folder(root) / "Annotations" / f"{first(root)}.xml"
    path.write_text(re.sub(r"(<object>.*?</object>)", r"\1\1", path.read_text(), count=1, flags=re.DOTALL))
    report = check(root, "voc2012_det")
    assert report.errors == ()
    assert "as is an object before it" in warnings(report)[0]


@pytest.mark.parametrize("encoding", ["klingon", "shift_jis", "idna"])
def test_xml_encodings_that_cannot_be_read(root, encoding):
    path = folder(root) / "Annotations" / f"{first(root)}.xml"
    path.write_text(f'<?xml version="1.0" encoding="{encoding}"?>{path.read_text()}')
    assert f"{path.name} is damaged: " in only_error(root, "voc2012_det")


def test_xml_in_utf16(root):
    path = folder(root) / "Annotations" / f"{first(root)}.xml"
    path.write_bytes(f'<?xml version="1.0" encoding="UTF-16"?>{path.read_text()}'.encode("utf-16"))
    assert check(root, "voc2012_det").problems == ()


class TestMasks:
    @pytest.fixture
    def path(self, root: Path) -> Path:
        return folder(root) / "SegmentationClass" / f"{first(root)}.png"

    def save(self, labels: np.ndarray, path: Path) -> None:
        image = Image.fromarray(labels)
        image.putpalette(voc_palette())
        image.save(path)

    def test_label_21_names_file_and_label(self, root, path):
        labels = np.array(Image.open(path))
        labels[3:5, 3:6] = 21
        self.save(labels, path)
        message = only_error(root, "voc2012_seg")
        assert message == (
            f"VOCdevkit/VOC2012/SegmentationClass/{path.name} has label 21 on 6 pixels: VOC has 0 to 20, and 255 = void"
        )

    def test_labels_that_begin_with_1(self, root):
        for path in sorted((folder(root) / "SegmentationClass").iterdir()):
            labels = np.array(Image.open(path))
            labels[labels != 255] += 1
            self.save(labels, path)
        report = check(root, "voc2012_seg")
        assert report.errors == ()
        assert "no mask has label 0 (background): if your labels begin with 1, subtract 1 from them" in warnings(report)
        labels[0, 0] = 21
        self.save(labels, path)
        assert "yours seem to begin with 1 for the background: subtract 1" in only_error(root, "voc2012_seg")

    def test_all_void(self, root, path):
        self.save(np.full_like(np.array(Image.open(path)), 255), path)
        report = check(root, "voc2012_seg")
        assert report.errors == ()
        assert warnings(report) == [
            f"VOCdevkit/VOC2012/SegmentationClass/{path.name} is all void (255): nothing in its image counts"
        ]
        for name in (folder(root) / "ImageSets/Segmentation/val.txt").read_text().split():
            other = path.with_name(f"{name}.png")
            self.save(np.full_like(np.array(Image.open(other)), 255), other)
        assert only_error(root, "voc2012_seg") == "every pixel of every mask in val is void (255)"

    def test_missing(self, root, path):
        path.unlink()
        assert only_error(root, "voc2012_seg") == f"VOCdevkit/VOC2012/SegmentationClass/{path.name} is missing"

    def test_of_another_size(self, root, path, size):
        self.save(np.zeros((30, 40), np.uint8), path)
        message = only_error(root, "voc2012_seg")
        assert f"{path.name} is 40x30, but its image {path.stem}.jpg is {size[0]}x{size[1]}" in message

    def test_colours_instead_of_labels(self, root, path):
        Image.open(path).convert("RGB").save(path)
        assert "is a RGB image: a mask must hold one label per pixel" in only_error(root, "voc2012_seg")

    def test_damaged(self, root, path):
        path.write_bytes(path.read_bytes()[:200])
        assert f"{path.name} is damaged: " in only_error(root, "voc2012_seg")

    def test_grey_masks_are_as_good_as_palette_masks(self, root, path):
        Image.fromarray(np.array(Image.open(path))).save(path)
        assert check(root, "voc2012_seg").problems == ()
