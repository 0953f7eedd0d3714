"""Own data: what is read of each format, what is refused and in which words."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_data import CLASSES, SIZE, coco_data, describe, masks_data, picture, save, voc_data, voc_xml, yolo_data
from PIL import Image, ImageOps

from bench.datasets import check
from bench.datasets.files import ImageFiles
from bench.datasets.own.check import check_own, usable
from bench.datasets.own.description import DATASETS, DESCRIPTION, Own, is_own, read_own
from bench.datasets.own.maps import draw_map, own_pairs
from bench.datasets.own.objects import _object, load_objects
from bench.datasets.own.pictures import read_header
from bench.datasets.pairs import segmentation_pairs
from bench.datasets.pixels import turn
from bench.datasets.report import Strict
from bench.errors import BenchError


def only_error(root: Path, dataset: str | None = None) -> str:
    (found,) = check_own(root, dataset).errors
    assert len(found) < 500 and "\n" not in found
    return found


def test_categories_become_labels_by_their_numbers(tmp_path: Path) -> None:
    own = read_own(coco_data(tmp_path))
    assert own.labels == {3: 0, 7: 1, 20: 2} and own.names == ("bolt", "nut", "washer")
    assert own.map_names == ("background", "bolt", "nut", "washer")
    report = check(tmp_path, "custom_inst")
    assert not report.problems
    assert dict(report.splits["train"].histogram) == {"bolt": 4, "nut": 2, "washer": 2}
    reference = report.reference()
    assert (reference.name, reference.classes) == ("mine", own.names)
    assert check(tmp_path, "custom_seg").reference().classes == own.map_names
    found = load_objects(own, "val")
    assert [item.category_id for item in found.content.objects] == [3, 7, 3, 20, 3, 7]
    assert found.content.objects[1].box == (34, 6, 20, 16)
    assert usable(tmp_path) == DATASETS


def test_maps_are_drawn_from_masks_and_the_smaller_object_is_on_top(tmp_path: Path) -> None:
    def overlap(content: dict[str, Any]) -> None:
        small, large = content["annotations"][:2]
        large |= {"bbox": [0, 0, 40, 40], "area": 1600, "segmentation": [[0, 0, 40, 0, 40, 40, 0, 40]]}
        small |= {"bbox": [10, 10, 8, 4], "area": 32, "segmentation": [[10, 10, 18, 10, 18, 14, 10, 14]]}
        content["annotations"][2]["iscrowd"] = 1

    pairs = segmentation_pairs(coco_data(tmp_path, overlap), "custom_seg", "train")
    labels = pairs[0].load_labels()
    expected = np.zeros((48, 64), np.uint8)
    expected[:40, :40] = 2
    expected[10:14, 10:18] = 1
    np.testing.assert_array_equal(labels, expected)
    assert set(np.unique(pairs[1].load_labels())) == {0, 3, 255}  # what is a crowd does not count


def test_what_is_ignored_is_void_in_maps_and_no_object(tmp_path: Path) -> None:
    coco_data(tmp_path)
    describe(
        tmp_path, format="coco", classes={3: "bolt"}, ignore=[7, 20],
        **{part: {"images": part, "annotations": f"{part}.json"} for part in ("train", "val")},
    )  # fmt: skip
    assert set(np.unique(own_pairs(read_own(tmp_path), "train")[0].load_labels())) == {0, 1, 255}
    content = json.loads((tmp_path / "train.json").read_text())
    del content["annotations"][1]["segmentation"]
    (tmp_path / "train.json").write_text(json.dumps(content))
    labels = own_pairs(read_own(tmp_path), "train")[0].load_labels()
    assert (labels[6:22, 34:54] == 255).all() and (labels == 255).sum() == 16 * 20
    assert len(load_objects(read_own(tmp_path), "train").content.objects) == 4


def test_a_name_that_is_not_utf_8_can_be_held_out(tmp_path: Path) -> None:
    names = ["\udce9.png", "a.png", "b.png"]
    own = read_own(
        describe(tmp_path, format="masks", classes={0: "a"}, train={"images": "i", "annotations": "m"}, val_share=0.9)
    )
    assert own.held_out(names) == set(names)


def test_values_of_masks_become_labels(tmp_path: Path) -> None:
    own = read_own(masks_data(tmp_path, (0, 10, 255), classes={0: "sky", 255: "sea"}, ignore=[10]))
    report = check(tmp_path, "custom_seg")
    assert not report.problems and usable(tmp_path) == ("custom_seg",)
    pair = own_pairs(own, "val")[0]
    stored = np.asarray(Image.open(pair.labels))
    np.testing.assert_array_equal(pair.load_labels(), np.select([stored == 0, stored == 255], [0, 1], 255))
    assert report.splits["val"].histogram["sea"] == sum(
        int((np.asarray(Image.open(one.labels)) == 255).sum()) for one in own_pairs(own, "val")
    )


def test_boxes_of_yolo_and_voc_are_in_pixels(tmp_path: Path) -> None:
    yolo = load_objects(read_own(yolo_data(tmp_path / "yolo")), "train").content
    assert yolo.objects[0].box == (24.0, 12.0, 16.0, 24.0) and yolo.objects[0].category_id == 0
    voc = load_objects(read_own(voc_data(tmp_path / "voc", voc_xml("crack", difficult="1"))), "train").content
    assert voc.objects[0].box == (10, 5, 20, 20) and voc.objects[0].crowd and not voc.objects[1].crowd
    for name in ("yolo", "voc"):
        assert not check(tmp_path / name, "custom_det").problems
        assert usable(tmp_path / name) == ("custom_det",)
        assert "needs a mask of every object" in check(tmp_path / name, "custom_seg").errors[0]


def test_an_image_without_a_text_file_has_no_object(tmp_path: Path) -> None:
    (yolo_data(tmp_path) / "labels" / "train" / "1.txt").unlink()
    report = check(tmp_path, "custom_det")
    assert not report.errors and report.splits["train"].counts["images without objects"] == 1


def test_a_share_is_held_out_whatever_is_added(tmp_path: Path) -> None:
    masks_data(tmp_path)
    classes = {value: f"kind {value}" for value in range(5)}
    where = {"images": "images", "annotations": "masks"}
    describe(tmp_path, format="masks", classes=classes, train=where, val_share=0.3)
    names = {part: [pair.image for pair in own_pairs(read_own(tmp_path), part)] for part in ("train", "val")}
    assert (len(names["train"]), len(names["val"])) == (5, 2) and not set(names["train"]) & set(names["val"])
    describe(tmp_path, format="masks", classes=classes, train=where, val_share=0.6)
    assert set(names["val"]) < {pair.image for pair in own_pairs(read_own(tmp_path), "val")}


def test_the_fingerprint_covers_what_is_said(tmp_path: Path) -> None:
    masks_data(tmp_path)
    first = check_own(tmp_path)
    text = (tmp_path / DESCRIPTION).read_text()
    (tmp_path / DESCRIPTION).write_text(f"# a comment\n{text.replace('name: mine', 'name: other')}")
    assert check_own(tmp_path).fingerprint == first.fingerprint
    (tmp_path / DESCRIPTION).write_text(text.replace("kind 4", "kind four"))
    assert check_own(tmp_path).fingerprint != first.fingerprint
    elsewhere = tmp_path.parent / f"{tmp_path.name}.yaml"
    elsewhere.write_text(f"root: {tmp_path}\n{text}")
    assert is_own(elsewhere) and check_own(elsewhere).fingerprint == first.fingerprint


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_turn_as_viewers_turn_them(orientation: int, tmp_path: Path) -> None:
    save(picture(0, (7, 5)), tmp_path / "a.png", orientation)
    seen = ImageOps.exif_transpose(Image.open(tmp_path / "a.png"))
    np.testing.assert_array_equal(turn(np.asarray(picture(0, (7, 5))), orientation), np.asarray(seen))


def test_a_quarter_turn_shows_in_sizes(tmp_path: Path) -> None:
    """One image annotated as stored, one as turned: each is used as its annotations fit."""

    def turned(content: dict[str, Any]) -> None:
        content["images"][0] |= {"width": 48, "height": 64}
        for item in content["annotations"][:2]:
            item |= {"bbox": [1, 1, 9, 9], "area": 81, "segmentation": [[1, 1, 10, 1, 10, 10, 1, 10]]}

    coco_data(tmp_path, turned)
    for name in ("0", "1"):
        save(picture(int(name)), tmp_path / "train" / f"{name}.png", 6)
    assert not check(tmp_path, "custom_inst").problems
    first, second, *_ = own_pairs(read_own(tmp_path), "train")
    assert (first.turned, first.load_pixels().shape, first.load_labels().shape) == (True, (64, 48, 3), (64, 48))
    assert (second.turned, second.load_pixels().shape) == (False, (48, 64, 3))
    rgb = np.asarray(ImageOps.exif_transpose(Image.open(first.image)))
    np.testing.assert_array_equal(first.load_pixels(), rgb[:, :, ::-1])


@pytest.mark.parametrize("make", [coco_data, masks_data, yolo_data, voc_data], ids=lambda make: make.__name__)
def test_a_half_turn_is_asked_for(make: Callable[..., Path], tmp_path: Path) -> None:
    root = make(tmp_path / "x")
    file = next(path for path in sorted(root.rglob("0.png")) if "mask" not in str(path))
    save(Image.open(file), file, 3)
    assert "orientation 3" in only_error(root) and "`orientation: stored`" in only_error(root)
    for answer in ("stored", "turned"):
        text = (root / DESCRIPTION).read_text()
        (root / DESCRIPTION).write_text(f"{text}orientation: {answer}\n")
        assert not check_own(root).errors
        own = read_own(root)
        if make is not masks_data:
            (picture_used,) = [p for p in load_objects(own, "train").pictures.values() if p.path == file]
            assert picture_used.turned == (answer == "turned") and picture_used.size == SIZE
        (root / DESCRIPTION).write_text(text)


def test_a_quarter_turn_of_yolo_is_asked_for(tmp_path: Path) -> None:
    save(picture(0), yolo_data(tmp_path) / "images" / "train" / "0.png", 8)
    assert "orientation 8" in only_error(tmp_path)


def bad(key: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content[key][0].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (bad("annotations", category_id=8), "annotation 1 has category 8, which `categories` lacks"),
        (bad("categories", id=4, name="bolt"), "annotation 1 has category 3, which"),
        (bad("annotations", bbox=[-9, 5, 20, 16]), "annotation 1 has box [-9, 5, 20, 16], outside its image"),
        (bad("annotations", bbox=[4, 6, -20, 16]), "of negative size"),
        (bad("images", file_name="absent.png"), "train/absent.png is missing"),
        (bad("images", file_name="../../etc/passwd"), "must be a path below the folder of the images"),
        (bad("images", file_name="/etc/passwd"), "must be a path below the folder of the images"),
        (bad("images", file_name="a\\b.png"), "must be a path below the folder of the images"),
        (bad("images", width=65), "train/0.png is 64x48, but its annotations are for 65x48"),
        (lambda content: content.pop("categories"), "it must hold the lists images, annotations, categories"),
        (lambda content: content["annotations"].clear(), "train has no object to train on"),
        (lambda content: content["images"].clear(), "annotation 1 is of image 100, not listed"),
    ],
)
def test_damaged_coco_files_are_told(change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path) -> None:
    root = coco_data(tmp_path / "x", change)
    assert message in check(root, "custom_inst").errors[0]
    with pytest.raises(BenchError):
        check(root, "custom_inst").reference()


def test_a_category_that_nobody_described_is_told_by_its_name(tmp_path: Path) -> None:
    coco_data(tmp_path)
    text = (tmp_path / DESCRIPTION).read_text().replace("  20: washer\n", "")
    (tmp_path / DESCRIPTION).write_text(text)
    assert "objects have the category 20, washer" in check_own(tmp_path).errors[0]
    assert "add it to classes, or to ignore" in check_own(tmp_path).errors[0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("0 0.5 0.5 1.5 0.5", "values that are not 0 to 1"),
        ("0 32 24 16 24", "divided by the image's width and height"),
        ("0 0.9 0.5 0.5 0.5", "is a box outside its image of 64x48"),
        ("0 -0.1 0.5 0.1 0.1", "values that are not 0 to 1"),
        ("5 0.5 0.5 0.1 0.1", f"has the class 5, which {DESCRIPTION} does not know"),
        ("0.5 0.5 0.5 0.1 0.1", "a class that is no whole one"),
        ("0 0.5 0.5 nan 0.1", "values that are no numbers"),
        ("0 0.5 0.5 inf 0.1", "values that are no numbers"),
        ("a b c d e", "values that are no numbers"),
        ("0 0.5 0.5", "has 3 values"),
        ("0 .1 .1 .2 .1 .2 .2", "polygons are not read"),
        ("\x1b[2J 0 0 0 0", "train/0.txt: line 1, '\\x1b[2J 0 0 0 0'"),
    ],
)
def test_damaged_lines_of_yolo_are_told(lines: str, message: str, tmp_path: Path) -> None:
    assert message in only_error(yolo_data(tmp_path, lines))


BOMB = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)
)


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (f"{BOMB}]><annotation>&j;</annotation>", "train/xml/0.xml is damaged: "),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>', "is damaged: undefined"),
        ("<annotation>", "is damaged: no element found"),
        (voc_xml("moss"), "is a 'moss', which is none of the described 2 classes"),
        (voc_xml(box=(30, 6, 11, 25)), "xmin or ymin exceeds"),
        (voc_xml(box=(-30, 6, 11, 25)), "outside the image"),
        (voc_xml(size=(48, 64)), "train/images/0.png is 64x48, but its annotations are for 48x64"),
        ("<annotation><size><width>0</width></size></annotation>", "says no valid size"),
    ],
)
def test_damaged_xml_is_told(xml: str, message: str, tmp_path: Path) -> None:
    assert message in only_error(voc_data(tmp_path, xml))


def test_damaged_masks_are_told(tmp_path: Path) -> None:
    root = masks_data(tmp_path)
    folder = root / "masks" / "train"
    (folder / "0.png").unlink()
    (folder / "1.png").write_bytes(b"no picture")
    save(picture(0), folder / "2.png")
    save(Image.new("L", (10, 10)), folder / "3.png")
    save(Image.new("L", SIZE, 77), root / "masks" / "val" / "0.png")
    found = "\n".join(check_own(root).errors)
    for message in (
        "masks/train/0.png is missing",
        "masks/train/1.png is damaged",
        "masks/train/2.png is a RGB image: a mask must hold one label per pixel",
        "images/train/3.png is 64x48, but its annotations are for 10x10",
        "masks/val/0.png has the value 77 on 3,072 pixels: add them to classes, or to ignore",
    ):
        assert message in found
    with pytest.raises(BenchError, match="has the value 77"):
        own_pairs(read_own(root), "val")[0].load_labels()


def test_two_images_of_one_name_are_told(tmp_path: Path) -> None:
    root = masks_data(tmp_path)
    save(picture(5), root / "images" / "train" / "0.bmp")
    assert "holds 2 images 0.*" in check_own(root).errors[0]


def test_lists_name_images_with_or_without_endings(tmp_path: Path) -> None:
    root = masks_data(tmp_path)
    (root / "train.txt").write_text("0\n./2.png\n")
    where = "  images: images/train\n"
    text = (root / DESCRIPTION).read_text().replace(where, f"{where}  list: train.txt\n")
    (root / DESCRIPTION).write_text(text)
    assert [pair.image.name for pair in own_pairs(read_own(root), "train")] == ["0.png", "2.png"]
    first = check_own(root)
    assert not first.errors and len(first.splits["train"].images) == 2
    (root / "train.txt").write_text("0\n../val/1\n0\nabsent\n")
    found = check_own(root).errors
    assert [message for message in found if "lists '../val/1', which images/train lacks" in message]
    assert [message for message in found if "lists 0.png 2 times" in message]


def test_a_share_is_held_out_of_the_listed_images(tmp_path: Path) -> None:
    """Every listed image is in one part, whatever else the annotations hold."""
    root = coco_data(tmp_path)
    said = read_own(root)
    names = sorted(image.file_name for image in load_objects(said, "train").content.images.values())
    listed = names[: len(names) // 2 + 1]
    (root / "list.txt").write_text("\n".join(listed))
    part = {**said.said.train.model_dump(by_alias=True, exclude_none=True), "list": "list.txt"}
    describe(root, format="coco", classes=said.said.classes, train=part, val_share=0.4)
    parts = [load_objects(read_own(root), name).content.images.values() for name in ("train", "val")]
    found = [sorted(image.file_name for image in images) for images in parts]
    assert sorted(found[0] + found[1]) == listed and all(found)


def late_exif(path: Path, turned: int) -> None:
    """Give a PNG file an EXIF orientation in a chunk after its pixels."""
    exif = Image.Exif()
    exif[0x0112] = turned
    data = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", zlib.crc32(b"eXIf" + data))
    content = path.read_bytes()
    path.write_bytes(content[:-12] + chunk + content[-12:])


def test_the_check_takes_a_picture_as_training_takes_it(tmp_path: Path) -> None:
    """Neither turns a PNG file whose orientation comes after the pixels."""
    path = tmp_path / "0.png"
    picture(0).save(path)
    late_exif(path, 3)
    files = ImageFiles(tmp_path, [path], Strict())
    files.size(path)
    assert files.thorough and read_header(path).orientation == files.orientations.get(path, 1) == 1


GOOD = "name: a\nformat: coco\ntrain: {images: x, annotations: a.json}\nval_share: 0.5\nclasses: {1: b}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it must be a mapping"),
        ("- 1", "it must be a mapping"),
        ("a: &x [*x]", r"it uses a reference \(\*NAME\)"),
        ("a: &x [1]\nb: [*x, *x]", "it uses a reference"),
        ("{{{", "cannot be read as YAML"),
        ("\x00", "cannot be read as YAML"),
        ("[" * 400, "cannot be read as YAML"),
        (GOOD + "name: b", "the key 'name' is there twice"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        (GOOD.replace("{1: b}", "{1: no}"), "classes: False is no text: write names such as no, on or 12 in quotes"),
        (GOOD.replace("{1: b}", "{1: b, 2: b}"), "'b' is there twice"),
        (GOOD.replace("{1: b}", "[b]"), "give a mapping"),
        (GOOD.replace("{1: b}", "{}"), "classes"),
        (GOOD.replace("{1: b}", '{1: "a\\n"}'), "classes"),
        (GOOD.replace("images: x", "images: ../x"), "train.images: it must be a path below"),
        (GOOD.replace("images: x", "images: /etc"), "train.images: it must be a path below"),
        (GOOD.replace("name: a", "name: ../a"), "name: "),
        (GOOD.replace("val_share: 0.5\n", ""), "give either val or val_share"),
        (GOOD.replace("0.5", "1.5"), "val_share"),
        (GOOD + "ignore: [b]", "ignore: 'b' is wrong: format coco ignores numbers"),
        (GOOD + "ignore: [1]", "ignore: 1 is also in classes"),
        (GOOD + "nmae: b", "nmae: Extra inputs"),
        (GOOD.replace("coco", "masks").replace("{1: b}", "{300: b}"), "0 to 255"),
        (GOOD + "orientation: 3", "orientation"),
    ],
)
def test_descriptions_that_are_not_valid_are_told(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / DESCRIPTION).write_text(text)
    with pytest.raises(BenchError, match=message) as error:
        read_own(tmp_path)
    assert str(error.value).startswith(str(tmp_path)) and str(error.value).count("\n") < 3


def test_a_folder_without_a_description_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="is missing: `densebench data describe"):
        check(tmp_path, "custom_seg")
    (tmp_path / DESCRIPTION).write_text(f"root: nowhere\n{GOOD}")
    assert "is not a folder: correct `root`" in only_error(tmp_path)


def test_images_in_both_parts_are_told(tmp_path: Path) -> None:
    root = masks_data(tmp_path)
    text = (root / DESCRIPTION).read_text().replace("images/val", "images/train").replace("masks/val", "masks/train")
    (root / DESCRIPTION).write_text(text)
    assert check_own(root).errors[0] == "images/train/0.png is in train and in val: evaluate on other images"


def test_val_images_that_are_copies_are_told(tmp_path: Path) -> None:
    root = masks_data(tmp_path)
    save(picture(1), root / "images" / "val" / "2.png")
    assert "images/val/2.png (val) is a copy of images/train/1.png (train)" in only_error(root)


@given(
    x=st.floats(0, 1), y=st.floats(0, 1), width=st.floats(0, 1), height=st.floats(0, 1),
    size=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
)  # fmt: skip
@settings(max_examples=50)
def test_a_box_of_yolo_is_inside_or_refused(
    x: float, y: float, width: float, height: float, size: tuple[int, int], own: Own
) -> None:
    try:
        found = _object(own, f"1 {x!r} {y!r} {width!r} {height!r}", size)
    except ValueError as error:
        assert "outside its image" in str(error)
        beyond = [max(c + side / 2 - 1, side / 2 - c) for c, side in ((x, width), (y, height))]
        assert beyond[0] * size[0] > 1 or beyond[1] * size[1] > 1
        return
    assert found is not None
    key, (left, top, w, h) = found
    assert key == 1 and left >= -1.001 and top >= -1.001
    np.testing.assert_allclose([(left + w / 2) / size[0], (top + h / 2) / size[1]], [x, y], atol=1e-9)
    np.testing.assert_allclose([w / size[0], h / size[1]], [width, height], atol=1e-12)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Own:
    return read_own(yolo_data(tmp_path_factory.mktemp("yolo")))


@given(line=st.text(max_size=40))
@settings(max_examples=50)
def test_any_line_of_yolo_is_read_or_refused(line: str, own: Own) -> None:
    try:
        _object(own, line, SIZE)
    except ValueError as error:
        assert str(error)


@given(text=st.text(alphabet="abc:-[]{}&*!\"'# \n0123,|>?%@`", max_size=60))
@settings(max_examples=50)
def test_any_description_is_read_or_refused(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(text)
    with pytest.raises(BenchError):
        read_own(file)


def test_drawn_maps_equal_brute_force(tmp_path: Path) -> None:
    """Random squares: each pixel has the label of the smallest one that covers it."""
    rng = np.random.default_rng(0)

    def squares(content: dict[str, Any]) -> None:
        for item in content["annotations"]:
            x, y, w, h = (int(v) for v in (rng.integers(0, 40), rng.integers(0, 30), *rng.integers(3, 18, 2)))
            square = [x, y, x + w, y, x + w, y + h, x, y + h]
            item |= {"bbox": [x, y, w, h], "area": w * h, "segmentation": [square]}

    own = read_own(coco_data(tmp_path, squares))
    found = load_objects(own, "train").content
    for number, items in found.by_image().items():
        drawn = draw_map(found.images[number].size, items, (), own.labels)
        for y, x in np.ndindex(*drawn.shape):
            over = [i for i in items if i.box[0] <= x < i.box[0] + i.box[2] and i.box[1] <= y < i.box[1] + i.box[3]]
            smallest = min(over, key=lambda item: item.area, default=None)
            assert drawn[y, x] == (0 if smallest is None else own.labels[smallest.category_id] + 1)


def test_names_with_folders_are_paths_below_the_images(tmp_path: Path) -> None:
    def deep(content: dict[str, Any]) -> None:
        content["images"][0]["file_name"] = "day 1/ü.png"

    coco_data(tmp_path, deep)
    save(picture(0), tmp_path / "train" / "day 1" / "ü.png")
    assert not check(tmp_path, "custom_inst").problems
    assert json.loads((tmp_path / "train.json").read_text())["categories"][0]["id"] == min(CLASSES)
