"""Generated data with what track paper needs beside them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_generate import tree

from bench.datasets import DATASETS, check, expected_in, generate
from bench.datasets.cityscapes_instances import find_instances, load_ids
from bench.datasets.names import VOID
from bench.datasets.synthetic.street import EGO_VEHICLE, GROUP_BELOW, Street, instance_ids


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("paper") / "data"
    generate(root, seed=3, train=6, val=4, pretrain=5, paper=True)
    return root


def test_files_of_the_other_data_sets_keep_their_bytes(generated: Path, paper: Path) -> None:
    plain, more = tree(generated), tree(paper)
    del plain["generated.json"]
    assert plain.items() <= more.items()
    for name in DATASETS:
        assert check(paper, name).fingerprint == check(generated, name).fingerprint


@pytest.mark.parametrize(
    ("name", "train", "val"), [("voc0712_det", 16, 4), ("voc2012aug_seg", 12, 4), ("cityscapes_inst", 3, 2)]
)
def test_they_pass_their_check(paper: Path, name: str, train: int, val: int) -> None:
    assert expected_in(paper) == [*DATASETS, "voc0712_det", "voc2012aug_seg", "cityscapes_inst"]
    report = check(paper, name)
    assert not report.errors
    others = [problem.message for problem in report.problems if "published results" not in problem.message]
    assert others == [], "all but that there are fewer images than the published ones"
    reference = report.reference()
    assert (reference.train_images, reference.val_images) == (train, val)


def test_masks_like_those_of_sbd_have_no_void(paper: Path) -> None:
    masks = sorted((paper / "VOCdevkit/VOC2012/SegmentationClassAug").iterdir())
    assert len(masks) == 6
    labels = {label for path in masks for label in np.unique(np.asarray(Image.open(path))).tolist()}
    assert VOID not in labels and len(labels) > 2


def test_instance_ids_and_train_ids_agree(paper: Path) -> None:
    things = {24: 11, 26: 13}
    objects = 0
    for path in (paper / "cityscapes").rglob("*_instanceIds.png"):
        ids = load_ids(path)
        labels = np.asarray(Image.open(path.with_name(path.name.replace("instanceIds", "labelTrainIds"))))
        np.testing.assert_array_equal(ids == EGO_VEHICLE, labels == VOID)
        classes = np.where(ids >= 1000, ids // 1000, ids)
        for number, train_id in things.items():
            np.testing.assert_array_equal(classes == number, labels == train_id)
        objects += sum(not instance.group for instance in find_instances(ids))
    assert objects > 5


def test_an_object_of_which_hardly_anything_is_seen_belongs_to_a_group() -> None:
    labels, objects = np.zeros((20, 40), np.uint8), np.zeros((20, 40), np.uint16)
    for number, (left, width) in enumerate(((0, 8), (8, 2), (12, 10)), start=1):
        labels[:10, left : left + width], objects[:10, left : left + width] = 13, number
    labels[12, 3], objects[12, 3] = 5, 9  # a pole
    labels[15:] = VOID
    ids = instance_ids(Street(np.zeros((20, 40, 3), np.uint8), labels, objects))
    assert 20 < GROUP_BELOW <= 80
    assert np.unique(ids).tolist() == [EGO_VEHICLE, 7, 17, 26, 26000, 26001]
    assert [(ids == value).sum() for value in (26, 26000, 26001)] == [20, 80, 100]


def test_larger_images_have_larger_objects(tmp_path: Path) -> None:
    generate(tmp_path / "data", train=2, val=2, pretrain=0, zoom=3)
    sizes = {Image.open(path).size for path in (tmp_path / "data").rglob("*.jpg")}
    assert all(360 <= min(size) <= max(size) <= 576 for size in sizes)
    assert [check(tmp_path / "data", name).problems for name in DATASETS] == [()] * len(DATASETS)
