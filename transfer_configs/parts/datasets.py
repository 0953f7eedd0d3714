"""The data sets in their usual folders below the data root, and the metrics that need their files."""

from typing import Any

Pipeline = list[dict[str, Any]]

_VOC = "VOCdevkit/VOC2012"


def voc_detection(split: str, pipeline: Pipeline, **more: Any) -> dict[str, Any]:
    """PASCAL VOC 2012 with boxes; those marked difficult are trained on. `split` is a list in `ImageSets/Main`."""
    return dict(
        type="DenseBenchVOCDetection",
        data_root="run:data_root",
        ann_file=f"{_VOC}/ImageSets/Main/{split}.txt",
        data_prefix=dict(sub_data_root=f"{_VOC}/"),
        pipeline=pipeline,
        **more,
    )


def voc_segmentation(split: str, pipeline: Pipeline) -> dict[str, Any]:
    """PASCAL VOC 2012 with 21 classes, background first. `split` is a list in `ImageSets/Segmentation`."""
    return dict(
        type="DenseBenchVOCSegmentation",
        data_root="run:data_root",
        ann_file=f"{_VOC}/ImageSets/Segmentation/{split}.txt",
        data_prefix=dict(img_path=f"{_VOC}/JPEGImages", seg_map_path=f"{_VOC}/SegmentationClass"),
        pipeline=pipeline,
    )


def coco(split: str, pipeline: Pipeline, **more: Any) -> dict[str, Any]:
    """COCO with boxes and masks of 80 classes; `split` is `train2017` or `val2017`."""
    return dict(
        type="DenseBenchCoco",
        data_root="run:data_root",
        ann_file=_coco_annotations(split),
        data_prefix=dict(img=f"coco/{split}"),
        pipeline=pipeline,
        **more,
    )


def coco_metric(split: str, iou_types: tuple[str, ...]) -> dict[str, Any]:
    """pycocotools' AP of `iou_types` (`bbox`, `segm`) against the annotations of `split`."""
    return dict(type="CocoDetectionMetric", ann_file=f"run:data_root/{_coco_annotations(split)}", iou_types=iou_types)


def cityscapes_segmentation(split: str, pipeline: Pipeline) -> dict[str, Any]:
    """Cityscapes with 19 classes; `split` is `train` or `val`."""
    return dict(
        type="DenseBenchCityscapes",
        data_root="run:data_root",
        data_prefix=dict(img_path=f"cityscapes/leftImg8bit/{split}", seg_map_path=f"cityscapes/gtFine/{split}"),
        pipeline=pipeline,
    )


def _coco_annotations(split: str) -> str:
    return f"coco/annotations/instances_{split}.json"
