"""Loading steps of the pipelines: stored pixels and label maps, decoded as `densebench data check` decodes them.

Import after :func:`bench.openmmlab.prepare_openmmlab`, which does. mmdet and mmseg find the steps through mmengine.
"""

from pathlib import Path
from typing import Any

import mmcv.transforms
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from bench.datasets.files import load_pixels
from bench.datasets.masks import load_labels
from bench.errors import BenchError


@TRANSFORMS.register_module()
class LoadStoredImage(BaseTransform):
    """The picture in `img_path` as uint8 BGR (H, W, 3) into `img`, its pixels as stored.

    mmcv's `LoadImageFromFile` turns a picture as its EXIF orientation says, under boxes and masks that stay as they
    are. Without an orientation both give the same values.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add `img`, `img_shape` and `ori_shape`; raises :class:`BenchError`, which names the file."""
        results["img"] = pixels = load_pixels(Path(results["img_path"]))
        results["img_shape"] = results["ori_shape"] = pixels.shape[:2]
        return results


@TRANSFORMS.register_module(force=True)
class LoadImageFromFile(mmcv.transforms.LoadImageFromFile):
    """mmcv's step, where it is told to leave pictures as they are stored.

    So no protocol, of whomever, trains on turned pictures under boxes and masks that were not turned.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.color_type in ("color", "grayscale"):
            raise BenchError(
                "LoadImageFromFile turns pictures as their EXIF orientation says, but not their boxes and masks: "
                'use dict(type="LoadStoredImage")'
            )


@TRANSFORMS.register_module()
class LoadLabelMap(BaseTransform):
    """The labels in `seg_map_path` as uint8 (H, W) into `gt_seg_map`, one of the `seg_fields`.

    `label_map` of the data set, if it has one, gives the labels of a choice of classes; the rest become 255.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add `gt_seg_map`; raises :class:`BenchError`, which names the file."""
        if results.get("reduce_zero_label"):
            raise BenchError("LoadLabelMap does not shift labels: leave out reduce_zero_label")
        stored = load_labels(Path(results["seg_map_path"]))
        labels = stored.copy()
        for old, new in (results.get("label_map") or {}).items():
            labels[stored == old] = new
        results["gt_seg_map"] = labels
        results["seg_fields"].append("gt_seg_map")
        return results
