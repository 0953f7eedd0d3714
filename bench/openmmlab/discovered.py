"""Training on labels that MaskDistill has discovered, and the metrics of segmenters that know no classes.

Import after :func:`bench.openmmlab.prepare_openmmlab`, which does. mmdet and mmseg find the classes by their names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets import BaseDetDataset
from mmdet.registry import DATASETS as MMDET_DATASETS
from mmdet.registry import METRICS as MMDET_METRICS
from mmengine.registry import TRANSFORMS
from mmseg.registry import DATASETS as MMSEG_DATASETS
from mmseg.registry import METRICS as MMSEG_METRICS
from numpy.typing import NDArray
from pycocotools import mask as run_length

from bench.datasets.coco import load_coco
from bench.datasets.coco_objects import CocoImage
from bench.datasets.discovered import read_discovered
from bench.errors import BenchError
from bench.metrics.class_agnostic import score_class_agnostic
from bench.metrics.outputs import keep_detections
from bench.metrics.voc_detection import Detections
from bench.openmmlab.datasets import DenseBenchVOCSegmentation, as_text
from bench.openmmlab.metrics import CocoDetectionMetric, SegmentationMetric
from bench.probes.kinds.clusters import name_clusters
from pretrain.discovery.correspondence import opened
from pretrain.discovery.object_table import spread


@MMSEG_DATASETS.register_module()
class DiscoveredVOCSegmentation(DenseBenchVOCSegmentation):
    """VOC's images with the labels in the table `discovered`, background first: as many as VOC has, without names."""

    def __init__(self, discovered: str, **kwargs: Any) -> None:
        self.discovered = Path(discovered)
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """All images of the list; raises :class:`BenchError` if one has no row."""
        rows = read_discovered(self.discovered)
        found = super().load_data_list()
        for record in found:
            record["discovered"] = (str(self.discovered), row_of(rows, record["img_path"], self.discovered))
        return found


@TRANSFORMS.register_module()
class LoadDiscoveredLabels(BaseTransform):
    """Loads the labels in the row `discovered` into `gt_seg_map`, one of the `seg_fields`, as uint8 (H, W)."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add `gt_seg_map`, of the loaded image's size."""
        table, row = results["discovered"]
        results["gt_seg_map"] = spread(opened(Path(table))[row], *results["ori_shape"])
        results["seg_fields"].append("gt_seg_map")
        return results


@MMDET_DATASETS.register_module()
class DiscoveredCocoObjects(BaseDetDataset):
    """COCO's images with the one object of each in the table `discovered`; all objects have one class.

    Of `ann_file` only the images' names and sizes are read.
    """

    METAINFO: ClassVar[dict[str, Any]] = {"classes": ("object",)}

    def __init__(self, discovered: str, **kwargs: Any) -> None:
        self.discovered = Path(discovered)
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """All images with an object; raises :class:`BenchError` if there is none, or an image has no row."""
        images = load_coco(Path(self.ann_file)).images.values()
        rows, table = read_discovered(self.discovered), opened(self.discovered)
        found = [self._record(image, table[row_of(rows, image.file_name, self.discovered)]) for image in images]
        found = [record for record in found if record["instances"]]
        if not found:
            raise BenchError(f"{self.discovered}: no object was discovered in any image")
        return found

    def _record(self, image: CocoImage, row: NDArray[Any]) -> dict[str, Any]:
        mask = spread(row, image.height, image.width) > 0
        return {
            "img_id": image.id,
            "img_path": str(Path(self.data_prefix["img"]) / image.file_name),
            "width": image.width,
            "height": image.height,
            "instances": [instance_of(mask)] if mask.any() else [],
        }


def row_of(rows: Mapping[str, int], image: str, table: Path) -> int:
    """The row of an image, by the name of its file; raises :class:`BenchError` if there is none."""
    name = Path(image).name
    if name not in rows:
        raise BenchError(f"{table} has no object of {name}: find the objects of all training images")
    return rows[name]


def instance_of(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """The object of class 0 with this mask (H, W), some of which is true, as mmdet reads objects."""
    rows, columns = np.flatnonzero(mask.any(1)).tolist(), np.flatnonzero(mask.any(0)).tolist()
    return {
        "bbox": [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1],
        "bbox_label": 0,
        "ignore_flag": 0,
        "mask": as_text(run_length.encode(np.asfortranarray(mask, dtype=np.uint8))),
    }


@MMSEG_METRICS.register_module()
class HungarianSegmentationMetric(SegmentationMetric):
    """The metrics of `SegmentationMetric` if each predicted label is the class that makes their mIoU the highest.

    Every label gets another class, background among them, by the IoU over all images (`name_clusters`).
    """

    def compute_metrics(self, results: list[tuple[str, NDArray[np.int64], NDArray[np.int64]]]) -> dict[str, float]:
        """The values of the whole set, in per cent."""
        total = np.zeros(self.num_classes**2, np.int64)
        for _, cells, counts in results:
            total[cells] += counts
        names = name_clusters(total.reshape(self.num_classes, -1), "hungarian")
        renamed = []
        for image, cells, counts in results:
            label, predicted = np.divmod(cells, self.num_classes)
            renamed.append((image, label * self.num_classes + names[predicted], counts))
        return super().compute_metrics(renamed)


@MMDET_METRICS.register_module()
class ClassAgnosticMaskMetric(CocoDetectionMetric):
    """AP50 and AP of masks without classes: `multi_*` of all predictions, `single_*` of the best of each image.

    See `bench.metrics.class_agnostic`.
    """

    def __init__(self, ann_file: str, dump: str | None = None) -> None:
        super().__init__(ann_file, ("segm",), dump)

    def compute_metrics(self, results: list[tuple[int, Detections, list[dict[str, Any]] | None]]) -> dict[str, float]:
        """The values of the whole set, in per cent."""
        ids = [image for image, _, _ in results]
        if set(ids) != set(self.ground_truth.getImgIds()) or len(set(ids)) != len(ids):
            raise BenchError("the images that were evaluated are not those of the metric's ann_file")
        found = [
            {"image_id": image, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score, "segmentation": m}
            for image, of_image, masks in results
            for (x1, y1, x2, y2), score, m in zip(
                of_image.boxes.astype(np.float64).tolist(), of_image.scores.tolist(), masks or (), strict=True
            )
        ]
        scores = score_class_agnostic(self.ground_truth, found)
        if self.dump:
            keep_detections(self.dump, [str(image) for image in scores.images], found, scores.shares)
        return scores.metrics
