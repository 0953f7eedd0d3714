"""Dataset classes for mmdet and mmseg that read the benchmarks as the protocols say.

Import after :func:`bench.openmmlab.prepare_openmmlab`. mmseg's own `PascalVOCDataset` needs no change.

Padding: none of these, and no pipeline of ours, pads raw pixels (mmseg's VOC configs pad with black, which
normalisation turns into a strong colour). Images smaller than the crop stay small until the data preprocessor has
normalised them; it then pads with 0, which is the card's mean colour, and label maps with 255.
"""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset, VOCDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.registry import DATASETS as MMDET_DATASETS
from mmseg.datasets import CityscapesDataset
from mmseg.registry import DATASETS as MMSEG_DATASETS

from bench.errors import BenchError
from bench.metrics.coco_detection import load_ground_truth


class _NotEmpty:
    """Says so when no image is left, where mmengine fails over an empty concatenation."""

    def filter_data(self) -> list[dict[str, Any]]:
        """The images that `filter_cfg` leaves; raises :class:`BenchError` if there is none."""
        left: list[dict[str, Any]] = super().filter_data()  # type: ignore[misc]
        if not left:
            raise BenchError(f"{self.ann_file}: no image to use; it lists none, or none has an object")  # type: ignore[attr-defined]
        return left


@MMDET_DATASETS.register_module()
class DenseBenchVOCDetection(_NotEmpty, VOCDataset):
    """VOC boxes as detectron2 reads them, which the published figures come from.

    Unlike mmdet's class: objects marked difficult are ground truth like any other in training (each instance carries
    `difficult` for the metric); only xmin and ymin are reduced by 1, so that x2 - x1 is the number of pixels; no object
    is ignored for its size. Images are those of the id list `ann_file` (`.../ImageSets/Main/*.txt`), files are in
    `data_prefix['sub_data_root']`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # mmdet notes the year here for its own metric, and VOC 2007 and 2012 then cannot be trained on together
        del self._metainfo["dataset_type"]

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the id list and all XML files; raises :class:`BenchError` for a missing or unreadable one."""
        if self.bbox_min_size is not None:
            raise BenchError("bbox_min_size ignores small objects, which no published VOC protocol does: remove it")
        try:
            return super().load_data_list()
        except FileNotFoundError as error:
            raise BenchError(
                f"{error.filename} is missing; check the data root with `densebench data check`"
            ) from error

    def parse_data_info(self, img_info: dict[str, Any]) -> dict[str, Any]:
        """One image's record; the error of a damaged XML file names the file."""
        try:
            return super().parse_data_info(img_info)
        except (ET.ParseError, AttributeError, TypeError, ValueError) as error:
            # mmdet's part raises AttributeError or TypeError where <width> or <height> is absent or empty
            raise BenchError(f"{img_info['xml_path']} is not a VOC annotation file: {error}") from error

    def _parse_instance_info(self, raw_ann_info: ET.ElementTree, minus_one: bool = True) -> list[dict[str, Any]]:
        """All objects of the dataset's classes; `minus_one` is mmdet's parameter and always true."""
        instances = []
        for node in raw_ann_info.findall("object"):
            name = _text(node, "name")
            if name not in self.METAINFO["classes"]:
                raise ValueError(f"unknown class {name!r}")
            if name not in self.cat2label:
                continue  # a config may choose some of the classes
            x1, y1, x2, y2 = (float(_text(node, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
            instances.append(
                {
                    "bbox": [x1 - 1, y1 - 1, x2, y2],
                    "bbox_label": self.cat2label[name],
                    "ignore_flag": 0,
                    "difficult": bool(int(node.findtext("difficult") or 0)),
                }
            )
        return instances


def _text(node: ET.Element, path: str) -> str:
    text = node.findtext(path)
    if text is None:
        raise ValueError(f"an object has no <{path}>")
    return text.strip()


class QuietCOCO(COCO):
    """mmdet's COCO reader without its printing, and with category ids in the order of the class names asked for."""

    def __init__(self, annotation_file: str | None = None) -> None:
        super().__init__(None)
        if annotation_file is not None:
            self.__dict__.update(vars(load_ground_truth(Path(annotation_file))))
            self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs  # mmdet's names

    def get_cat_ids(
        self, cat_names: tuple[str, ...] = (), sup_names: tuple[str, ...] = (), cat_ids: tuple[int, ...] = ()
    ) -> list[int]:
        """The ids of `cat_names` in this order, so that label i is always class i, whatever the order in the file."""
        if not cat_names:
            return super().get_cat_ids([], list(sup_names), list(cat_ids))
        ids = {category["name"]: category["id"] for category in self.dataset["categories"]}
        missing = [name for name in cat_names if name not in ids]
        if missing:
            raise BenchError(f"the COCO annotations have no category {missing[0]!r} (and lack {len(missing)} in all)")
        return [ids[name] for name in cat_names]


@MMDET_DATASETS.register_module()
class DenseBenchCoco(_NotEmpty, CocoDataset):
    """COCO boxes and masks: mmdet's class, quiet, with labels bound to category names, not to the file's order."""

    COCOAPI = QuietCOCO


@MMSEG_DATASETS.register_module()
class DenseBenchCityscapes(CityscapesDataset):
    """Cityscapes layout with left images in PNG (Cityscapes itself) or JPEG, in folders of cities.

    Labels are `*_gtFine_labelTrainIds.png`; the 19 trainIds are the classes, 255 is ignored.
    """

    LEFT_SUFFIXES = ("_leftImg8bit.png", "_leftImg8bit.jpg")

    def load_data_list(self) -> list[dict[str, Any]]:
        """All pairs sorted by path; raises :class:`BenchError` if there is none or a label map is missing."""
        images = Path(self.data_prefix["img_path"])
        labels = Path(self.data_prefix["seg_map_path"])
        data_list = []
        for path in sorted(images.rglob("*")):
            suffix = next((s for s in self.LEFT_SUFFIXES if path.name.endswith(s)), None)
            if suffix is None:
                continue
            relative = path.relative_to(images)
            label = labels / relative.with_name(relative.name.removesuffix(suffix) + self.seg_map_suffix)
            if not label.is_file():
                raise BenchError(f"{label} is missing: every left image needs its map of trainIds")
            data_list.append(
                {
                    "img_path": str(path),
                    "seg_map_path": str(label),
                    "label_map": self.label_map,
                    "reduce_zero_label": self.reduce_zero_label,
                    "seg_fields": [],
                }
            )
        if not data_list:
            raise BenchError(
                f"{images} has no *_leftImg8bit.png or *_leftImg8bit.jpg; check it with `densebench data check`"
            )
        return data_list
