"""Pipelines for one image, and the loaders that make batches with them.

Pictures are used as they are stored, not turned by an EXIF orientation, which boxes and masks would not follow. (Up to
version 1 of the protocols fine-tuning turned them; pictures without an orientation give the same values.)
"""

from collections.abc import Mapping
from typing import Any

Size = tuple[int, int]
Pipeline = list[dict[str, Any]]


def fit(size: Size) -> dict[str, Any]:
    """Resize until the image just fits into `size` (long side, short side; either may be the width)."""
    return dict(type="Resize", scale=size, keep_ratio=True)


def detection_training(resize: dict[str, Any], *, masks: bool = False) -> Pipeline:
    """Load with boxes (and `masks`), `resize`, flip with probability 1/2."""
    shapes = dict(with_mask=True) if masks else dict()
    return [
        dict(type="LoadStoredImage"),
        dict(type="LoadAnnotations", with_bbox=True, **shapes),
        resize,
        dict(type="RandomFlip", prob=0.5),
        dict(type="PackDetInputs"),
    ]


def detection_testing(resize: dict[str, Any], *, boxes: bool) -> Pipeline:
    """Load and `resize`; with the annotated `boxes` where the metric reads them from the sample."""
    annotations = [dict(type="LoadAnnotations", with_bbox=True)] if boxes else []
    kept = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", *(["instances"] if boxes else []))
    return [
        dict(type="LoadStoredImage"),
        resize,
        *annotations,
        dict(type="PackDetInputs", meta_keys=kept),
    ]


def instance_testing(resize: dict[str, Any]) -> Pipeline:
    """As for detection with boxes, and the path of the image of instance ids, which Cityscapes' metric reads."""
    pipeline = detection_testing(resize, boxes=True)
    pipeline[-1]["meta_keys"] = (*pipeline[-1]["meta_keys"], "ids_path")
    return pipeline


def segmentation_training(
    *, size: Size | None, ratios: tuple[float, float], crop: Size, distort: bool = False, most: float = 0.75
) -> Pipeline:
    """Load, resize at random, crop so that no class fills more than a share, flip with probability 1/2.

    Args:
        size: size into which the image fits at ratio 1 (long side, short side); None: its own.
        ratios: range of the random ratio.
        crop: height and width of the crop.
        distort: then change brightness, contrast, saturation and hue, each with probability 1/2.
        most: share of the crop that no class should fill; ten crops are tried. 1: the first one is taken.
    """
    colors = [dict(type="PhotoMetricDistortion")] if distort else []
    resize: dict[str, Any]
    if size is None:
        resize = dict(type="RandomScale", ratios=ratios)
    else:
        resize = dict(type="RandomResize", scale=size, ratio_range=ratios, keep_ratio=True)
    return [
        dict(type="LoadStoredImage"),
        dict(type="LoadLabelMap"),
        resize,
        dict(type="RandomCrop", crop_size=crop, cat_max_ratio=most),
        dict(type="RandomFlip", prob=0.5),
        *colors,
        dict(type="PackSegInputs"),
    ]


def segmentation_testing(resize: dict[str, Any] | None) -> Pipeline:
    """Load and `resize` the image, if it is to be resized; the labels keep their own size."""
    return [
        dict(type="LoadStoredImage"),
        *([] if resize is None else [resize]),
        dict(type="LoadLabelMap"),
        dict(type="PackSegInputs"),
    ]


def train_loader(
    dataset: dict[str, Any], plan: Mapping[str, Any], *, workers: int | str = 0, **more: Any
) -> dict[str, Any]:
    """Endless shuffled batches of the plan's `batch_size`.

    Args:
        dataset: a data set from `datasets`.
        plan: the plan of the protocol.
        workers: number of loading processes; `run:workers` depends on the cores, and is 0 without a GPU.
        more: further arguments of mmengine's loader, such as `batch_sampler`.
    """
    return dict(
        batch_size=plan["batch_size"],
        num_workers=workers,
        sampler=dict(type="InfiniteSampler", shuffle=True),
        dataset=dataset,
        **more,
    )


def test_loader(dataset: dict[str, Any], *, batch_size: int, workers: int | str = 0) -> dict[str, Any]:
    """Every image once, in order; for `workers` see :func:`train_loader`."""
    return dict(
        batch_size=batch_size,
        num_workers=workers,
        sampler=dict(type="DefaultSampler", shuffle=False),
        dataset=dataset,
    )


def by_aspect_ratio() -> dict[str, Any]:
    """A batch sampler that groups wide images and tall images, so that there is little padding."""
    return dict(type="AspectRatioBatchSampler")
