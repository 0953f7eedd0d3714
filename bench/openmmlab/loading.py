"""Loading steps of the pipelines: stored pixels and label maps, decoded as in `densebench data check`.

Import after :func:`bench.openmmlab.prepare_openmmlab`, which does. mmdet and mmseg find the steps through mmengine.
"""

from pathlib import Path
from typing import Any

import mmcv.transforms
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from bench.datasets.files import load_pixels
from bench.datasets.masks import load_labels
from bench.datasets.pairs import Pair
from bench.errors import BenchError


@TRANSFORMS.register_module()
class LoadStoredImage(BaseTransform):
    """Loads the picture in `img_path` into `img`, as uint8 BGR (H, W, 3) with the pixels as stored.

    mmcv's `LoadImageFromFile` turns a picture as its EXIF orientation says, but not its boxes and masks. Without an
    orientation both give the same values. Own data whose annotations fit the turned picture say so in `turned`.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add `img`, `img_shape` and `ori_shape`; raises :class:`BenchError`, which names the file."""
        results["img"] = pixels = load_pixels(Path(results["img_path"]), results.get("turned", False))
        results["img_shape"] = results["ori_shape"] = pixels.shape[:2]
        return results


@TRANSFORMS.register_module()
class RandomScale(BaseTransform):
    """Scales the image, and what is annotated in it, by a ratio that is drawn uniformly from `ratios`.

    mmcv's `RandomResize` starts from one size for all images, this from each image's own.
    """

    def __init__(self, ratios: tuple[float, float]) -> None:
        self.ratios = ratios

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize `img` and the maps of labels, as mmcv's `Resize` does, to whole pixels (rounded down)."""
        ratio = np.random.uniform(*self.ratios)
        height, width = results["img"].shape[:2]
        resize = mmcv.transforms.Resize(scale=(int(width * ratio), int(height * ratio)), keep_ratio=True)
        scaled: dict[str, Any] = resize.transform(results)
        return scaled


@TRANSFORMS.register_module(force=True)
class LoadImageFromFile(mmcv.transforms.LoadImageFromFile):
    """mmcv's step, which is only allowed with the option that leaves pictures as they are stored.

    So no protocol, whoever wrote it, trains on turned pictures with boxes and masks that were not turned.
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
    """Loads the labels in `seg_map_path` into `gt_seg_map`, one of the `seg_fields`, as uint8 (H, W).

    Own data have a `pair`, which makes the label map. If the data set has a `label_map`, it gives the labels of the
    selected classes; all others become 255.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add `gt_seg_map`; raises :class:`BenchError`, which names the file."""
        if results.get("reduce_zero_label"):
            raise BenchError("LoadLabelMap does not shift labels: leave out reduce_zero_label")
        pair: Pair | None = results.get("pair")
        stored = load_labels(Path(results["seg_map_path"])) if pair is None else pair.load_labels()
        labels = stored.copy()
        for old, new in (results.get("label_map") or {}).items():
            labels[stored == old] = new
        results["gt_seg_map"] = labels
        results["seg_fields"].append("gt_seg_map")
        return results
