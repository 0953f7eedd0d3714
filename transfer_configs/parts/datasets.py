"""The data sets in their usual folders below the data root, and the metrics that need their files."""

from typing import Any

Pipeline = list[dict[str, Any]]

_VOC = "VOCdevkit/VOC2012"
_VOC_2007 = "VOCdevkit/VOC2007"


def share(labels: float) -> dict[str, Any]:
    """Arguments of a data set of which a share is used: another one with each seed (`bench.datasets.shares`)."""
    return dict(share=labels, fold="run:seed")


def voc_detection(split: str, pipeline: Pipeline, *, folder: str = _VOC, **more: Any) -> dict[str, Any]:
    """PASCAL VOC with boxes; those marked difficult are trained on. `split` is a list in `ImageSets/Main`."""
    return dict(
        type="DenseBenchVOCDetection",
        data_root="run:data_root",
        ann_file=f"{folder}/ImageSets/Main/{split}.txt",
        data_prefix=dict(sub_data_root=f"{folder}/"),
        pipeline=pipeline,
        **more,
    )


def voc0712_detection_training(pipeline: Pipeline) -> dict[str, Any]:
    """VOC 2007 trainval and VOC 2012 trainval with boxes, one after the other."""
    years = [
        voc_detection(
            "trainval", [dict(step) for step in pipeline], folder=folder, filter_cfg=dict(filter_empty_gt=True)
        )
        for folder in (_VOC_2007, _VOC)
    ]
    return dict(type="ConcatDataset", datasets=years)


def voc07_detection_testing(pipeline: Pipeline) -> dict[str, Any]:
    """VOC 2007 test with boxes."""
    return voc_detection("test", pipeline, folder=_VOC_2007, test_mode=True)


def voc_segmentation(split: str, pipeline: Pipeline) -> dict[str, Any]:
    """PASCAL VOC 2012 with 21 classes, background first. `split` is a list in `ImageSets/Segmentation`."""
    return dict(
        type="DenseBenchVOCSegmentation",
        data_root="run:data_root",
        ann_file=f"{_VOC}/ImageSets/Segmentation/{split}.txt",
        data_prefix=dict(img_path=f"{_VOC}/JPEGImages", seg_map_path=f"{_VOC}/SegmentationClass"),
        pipeline=pipeline,
    )


def voc_augmented_segmentation(pipeline: Pipeline) -> dict[str, Any]:
    """PASCAL VOC 2012 with 21 classes, the images of `trainaug.txt`: VOC's masks, and SBD's of images without one."""
    return dict(
        type="DenseBenchVOCAugmentedSegmentation",
        data_root="run:data_root",
        data_prefix=dict(sub_data_root=_VOC),
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
    """pycocotools' AP of `iou_types` (`bbox`, `segm`) for the annotations of `split`."""
    return dict(type="CocoDetectionMetric", ann_file=f"run:data_root/{_coco_annotations(split)}", iou_types=iou_types)


def cityscapes_segmentation(split: str, pipeline: Pipeline) -> dict[str, Any]:
    """Cityscapes with 19 classes; `split` is `train` or `val`."""
    return dict(
        type="DenseBenchCityscapes",
        data_root="run:data_root",
        data_prefix=dict(img_path=f"cityscapes/leftImg8bit/{split}", seg_map_path=f"cityscapes/gtFine/{split}"),
        pipeline=pipeline,
    )


def cityscapes_instances(split: str, pipeline: Pipeline, **more: Any) -> dict[str, Any]:
    """Cityscapes with boxes and masks of 8 classes; `split` is `train` or `val`."""
    return dict(
        type="DenseBenchCityscapesInstances",
        data_root="run:data_root",
        data_prefix=dict(img_path=f"cityscapes/leftImg8bit/{split}", seg_map_path=f"cityscapes/gtFine/{split}"),
        pipeline=pipeline,
        **more,
    )


def ade20k(part: str, pipeline: Pipeline) -> dict[str, Any]:
    """ADE20K with 150 classes; `part` is `train` or `val`."""
    return dict(type="DenseBenchADE20K", data_root="run:data_root", part=part, pipeline=pipeline)


def lvis(split: str, pipeline: Pipeline, **more: Any) -> dict[str, Any]:
    """LVIS v1 with boxes and masks of 1,203 classes on COCO's images; `split` is `train` or `val`."""
    return dict(
        type="DenseBenchLvis",
        data_root="run:data_root",
        ann_file=_lvis_annotations(split),
        data_prefix=dict(img="coco"),
        pipeline=pipeline,
        **more,
    )


def lvis_metric(split: str) -> dict[str, Any]:
    """LVIS's AP of boxes and masks for the annotations of `split`."""
    return dict(type="LvisMetric", ann_file=f"run:data_root/{_lvis_annotations(split)}")


def own_segmentation(part: str, pipeline: Pipeline) -> dict[str, Any]:
    """Label maps of the user's own data in the classes of their description; `part` is `train` or `val`."""
    return dict(type="DenseBenchOwnSegmentation", data_root="run:data_root", part=part, pipeline=pipeline)


def own_objects(part: str, pipeline: Pipeline, **more: Any) -> dict[str, Any]:
    """Boxes, and masks where there are some, of the user's own data; `part` is `train` or `val`."""
    return dict(type="DenseBenchOwnObjects", data_root="run:data_root", part=part, pipeline=pipeline, **more)


def own_metric(part: str, iou_types: tuple[str, ...]) -> dict[str, Any]:
    """pycocotools' AP of `iou_types` (`bbox`, `segm`) for a part of the user's own data."""
    return dict(type="OwnDetectionMetric", data_root="run:data_root", part=part, iou_types=iou_types)


def _coco_annotations(split: str) -> str:
    return f"coco/annotations/instances_{split}.json"


def _lvis_annotations(split: str) -> str:
    return f"lvis/lvis_v1_{split}.json"
