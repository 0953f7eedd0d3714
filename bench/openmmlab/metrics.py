"""The metrics of `bench.metrics` as mmengine metrics, registered for mmdet and mmseg. Import after `prepare_openmmlab`.

All values are in per cent, unrounded, and without a prefix. With `dump`, a folder, the outputs for each image are
written there (`bench.metrics.outputs`), so that values and errors can be computed again without the model.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from hotcoco import COCO
from mmdet.registry import METRICS as MMDET_METRICS
from mmengine.evaluator import BaseMetric
from mmseg.registry import METRICS as MMSEG_METRICS
from numpy.typing import NDArray
from pycocotools import mask as run_length

from bench.datasets.cityscapes_instances import load_ids
from bench.datasets.lvis import load_lvis
from bench.datasets.own.description import PartName, read_own
from bench.datasets.own.objects import load_objects
from bench.errors import BenchError
from bench.metrics.cityscapes_instances import Overlaps, evaluate_instances, overlaps_of
from bench.metrics.coco_detection import (
    CocoScores,
    ground_truth_from_objects,
    ground_truth_of,
    load_ground_truth,
    score_coco,
)
from bench.metrics.lvis import ground_truth_of_lvis, score_lvis
from bench.metrics.outputs import keep_detections, keep_segmentation, segmentation_metrics
from bench.metrics.segmentation import confusion_matrix
from bench.metrics.voc_detection import Detections, Objects, evaluate_voc

IouType = Literal["bbox", "segm"]


class Metric(BaseMetric):
    """mmengine's metric with our names of values, unchanged."""

    default_prefix = ""

    def __init__(self, dump: str | None = None) -> None:
        super().__init__()
        self.dump = None if dump is None else Path(dump)

    @property
    def num_classes(self) -> int:
        """Number of classes of the data set that is evaluated."""
        return len(self.dataset_meta["classes"])


@MMDET_METRICS.register_module()
class VOCDetectionMetric(Metric):
    """AP, AP50, AP75 by the VOC 2007 rule (`bench.metrics.voc_detection`), and pycocotools' AP as cocoAP.

    The test pipeline has to pass `instances` among the `meta_keys` of `PackDetInputs`: they are the untouched ground
    truth of :class:`~bench.openmmlab.datasets.DenseBenchVOCDetection`. `dump` is a file for the detections in COCO's
    results format, with class indices as category ids.
    """

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep one batch's detections and ground truth."""
        for sample in data_samples:
            if "instances" not in sample:
                raise BenchError(
                    "VOCDetectionMetric needs 'instances' in the meta_keys of the test pipeline's PackDetInputs"
                )
            self.results.append(
                (sample["img_id"], _objects(sample["instances"]), _detections(sample["pred_instances"]))
            )

    def compute_metrics(self, results: list[tuple[str, Objects, Detections]]) -> dict[str, float]:
        """The values of the whole set, in per cent."""
        names = [name for name, _, _ in results]
        if len(set(names)) != len(names):
            raise BenchError("an image was evaluated twice: its id occurs more than once in the validation list")
        objects, detections = [o for _, o, _ in results], [d for _, _, d in results]
        scores = evaluate_voc(objects, detections, self.num_classes)
        coco = score_coco(
            ground_truth_from_objects(objects, self.num_classes),
            _coco_results(range(len(names)), detections, range(self.num_classes)),
            "bbox",
        )
        if self.dump:
            found = _coco_results(names, detections, range(self.num_classes))
            keep_detections(self.dump, names, found, scores.shares() | {"cocoAP": coco.shares["AP"]})
        return {"AP": scores.ap, "AP50": scores.ap50, "AP75": scores.ap75, "cocoAP": coco.metrics["AP"]}


@MMDET_METRICS.register_module()
class CocoDetectionMetric(Metric):
    """pycocotools' box and mask values for `ann_file`: bbox_AP, bbox_AP50, ..., segm_AP, ...

    `iou_types` selects `bbox`, `segm` or both. With `held_out`, the images of `ann_file` that are held out of training.
    """

    def __init__(
        self,
        ann_file: str,
        iou_types: Sequence[IouType] = ("bbox", "segm"),
        dump: str | None = None,
        held_out: float = 0.0,
    ) -> None:
        super().__init__(dump)
        self.held_out = held_out
        if not iou_types or not set(iou_types) <= {"bbox", "segm"}:
            raise BenchError(f"iou_types are 'bbox' and 'segm', not {tuple(iou_types)}")
        self.iou_types = tuple(iou_types)
        self.ground_truth = self._ground_truth(ann_file)

    def _ground_truth(self, source: str) -> COCO:
        return load_ground_truth(Path(source), self.held_out)

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep one batch's detections, masks as run lengths."""
        for sample in data_samples:
            found = sample["pred_instances"]
            masks: list[dict[str, Any]] | None = None
            if "segm" in self.iou_types:
                if "masks" not in found:
                    raise BenchError("iou_types has 'segm', but the model predicts no masks")
                masks = [_run_lengths(mask) for mask in _numpy(found["masks"])]
            self.results.append((sample["img_id"], _detections(found), masks))

    def compute_metrics(self, results: list[tuple[int, Detections, list[dict[str, Any]] | None]]) -> dict[str, float]:
        """The values of the whole set, in per cent; an area range without objects is left out."""
        ids = [image_id for image_id, _, _ in results]
        if set(ids) != set(self.ground_truth.getImgIds()) or len(set(ids)) != len(ids):
            raise BenchError(
                f"{len(ids)} images were evaluated, but the annotations have {len(self.ground_truth.getImgIds())}: "
                "the metric's ann_file is not that of the validation dataset"
            )
        found = _coco_results(ids, [d for _, d, _ in results], self._category_ids())
        if "segm" in self.iou_types:
            masks = [mask for _, _, image_masks in results for mask in image_masks or ()]
            found = [{**detection, "segmentation": mask} for detection, mask in zip(found, masks, strict=True)]
        metrics: dict[str, float] = {}
        shares: dict[str, NDArray[np.float64]] = {}
        images: list[int] = []
        for iou_type in self.iou_types:
            # loadRes decides by the keys of the first detection what it got, so boxes are passed without masks and vice
            # versa
            other = "segmentation" if iou_type == "bbox" else "bbox"
            chosen = [{key: value for key, value in detection.items() if key != other} for detection in found]
            scores = self._score(chosen, iou_type)
            metrics |= {f"{iou_type}_{name}": value for name, value in scores.metrics.items()}
            shares |= {f"{iou_type}_{name}": of_images for name, of_images in scores.shares.items()}
            images = scores.images
        if self.dump:
            keep_detections(self.dump, [str(image) for image in images], found, shares)
        return metrics

    def _score(self, detections: Sequence[Mapping[str, Any]], iou_type: IouType) -> CocoScores:
        return score_coco(self.ground_truth, detections, iou_type)

    def _category_ids(self) -> list[int]:
        ids = {category["name"]: category["id"] for category in self.ground_truth.dataset["categories"]}
        return [ids[name] for name in self.dataset_meta["classes"]]


@MMDET_METRICS.register_module()
class LvisMetric(CocoDetectionMetric):
    """LVIS's values (`bench.metrics.lvis`) for `ann_file`: as COCO's, and bbox_APr, bbox_APc, bbox_APf, ..."""

    def _ground_truth(self, source: str) -> COCO:
        return ground_truth_of_lvis(load_lvis(Path(source)))

    def _score(self, detections: Sequence[Mapping[str, Any]], iou_type: IouType) -> CocoScores:
        return score_lvis(self.ground_truth, detections, iou_type)


@MMDET_METRICS.register_module()
class OwnDetectionMetric(CocoDetectionMetric):
    """pycocotools' values for a part of the user's own data, by the description in `data_root`."""

    def __init__(self, data_root: str, part: PartName, **kwargs: Any) -> None:
        self.part: PartName = part
        super().__init__(data_root, **kwargs)

    def _ground_truth(self, source: str) -> COCO:
        return ground_truth_of(load_objects(read_own(Path(source)), self.part).content)


@MMDET_METRICS.register_module()
class CityscapesInstanceMetric(Metric):
    """Cityscapes' AP and AP50 of masks (`bench.metrics.cityscapes_instances`), and pycocotools' AP of boxes as bbox_AP.

    The test pipeline has to pass `ids_path` and `instances` of the data set among the `meta_keys` of `PackDetInputs`.
    Groups are what pycocotools calls crowds.
    """

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Compare one batch's masks with the images of instance ids; keep detections and ground truth of boxes."""
        for sample in data_samples:
            masks, found = _numpy(sample["pred_instances"]["masks"]), _detections(sample["pred_instances"])
            ids = load_ids(Path(sample["ids_path"]))
            overlaps = overlaps_of(ids, masks, found.labels.tolist(), found.scores.tolist())
            kept = [_run_lengths(mask) for mask in masks] if self.dump else []
            objects = _objects([{**item, "difficult": item["ignore_flag"]} for item in sample["instances"]])
            self.results.append((sample["img_id"], overlaps, objects, found, kept))

    def compute_metrics(
        self, results: list[tuple[str, Overlaps, Objects, Detections, list[dict[str, Any]]]]
    ) -> dict[str, float]:
        """The values of the whole set, in per cent."""
        names, overlaps, objects, found, masks = (list(column) for column in zip(*results, strict=True))
        scores, labels = evaluate_instances(overlaps), range(self.num_classes)
        boxes = score_coco(
            ground_truth_from_objects(objects, self.num_classes),
            _coco_results(range(len(names)), found, labels),
            "bbox",
        )
        of_boxes = {f"bbox_{name}": name for name in ("AP", "AP50")}
        if self.dump:
            run_lengths = [mask for image_masks in masks for mask in image_masks]
            detections = [
                {**detection, "segmentation": mask}
                for detection, mask in zip(_coco_results(names, found, labels), run_lengths, strict=True)
            ]
            shares = scores.shares | {name: boxes.shares[theirs] for name, theirs in of_boxes.items()}
            keep_detections(self.dump, names, detections, shares)
        return scores.metrics | {name: boxes.metrics[theirs] for name, theirs in of_boxes.items()}


@MMSEG_METRICS.register_module()
class SegmentationMetric(Metric):
    """mIoU, mAcc and aAcc (mean IoU, mean class accuracy, pixel accuracy) of one confusion matrix over all images."""

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep each image's confusion matrix, without its zeros: gathering over processes needs one entry per image."""
        for sample in data_samples:
            path = sample.get("img_path", "image")
            counts = confusion_matrix(
                _numpy(sample["gt_sem_seg"]["data"]).squeeze(0),
                _numpy(sample["pred_sem_seg"]["data"]).squeeze(0),
                self.num_classes,
                name=path,
            ).reshape(-1)
            cells = np.flatnonzero(counts)
            self.results.append((Path(path).name, cells, counts[cells]))

    def compute_metrics(self, results: list[tuple[str, NDArray[np.int64], NDArray[np.int64]]]) -> dict[str, float]:
        """The values of the whole set, in per cent."""
        flat = np.zeros((len(results), self.num_classes**2), np.int64)
        for row, (_, cells, counts) in zip(flat, results, strict=True):
            row[cells] = counts
        matrices = flat.reshape(-1, self.num_classes, self.num_classes)
        if self.dump:
            keep_segmentation(self.dump, [name for name, _, _ in results], matrices)
        return segmentation_metrics(matrices)


def _numpy(values: Any) -> NDArray[Any]:
    """A tensor of any device, or an array, as an array."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def _objects(instances: Sequence[Mapping[str, Any]]) -> Objects:
    return Objects(
        boxes=np.array([i["bbox"] for i in instances], np.float64).reshape(-1, 4),
        labels=np.array([i["bbox_label"] for i in instances], np.int64),
        difficult=np.array([i["difficult"] for i in instances], bool),
    )


def _detections(found: Mapping[str, Any]) -> Detections:
    return Detections(*(_numpy(found[key]) for key in ("bboxes", "scores", "labels")))


def _run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    encoded: dict[str, Any] = run_length.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def _coco_results(
    image_ids: Sequence[Any], detections: Sequence[Detections], category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Detections in COCO's results format; widths and heights are float64, so that x + width is the float32 value."""
    return [
        {
            "image_id": image_id,
            "category_id": category_ids[label],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for image_id, found in zip(image_ids, detections, strict=True)
        for (x1, y1, x2, y2), score, label in zip(
            found.boxes.astype(np.float64).tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        )
    ]
