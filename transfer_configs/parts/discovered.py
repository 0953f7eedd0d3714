"""Labels that maskdistill has discovered, in the data root's folder `maskdistill`, and what learns from them."""

from collections.abc import Mapping
from typing import Any

from transfer_configs.parts import backbones, datasets, loading, segmenters

Pipeline = list[dict[str, Any]]


def voc_labels(pipeline: Pipeline) -> dict[str, Any]:
    """VOC's training images with discovered labels, background first."""
    listed = datasets.voc_segmentation("train", [_discovered(step) for step in pipeline])
    return listed | dict(type="DiscoveredVOCSegmentation", discovered="run:data_root/maskdistill/voc2012.npy")


def coco_objects(pipeline: Pipeline) -> dict[str, Any]:
    """COCO's training images with the discovered object of each, all of one class."""
    listed = datasets.coco("train2017", pipeline)
    return listed | dict(type="DiscoveredCocoObjects", discovered="run:data_root/maskdistill/coco2017.npy")


def voc_objects(pipeline: Pipeline) -> dict[str, Any]:
    """VOC's training images with the discovered object of each, whose class is its cluster."""
    return _voc_images("train", pipeline) | dict(discovered="run:data_root/maskdistill/voc2012.npy")


def voc_without_objects(split: str, resize: dict[str, Any]) -> dict[str, Any]:
    """VOC's images of a list in `ImageSets/Segmentation`, to predict objects in, with the paths of their label maps."""
    pipeline = loading.detection_testing(resize, boxes=False)
    pipeline[-1]["meta_keys"] = (*pipeline[-1]["meta_keys"], "labels_path")
    return _voc_images(split, pipeline) | dict(test_mode=True)


def _voc_images(split: str, pipeline: Pipeline) -> dict[str, Any]:
    return datasets.voc_segmentation(split, pipeline) | dict(type="DiscoveredVOCObjects")


def class_agnostic_metric(split: str) -> dict[str, Any]:
    """AP of masks without classes for COCO's `split`."""
    return dict(type="ClassAgnosticMaskMetric", ann_file=f"run:data_root/coco/annotations/instances_{split}.json")


def deeplab_head(*, channels: int, dilations: tuple[int, ...], classes: int, kept: int, crop: int) -> dict[str, Any]:
    """DeepLab-v3's head on the last three stages, resized to stride 8 and joined; the loss is that of hard pixels.

    The loss is the mean over the `kept` pixels per image, of `crop` pixels, that have the highest cross entropy in the
    batch.
    """
    return dict(
        type="ASPPHead",
        in_channels="card:upper_channels",
        in_index=(0, 1, 2),
        input_transform="resize_concat",
        channels=channels,
        dilations=dilations,
        dropout_ratio=0.1,
        num_classes=classes,
        norm_cfg=backbones.batch_norm(),
        align_corners=False,
        sampler=dict(type="OHEMPixelSampler", min_kept=kept),
        loss_decode=segmenters.mean_over_all_pixels(crop / kept),
    )


def linear(plan: Mapping[str, Any], pipeline: Pipeline, **more: Any) -> dict[str, Any]:
    """The linear value on VOC's own labels (`bench.openmmlab.linear`), in batches of the plan's size."""
    loader = loading.train_loader(datasets.voc_segmentation("train", pipeline), plan)
    return dict(train_dataloader=loader, test_evaluator=dict(type="SegmentationMetric"), **more)


def _discovered(step: dict[str, Any]) -> dict[str, Any]:
    return dict(type="LoadDiscoveredLabels") if step["type"] == "LoadLabelMap" else step
