"""MaskDistill's step between two segmenters: confident instances of a Mask R-CNN become label maps.

Van Gansbeke et al. (arXiv 2206.06363) train a Mask R-CNN on the objects that were discovered, each with the number of
its cluster, keep its confident predictions, and paint them into one label map for each image, from which a semantic
segmenter learns. `PaintedSegmentationMetric` scores such maps on labeled images, and `relabel` writes those of the
training images as a table like that of the stage `labels`, so that it can take its place.

Import after :func:`bench.openmmlab.prepare_openmmlab`, which does. mmdet finds the classes by their names.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmdet.datasets import BaseDetDataset
from mmdet.registry import DATASETS, METRICS
from numpy.typing import NDArray

from bench.datasets import voc
from bench.datasets.discovered import VOC_CLUSTERS, read_discovered
from bench.datasets.masks import load_labels
from bench.datasets.report import Strict
from bench.errors import BenchError
from bench.metrics.segmentation import confusion_matrix
from bench.openmmlab.discovered import HungarianSegmentationMetric, instance_of, row_of
from leaderboard.base.files import write_atomic
from pretrain.data.pictures import open_picture
from pretrain.discovery.correspondence import opened
from pretrain.discovery.object_table import OUTSIDE, row_type, spread

CONFIDENT = 0.9
"""Least score of a prediction that is painted; of an image without one, its surest prediction is."""
TABLE = "labels.npy"
"""The table's name in a run's folder."""
SIDE = 128
"""Most cells of a row of the table in each direction."""

Masks = NDArray[np.bool_]


def paint(masks: Masks, clusters: NDArray[np.int64], scores: NDArray[Any], *, published: bool) -> NDArray[np.uint8]:
    """The label map (H, W) of an image: 0, and 1 + cluster where confident masks (n, H, W) lie, the surest first.

    A mask that overlaps with one already painted is left out. The `published` code compares otherwise, by mistake: a
    mask is left out where something painted touches the first row of the image (or the second, unless the mask is
    empty); else it is painted over what is there.
    """
    order = np.argsort(-scores, kind="stable")
    kept = [i for i in order if scores[i] >= CONFIDENT] or order[:1].tolist()
    canvas = np.zeros(masks.shape[1:], np.uint8)
    for i in kept:
        if published:
            rows = [row for row, touched in enumerate((not masks[i].all(), masks[i].any())) if touched]
            taken = canvas[[row for row in rows if row < len(canvas)]].any()
        else:
            taken = canvas[masks[i]].any()
        if not taken:
            canvas[masks[i]] = 1 + clusters[i]
    return canvas


def cells_of_map(labels: NDArray[np.uint8], name: str) -> NDArray[Any]:
    """A row of the table for a label map: its values at the centers of square cells, at most `SIDE` to a side."""
    height, width = labels.shape
    cell = -(-max(height, width) // SIDE)
    row = np.zeros((), row_type(SIDE))
    row["image"], row["height"], row["width"], row["cell"] = name.encode(errors="surrogateescape"), height, width, cell
    row["cells"] = OUTSIDE
    centers = [np.minimum(np.arange(0, size, cell) + cell // 2, size - 1) for size in labels.shape]
    row["cells"][: len(centers[0]), : len(centers[1])] = labels[np.ix_(*centers)]
    return row


@DATASETS.register_module()
class DiscoveredVOCObjects(BaseDetDataset):
    """VOC's images of the id list `ann_file`, with an object for each cluster in their row of the table `discovered`.

    Images without an object are left out. Without a table, all images are there, and none has objects.
    """

    METAINFO: ClassVar[dict[str, Any]] = {"classes": tuple(f"cluster {i}" for i in range(1, VOC_CLUSTERS + 1))}

    def __init__(self, discovered: str = "", **kwargs: Any) -> None:
        self.discovered = Path(discovered) if discovered else None
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """All such images; raises :class:`BenchError` if there is none, or an image has no row."""
        photos, labels = Path(self.data_prefix["img_path"]), Path(self.data_prefix["seg_map_path"])
        entries = voc.read_entries(Path(self.ann_file), photos, labels, ".png", Strict())
        if self.discovered is None:
            return [self._record(entry, []) for entry in entries]
        rows, table = read_discovered(self.discovered, VOC_CLUSTERS), opened(self.discovered)
        found = []
        for entry in entries:
            with open_picture(entry.image) as picture:
                width, height = picture.size
            clusters = spread(table[row_of(rows, entry.image.name, self.discovered)], height, width)
            there = [int(k) for k in np.unique(clusters) if 0 < k <= VOC_CLUSTERS]
            objects = [instance_of(clusters == k) | {"bbox_label": k - 1} for k in there]
            found.append(self._record(entry, objects) | {"width": width, "height": height})
        found = [record for record in found if record["instances"]]
        if not found:
            raise BenchError(f"{self.discovered}: no object was discovered in any image")
        return found

    def _record(self, entry: voc.Entry, objects: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "img_id": entry.id,
            "img_path": str(entry.image),
            "labels_path": str(entry.annotation),
            "instances": objects,
        }


@METRICS.register_module()
class PaintedSegmentationMetric(HungarianSegmentationMetric):
    """mIoU, mAcc and aAcc of painted predictions, each label being the class that makes mIoU the highest.

    The test pipeline has to keep `labels_path`.
    """

    def __init__(self, published: bool, dump: str | None = None) -> None:
        super().__init__(dump)
        self.published = published

    @property
    def num_classes(self) -> int:
        """Number of labels, background first."""
        return VOC_CLUSTERS + 1

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep each image's confusion matrix, without its zeros."""
        for sample in data_samples:
            labels = load_labels(Path(sample["labels_path"]))
            counts = confusion_matrix(labels, painted(sample, self.published), self.num_classes, sample["labels_path"])
            cells = np.flatnonzero(counts)
            self.results.append((Path(sample["img_path"]).name, cells, counts.reshape(-1)[cells]))


@METRICS.register_module()
class PaintedTable(PaintedSegmentationMetric):
    """Writes the painted predictions of all images to the table `table`; it has no values."""

    def __init__(self, table: str, published: bool) -> None:
        super().__init__(published)
        self.table = Path(table)

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep each image's row."""
        for sample in data_samples:
            self.results.append(cells_of_map(painted(sample, self.published), Path(sample["img_path"]).name))

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Write the table."""
        content = io.BytesIO()
        np.save(content, np.stack(results))
        write_atomic(self.table, content.getvalue())
        return {}


def painted(sample: Mapping[str, Any], published: bool) -> NDArray[np.uint8]:
    """The label map (H, W) of mmdet's predictions for one image."""
    found = sample["pred_instances"]
    masks, clusters, scores = (found[key].detach().cpu().numpy() for key in ("masks", "labels", "scores"))
    return paint(masks.reshape(-1, *sample["ori_shape"][:2]).astype(bool), clusters, scores, published=published)


def relabel(config: Mapping[str, Any], model: Any, folder: Path) -> None:
    """Write the table of a trained `model` to `folder`, if its protocol asks for it by `relabel = dict(...)`.

    `relabel` has `dataloader`, the training images as for a test, and `published` (see `paint`).
    """
    if "relabel" not in config:
        return
    from bench.openmmlab.runner import make_runner

    plan = config["relabel"]
    metric = {"type": "PaintedTable", "table": str(folder / TABLE), "published": plan["published"]}
    changed = {**config, "test_dataloader": dict(plan["dataloader"]), "test_evaluator": metric}
    make_runner(changed, model, 0, folder, training=False).test()
