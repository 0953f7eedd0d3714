"""What `data check` calls a usable COCO data set is trained on and evaluated, whatever was done to it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_mutations import SIZE, SPLITS, mutated_root, write_root

from bench.datasets import check
from bench.datasets.coco import annotation_file
from bench.metrics.coco_detection import evaluate_coco, load_ground_truth
from bench.openmmlab import prepare_openmmlab
from tests.mutations import mutations

prepare_openmmlab()

from mmdet.registry import DATASETS  # noqa: E402
from mmengine import DefaultScope  # noqa: E402

from transfer_configs.parts import datasets, loading  # noqa: E402


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_root(tmp_path_factory.mktemp("coco") / "data")


def reader(root: Path, split: str) -> Any:
    """The data set that the protocol builds, with annotations in both splits."""
    chosen = {"filter_cfg": {"filter_empty_gt": True}} if split == "train" else {"test_mode": True}
    pipeline = loading.detection_training(loading.fit(SIZE), masks=True)[:2]
    # serialised, mmengine collects garbage for each of many small data sets, which takes most of the time
    config = datasets.coco(f"{split}2017", pipeline, serialize_data=False, **chosen)
    with DefaultScope.overwrite_default_scope("mmdet"):
        return DATASETS.build({**config, "data_root": str(root)})


def assert_readable(root: Path, split: str) -> None:
    data = reader(root, split)
    for position in range(len(data)):
        item = data[position]
        assert item["img"].shape == (*SIZE[::-1], 3)
        boxes = item["gt_bboxes"].tensor.numpy()
        assert np.isfinite(boxes).all() and (boxes[:, 2:] - boxes[:, :2] > 0.99).all()
        assert (boxes >= -1.001).all() and (boxes <= np.array(SIZE * 2) + 1.001).all()
        assert item["gt_masks"].masks.shape == (len(boxes), *SIZE[::-1])
        assert (item["gt_bboxes_labels"] < 80).all()


def perfect_scores(file: Path) -> tuple[dict[str, float], bool]:
    """The values of the annotations as detections, and whether each can be found at all."""
    truth = load_ground_truth(file)
    objects = [a for a in truth.dataset["annotations"] if not a["iscrowd"]]
    shared = [{"image_id": a["image_id"], "category_id": a["category_id"], "score": 1.0} for a in objects]
    boxes = [{**s, "bbox": a["bbox"]} for s, a in zip(shared, objects, strict=True)]
    masks = [{**s, "segmentation": truth.annToRLE(a)} for s, a in zip(shared, objects, strict=True)]
    findable = all(min(a["bbox"][2:]) > 0.01 and truth.annToMask(a).any() for a in objects)
    return evaluate_coco(truth, boxes, "bbox") | {"segm": evaluate_coco(truth, masks, "segm")["AP"]}, findable


def test_whatever_is_called_usable_is_read_and_evaluated(good: Path, tmp_path: Path) -> None:
    usable = refused = perfect = 0
    for seed in range(mutations(40)):
        root = mutated_root(good, tmp_path / str(seed), seed)
        report = check(root, "coco2017")
        if report.errors:
            refused += 1
            continue
        usable += 1
        for split in SPLITS:
            assert_readable(root, split)
        scores, findable = perfect_scores(annotation_file(root, "val"))
        if findable:
            perfect += 1
            assert (scores["AP"], scores["segm"]) == pytest.approx((100, 100)), seed
        else:
            assert any(severity == "warning" for severity, _ in report.problems), seed
    print(f"{usable} usable ({perfect} of them with objects that can all be found), {refused} refused")
    assert usable > 5 and refused > 5 and perfect > 2
