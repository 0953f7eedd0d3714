"""Fine-tuning on own data: every protocol of track custom runs, with the description's classes and turned pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reduced_protocols
import reduced_segmentation
from own_data import CLASSES, coco_data, masks_data, picture, save, yolo_data
from PIL import Image, ImageOps
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from short_protocols import checkpoint, short

from bench.datasets import check
from bench.datasets.own.description import DESCRIPTION, read_own
from bench.datasets.own.objects import load_objects
from bench.metrics.coco_detection import evaluate_coco, ground_truth_of
from bench.openmmlab.build import resolve
from bench.openmmlab.prepare import prepare_openmmlab
from bench.openmmlab.runner import run_transfer
from bench.protocols import load_protocol
from pretrain.exported import read_card


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("work"))


CASES = {
    "custom_seg_fcn": (masks_data, "mIoU", 5),
    "custom_det_frcnn_fpn": (yolo_data, "bbox_AP", 2),
    "custom_inst_mrcnn_fpn": (coco_data, "segm_AP", 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("protocol_id", CASES)
def test_every_protocol_runs(protocol_id: str, backbone: Path, tmp_path: Path) -> None:
    make, metric, classes = CASES[protocol_id]
    root = make(tmp_path / "data")
    protocol = short(protocol_id)
    reference = check(root, protocol.dataset).reference()
    result = run_transfer(protocol, backbone, root, reference, 0, tmp_path / "run")
    assert result.status == "finished" and 0 <= result.metrics[metric] <= 100
    assert result.dataset.classes == read_own(root).names and len(read_own(root).names) == classes
    assert (result.dataset.name, result.protocol.track) == ("mine", "custom")


FULL_SIZE = {
    "custom_seg_fcn_d8_20k": (masks_data, "mIoU", reduced_segmentation.reduced),
    "custom_det_frcnn_fpn_24k": (yolo_data, "bbox_AP", reduced_protocols.reduced),
    "custom_inst_mrcnn_fpn_24k": (coco_data, "segm_AP", reduced_protocols.reduced),
}


@pytest.mark.slow
@pytest.mark.parametrize("protocol_id", FULL_SIZE)
def test_protocols_of_full_size_run_at_reduced_size(protocol_id: str, backbone: Path, tmp_path: Path) -> None:
    make, metric, reduced = FULL_SIZE[protocol_id]
    root, protocol = make(tmp_path / "data"), reduced(protocol_id)
    reference = check(root, protocol.dataset).reference()
    result = run_transfer(protocol, backbone, root, reference, 0, tmp_path / "run")
    assert result.status == "finished" and 0 <= result.metrics[metric] <= 100


def test_full_size_differs_from_track_paper_in_data_and_classes_alone() -> None:
    for own_id, paper_id in (
        ("custom_seg_fcn_d8_20k", "paper_voc12aug_seg_fcn_d8_20k"),
        ("custom_inst_mrcnn_fpn_24k", "paper_city_inst_mrcnn_fpn_24k"),
    ):
        own, paper = (dict(load_protocol(name).config) for name in (own_id, paper_id))
        assert own["protocol"]["plan"] == paper["protocol"]["plan"]
        for section in ("train_cfg", "test_cfg", "optim_wrapper", "param_scheduler", "bf16_modules"):
            assert own[section] == paper[section]
        classes = "21" if "seg" in own_id else "8"
        said = "data:labels" if "seg" in own_id else "data:classes"
        assert str(own["model"]).replace(f"'{said}'", classes) == str(paper["model"])


def built(protocol_id: str, root: Path, backbone: Path, part: str) -> Any:
    """The data set of a part as a run builds it."""
    prepare_openmmlab()
    from mmdet.registry import DATASETS as MMDET
    from mmengine.registry import init_default_scope
    from mmseg.registry import DATASETS as MMSEG

    protocol = load_protocol(protocol_id)
    config = resolve(protocol, read_card(backbone), root)
    init_default_scope(config["default_scope"])
    registry = MMDET if config["default_scope"] == "mmdet" else MMSEG
    return registry.build(config[f"{'train' if part == 'train' else 'test'}_dataloader"]["dataset"])


def test_heads_have_the_classes_of_the_description(backbone: Path, tmp_path: Path) -> None:
    card = read_card(backbone)
    coco = resolve(load_protocol("custom_inst_mrcnn_fpn"), card, coco_data(tmp_path / "coco"))
    heads = coco["model"]["roi_head"]
    assert heads["bbox_head"]["num_classes"] == heads["mask_head"]["num_classes"] == len(CLASSES)
    assert resolve(load_protocol("custom_seg_fcn"), card, tmp_path / "coco")["model"]["decode_head"]["num_classes"] == 4
    masks = resolve(load_protocol("custom_seg_fcn"), card, masks_data(tmp_path / "masks"))
    assert masks["model"]["decode_head"]["num_classes"] == 5


@pytest.mark.parametrize("answer", ["stored", "turned"])
def test_the_network_sees_the_picture_that_the_annotations_fit(answer: str, backbone: Path, tmp_path: Path) -> None:
    root = yolo_data(tmp_path, "0 0.25 0.25 0.5 0.5\n", orientation=answer)
    save(picture(0), root / "images" / "train" / "0.png", 6)
    data = built("custom_det_frcnn_fpn", root, backbone, "train")
    record = data.get_data_info(0)
    load = data.pipeline.transforms[0]
    seen = load(dict(record))["img"]
    stored = Image.open(root / "images" / "train" / "0.png")
    wanted = ImageOps.exif_transpose(stored) if answer == "turned" else stored
    np.testing.assert_array_equal(seen, np.asarray(wanted)[:, :, ::-1])
    assert (record["width"], record["height"]) == wanted.size
    assert record["instances"][0]["bbox"] == [0, 0, wanted.size[0] / 2, wanted.size[1] / 2]


def test_segmentation_of_objects_has_the_drawn_map(backbone: Path, tmp_path: Path) -> None:
    data = built("custom_seg_fcn", coco_data(tmp_path), backbone, "val")
    assert data.metainfo["classes"] == ("background", *CLASSES.values())
    labels = data[1]["data_samples"].gt_sem_seg.data[0].numpy()
    assert set(np.unique(labels)) == {0, 1, 3} and labels.shape == (48, 64)


def test_values_are_those_of_pycocotools(tmp_path: Path) -> None:
    """Detections of a known quality on boxes that were read from YOLO's text, against pycocotools on the same boxes."""
    own = read_own(yolo_data(tmp_path))
    content = load_objects(own, "val").content
    rng = np.random.default_rng(0)
    found: list[dict[str, Any]] = [
        {
            "image_id": item.image.id, "category_id": item.category_id, "score": float(rng.random()),
            "bbox": [item.box[0] + rng.normal(), item.box[1], item.box[2], item.box[3] + rng.normal()],
        }
        for item in content.objects
    ]  # fmt: skip
    theirs = COCO()
    theirs.dataset = {
        "images": [image._asdict() for image in content.images.values()],
        "categories": [{"id": key, "name": name} for key, name in own.said.classes.items()],
        "annotations": [
            {
                "id": item.id, "image_id": item.image.id, "category_id": item.category_id, "bbox": list(item.box),
                "area": item.area, "iscrowd": 0,
            }
            for item in content.objects
        ],
    }  # fmt: skip
    theirs.createIndex()
    evaluation = COCOeval(theirs, theirs.loadRes([dict(one) for one in found]), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    ours = evaluate_coco(ground_truth_of(content), found, "bbox")
    assert ours["AP"] == pytest.approx(100 * evaluation.stats[0], abs=1e-9) and 0 < ours["AP"] < 100
    assert (tmp_path / DESCRIPTION).is_file()
