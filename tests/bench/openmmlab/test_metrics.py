"""The metric classes as a run uses them: through the registries, sample by sample, with what they write."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.metrics.coco_detection import evaluate_coco, load_ground_truth
from bench.metrics.outputs import COUNTS, DETECTIONS
from bench.metrics.segmentation import segmentation_scores
from bench.metrics.uncertainty import segmentation_shares
from bench.metrics.voc_detection import Detections, Objects, evaluate_voc
from bench.openmmlab import prepare_openmmlab
from leaderboard.shares import SHARES, read_shares

prepare_openmmlab()

from mmdet.registry import DATASETS as MMDET_DATASETS  # noqa: E402
from mmdet.registry import METRICS as MMDET_METRICS  # noqa: E402
from mmengine import DefaultScope, Registry  # noqa: E402
from mmseg.registry import DATASETS as MMSEG_DATASETS  # noqa: E402
from mmseg.registry import METRICS as MMSEG_METRICS  # noqa: E402


def build(registry: Registry, **config: Any) -> Any:
    with DefaultScope.overwrite_default_scope(registry.scope):
        return registry.build(config)


def predicted(boxes: list[list[float]], scores: list[float], labels: list[int]) -> dict[str, Any]:
    return {
        "bboxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "scores": torch.tensor(scores, dtype=torch.float32),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


def instance(box: list[float], label: int, difficult: bool = False) -> dict[str, Any]:
    return {"bbox": box, "bbox_label": label, "difficult": difficult, "ignore_flag": 0}


# --- VOC

SAMPLES: list[dict[str, Any]] = [
    {
        "img_id": "2007_000001",
        "instances": [instance([0, 0, 30, 30], 1), instance([40.0, 5, 60, 30], 0, difficult=True)],
        "pred_instances": predicted([[1.3, 0.2, 29.7, 31.1], [38, 4, 61, 33]], [0.8, 0.95], [1, 0]),
    },
    {
        "img_id": "2007_000002",
        "instances": [instance([10, 10, 50, 20], 1)],
        "pred_instances": predicted([[3, 3, 9, 9], [10, 10, 46.51, 20.03]], [0.9, 1 / 3], [1, 1]),
    },
    {"img_id": "2007_000003", "instances": [], "pred_instances": predicted([], [], [])},
]


def voc_metric(**changes: Any) -> Any:
    metric = build(MMDET_METRICS, type="VOCDetectionMetric", **changes)
    metric.dataset_meta = {"classes": ("cat", "dog")}
    return metric


def test_voc_figures_are_those_of_the_plain_functions_and_the_dump_gives_them_again(tmp_path: Path) -> None:
    metric = voc_metric(dump=str(tmp_path))
    metric.process({}, SAMPLES[:2])
    metric.process({}, SAMPLES[2:])
    figures = metric.evaluate(3)
    assert set(figures) == {"AP", "AP50", "AP75", "cocoAP"}
    assert 0 < figures["AP"] < figures["AP50"] < 100 and 0 < figures["cocoAP"] < 100

    dump = json.loads((tmp_path / "detections.json").read_text())
    truth, found = [], []
    for sample in SAMPLES:
        instances = sample["instances"]
        truth.append(
            Objects(
                np.array([i["bbox"] for i in instances]).reshape(-1, 4),
                np.array([i["bbox_label"] for i in instances], int),
                np.array([i["difficult"] for i in instances], bool),
            )
        )
        own = [d for d in dump if d["image_id"] == sample["img_id"]]
        boxes = np.array([d["bbox"] for d in own]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found.append(
            Detections(
                boxes.astype(np.float32),
                np.array([d["score"] for d in own], np.float32),
                np.array([d["category_id"] for d in own], int),
            )
        )
    scores = evaluate_voc(truth, found, 2)
    assert (scores.ap, scores.ap50, scores.ap75) == (figures["AP"], figures["AP50"], figures["AP75"])
    assert {path.name for path in tmp_path.iterdir()} == {DETECTIONS, SHARES}
    shares = read_shares(tmp_path / SHARES)
    assert shares.names == ("2007_000001", "2007_000002", "2007_000003") and shares.metrics.keys() == figures.keys()
    assert np.array_equal(shares.metrics["AP50"], scores.shares()["AP50"])


def test_voc_figures_have_plain_names_and_no_warning(capfd: pytest.CaptureFixture[str]) -> None:
    voc_metric()
    assert capfd.readouterr() == ("", "")


def test_voc_without_ground_truth_in_the_sample_says_what_to_change() -> None:
    with pytest.raises(BenchError, match="'instances' in the meta_keys"):
        voc_metric().process({}, [{key: value for key, value in SAMPLES[0].items() if key != "instances"}])


def test_voc_image_listed_twice_is_refused() -> None:
    metric = voc_metric()
    metric.process({}, [SAMPLES[0], SAMPLES[0]])
    with pytest.raises(BenchError, match="evaluated twice"):
        metric.evaluate(2)


# --- COCO


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    file = tmp_path / "instances.json"
    square = {"iscrowd": 0, "area": 400, "bbox": [0, 0, 20, 20], "segmentation": [[0, 0, 20, 0, 20, 20, 0, 20]]}
    file.write_text(
        json.dumps(
            {
                "images": [
                    {"id": 5, "file_name": "5.jpg", "height": 40, "width": 40},
                    {"id": 3, "file_name": "3.jpg", "height": 40, "width": 40},
                ],
                "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
                "annotations": [
                    {"id": 1, "image_id": 5, "category_id": 18} | square,
                    {"id": 2, "image_id": 3, "category_id": 1} | square,
                ],
            }
        )
    )
    return file


def coco_samples() -> list[dict[str, Any]]:
    mask = torch.zeros(1, 40, 40, dtype=torch.bool)
    mask[0, 8:20, :20] = True  # IoU .6: three of ten thresholds
    box = [[0.0, 0.0, 20.0, 20.0]]
    return [
        {"img_id": 5, "pred_instances": predicted(box, [0.9], [1]) | {"masks": mask}},
        {"img_id": 3, "pred_instances": predicted(box, [0.8], [0]) | {"masks": mask}},
    ]


def coco_metric(annotations: Path, **changes: Any) -> Any:
    metric = build(MMDET_METRICS, type="CocoDetectionMetric", ann_file=str(annotations), **changes)
    metric.dataset_meta = {"classes": ("person", "dog")}  # not the order of the file
    return metric


def test_coco_boxes_and_masks(annotations: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    metric = coco_metric(annotations, dump=str(tmp_path))
    metric.process({}, coco_samples())
    figures = metric.evaluate(2)
    assert figures["bbox_AP"] == pytest.approx(100) and figures["bbox_APs"] == pytest.approx(100)
    assert figures["segm_AP"] == pytest.approx(30) and figures["segm_AP50"] == pytest.approx(100)
    assert figures["segm_AP75"] == 0 and "segm_APl" not in figures
    assert capfd.readouterr() == ("", "")

    dump = json.loads((tmp_path / "detections.json").read_text())
    assert [d["category_id"] for d in dump] == [18, 1]
    boxes = [{key: value for key, value in d.items() if key != "segmentation"} for d in dump]
    masks = [{key: value for key, value in d.items() if key != "bbox"} for d in dump]
    truth = load_ground_truth(annotations)
    assert evaluate_coco(truth, boxes, "bbox")["AP"] == figures["bbox_AP"]
    assert evaluate_coco(truth, masks, "segm")["AP"] == figures["segm_AP"]
    shares = read_shares(tmp_path / SHARES)
    assert shares.names == ("3", "5") and shares.metrics.keys() == figures.keys()


def test_coco_without_detections_is_zero(annotations: Path) -> None:
    metric = coco_metric(annotations)
    nothing = predicted([], [], []) | {"masks": torch.zeros(0, 40, 40, dtype=torch.bool)}
    metric.process({}, [{"img_id": 5, "pred_instances": nothing}, {"img_id": 3, "pred_instances": nothing}])
    assert set(metric.evaluate(2).values()) == {0.0}


def test_coco_boxes_alone(annotations: Path) -> None:
    metric = coco_metric(annotations, iou_types=["bbox"])
    samples = coco_samples()
    for sample in samples:
        del sample["pred_instances"]["masks"]
    metric.process({}, samples)
    assert set(metric.evaluate(2)) == {"bbox_AP", "bbox_AP50", "bbox_AP75", "bbox_APs"}
    with pytest.raises(BenchError, match="predicts no masks"):
        coco_metric(annotations).process({}, samples)
    with pytest.raises(BenchError, match="iou_types are 'bbox' and 'segm'"):
        coco_metric(annotations, iou_types=["boxes"])


def test_coco_images_must_be_those_of_the_annotations(annotations: Path) -> None:
    metric = coco_metric(annotations)
    metric.process({}, coco_samples()[:1])
    with pytest.raises(BenchError, match="1 images were evaluated, but the annotations have 2"):
        metric.evaluate(1)


# --- segmentation


def test_segmentation_figures_and_matrix(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    metric = build(MMSEG_METRICS, type="SegmentationMetric", dump=str(tmp_path))
    metric.dataset_meta = {"classes": ("background", "cat", "dog")}
    generator = torch.Generator().manual_seed(0)
    expected = np.zeros((3, 3), np.int64)
    for i in range(4):
        label = torch.randint(0, 3, (1, 6, 5), generator=generator)
        label[0, 0] = 255
        found = torch.randint(0, 3, (1, 6, 5), generator=generator)
        sample = {"gt_sem_seg": {"data": label}, "pred_sem_seg": {"data": found}, "img_path": f"images/{i}.jpg"}
        metric.process({}, [sample])
        for true, prediction in zip(label.flatten().tolist(), found.flatten().tolist(), strict=True):
            if true != 255:
                expected[true, prediction] += 1
    figures = metric.evaluate(4)
    with np.load(tmp_path / COUNTS) as kept:
        names, counts = kept["names"].tolist(), kept["counts"]
    matrix = counts.sum(0)
    assert names == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert matrix.dtype == np.int64 and matrix.tolist() == expected.tolist()
    shares = read_shares(tmp_path / SHARES)
    assert shares.names == tuple(names)
    assert all(np.array_equal(shares.metrics[name], found) for name, found in segmentation_shares(counts).items())
    scores = segmentation_scores(matrix)
    assert figures == {"mIoU": scores.miou, "mAcc": scores.mean_accuracy, "aAcc": scores.pixel_accuracy}
    assert {path.name for path in tmp_path.iterdir()} == {COUNTS, SHARES}
    assert capfd.readouterr() == ("", "")


def test_segmentation_label_that_is_no_class_is_named_with_its_image() -> None:
    metric = build(MMSEG_METRICS, type="SegmentationMetric")
    metric.dataset_meta = {"classes": ("background", "cat")}
    bad = {"gt_sem_seg": {"data": torch.full((1, 2, 2), 21)}, "pred_sem_seg": {"data": torch.zeros(1, 2, 2).long()}}
    with pytest.raises(BenchError, match=r"2007_000009\.jpg: label id 21"):
        metric.process({}, [bad | {"img_path": "2007_000009.jpg"}])


# --- real ground truth, through the real pipelines, as predictions


def test_real_voc_ground_truth_gives_100(shared_data: Path) -> None:
    pipeline = [
        {"type": "LoadStoredImage"},
        {"type": "Resize", "scale": (256, 192), "keep_ratio": True},
        {"type": "PackDetInputs", "meta_keys": ("img_id", "ori_shape", "scale_factor", "instances")},
    ]
    data = build(
        MMDET_DATASETS,
        type="DenseBenchVOCDetection",
        data_root=str(shared_data / "VOCdevkit"),
        ann_file="VOC2012/ImageSets/Main/val.txt",
        data_prefix={"sub_data_root": "VOC2012/"},
        test_mode=True,
        indices=40,
        pipeline=pipeline,
    )
    metric = build(MMDET_METRICS, type="VOCDetectionMetric")
    metric.dataset_meta = data.metainfo
    for i in range(len(data)):
        sample = data[i]["data_samples"].to_dict()
        truth = sample["instances"]
        boxes, labels = [t["bbox"] for t in truth], [t["bbox_label"] for t in truth]
        metric.process({}, [sample | {"pred_instances": predicted(boxes, [1.0] * len(boxes), labels)}])
    assert metric.evaluate(len(data)) == pytest.approx({"AP": 100, "AP50": 100, "AP75": 100, "cocoAP": 100})


@pytest.mark.parametrize("name", ["DenseBenchVOCSegmentation", "DenseBenchCityscapes"])
def test_real_segmentation_ground_truth_gives_100(shared_data: Path, name: str) -> None:
    places: dict[str, dict[str, Any]] = {
        "DenseBenchVOCSegmentation": {
            "data_root": str(shared_data / "VOCdevkit/VOC2012"),
            "ann_file": "ImageSets/Segmentation/val.txt",
            "data_prefix": {"img_path": "JPEGImages", "seg_map_path": "SegmentationClass"},
        },
        "DenseBenchCityscapes": {
            "data_root": str(shared_data / "cityscapes"),
            "data_prefix": {"img_path": "leftImg8bit/val", "seg_map_path": "gtFine/val"},
        },
    }
    pipeline = [
        {"type": "LoadStoredImage"},
        {"type": "Resize", "scale": (256, 192), "keep_ratio": True},
        {"type": "LoadAnnotations"},
        {"type": "PackSegInputs"},
    ]
    data = build(MMSEG_DATASETS, type=name, test_mode=True, indices=10, pipeline=pipeline, **places[name])
    metric = build(MMSEG_METRICS, type="SegmentationMetric")
    metric.dataset_meta = data.metainfo
    for i in range(len(data)):
        sample = data[i]["data_samples"].to_dict()
        label = sample["gt_sem_seg"]["data"]
        assert tuple(label.shape[1:]) == sample["ori_shape"]  # evaluated at the images' own size
        metric.process({}, [sample | {"pred_sem_seg": {"data": torch.where(label == 255, 0, label)}}])
    assert metric.evaluate(len(data)) == {"mIoU": 100, "mAcc": 100, "aAcc": 100}
