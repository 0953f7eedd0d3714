import hashlib
import json
import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from bench.datasets import DATASETS, check, expected_in, generate
from bench.datasets.names import COCO_CATEGORIES, VOC_CLASSES, VOID, voc_palette
from bench.datasets.synthetic.generate import COCO_KINDS, RECORD, VOC_KINDS, sort_by_class
from bench.datasets.synthetic.pretraining import NO_OBJECT, STREET, pretraining_picture
from bench.datasets.synthetic.scene import scene
from bench.datasets.synthetic.silhouettes import KINDS
from bench.errors import BenchError


def tree(root: Path) -> dict[str, str]:
    """The hash of every file."""
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_call_gives_the_same_bytes(generated, tmp_path):
    generate(tmp_path / "again", seed=3, train=6, val=4, pretrain=5)
    assert tree(tmp_path / "again") == tree(generated)


def test_another_seed_gives_other_images_of_the_same_layout(generated, tmp_path):
    generate(tmp_path / "other", seed=4, train=6, val=4, pretrain=5)
    mine, other = tree(generated), tree(tmp_path / "other")
    assert mine.keys() == other.keys()
    images = [name for name in mine if name.endswith(".jpg") or "leftImg8bit" in name]
    assert len(images) == 2 * 10 + 5 + 5
    assert all(mine[name] != other[name] for name in images)


def test_an_image_does_not_depend_on_how_many_there_are(generated, tmp_path):
    generate(tmp_path / "fewer", seed=3, train=3, val=2, pretrain=2)
    mine, fewer = tree(generated), tree(tmp_path / "fewer")
    images = [name for name in fewer if name.endswith((".jpg", ".png", ".xml"))]
    assert images
    assert all(mine[name] == fewer[name] for name in images)


def test_progress_reaches_the_total(tmp_path):
    calls = []
    generate(tmp_path / "data", train=2, val=2, pretrain=1, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(k, 11) for k in range(1, 12)]


@pytest.mark.parametrize("dataset", DATASETS)
def test_generated_data_pass_their_own_check(generated, dataset):
    report = check(generated, dataset)
    assert report.problems == ()
    reference = report.reference()
    assert (reference.train_images, reference.val_images) == ((3, 2) if dataset == "cityscapes" else (6, 4))


def test_repeating_the_call_does_nothing(root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    generate(root, seed=3, train=6, val=4, pretrain=5)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_a_root_without_instance_ids_gets_them_and_keeps_its_fingerprints(generated, root):
    for path in root.rglob("*_instanceIds.png"):
        path.unlink()
    before = {name: check(root, name).fingerprint for name in DATASETS}
    assert "cityscapes_inst" not in expected_in(root)
    generate(root, seed=3, train=6, val=4, pretrain=5)
    assert tree(root) == tree(generated)
    assert {name: check(root, name).fingerprint for name in DATASETS} == before
    assert not check(root, "cityscapes_inst").errors


def test_instance_ids_are_not_drawn_onto_other_streets(root):
    ids = next((root / "cityscapes").rglob("*_instanceIds.png"))
    ids.unlink()
    labels = ids.with_name(ids.name.replace("instanceIds", "labelTrainIds"))
    Image.fromarray(255 - np.asarray(Image.open(labels))).save(labels)
    with pytest.raises(BenchError, match=r"instanceIds.png is missing, and other versions .* drew its street"):
        generate(root, seed=3, train=6, val=4, pretrain=5)
    assert not ids.exists()


def test_refuses_to_replace_other_generated_data(root):
    with pytest.raises(BenchError, match=r"holds data generated as .*'seed': 3.*delete it or choose another folder"):
        generate(root, seed=9, train=6, val=4, pretrain=5)


def test_refuses_a_folder_that_it_did_not_make(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(BenchError, match="is not empty and was not generated"):
        generate(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_refuses_a_damaged_record_and_a_file(root, tmp_path):
    (root / RECORD).write_text("{")
    with pytest.raises(BenchError, match=r"generated.json is damaged"):
        generate(root, seed=3)
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match="is a file"):
        generate(tmp_path / "file")


def test_an_empty_folder_is_filled_and_nothing_else_is_left(tmp_path):
    (tmp_path / "data").mkdir()
    generate(tmp_path / "data", train=2, val=2, pretrain=0)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert json.loads((tmp_path / "data" / RECORD).read_text())["train"] == 2


def test_a_failure_leaves_nothing_behind(tmp_path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "data", train=2, val=2, pretrain=0, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_parent_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(BenchError, match="cannot write to"):
        generate(tmp_path / "data")


def test_a_file_as_parent_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match=r"cannot write to .*file.*choose another folder"):
        generate(tmp_path / "file" / "data")


@pytest.mark.parametrize("counts", [{"train": 1}, {"val": 0}, {"pretrain": -1}, {"seed": -1}])
def test_impossible_parameters_are_refused(tmp_path, counts):
    with pytest.raises(BenchError, match=r"at least 2 train|must be 0 or more"):
        generate(tmp_path / "data", **counts)


def voc_ids(root: Path, split: str) -> list[str]:
    return (root / f"VOCdevkit/VOC2012/ImageSets/Main/{split}.txt").read_text().split()


def test_splits_are_disjoint(generated):
    assert not set(voc_ids(generated, "train")) & set(voc_ids(generated, "val"))
    lists = generated / "VOCdevkit/VOC2012/ImageSets"
    for task in ("Main", "Segmentation"):
        assert (lists / task / "trainval.txt").read_text().split() == [
            *voc_ids(generated, "train"),
            *voc_ids(generated, "val"),
        ]
    hashes = tree(generated)
    photographs = ("JPEGImages/", "train2017/", "val2017/", "leftImg8bit/", "pretrain/images/")
    images = [digest for name, digest in hashes.items() if any(folder in name for folder in photographs)]
    assert len(images) == 2 * 10 + 5 + 5
    assert len(images) == len(set(images))


def test_voc_boxes_and_masks_agree(generated):
    """Computed anew from the object masks: the box of each object spans its pixels and their void outline."""
    folder = generated / "VOCdevkit/VOC2012"
    checked = 0
    for name in voc_ids(generated, "train") + voc_ids(generated, "val"):
        with Image.open(folder / f"SegmentationClass/{name}.png") as image:
            assert image.mode == "P"
            assert bytes(image.getpalette()) == voc_palette()
            classes = np.asarray(image)
        objects = np.asarray(Image.open(folder / f"SegmentationObject/{name}.png"))
        size = Image.open(folder / f"JPEGImages/{name}.jpg").size
        assert classes.shape == objects.shape == size[::-1]
        allowed = {0, VOID} | {VOC_CLASSES.index(kind) + 1 for kind in VOC_KINDS}
        assert set(np.unique(classes).tolist()) <= allowed
        np.testing.assert_array_equal(objects == VOID, classes == VOID)
        for number, item in enumerate(
            ElementTree.parse(folder / f"Annotations/{name}.xml").getroot().findall("object"), 1
        ):
            left, top, right, bottom = (int(item.find(f"bndbox/{k}").text) for k in ("xmin", "ymin", "xmax", "ymax"))
            assert 1 <= left <= right <= size[0]
            assert 1 <= top <= bottom <= size[1]
            if item.findtext("difficult") == "1":
                assert not (objects == number).any()
                continue
            rows, columns = np.nonzero(objects == number)
            assert set(classes[rows, columns].tolist()) == {VOC_CLASSES.index(item.findtext("name")) + 1}
            assert left <= columns.min() + 1 <= columns.max() + 1 <= right
            assert top <= rows.min() + 1 <= rows.max() + 1 <= bottom
            box = np.isin(objects[top - 1 : bottom, left - 1 : right], (number, VOID))
            assert box[0].any()
            assert box[-1].any()
            assert box[:, 0].any()
            assert box[:, -1].any()
            checked += 1
    assert checked > 20


@pytest.mark.parametrize("split", ["train", "val"])
def test_coco_files_load_in_pycocotools_and_areas_agree(generated, split, capsys):
    coco = COCO(str(generated / f"coco/annotations/instances_{split}2017.json"))
    capsys.readouterr()
    assert {c["id"]: (c["name"], c["supercategory"]) for c in coco.dataset["categories"]} == COCO_CATEGORIES
    assert sum(annotation["iscrowd"] for annotation in coco.anns.values()) >= 1
    for annotation in coco.anns.values():
        image = coco.imgs[annotation["image_id"]]
        assert annotation["category_id"] in COCO_KINDS.values()
        mask = coco.annToMask(annotation)
        assert mask.shape == (image["height"], image["width"])
        assert mask.sum() == pytest.approx(annotation["area"], rel=0.08, abs=6)
        x, y, width, height = annotation["bbox"]
        assert x >= 0
        assert y >= 0
        assert x + width <= image["width"]
        assert y + height <= image["height"]
        found = coco_mask.toBbox(coco.annToRLE(annotation))
        np.testing.assert_allclose(found, annotation["bbox"], atol=1.6)
        if annotation["iscrowd"]:
            assert isinstance(annotation["segmentation"], dict)
            assert mask.sum() == annotation["area"]


def test_cityscapes_pairs(generated):
    images = sorted((generated / "cityscapes/leftImg8bit").rglob("*.png"))
    assert len(images) == 5
    for path in images:
        name = path.name.replace("_leftImg8bit", "_gtFine_labelTrainIds")
        labels = Image.open(generated / "cityscapes/gtFine" / path.parent.relative_to(path.parents[2]) / name)
        assert labels.mode == "L"
        assert labels.size == Image.open(path).size


def test_pretraining_images_are_small_rgb(generated):
    files = sorted((generated / "pretrain/images").iterdir())
    assert len(files) == 5
    for path in files:
        with Image.open(path) as image:
            assert image.mode == "RGB"
            assert 96 <= min(image.size) <= max(image.size) <= 128


def test_images_sorted_by_class_are_the_same_images(generated, tmp_path):
    folder = tmp_path / "labeled"
    sort_by_class(generated, folder)
    images = {path.name: path.read_bytes() for path in (generated / "pretrain" / "images").iterdir()}
    assert {path.name: path.read_bytes() for path in folder.glob("*/*.jpg")} == images
    assert {path.parent.name for path in folder.glob("*/*.jpg")} <= {*KINDS, STREET, NO_OBJECT}
    before = tree(folder)
    sort_by_class(tmp_path / "absent", folder)  # complete already, so that nothing is drawn
    assert tree(folder) == before


def test_images_that_other_libraries_drew_are_not_sorted(tmp_path):
    generate(tmp_path / "data", train=2, val=2, pretrain=2)
    (tmp_path / "data/pretrain/images/000001.jpg").write_bytes(b"other")
    with pytest.raises(BenchError, match=r"000001\.jpg: other versions of numpy, OpenCV or Pillow drew it"):
        sort_by_class(tmp_path / "data", tmp_path / "labeled")
    assert not list(tmp_path.glob("*labeled*"))


def test_the_class_of_a_picture_is_the_kind_with_most_pixels():
    for index in range(40):
        rng = np.random.default_rng(index)
        picture = pretraining_picture(rng)
        again = np.random.default_rng(index)
        again.integers(6)
        sort = again.random()
        if sort < 0.2:
            assert picture.shows == STREET
            continue
        objects, scale = ((1, 2), (0.3, 0.5)) if sort < 0.55 else ((2, 5), (0.15, 0.42))
        height, width = picture.image.shape[:2]
        drawn = scene(again, (width, height), tuple(KINDS), objects=objects, scale=scale)
        assert np.array_equal(drawn.image, picture.image)
        pixels: dict[str, int] = {}
        for one in drawn.instances:
            pixels[one.kind] = pixels.get(one.kind, 0) + int(one.mask.sum())
        assert pixels[picture.shows] == max(pixels.values())
