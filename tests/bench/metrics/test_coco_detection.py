"""COCO's AP: equal to pycocotools', missing area ranges, silence, errors."""

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from pycocotools import mask as run_length
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bench.errors import BenchError
from bench.metrics.coco_detection import METRICS, evaluate_coco, ground_truth_from_objects, load_ground_truth
from bench.metrics.voc_detection import Objects


def objects(boxes: list[list[float]], difficult: list[bool] | None = None) -> Objects:
    return Objects(
        np.array(boxes, np.float64).reshape(-1, 4),
        np.zeros(len(boxes), np.int64),
        np.array(difficult or [False] * len(boxes), bool),
    )


def found(image: int, box: list[float], score: float, category: int = 0) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    return {"image_id": image, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}


SMALL, LARGE = [0.0, 0.0, 20.0, 20.0], [100.0, 100.0, 300.0, 300.0]


def test_perfect_detections_are_100_and_absent_sizes_are_absent(capfd: pytest.CaptureFixture[str]) -> None:
    truth = ground_truth_from_objects([objects([SMALL]), objects([LARGE])], 1)
    scores = evaluate_coco(truth, [found(0, SMALL, 0.5), found(1, LARGE, 0.4)], "bbox")
    assert scores == pytest.approx({"AP": 100, "AP50": 100, "AP75": 100, "APs": 100, "APl": 100})  # no medium object
    assert capfd.readouterr() == ("", "")


def test_iou_of_78_per_cent_passes_six_of_ten_thresholds() -> None:
    truth = ground_truth_from_objects([objects([LARGE])], 1)
    scores = evaluate_coco(truth, [found(0, [100, 100, 300, 256], 0.9)], "bbox")  # IoU .78
    assert scores["AP"] == pytest.approx(60)
    assert (scores["AP50"], scores["AP75"]) == pytest.approx((100, 100))


def test_no_detection_is_zero_not_an_error() -> None:
    scores = evaluate_coco(ground_truth_from_objects([objects([LARGE])], 1), [], "bbox")
    assert scores == {"AP": 0, "AP50": 0, "AP75": 0, "APl": 0}


def test_difficult_objects_do_not_count() -> None:
    truth = ground_truth_from_objects([objects([LARGE, SMALL], [False, True])], 1)
    assert evaluate_coco(truth, [found(0, LARGE, 0.5)], "bbox")["AP"] == pytest.approx(100)
    with_difficult = [found(0, LARGE, 0.5), found(0, SMALL, 0.9)]
    assert evaluate_coco(truth, with_difficult, "bbox")["AP"] == pytest.approx(100)


def test_detections_are_not_changed() -> None:
    truth = ground_truth_from_objects([objects([LARGE])], 1)
    results = [found(0, LARGE, 0.5)]
    evaluate_coco(truth, results, "bbox")
    assert results == [found(0, LARGE, 0.5)]


def test_unknown_image_is_named() -> None:
    truth = ground_truth_from_objects([objects([LARGE])], 1)
    with pytest.raises(BenchError, match="image id 7"):
        evaluate_coco(truth, [found(7, LARGE, 0.5)], "bbox")


def test_a_set_without_objects_cannot_be_evaluated() -> None:
    with pytest.raises(BenchError, match="no object"):
        evaluate_coco(ground_truth_from_objects([objects([])], 1), [], "bbox")


@pytest.mark.parametrize("content", ["{", "[]", '{"images": []}'])
def test_a_file_that_is_no_annotation_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "instances.json"
    file.write_text(content)
    with pytest.raises(BenchError, match=r"instances\.json cannot be read"):
        load_ground_truth(file)
    with pytest.raises(BenchError, match=r"absent\.json is missing"):
        load_ground_truth(tmp_path / "absent.json")


def test_real_ground_truth_as_detections_is_100(shared_data: Path, tmp_path: Path) -> None:
    content = json.loads((shared_data / "coco/annotations/instances_val2017.json").read_text())
    whole = load_ground_truth(shared_data / "coco/annotations/instances_val2017.json")
    # at the small size of these images some outlines enclose no pixel: nothing can match them
    content["annotations"] = [a for a in content["annotations"] if run_length.area(whole.annToRLE(a)) > 0]
    (tmp_path / "instances.json").write_text(json.dumps(content))
    truth = load_ground_truth(tmp_path / "instances.json")
    annotations = [a for a in content["annotations"] if not a["iscrowd"]]
    shared = [{key: a[key] for key in ("image_id", "category_id")} | {"score": 1.0} for a in annotations]
    boxes = [{**s, "bbox": a["bbox"]} for s, a in zip(shared, annotations, strict=True)]
    assert evaluate_coco(truth, boxes, "bbox")["AP"] == pytest.approx(100)
    masks = [{**s, "segmentation": truth.annToRLE(a)} for s, a in zip(shared, annotations, strict=True)]
    assert evaluate_coco(truth, masks, "segm")["AP"] == pytest.approx(100)


def test_masks_are_compared_as_masks(tmp_path: Path) -> None:
    mask = np.zeros((40, 40), np.uint8, order="F")
    mask[:20, :20] = 1
    content = {
        "images": [{"id": 5, "file_name": "5.jpg", "height": 40, "width": 40}],
        "categories": [{"id": 3, "name": "square"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 5,
                "category_id": 3,
                "bbox": [0, 0, 20, 20],
                "area": 400,
                "iscrowd": 0,
                "segmentation": [[0, 0, 20, 0, 20, 20, 0, 20]],
            }
        ],
    }
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(content))
    truth = load_ground_truth(file)
    result = {"image_id": 5, "category_id": 3, "score": 0.9}
    assert evaluate_coco(truth, [{**result, "segmentation": run_length.encode(mask)}], "segm")["AP"] == pytest.approx(
        100
    )
    mask[:8, :20] = 0  # IoU .6: .50, .55, .60
    assert evaluate_coco(truth, [{**result, "segmentation": run_length.encode(mask)}], "segm")["AP"] == pytest.approx(
        30
    )


def squares(tmp_path: Path, **changes: Any) -> Path:
    """Annotations of two squares, 7 and 30 pixels wide."""
    annotations = []
    for number, (x, width) in enumerate(((0, 7), (60, 30))):
        corners = [x, 0, x + width, 0, x + width, width, x, width]
        entry = {"image_id": 5, "category_id": 3, "bbox": [x, 0, width, width], "segmentation": [corners]}
        annotations.append(entry | {"id": number, "area": width**2, "iscrowd": 0} | changes)
    content = {
        "images": [{"id": 5, "file_name": "5.jpg", "height": 40, "width": 100}],
        "categories": [{"id": 3, "name": "square"}],
        "annotations": [{key: value for key, value in a.items() if value != "absent"} for a in annotations],
    }
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize("changes", [{}, {"area": "absent"}, {"iscrowd": "absent"}, {"area": None, "iscrowd": False}])
def test_ids_from_0_and_absent_fields_cost_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    truth = load_ground_truth(squares(tmp_path, **changes))
    before = json.dumps(truth.dataset)
    shared = {"image_id": 5, "category_id": 3, "score": 1.0}
    boxes = [shared | {"bbox": a["bbox"]} for a in truth.dataset["annotations"]]
    assert evaluate_coco(truth, boxes, "bbox") == pytest.approx({"AP": 100, "AP50": 100, "AP75": 100, "APs": 100})
    masks = [shared | {"segmentation": truth.annToRLE(a)} for a in truth.dataset["annotations"]]
    assert evaluate_coco(truth, masks, "segm")["AP"] == pytest.approx(100)
    assert json.dumps(truth.dataset) == before
    assert [a["area"] for a in truth.dataset["annotations"]] == [49, 900]


def test_an_evaluator_of_ones_own_ground_truth_numbers_it_too() -> None:
    truth = ground_truth_from_objects([objects([SMALL]), objects([LARGE])], 1)
    for annotation in truth.dataset["annotations"]:
        annotation["id"] -= 1
    truth.createIndex()
    assert evaluate_coco(truth, [found(0, SMALL, 0.5), found(1, LARGE, 0.4)], "bbox")["AP"] == pytest.approx(100)


def test_masks_need_masks(tmp_path: Path) -> None:
    truth = load_ground_truth(squares(tmp_path, segmentation="absent"))
    assert evaluate_coco(truth, [], "bbox")["AP"] == 0
    with pytest.raises(BenchError, match="objects without one"):
        evaluate_coco(truth, [], "segm")


def rectangle(box: list[float], size: int) -> dict[str, Any]:
    """The run-length code of a filled box, as a file has it."""
    mask = np.zeros((size, size), np.uint8, order="F")
    x, y, w, h = (round(value) for value in box)
    mask[y : y + h, x : x + w] = 1
    code = run_length.encode(mask)
    return {"size": code["size"], "counts": code["counts"].decode()}


def random_set(seed: int, *, images: int, size: int, step: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A ground truth with crowds, and detections near objects and anywhere, some of equal score."""
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []

    def box() -> list[float]:
        sides = np.exp(rng.uniform(1, np.log(size / 2), 2))
        return [*rng.uniform(0, size - sides), *sides]

    def detect(image: int, category: int, box: list[float]) -> None:
        score = round(float(rng.random()) / step) * step
        mask = rectangle(box, size)
        detections.append(
            {"image_id": image, "category_id": category, "bbox": box, "score": score, "segmentation": mask}
        )

    for image in range(1, images + 1):
        for _ in range(rng.integers(0, 8)):
            one, category = box(), int(rng.integers(1, 4))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": category,
                    "bbox": one,
                    "area": one[2] * one[3],
                    "iscrowd": int(rng.random() < 0.1),
                    "segmentation": rectangle(one, size),
                }
            )
            for _ in range(rng.integers(0, 4)):
                moved = np.array(one) + rng.normal(0, 0.12, 4) * [one[2], one[3], one[2], one[3]]
                left, top = np.clip(moved[:2], 0, size - 4)
                sides = [max(2.0, min(moved[2 + i], size - start - 1)) for i, start in enumerate((left, top))]
                detect(image, category, [float(left), float(top), *map(float, sides)])
        for _ in range(rng.integers(0, 4)):
            detect(image, int(rng.integers(1, 4)), box())
    sets = {
        "images": [
            {"id": image, "file_name": f"{image}.jpg", "width": size, "height": size} for image in range(1, images + 1)
        ],
        "categories": [
            {"id": category, "name": name} for category, name in enumerate(("person", "bicycle", "car"), start=1)
        ],
        "annotations": annotations,
    }
    return sets, detections


def oracle(dataset: dict[str, Any], detections: list[dict[str, Any]], kind: str) -> dict[str, float]:
    """pycocotools itself."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(dataset)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(detections)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: 100 * value for name, value in zip(METRICS, evaluation.stats, strict=False) if value >= 0}


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize(("seed", "step"), [(0, 1e-9), (1, 0.1)])
def test_equals_pycocotools(tmp_path: Path, kind: Literal["bbox", "segm"], seed: int, step: float) -> None:
    dataset, detections = random_set(seed, images=40, size=160, step=step)
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(dataset))
    keep = ("image_id", "category_id", "score", "bbox" if kind == "bbox" else "segmentation")
    given = [{name: one[name] for name in keep} for one in detections]
    expected = oracle(dataset, given, kind)
    assert evaluate_coco(load_ground_truth(file), given, kind) == pytest.approx(expected, abs=1e-12)
    assert 5 < expected["AP"] < 95


@pytest.mark.slow
def test_equals_pycocotools_on_a_hundred_thousand_detections() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 300, (2000, 6, 2))
    boxes = corners[..., [0, 1, 0, 1]] + [0, 0, 60, 40]
    truth = ground_truth_from_objects([objects(image.tolist()) for image in boxes], 1)
    detections = [
        found(image, [*corner, *(corner + rng.uniform(20, 80, 2))], float(rng.random()))
        for image in range(2000)
        for corner in rng.uniform(0, 300, (50, 2))
    ]
    expected = oracle(truth.dataset, detections, "bbox")
    assert evaluate_coco(truth, detections, "bbox") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_without_order_is_refused(score: float) -> None:
    truth = ground_truth_from_objects([objects([LARGE])], 1)
    with pytest.raises(BenchError, match="not finite"):
        evaluate_coco(truth, [found(0, LARGE, score)], "bbox")
