"""Cityscapes' instances as a run reads and evaluates them, built from the protocol's own config."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from instance_ids import with_instance_ids
from PIL import Image
from pycocotools import mask as run_length
from short_protocols import checkpoint

from bench.datasets.names import CITYSCAPES_THINGS
from bench.errors import BenchError
from bench.metrics.outputs import DETECTIONS
from bench.openmmlab import prepare_openmmlab
from bench.openmmlab.build import resolve
from bench.protocols import load_protocol
from leaderboard.shares import SHARES, read_shares
from pretrain.exported import read_exported

CLASSES = list(CITYSCAPES_THINGS)


@pytest.fixture(scope="module")
def root(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_instance_ids(tiny_data, tmp_path_factory.mktemp("instances") / "data")


@pytest.fixture(scope="module", params=["paper_city_inst_mrcnn_fpn_24k", "mini_city_inst_mrcnn_fpn"])
def config(request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    card = read_exported(checkpoint(tmp_path_factory.mktemp("work"))).card
    return resolve(load_protocol(request.param), card, root)


def build(kind: str, part: dict[str, Any]) -> Any:
    prepare_openmmlab()
    from mmdet import registry
    from mmengine import DefaultScope

    with DefaultScope.overwrite_default_scope("mmdet"):
        return getattr(registry, kind).build(part)


def test_instances_are_those_of_the_ids(config: dict[str, Any], root: Path) -> None:
    data = build("DATASETS", config["test_dataloader"]["dataset"])
    assert data.metainfo["classes"] == tuple(CITYSCAPES_THINGS.values())
    for index in range(len(data)):
        record = data.get_data_info(index)
        ids = np.asarray(Image.open(record["ids_path"]))
        assert Path(record["img_path"]).name.startswith(record["img_id"])
        assert (record["height"], record["width"]) == ids.shape
        decoded = np.zeros(ids.shape, int)
        for item in record["instances"]:
            mask = run_length.decode(item["mask"]).astype(bool)
            (value,) = np.unique(ids[mask])
            decoded[mask] = value
            assert item["ignore_flag"] == (value < 1000)
            assert CLASSES[item["bbox_label"]] == (value if value < 1000 else value // 1000)
        things = np.isin(np.where(ids < 1000, ids, ids // 1000), CLASSES)
        np.testing.assert_array_equal(decoded, np.where(things, ids, 0))


def test_every_object_is_trained_on_and_no_group(config: dict[str, Any]) -> None:
    data = build("DATASETS", config["train_dataloader"]["dataset"])
    for index in range(len(data)):
        objects = [item for item in data.get_data_info(index)["instances"] if not item["ignore_flag"]]
        found = data[index]["data_samples"].gt_instances
        assert found.labels.tolist() == [item["bbox_label"] for item in objects] and objects
        assert len(found.masks) == len(objects)
        for mask, (left, top, right, bottom) in zip(found.masks.masks, found.bboxes.tensor.tolist(), strict=True):
            rows, columns = np.nonzero(mask)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.abs(np.array(box) - [left, top, right, bottom]).max() <= 8  # of pixels that are enlarged


def test_images_without_an_object_are_not_trained_on(config: dict[str, Any], root: Path, tmp_path: Path) -> None:
    before = len(build("DATASETS", config["train_dataloader"]["dataset"]))
    copied = tmp_path / "gtFine"
    paths = sorted((root / "cityscapes/gtFine/train").glob("*/*"))
    for number, path in enumerate(paths):
        ids = np.array(Image.open(path)).astype(np.uint16)
        if number == 0:
            ids = np.where(ids >= 1000, ids // 1000, ids).astype(np.uint16)  # all its objects are groups
        (copied / path.parent.name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(ids).save(copied / path.parent.name / path.name)
    part = {**config["train_dataloader"]["dataset"]}
    part["data_prefix"] = {**part["data_prefix"], "seg_map_path": str(copied)}
    assert len(build("DATASETS", part)) == before - 1
    for path in copied.glob("*/*"):
        Image.fromarray(np.full((4, 4), 26, np.uint16)).save(path)
    with pytest.raises(BenchError, match="no image to use"):
        build("DATASETS", part)


def test_perfect_predictions_score_100(config: dict[str, Any], tmp_path: Path) -> None:
    data = build("DATASETS", config["test_dataloader"]["dataset"])
    metric = build("METRICS", {**config["test_evaluator"], "dump": str(tmp_path)})
    metric.dataset_meta = data.metainfo
    for index in range(len(data)):
        record = data.get_data_info(index)
        found = [item for item in record["instances"] if not item["ignore_flag"]]
        masks = [run_length.decode(item["mask"]).astype(bool) for item in found]
        predicted = {
            "bboxes": torch.tensor([item["bbox"] for item in found], dtype=torch.float32).reshape(-1, 4),
            "scores": torch.linspace(0.5, 0.9, len(found)),
            "labels": torch.tensor([item["bbox_label"] for item in found], dtype=torch.int64),
            "masks": torch.from_numpy(np.array(masks).reshape(-1, record["height"], record["width"])),
        }
        kept = {key: record[key] for key in ("img_id", "ids_path", "instances")}
        metric.process(None, [{**kept, "pred_instances": predicted}])
    scores = metric.evaluate(size=len(data))
    assert scores == pytest.approx({"AP": 100, "AP50": 100, "bbox_AP": 100, "bbox_AP50": 100})
    written = json.loads((tmp_path / DETECTIONS).read_text())
    assert written and all({"image_id", "bbox", "segmentation", "score"} <= set(entry) for entry in written)
    assert set(read_shares(tmp_path / SHARES).metrics) == set(scores)


def test_images_without_an_object_are_held_out_as_others_are(config: dict[str, Any], root: Path) -> None:
    """They leave training alone: which images are held out does not depend on them."""
    part = {**config["train_dataloader"]["dataset"], "pipeline": [], "held_out": 0.4, "test_mode": False}
    train = build("DATASETS", {**part, "evaluated": False})
    held = build("DATASETS", {**part, "evaluated": True, "test_mode": True})
    assert train.listed == held.listed
    assert not set(train.taken) & set(held.taken) and {*train.taken, *held.taken} == set(train.listed)
    assert len(train) <= len(train.taken) and len(held) == len(held.taken)
