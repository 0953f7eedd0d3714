"""What the check calls usable is usable: every item is read by fine-tuning, and perfect predictions score 100.

Held over mutated roots of VOC and Cityscapes; `DENSEBENCH_MUTATIONS` sets how many. The check itself never fails.
"""

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutated import mutate

from bench.datasets import DatasetReport, check, generate
from bench.metrics.segmentation import confusion_matrix, segmentation_scores
from bench.metrics.voc_detection import Detections, Objects, evaluate_voc
from bench.openmmlab import prepare_openmmlab
from bench.protocols import load_protocol
from tests.mutations import mutations

PROTOCOLS = {
    "voc2012_det": "mini_voc_det_frcnn_fpn",
    "voc2012_seg": "mini_voc_seg_fcn",
    "cityscapes": "mini_city_seg_fcn",
}
SLICES = 3
"""Tests, each of its share of the mutations."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small") / "data"
    generate(root, seed=5, train=3, val=2, pretrain=0)
    return root


def readers(root: Path, protocol: str) -> dict[str, Any]:
    """The data sets of both splits as fine-tuning builds them."""
    prepare_openmmlab()
    from mmdet.registry import DATASETS as MMDET
    from mmengine import DefaultScope
    from mmseg.registry import DATASETS as MMSEG

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(fill(item) for item in value)
        return value.replace("run:data_root", str(root)) if isinstance(value, str) else value

    config = load_protocol(protocol).config
    registry = MMDET if config["default_scope"] == "mmdet" else MMSEG
    with DefaultScope.overwrite_default_scope(registry.scope):
        return {
            split: registry.build(fill(config[loader]["dataset"]))
            for split, loader in (("train", "train_dataloader"), ("val", "test_dataloader"))
        }


def perfect_score(data: Any, classes: int) -> float:
    """The headline of predictions that are the ground truth, in per cent."""
    infos = [data.get_data_info(index) for index in range(len(data))]
    if "seg_map_path" in infos[0]:
        matrices = []
        for index in range(len(data)):
            labels = data[index]["data_samples"].gt_sem_seg.data[0].numpy()
            matrices.append(confusion_matrix(labels, np.where(labels == 255, 0, labels), classes))
        return segmentation_scores(np.sum(matrices, axis=0)).miou
    objects, found = [], []
    for info in infos:
        boxes = np.array([item["bbox"] for item in info["instances"]], float).reshape(-1, 4)
        labels = np.array([item["bbox_label"] for item in info["instances"]], int)
        objects.append(Objects(boxes, labels, np.array([item["difficult"] for item in info["instances"]], bool)))
        found.append(Detections(boxes.astype(np.float32), np.ones(len(labels), np.float32), labels))
    return evaluate_voc(objects, found, classes).ap50


def require_usable(root: Path, report: DatasetReport, protocol: str) -> None:
    for split, data in readers(root, protocol).items():
        read = {data.get_data_info(index)["img_path"] for index in range(len(data))}
        listed = {str(path) for path in report.splits[split].images}
        empty = report.splits[split].counts["images without objects"] if split == "train" else 0
        assert read <= listed and len(read) == len(data) == len(listed) - empty
        for index in range(len(data)):
            assert data[index]["inputs"].shape[0] == 3
        if split == "val" and not any("as is an object before it" in problem.message for problem in report.problems):
            assert perfect_score(data, len(data.metainfo["classes"])) == pytest.approx(100)


@pytest.mark.parametrize("part", range(SLICES))
@pytest.mark.parametrize("dataset", PROTOCOLS)
def test_what_the_check_calls_usable_is_usable(small: Path, tmp_path: Path, dataset: str, part: int) -> None:
    for number in range(part, mutations(18) // len(PROTOCOLS), SLICES):
        generator = random.Random(f"{dataset} {number}")
        root = tmp_path / str(number)
        shutil.copytree(small, root, ignore=lambda *_: ["coco"])
        changes = mutate(generator, root, dataset)
        report = check(root, dataset)
        str(report.to_dict())
        if not report.errors:
            try:
                require_usable(root, report, PROTOCOLS[dataset])
            except Exception as error:
                raise AssertionError(f"{dataset}, seed {number}: {changes}: {type(error).__name__}: {error}") from error
        shutil.rmtree(root)


@pytest.mark.parametrize("dataset", PROTOCOLS)
def test_unchanged_data_are_usable(small: Path, dataset: str) -> None:
    report = check(small, dataset)
    assert report.errors == ()
    require_usable(small, report, PROTOCOLS[dataset])
