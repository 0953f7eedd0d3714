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
        expected = f"VOCdevkit/VOC2012/ImageSets/{task}/val.txt is missing; in its folder it holds train.txt, trainval.txt"
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

    def test_missing(self, root, path):
        path.unlink()
        assert only_error(root, "voc2012_seg") == f"VOCdevkit/VOC2012/SegmentationClass/{path.name} is missing"

    def test_of_another_size(self, root, path, size):
        self.save(np.zeros((30, 40), np.uint8), path)
        message = only_error(root, "voc2012_seg")
        assert f"{path.name} is 40x30, but its image {path.stem}.jpg is {size[0]}x{size[1]}" in message

    def test_colours_instead_of_labels(self, root, path):
        Image.open(path).convert("RGB").save(path)
        assert "is a RGB image: a mask must hold one label a pixel" in only_error(root, "voc2012_seg")

    def test_damaged(self, root, path):
        path.write_bytes(path.read_bytes()[:200])
        assert f"{path.name} is damaged: " in only_error(root, "voc2012_seg")

    def test_grey_masks_are_as_good_as_palette_masks(self, root, path):
        Image.fromarray(np.array(Image.open(path))).save(path)
        assert check(root, "voc2012_seg").problems == ()
