"""Copies of test images among pretraining images: found, named, computed once."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from moving_squares import write_videos
from own_data import coco_data, picture
from own_data import save as save_turned
from PIL import Image, ImageOps
from tiny_lvis import with_lvis

from bench.cli import run
from bench.contamination import hashes, search_copies
from bench.contamination.images import evaluated_images
from bench.datasets import generate
from bench.datasets.own.description import DATASETS, read_own
from bench.errors import BenchError
from bench.protocols import all_protocols
from leaderboard.base.errors import FileError
from leaderboard.records import Copies
from pretrain.errors import PretrainError
from pretrain.exported import read_card

CARD = Path(__file__).parents[2] / "leaderboard/records/fixtures/v2/made-up-card.json"
SHARED = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contaminated") / "data"
    generate(folder, seed=5, train=2, val=4, pretrain=3)
    return folder


def val(root: Path) -> list[Path]:
    """VOC's val images of segmentation, in order."""
    return evaluated_images(root)["voc2012_seg"]


def save(image: Image.Image, path: Path, quality: int = 60) -> None:
    image.save(path, "JPEG", quality=quality)


@pytest.fixture
def images(root: Path, tmp_path: Path) -> Path:
    """Pretraining images: three of their own and, of the first four val images, a copy each."""
    folder = tmp_path / "images"
    shutil.copytree(root / "pretrain" / "images", folder)
    first, second, third, fourth = val(root)
    shutil.copy(first, folder / "x-same.jpg")
    with Image.open(second) as image:
        save(image.resize((90, 70)), folder / "x-small.jpg")
    with Image.open(third) as image:
        width, height = image.size
        cut = image.crop((round(0.04 * width), round(0.04 * height), round(0.96 * width), round(0.96 * height)))
        save(ImageOps.mirror(cut), folder / "x-mirrored.jpg")
    with Image.open(fourth) as image:
        save(image.convert("L"), folder / "x-gray.jpg")
    (folder / "x-damaged.jpg").write_bytes(b"no picture")
    return folder


def test_copies_are_found(root: Path, images: Path, tmp_path: Path) -> None:
    found = {one.dataset: one for one in search_copies(images, root, tmp_path / "work")}
    assert list(found) == ["voc2012_det", "voc2012_seg", "coco2017", "cityscapes", "cityscapes_inst"]
    copies = {copy.tested: copy for copy in found["voc2012_seg"].copies}
    wanted = dict(zip(val(root), ("x-same.jpg", "x-small.jpg", "x-mirrored.jpg", "x-gray.jpg"), strict=True))
    for path, name in wanted.items():
        copy = copies[path.relative_to(root).as_posix()]
        assert copy.pretrained == name and copy.kind == ("same bytes" if "same" in name else "same picture")
        assert copy.bits <= 48
    assert not found["coco2017"].copies and not found["cityscapes"].copies
    assert found["voc2012_seg"].tested == 4 and found["voc2012_seg"].plain == 0


def test_hashes_are_computed_once_and_go_on(
    root: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = search_copies(images, root, tmp_path / "work", ["voc2012_seg"])
    files = sorted((tmp_path / "work").rglob("*.npy"))
    assert len(files) == 2
    known = np.load(files[0])
    assert known.shape == (8, 9) and not known[[p.name for p in sorted(images.iterdir())].index("x-damaged.jpg")].any()
    whole = files[0].read_bytes()
    files[0].write_bytes(whole[:-100])  # an interruption within the last but one row
    counted: list[int] = []
    get = hashes.Hashes.__getitem__
    monkeypatch.setattr(hashes.Hashes, "__getitem__", lambda self, index: (counted.append(index), get(self, index))[1])
    assert search_copies(images, root, tmp_path / "work", ["voc2012_seg"]) == first
    assert counted == [6, 7] and files[0].read_bytes() == whole


def test_images_in_shards_and_lists_are_searched(root: Path, images: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "images.tar", "w") as shard:
        for path in sorted(images.iterdir()):
            content = path.read_bytes()
            info = tarfile.TarInfo(path.name)
            info.size = len(content)
            shard.addfile(info, io.BytesIO(content))
    (images / "list.txt").write_text("x-same.jpg\nx-gray.jpg\n")
    (whole,) = search_copies(images, root, tmp_path / "work", ["voc2012_seg"])
    (packed,) = search_copies(tmp_path / "images.tar", root, tmp_path / "work", ["voc2012_seg"])
    (listed,) = search_copies(images / "list.txt", root, tmp_path / "work", ["voc2012_seg"])
    assert packed == whole and {copy.pretrained for copy in listed.copies} == {"x-same.jpg", "x-gray.jpg"}


def test_hashes_are_those_of_the_files(tmp_path: Path) -> None:
    """Data whose files have the same names and sizes: in another folder, and changed in place."""
    for number, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        picture(number).save(tmp_path / name / "0001.bmp")
    own = coco_data(tmp_path / "own")
    save_turned(picture(1), own / "val" / "0.png")  # the picture in `two`

    def copies(name: str) -> list[str]:
        (found,) = search_copies(tmp_path / name, own, tmp_path / "work")
        return [copy.tested for copy in found.copies]

    assert copies("one") == [] and copies("two") == ["val/0.png"]
    for name in ("one", "two"):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as shard:
            shard.add(tmp_path / name / "0001.bmp", "0001.bmp")
    assert copies("one.tar") == [] and copies("two.tar") == ["val/0.png"]
    picture(2).save(tmp_path / "two" / "0001.bmp")
    assert copies("two") == []
    save_turned(picture(2), own / "val" / "0.png")
    assert copies("two") == ["val/0.png"]


@pytest.mark.parametrize("turned", [3, 6])
def test_pictures_are_found_as_stored_and_as_seen(turned: int, root: Path, tmp_path: Path) -> None:
    """A photograph with an EXIF orientation, in either collection, is one with its picture as stored or as seen."""
    stored = Image.open(val(root)[0])
    own = coco_data(tmp_path / "own")
    save_turned(stored, tmp_path / "photograph.jpg", turned)
    seen = ImageOps.exif_transpose(Image.open(tmp_path / "photograph.jpg"))
    plain = {"stored": stored, "seen": seen}
    for name, image in plain.items():
        save(image, tmp_path / f"{name}.jpg")
        images = tmp_path / f"images-{name}"
        images.mkdir()
        for tested, pretrained in (("photograph.jpg", f"{name}.jpg"), (f"{name}.jpg", "photograph.jpg")):
            shutil.copy(tmp_path / tested, own / "val" / "0.png")  # what it is, its content says
            shutil.copy(tmp_path / pretrained, images / "one.jpg")
            (found,) = search_copies(images, own, tmp_path / "work")
            assert [copy.pretrained for copy in found.copies] == ["one.jpg"], (name, tested)


@pytest.fixture(scope="module")
def every(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with something of every data set; what is not looked into is empty."""
    folder = tmp_path_factory.mktemp("every") / "data"
    shutil.copytree(root, folder)
    shutil.copytree(with_lvis(root, folder.parent / "lvis") / "lvis", folder / "lvis")
    write_videos(folder, ("a",))
    coco = next((root / "coco/val2017").iterdir()).stem
    written = {
        "VOCdevkit/VOC2007/ImageSets/Main/test.txt": "000001\n",
        "VOCdevkit/VOC2007/JPEGImages/000001.jpg": "",
        "VOCdevkit/VOC2012/SegmentationClassAug/a.png": "",
        "maskdistill/voc2012.npy": "",
        "maskdistill/coco2017.npy": "",
        "coco/curated/val2017/Coco164kFull_Stuff_Coarse_7.txt": f"{coco}\n",
        "CUB_200_2011/lists/val.txt": "a/b\n",
        "CUB_200_2011/images/a/b.jpg": "",
        "ADEChallengeData2016/images/validation/a.jpg": "",
        "JHMDB/joint_positions/a/b/joint_positions.mat": "",
        "JHMDB/Rename_Images/a/b/0.png": "",
        "VIP/VIP_Fine/Annotations/Category_ids/a/0.png": "",
        "VIP/VIP_Fine/Images/a/0.jpg": "",
        "imagenet/val/a/b.png": "",  # probes read endings other than that of the published files
        "imagenet/train-1percent.txt": "",
        "imagenet/train-10percent.txt": "",
        "imagenet/ImageNet_LT_train.txt": "",
        "imagenet/ImageNet_LT_test.txt": "val/a/b.png 0\n",
    }
    for path, text in written.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def test_the_test_images_of_every_protocol_can_be_searched(every: Path) -> None:
    found = evaluated_images(every)
    wanted = {protocol.dataset for protocol in all_protocols()} - set(DATASETS)
    assert wanted <= found.keys() and all(found.values())
    assert found["voc2007"] == found["voc0712_det"]
    assert [path.name for path in found["imagenet-1percent"]] == ["b.png"]


def test_own_data_are_searched_through_their_description(tmp_path: Path) -> None:
    root = coco_data(tmp_path / "own")
    (one,) = search_copies(root, root, tmp_path / "work")  # pretrained on all images, those of val among them
    assert one.dataset == read_own(root).said.name and one.tested == 3
    assert {(copy.tested, copy.pretrained) for copy in one.copies} == {
        (f"val/{i}.png", f"val/{i}.png") for i in range(3)
    }
    (other,) = search_copies(root / "train", root / "densebench-data.yaml", tmp_path / "work")
    assert other.copies == ()


def test_what_cannot_be_searched_is_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="has no test image of ade20k; it has voc2012_det, voc2012_seg, "):
        search_copies(root / "pretrain" / "images", root, tmp_path, ["ade20k"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(BenchError, match="has no test image of any data set"):
        search_copies(root / "pretrain" / "images", tmp_path / "empty", tmp_path)
    with pytest.raises(PretrainError, match="no images in"):
        search_copies(tmp_path / "empty", root, tmp_path)


def test_the_command(root: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "contamination", "--images", str(images), "--data", str(root), "--work", str(tmp_path)]
    assert run(words) == 0
    told = capsys.readouterr().out
    name = val(root)[0].relative_to(root).as_posix()
    assert f"same bytes (0 of 256 bits differ): {name} is x-same.jpg" in told
    assert run([*words, "--dataset", "voc2012_seg", "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["tested"] == 4 and len(report["copies"]) == 4 and report["plain"] == 0


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the project's real photographs")
def test_photographs_of_other_collections_are_no_copies(tmp_path: Path) -> None:
    found = search_copies(SHARED / "pretrain" / "images", SHARED, tmp_path)
    assert len(found) >= 4 and sum(len(one.copies) for one in found) == 0
    assert sum(one.plain for one in found) == 0


def test_the_card_of_a_backbone_is_marked(root: Path, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "exported"
    folder.mkdir()
    shutil.copy(CARD, folder / "card.json")
    before = read_card(folder)
    words = ["data", "contamination", "--images", str(images), "--data", str(root), "--work", str(tmp_path)]
    assert run([*words, "--dataset", "voc2012_seg", "--mark", str(folder)]) == 0
    assert run([*words, "--dataset", "coco2017", "--mark", str(folder)]) == 0
    after = read_card(folder)
    assert after.pretraining.copies == (
        Copies(dataset="voc2012_seg", tested=4, copies=4), Copies(dataset="coco2017", tested=4, copies=0)
    )  # fmt: skip
    unmarked = after.pretraining.model_copy(update={"copies": None})
    assert after.model_copy(update={"pretraining": unmarked}) == before
    assert run([*words, "--mark", str(tmp_path)]) == 1


@pytest.mark.parametrize("there", [False, True])
def test_a_card_that_cannot_be_marked_is_told_before_the_search(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(folder: Path) -> None:
        raise FileError(f"cannot write into {folder}")

    def search(*_: object) -> None:
        raise AssertionError("it was searched")

    monkeypatch.setattr("leaderboard.base.files.require_writable", refuse)
    monkeypatch.setattr("bench.contamination.search_copies", search)
    if there:
        shutil.copy(CARD, tmp_path / "card.json")
    assert run(["data", "contamination", "--images", "i", "--data", "d", "--mark", str(tmp_path)]) == 1
    assert ("cannot write into" if there else "card.json: No such file") in capsys.readouterr().err
