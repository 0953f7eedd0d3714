"""Standard data sets from archives of their layouts: complete, partial, damaged, interrupted."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_archives import ARCHIVES, A, B, C, mat, shrunk, write_archives

from bench.cli import run
from bench.datasets import davis, jhmdb, vip
from bench.datasets.names import CITYSCAPES_CLASSES
from bench.datasets.report import Findings
from bench.datasets.standard import STANDARD, convert, find_standard, prepare, survey
from bench.datasets.standard.check import read_standard
from bench.datasets.standard.cityscapes import LABEL_IDS, train_id_table
from bench.datasets.standard.coco import COCO_STUFF_27, stuff_table
from bench.datasets.standard.table import Standard
from bench.datasets.standard.voc import read_sbd_mask
from bench.errors import BenchError

ALL = sorted(ARCHIVES)
WITH_SPLITS = ["ade20k", "cocostuff27", "cub200", "davis2016", "davis2017", "lvis"]


def prepared(root: Path, *names: str) -> Standard:
    """Set data sets up from small archives, in order; returns the last."""
    for name in names:
        write_archives(root / "archives", name)
        standard = shrunk(STANDARD[name])
        result = prepare(root, standard, root / "archives")
    assert result.complete, (result.todo, [(s.part.what, s.state) for s in result.parts])
    assert result.todo == ()
    return standard


def needed(name: str) -> list[str]:
    return [*STANDARD[name].needs, name]


def labels(path: Path) -> list[int]:
    with Image.open(path) as image:
        assert image.mode == "L"
        return [int(label) for label in np.unique(np.asarray(image))]


def files(root: Path, standard: Standard) -> dict[str, bytes]:
    """The files of a data set."""
    found = {path for part in standard.every_part() for path in part.files(root)}
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


@pytest.mark.parametrize("name", ALL)
def test_archives_become_a_complete_data_set(name: str, tmp_path: Path) -> None:
    standard = prepared(tmp_path, *needed(name))
    before = files(tmp_path, standard)
    assert not [*tmp_path.rglob("*.tmp")]
    watched: list[str] = []
    prepare(tmp_path, standard, tmp_path / "archives", watch=lambda what, done, of: watched.append(what))
    assert watched == [] and files(tmp_path, standard) == before  # nothing is done twice


@pytest.mark.parametrize("name", ALL)
def test_an_interrupted_setup_goes_on_to_the_same_files(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(tmp_path / "whole", *needed(name))
    root = tmp_path / "stopped"
    for other in STANDARD[name].needs:
        prepared(root, other)
    write_archives(root / "archives", name)
    standard = shrunk(STANDARD[name], tmp_path / "whole")
    stops = 0
    rename = Path.replace

    def stop_at_every_third(path: Path, target: Path) -> Path:
        nonlocal stops
        stops += 1
        if stops % 3 == 0:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", stop_at_every_third)
    for _ in range(40):
        try:
            prepare(root, standard, root / "archives")
            break
        except KeyboardInterrupt:
            continue
    monkeypatch.undo()
    prepare(root, standard, root / "archives")
    assert files(root, standard) == files(tmp_path / "whole", standard)


@pytest.mark.parametrize("name", WITH_SPLITS)
def test_what_was_set_up_passes_the_check(name: str, tmp_path: Path) -> None:
    standard = prepared(tmp_path, *needed(name))
    findings = Findings(tmp_path)
    splits, images = read_standard(standard, tmp_path, findings)
    assert findings.problems() == ()
    assert splits["train"].images and splits["val"].images and len(images.sha256) == len(images.bytes)
    published = Findings(tmp_path)
    read_standard(STANDARD[name], tmp_path, published)
    assert published.errors == 0
    warned = [message for _, message in published.problems() if not message.startswith("... and")]
    assert warned and all("values cannot be compared" in message for message in warned)


@pytest.mark.parametrize("name", WITH_SPLITS)
def test_what_is_missing_or_damaged_is_named(name: str, tmp_path: Path) -> None:
    standard = prepared(tmp_path, *needed(name))
    parts = [part for part in standard.every_part() if part.role == "images" and part.split == "val"]
    images = [path for part in parts for path in part.files(tmp_path)]
    images[0].write_bytes(images[0].read_bytes()[:40])
    findings = Findings(tmp_path)
    read_standard(standard, tmp_path, findings)
    assert any(f"{findings.name(images[0])} is damaged" in message for _, message in findings.problems())
    for path in {path for image in images for path in image.parent.iterdir()}:
        path.unlink()
    findings = Findings(tmp_path)
    read_standard(standard, tmp_path, findings)
    assert findings.errors
    text = " ".join(message for _, message in findings.problems())
    assert "expected" in text or "are missing, such as" in text


def test_a_folder_without_anything_says_where_everything_is(tmp_path: Path) -> None:
    for standard in STANDARD.values():
        result = survey(tmp_path, standard, tmp_path / "archives")
        assert result.state == "missing" and result.todo, standard.name
        assert all("https://" in step or "http://" in step or "those of coco2017" in step for step in result.todo)
    assert list(tmp_path.iterdir()) == []


def test_a_partial_data_set_is_incomplete(tmp_path: Path) -> None:
    write_archives(tmp_path / "archives", "voc2012")
    result = survey(tmp_path, STANDARD["voc2012"], tmp_path / "archives")
    assert result.state == "missing"
    assert result.todo == (
        f"unpack {tmp_path}/archives/VOCtrainval_11-May-2012.tar: densebench data prepare {tmp_path} voc2012",
    )
    prepare(tmp_path, shrunk(STANDARD["voc2012"]), tmp_path / "archives")
    result = survey(tmp_path, STANDARD["voc2012"], tmp_path / "archives")
    states = {state.part.what: state.state for state in result.parts}
    assert result.state == "incomplete" and set(states.values()) == {"incomplete"}


def test_another_archive_than_the_published_one_is_not_unpacked(tmp_path: Path) -> None:
    write_archives(tmp_path / "archives", "ade20k")
    with pytest.raises(BenchError, match="has 967,382,037: remove it and get it again"):
        prepare(tmp_path, STANDARD["ade20k"], tmp_path / "archives")
    assert not (tmp_path / "ADEChallengeData2016").exists()


def test_another_list_than_the_published_one_is_told(tmp_path: Path) -> None:
    prepared(tmp_path, "imagenet-lt")
    result = survey(tmp_path, STANDARD["imagenet-lt"], tmp_path / "archives")
    small = {state.part.what: state.state for state in result.parts}
    assert set(small.values()) == {"incomplete"}
    path = tmp_path / "imagenet/ImageNet_LT_val.txt"
    path.write_text("".join(f"train/n01440764/{number}.JPEG 0\n" for number in range(20_000)))
    result = survey(tmp_path, STANDARD["imagenet-lt"], tmp_path / "archives")
    assert {state.part.what: state.state for state in result.parts}["list val"] == "another list"
    assert any("is not the published list" in step for step in result.todo)


def test_images_of_another_data_set_are_asked_for(tmp_path: Path) -> None:
    write_archives(tmp_path / "archives", "lvis")
    result = prepare(tmp_path, shrunk(STANDARD["lvis"]), tmp_path / "archives")
    assert result.todo == (f"its images are those of coco2017: densebench data prepare {tmp_path} coco2017",)
    assert (tmp_path / "lvis/lists/val.txt").is_file()


def test_each_data_set_is_preceded_by_what_it_needs() -> None:
    assert [standard.name for standard in find_standard(["lvis", "sbd"])] == ["coco2017", "lvis", "voc2012", "sbd"]
    with pytest.raises(BenchError, match="unknown data set 'imagenet2': choose from voc2007, "):
        find_standard(["imagenet2"])


def test_the_tables_are_consistent() -> None:
    for standard in STANDARD.values():
        archives = [archive.name for archive in standard.archives]
        named = {part.archive for part in standard.parts if part.archive}
        assert named == set(archives) and len(archives) == len(set(archives)), standard.name
        assert standard.terms.startswith("http")
        for archive in standard.archives:
            assert archive.url.startswith("http") or standard.register or standard.by_hand
            assert archive.size or archive.digest or not archive.url.startswith("http:") or "cocostuff" in archive.url
            assert re.fullmatch(r"|sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", archive.digest)
        parts = standard.every_part()
        assert len({(part.what, part.pattern) for part in parts}) == len(parts)
        assert all(("{}" in part.pattern) == bool(part.names) for part in parts)


def test_sbds_masks_and_the_list_of_train_aug(tmp_path: Path) -> None:
    prepared(tmp_path, "voc2012", "sbd")
    folder = tmp_path / "VOCdevkit/VOC2012"
    assert labels(folder / "SegmentationClassAug/2008_000008.png") == [0, 20]
    listed = (folder / "ImageSets/Segmentation/trainaug.txt").read_text().split()
    assert listed == ["2007_000032", "2008_000008"]  # of SBD's two images one is in VOC's val
    assert not (tmp_path / "sbd/dataset/img").exists() and not (tmp_path / "sbd/README").exists()


@pytest.mark.parametrize(
    "content", [b"", b"no MATLAB file", mat(other=np.zeros(3)), mat(GTcls={"Segmentation": np.full((2, 2), 21)})]
)
def test_a_damaged_mask_of_sbd_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    path.write_bytes(content)
    with pytest.raises(BenchError, match=re.escape(str(path))):
        read_sbd_mask(path)


def test_cityscapes_label_ids_become_train_ids(tmp_path: Path) -> None:
    prepared(tmp_path, "cityscapes")
    assert labels(tmp_path / "cityscapes/gtFine/val/munster/munster_000000_000019_gtFine_labelTrainIds.png") == [
        0,
        18,
        255,
    ]
    assert not (tmp_path / "cityscapes/leftImg8bit/README").exists()
    # ids, names and trainIds of cityscapesscripts, written down once more
    theirs = {
        "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
        "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26,
        "truck": 27, "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
    }  # fmt: skip
    assert dict(zip(CITYSCAPES_CLASSES, LABEL_IDS, strict=True)) == theirs
    table = train_id_table()
    assert [int(table[number]) for number in theirs.values()] == list(range(19))
    assert Counter(table.tolist())[255] == 256 - 19


IIC_STUFF = (
    "17 17 22 20 20 22 15 25 16 13 12 12 17 17 23 15 15 17 15 21 15 25 13 13 13 13 13 22 26 14 14 15 22 21 21 24 20 22 "
    "15 17 16 15 22 24 21 17 25 16 21 17 22 16 21 21 25 21 26 21 24 20 17 14 21 26 15 23 20 21 24 15 24 22 25 15 20 17 "
    "17 22 14 18 18 18 18 18 18 18 26 26 19 19 24"
)
"""The class of the values 91 to 181 of COCO-Stuff's maps, from IIC's table."""
IIC_THINGS = "9 11*8 8*6 7*10 6*8 10*10 5*8 2*10 3*10 0*6 1*6 4*8"
"""The class of the values 0 to 90, as runs, from the same table."""


def test_coco_stuff_has_iics_27_classes(tmp_path: Path) -> None:
    prepared(tmp_path, "coco2017", "cocostuff27")
    runs = [run.partition("*") for run in IIC_THINGS.split()]
    things = [int(label) for label, _, times in runs for _ in range(int(times or 1))]
    table = stuff_table().tolist()
    assert table[:91] == things
    assert table[91:182] == [int(label) for label in IIC_STUFF.split()]
    assert set(table[182:]) == {255}
    assert COCO_STUFF_27[9] == "person" and COCO_STUFF_27[23] == "sky" and len(COCO_STUFF_27) == 27
    folder = tmp_path / "coco/stuffthingmaps27"
    assert labels(folder / f"train2017/{B}.png") == [9, 17, 24, 255]
    assert labels(folder / f"val2017/{C}.png") == [0, table[5], table[149]]
    assert not (folder / f"train2017/{A}.png").exists()  # it is in no list


def test_lvis_lists_name_the_folder_of_each_image(tmp_path: Path) -> None:
    prepared(tmp_path, "coco2017", "lvis")
    assert (tmp_path / "lvis/lists/val.txt").read_text() == f"val2017/{C}.jpg\ntrain2017/{A}.jpg\n"
    (tmp_path / "lvis/lvis_v1_val.json").write_text(json.dumps({"images": []}))
    with pytest.raises(BenchError, match="names no image of COCO"):
        next(c for c in STANDARD["lvis"].conversions if "val" in c.what).run(tmp_path, lambda done, total: None)


def test_cubs_lists_follow_the_split(tmp_path: Path) -> None:
    prepared(tmp_path, "cub200")
    assert (tmp_path / "CUB_200_2011/lists/train.txt").read_text() == "001.Albatross/a_1\n"
    assert (tmp_path / "CUB_200_2011/lists/val.txt").read_text() == "002.Auklet/b_2\n"
    assert not (tmp_path / "attributes.txt").exists()


def test_imagenets_subsets_become_paths(tmp_path: Path) -> None:
    prepared(tmp_path, "imagenet-subsets")
    text = (tmp_path / "imagenet/train-10percent.txt").read_text()
    assert text == "train/n01440764/n01440764_10026.JPEG\ntrain/n01443537/n01443537_2.JPEG\n"


def test_a_conversion_makes_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(tmp_path, "voc2012", "sbd")
    folder = tmp_path / "VOCdevkit/VOC2012/SegmentationClassAug"
    first = hashlib.sha256((folder / "2008_000008.png").read_bytes()).hexdigest()
    (folder / "2008_000008.png").write_bytes(b"")  # as a crash of the system may leave it
    made: list[str] = []
    write = convert.write_whole
    monkeypatch.setattr(convert, "write_whole", lambda path, content: (made.append(path.name), write(path, content)))
    STANDARD["sbd"].conversions[0].run(tmp_path, lambda done, total: None)
    assert made == ["2008_000008.png"]
    assert hashlib.sha256((folder / "2008_000008.png").read_bytes()).hexdigest() == first


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "data"
    assert run(["data", "prepare", str(root)]) == 0
    assert "ADE20K, 150 classes" in capsys.readouterr().out and not root.exists()
    assert run(["data", "prepare", str(root), "ade20k", "--archives", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "0 of 20,210" in told and "or add --download, which accepts the terms of http://sceneparsing" in told
    write_archives(tmp_path, "vip")
    assert run(["data", "prepare", str(root), "vip", "--archives", str(tmp_path), "--json"]) == 1
    (report,) = json.loads(capsys.readouterr().out)
    assert report["archives"] == [{"name": "VIP_Fine.zip", "url": None, "bytes": None, "digest": None}]
    assert {part["what"]: part["found"] for part in report["parts"]} == {
        "list val": 1, "frames of val": 3, "masks of val": 3,
    }  # fmt: skip
    assert run(["data", "prepare", str(root), "vipp"]) == 1
    assert "unknown data set 'vipp'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ade20k", "davis2017"])
def test_data_check_reads_what_was_set_up(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared(tmp_path, name)
    assert run(["data", "check", str(tmp_path), "--dataset", name, "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert (
        report["ok"] and report["splits"]["val"]["images"] == (2 if name == "ade20k" else 6) and report["fingerprint"]
    )
    if name == "ade20k":
        histogram = report["splits"]["train"]["histogram"]
        assert {label: pixels for label, pixels in histogram.items() if pixels} == {
            "not evaluated": 96,
            "class 150": 96,
        }
    assert run(["data", "check", str(tmp_path), "--dataset", "cub200"]) == 1
    assert "no CUB_200_2011 in" in " ".join(capsys.readouterr().out.split())


def test_readers_find_the_videos_where_they_were_put(tmp_path: Path) -> None:
    prepared(tmp_path, "vip")
    prepared(tmp_path, "jhmdb")
    prepared(tmp_path, "davis2017")
    findings = Findings(tmp_path)
    assert [(video.name, len(video.frames)) for video in vip.list_parts(tmp_path, findings)] == [("videos1", 3)]
    assert [(clip.name, len(clip.frames)) for clip in jhmdb.list_clips(tmp_path, findings)] == [("catch/b", 2)]
    assert jhmdb.load_joints(jhmdb.list_clips(tmp_path, findings)[0].joints, 2).shape == (2, 15, 2)
    videos = davis.list_videos(tmp_path, "davis2017", findings)
    assert [(video.name, len(video.frames)) for video in videos] == [("blackswan", 3), ("gold-fish", 3)]
    assert findings.problems() == ()
