"""`data describe`: what a folder is guessed to hold, and the commands that a new user types."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_data import coco_data, masks_data, picture, save, voc_data, voc_xml, yolo_data
from PIL import Image

from bench.cli import run
from bench.datasets.own.check import check_own
from bench.datasets.own.description import DESCRIPTION, read_own
from bench.datasets.own.guess import describe, guess, role
from bench.doctor import _own_data
from bench.errors import BenchError
from bench.submit import Evaluation, check_data_sets, choose_protocols, plan_runs
from bench.training_probe import TrainingProbe


def undescribed(make: Callable[..., Path], root: Path, **more: Any) -> Path:
    make(root, **more)
    (root / DESCRIPTION).unlink()
    return root


@pytest.mark.parametrize("make", [coco_data, masks_data, yolo_data, voc_data], ids=lambda make: make.__name__)
def test_each_format_is_recognized_and_can_be_used(make: Callable[..., Path], tmp_path: Path) -> None:
    """The guess of a folder is the description with which its files were written, names apart."""
    root = make(tmp_path / "my data")
    wanted = read_own(root).said
    (root / DESCRIPTION).unlink()
    if make is yolo_data:
        (root / "data.yaml").write_text("train: images/train\nnames: [weed, crop]\n")
    if make is masks_data:
        (root / "classes.txt").write_text("".join(f"kind {value}\n" for value in range(5)))
    file, report = describe(root)
    said = read_own(root).said
    assert (said.format, said.train, said.val, said.ignore) == (wanted.format, wanted.train, wanted.val, wanted.ignore)
    expected = {0: "rust"} if make is voc_data else dict(wanted.classes)  # no object is a crack
    assert dict(said.classes) == expected and said.name == "my-data" and file == root / DESCRIPTION
    assert not report.errors and report.fingerprint == check_own(root).fingerprint


def test_one_part_alone_is_shared_out(tmp_path: Path) -> None:
    root = undescribed(coco_data, tmp_path)
    shutil.rmtree(root / "val")
    (root / "val.json").unlink()
    describe(root)
    own = read_own(root)
    assert own.said.val is None and own.said.val_share == 0.2
    assert "several images show one scene" in (root / DESCRIPTION).read_text()
    report = check_own(root)
    assert not report.errors and [len(split.images) for split in report.splits.values()] == [3, 1]


def test_masks_with_an_ending_beside_their_images(tmp_path: Path) -> None:
    for i in range(3):
        save(picture(i), tmp_path / f"field_{i}.jpg")
        mask = np.zeros((48, 64), np.uint8)
        mask[:9] = 255
        save(Image.fromarray(mask), tmp_path / f"field_{i}_mask.png")
    describe(tmp_path)
    own = read_own(tmp_path)
    assert own.said.mask_ending == "_mask.png" and own.said.train.images == own.said.train.annotations == "."
    assert own.said.classes == {0: "background", 255: "foreground"}
    report = check_own(tmp_path)
    assert not report.errors and report.splits["val"].histogram["foreground"] == 9 * 64


def test_masks_in_a_folder_within_the_images(tmp_path: Path) -> None:
    root = undescribed(masks_data, tmp_path)
    for part in ("train", "val"):
        shutil.move(root / "masks" / part, root / "images" / part / "masks")
    describe(root)
    assert not check_own(root).errors
    assert len(check_own(root).splits["train"].images) == 4


def test_roboflow_like_exports(tmp_path: Path) -> None:
    """train/_annotations.coco.json beside its images, a category without objects, a test part."""
    root = undescribed(coco_data, tmp_path)
    for part, name in (("train", "train"), ("val", "valid")):
        content = json.loads((root / f"{part}.json").read_text())
        content["categories"].insert(0, {"id": 0, "name": "parts", "supercategory": "none"})
        (root / f"{part}.json").unlink()
        if name != part:
            (root / part).rename(root / name)
        (root / name / "_annotations.coco.json").write_text(json.dumps(content))
    shutil.copytree(root / "valid", root / "test")
    _, report = describe(root)
    bolts = sum(split.histogram["bolt"] for split in report.splits.values())
    assert f"3: bolt  # {bolts} objects\n" in (root / DESCRIPTION).read_text() and bolts == 7  # without those of test
    own = read_own(root)
    assert (own.said.train.images, own.said.val and own.said.val.annotations) == (
        "train",
        "valid/_annotations.coco.json",
    )
    assert 0 not in own.said.classes and "left out: parts" in (root / DESCRIPTION).read_text()
    assert "Not used: test" in (root / DESCRIPTION).read_text()
    assert not check_own(root).errors


def test_lists_of_voc_are_the_parts(tmp_path: Path) -> None:
    for i in range(6):
        save(picture(i), tmp_path / "JPEGImages" / f"{i}.jpg")
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / "Annotations" / f"{i}.xml").write_text(voc_xml())
    for folder, names in (("Main", ("0\n1\n2\n", "3\n")), ("Layout", ("0\n", "1\n"))):
        (tmp_path / "ImageSets" / folder).mkdir(parents=True)
        for part, text in zip(("train", "val"), names, strict=True):
            (tmp_path / "ImageSets" / folder / f"{part}.txt").write_text(text)
    describe(tmp_path)
    report = check_own(tmp_path)
    assert not report.errors and [len(split.images) for split in report.splits.values()] == [3, 1]


def test_names_that_yaml_would_misread_survive(tmp_path: Path) -> None:
    names = {3: "no", 7: "12", 20: "a: [b] # c"}

    def rename(content: dict[str, Any]) -> None:
        content["categories"] = [{"id": key, "name": name} for key, name in names.items()]

    root = undescribed(coco_data, tmp_path, change=rename)
    content = json.loads((root / "val.json").read_text())
    rename(content)
    (root / "val.json").write_text(json.dumps(content))
    describe(root)
    assert dict(read_own(root).said.classes) == names


def test_files_that_disagree_about_categories_are_told(tmp_path: Path) -> None:
    root = undescribed(coco_data, tmp_path, change=lambda content: content["categories"][0].update(name="screw"))
    with pytest.raises(BenchError, match=r"category 3 is (bolt, in another file screw|screw, in another file bolt)"):
        describe(root)


def test_what_cannot_be_described_is_told(tmp_path: Path) -> None:
    for text, message in (("absent", "is not a folder"), (".", "holds no image")):
        with pytest.raises(BenchError, match=message):
            guess(tmp_path / text)
    with zipfile.ZipFile(tmp_path / "data.zip", "w"):
        pass
    with pytest.raises(BenchError, match="holds no image"):
        guess(tmp_path)
    with pytest.raises(BenchError, match="is not a folder"):
        guess(tmp_path / "data.zip")
    for i in range(2):
        save(picture(i), tmp_path / f"{i}.jpg")
    (tmp_path / "notes.txt").write_text("0 0.5\nhello")
    (tmp_path / "a.json").write_text("[" * 100_000)
    (tmp_path / "b.json").write_text('{"images": [], "annotations": [], "categories": []}')
    (tmp_path / "c.xml").write_text("<annotation>")
    (tmp_path / "d.yaml").write_text("names: {{{")
    with pytest.raises(BenchError, match="has 2 images, but no annotations that belong to them") as error:
        guess(tmp_path)
    assert str(error.value).count("\n") == 0


@pytest.mark.parametrize(("mode", "words"), [("RGB", "RGB"), ("I;16", "16-bit"), ("1", "1-bit"), ("RGBA", "RGBA")])
@pytest.mark.parametrize("ending", [".png", "_mask.png"])
def test_masks_of_another_kind_are_told_from_photographs(tmp_path: Path, mode: str, words: str, ending: str) -> None:
    root = undescribed(masks_data, tmp_path)
    for file in sorted((root / "masks").rglob("*.png")):
        labels = np.array(Image.open(file))
        other = Image.fromarray(labels.astype(np.uint16)) if mode == "I;16" else Image.fromarray(labels).convert(mode)
        file.unlink()
        other.save(file.with_name(f"{file.stem}{ending}"))
    with pytest.raises(BenchError, match=f"7 images and 7 PNGs .* such as masks/train/0{ending}, .* are {words}: conv"):
        describe(root)
    assert not (root / DESCRIPTION).exists()


def test_photographs_of_equal_names_are_no_masks(tmp_path: Path) -> None:
    for folder in ("day", "night"):
        save(picture(len(folder)), tmp_path / folder / "0.png")
    with pytest.raises(BenchError, match="has 2 images, but no annotations"):
        guess(tmp_path)


def test_polygons_in_texts_are_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    polygon = "1 0.1 0.1 0.3 0.1 0.3 0.3\n"
    root = undescribed(yolo_data, tmp_path / "mixed", lines=f"0 0.5 0.5 0.25 0.5\n{polygon}")
    assert run(["data", "describe", str(root)]) == 1
    out, err = capsys.readouterr()
    assert "1 of 14 objects in YOLO's text are polygons, such as those in labels/train/0.txt: convert" in err
    assert not out and not (root / DESCRIPTION).exists()
    other = undescribed(yolo_data, tmp_path / "both")
    (other / "polygons").mkdir()
    (other / "polygons" / "0.txt").write_text(polygon)
    _, report = describe(other)
    assert not report.errors


def test_counts_are_left_out_where_something_is_wrong(tmp_path: Path) -> None:
    root = undescribed(yolo_data, tmp_path, lines="0 5 5 2 5\n")
    _, report = describe(root)
    assert len(report.errors) == 1 and " objects\n" not in (root / DESCRIPTION).read_text()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("train2017", "train"), ("instances_val2017.json", "val"), ("valid/_annotations.coco.json", "val"),
        ("images/test", "test"), ("trainers", ""), ("constrain/a", ""), ("a/Training", "train"),
    ],
)  # fmt: skip
def test_parts_are_words(path: str, expected: str) -> None:
    assert role(path) == expected


def test_the_commands_of_a_new_user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = undescribed(coco_data, tmp_path / "parts")
    assert run(["data", "describe", str(root)]) == 0
    printed = capsys.readouterr().out
    assert "3: bolt  # 7 objects" in printed and "can be used" in printed and "next: correct" in printed
    assert run(["data", "describe", str(root)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert run(["data", "check", str(root)]) == 0
    elsewhere = tmp_path / "mine.yaml"
    assert run(["data", "describe", str(root), "--out", str(elsewhere), "--name", "bolts"]) == 0
    assert run(["data", "check", str(elsewhere), "--json"]) == 0
    assert '"dataset": "bolts"' in capsys.readouterr().out
    (root / "train" / "0.png").unlink()
    assert run(["data", "check", str(root)]) == 1
    assert "train/0.png is missing" in capsys.readouterr().out


def test_a_folder_without_data_sets_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(picture(0), tmp_path / "photos" / "0.png")
    for folder, words in (("photos", "for data of your own run `densebench data describe"), ("no", "is no folder")):
        assert run(["data", "check", str(tmp_path / folder)]) == 1
        out, err = capsys.readouterr()
        assert not out and words in err and err.count("error") == 1
    (tmp_path / "photos" / "coco").mkdir()
    assert run(["data", "check", str(tmp_path / "photos")]) == 1
    assert "coco2017 in" in capsys.readouterr().out


def test_what_knows_data_roots_knows_own_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The doctor, the probes during a pretraining, and the tracks of the usual data sets."""
    root = masks_data(tmp_path / "fields")
    assert [finding.finding for finding in _own_data(root)] == ["4 train, 3 val images"]
    (protocol, dataset), *others = TrainingProbe(root, tmp_path / "probe").protocols
    assert (protocol.id, dataset.name, others) == ("custom_seg_linear", "mine", [])
    submit = ["submit", "random:resnet18", "--name", "r", "--data", str(root), "--work", str(tmp_path / "work")]
    assert run([*submit, "--track", "frozen"]) == 1
    assert "described as data of your own: add --track custom" in capsys.readouterr().err
    assert run([*submit, "--track", "custom", "--protocol", "custom_det_frcnn_fpn"]) == 1
    assert "mine has masks and no objects, which custom_det needs" in capsys.readouterr().err
    assert run(["submit", "random:resnet18", "--name", "r", "--data", str(tmp_path), "--track", "custom"]) == 1
    assert "is missing: `densebench data describe" in capsys.readouterr().err
    (root / DESCRIPTION).write_text("{{{")
    assert [finding.state for finding in _own_data(root)] == ["missing"]


def test_a_probe_runs_once_and_fine_tuning_with_every_seed(tmp_path: Path) -> None:
    protocols, seeds = choose_protocols("custom", (), None, data=coco_data(tmp_path / "parts"))
    assert [protocol.dataset for protocol in protocols] == ["custom_seg"] * 3 + ["custom_det", "custom_inst"]
    evaluation = Evaluation(tuple(protocols), seeds, tmp_path / "parts", check_data_sets(tmp_path / "parts", protocols))
    plan = plan_runs("random:resnet18:0", evaluation, name="r", work=tmp_path / "work")
    seeds_of: dict[str, list[int]] = {}
    for planned in plan.todo:
        seeds_of.setdefault(planned.protocol, []).append(planned.seed)
    assert {name: seeds for name, seeds in seeds_of.items() if len(seeds) == 1} == {
        "custom_seg_linear": [0],
        "custom_seg_knn": [0],
    }
    assert all(seeds == [0, 1, 2] for name, seeds in seeds_of.items() if not name.endswith(("linear", "knn")))
    boxes, _ = choose_protocols("custom", (), None, data=yolo_data(tmp_path / "boxes"))
    assert [protocol.id for protocol in boxes] == ["custom_det_frcnn_fpn"]
    smaller, _ = choose_protocols("custom", (), None, batch=2, data=tmp_path / "parts")
    assert [protocol.id for protocol in smaller[:3]] == ["custom_seg_linear", "custom_seg_knn", "custom_seg_fcn_batch2"]
