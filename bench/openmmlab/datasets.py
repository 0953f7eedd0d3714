"""Dataset classes for mmdet and mmseg that read the benchmarks as the protocols say.

Import after :func:`bench.openmmlab.prepare_openmmlab`. Lists and annotations are read by the same functions as in
`densebench data check` (`bench.datasets`), so that data which it calls usable can be read.

Padding: none of these classes, and none of our pipelines, pads raw pixels (mmseg's VOC configs pad with black, which
normalization turns into a strong color). Images smaller than the crop stay small until the data preprocessor has
normalized them; it then pads images with 0, which is the card's mean color, and label maps with 255.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from mmdet.datasets import BaseDetDataset, CocoDataset, VOCDataset
from mmdet.registry import DATASETS as MMDET_DATASETS
from mmseg.datasets import ADE20KDataset, BaseSegDataset, CityscapesDataset, PascalVOCDataset
from mmseg.registry import DATASETS as MMSEG_DATASETS
from pycocotools import mask as run_length

from bench.datasets import ade20k, cityscapes, cityscapes_instances, voc
from bench.datasets.coco import CocoFile, load_coco
from bench.datasets.coco_objects import CocoImage, CocoObject
from bench.datasets.lvis import load_lvis
from bench.datasets.names import CITYSCAPES_THINGS
from bench.datasets.own.description import PartName, read_own
from bench.datasets.own.maps import own_pairs
from bench.datasets.own.objects import load_objects
from bench.datasets.pairs import segmentation_pairs
from bench.datasets.report import Strict
from bench.datasets.shares import hold_out, take_share_of_each
from bench.errors import BenchError


class Share:
    """A data set of which `share` is used: of its listed images, before any is left out (`bench.datasets.shares`).

    Where images have one class each (`class` in their records), it is the share of each class.

    Where an amount is `held_out`, by image or by folder, `evaluated` says whether these images are used, or the others.
    """

    def __init__(
        self,
        *,
        share: float = 1.0,
        fold: int = 0,
        held_out: float = 0.0,
        held_out_by: str = "image",
        evaluated: bool = False,
        **kwargs: Any,
    ) -> None:
        self.share, self.fold = share, fold
        self.held_out, self.held_out_by, self.evaluated = held_out, held_out_by, evaluated
        self.listed: list[str] = []
        """Names of all images' files, in the data set's order."""
        self.units: list[str] = []
        """For each of them, the name of what is held out as a whole."""
        self.groups: list[str] = []
        """For each of them, its class; an empty name where images have none."""
        self.taken: list[str] = []
        """Names of those in the share."""
        super().__init__(**kwargs)

    def filter_data(self) -> list[dict[str, Any]]:
        """The images of the share that the data set's own rules leave."""
        paths = [Path(record["img_path"]) for record in self.data_list]
        self.listed = [record.get("name", path.name) for record, path in zip(self.data_list, paths, strict=True)]
        self.groups = [record.get("class", "") for record in self.data_list]
        self.units = [path.parent.name for path in paths] if self.held_out_by == "folder" else self.listed
        positions = list(range(len(paths)))
        if self.held_out:
            held = set(hold_out(self.units, self.held_out))
            positions = [i for i in positions if (i in held) == self.evaluated]
        if self.share < 1:
            names, groups = [self.listed[i] for i in positions], [self.groups[i] for i in positions]
            of_these = take_share_of_each(names, groups, self.share, self.fold)
            positions = [positions[i] for i in of_these]
        self.data_list: list[dict[str, Any]] = [self.data_list[i] for i in positions]
        self.taken = [self.listed[i] for i in positions]
        left: list[dict[str, Any]] = super().filter_data()  # type: ignore[misc]
        return left


class _NotEmpty(Share):
    """Raises a clear error when no image is left, where mmengine fails with an empty concatenation."""

    def filter_data(self) -> list[dict[str, Any]]:
        """The images that `filter_cfg` leaves; raises :class:`BenchError` if there is none."""
        left = super().filter_data()
        if not left:
            raise BenchError(f"{self.ann_file}: no image to use; it lists none, or none has an object")  # type: ignore[attr-defined]
        return left


@MMDET_DATASETS.register_module()
class DenseBenchVOCDetection(_NotEmpty, VOCDataset):
    """VOC boxes as detectron2 reads them, from which the published values come.

    It differs from mmdet's class: in training, objects marked difficult are ground truth like any other (each instance
    carries `difficult` for the metric); only xmin and ymin are reduced by 1, so that x2 - x1 is the number of pixels;
    no object is ignored for its size. The images are those of the id list `ann_file` (`.../ImageSets/Main/*.txt`), the
    files are in `data_prefix['sub_data_root']`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # mmdet notes the year here for its own metric, and VOC 2007 and 2012 then cannot be trained on together
        del self._metainfo["dataset_type"]

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the id list and all XML files; raises :class:`BenchError` for a missing or unreadable one."""
        if self.bbox_min_size is not None:
            raise BenchError("bbox_min_size ignores small objects, which no published VOC protocol does: remove it")
        self.cat2label = {name: label for label, name in enumerate(self._metainfo["classes"])}
        folder, findings = Path(self.sub_data_root), Strict()
        photos, annotations = folder / self.img_subdir, folder / self.ann_subdir
        entries = voc.read_entries(Path(self.ann_file), photos, annotations, ".xml", findings)
        return [self._record(entry, voc.read_annotation(entry.annotation, findings)) for entry in entries]

    def _record(self, entry: voc.Entry, annotation: voc.Annotation | None) -> dict[str, Any]:
        assert annotation is not None  # else an error was raised
        width, height = annotation.size
        return {
            "img_id": entry.id,
            "img_path": str(entry.image),
            "xml_path": str(entry.annotation),
            "width": width,
            "height": height,
            "instances": [self._instance(item) for item in annotation.objects if item.name in self.cat2label],
        }

    def _instance(self, item: voc.VOCObject) -> dict[str, Any]:
        xmin, ymin, xmax, ymax = item.box
        return {
            "bbox": [xmin - 1, ymin - 1, xmax, ymax],
            "bbox_label": self.cat2label[item.name],
            "ignore_flag": 0,
            "difficult": item.difficult,
        }


@MMDET_DATASETS.register_module()
class DenseBenchCoco(_NotEmpty, CocoDataset):
    """COCO boxes and masks; labels follow the category names, not the order in the file.

    `bench.datasets.coco` reads the objects; training leaves out those that mmdet leaves out.
    """

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the annotation file; raises :class:`BenchError` if it cannot be used or lacks one of the classes."""
        return self._records(load_coco(Path(self.ann_file)))

    def _records(self, content: CocoFile) -> list[dict[str, Any]]:
        ids = {name: number for number, name in content.categories.items()}
        missing = [name for name in self.metainfo["classes"] if name not in ids]
        if missing:
            raise BenchError(f"{self.ann_file}: no category {missing[0]!r} (and {len(missing)} are missing in all)")
        self.cat_ids = [ids[name] for name in self.metainfo["classes"]]
        self.cat2label = {number: label for label, number in enumerate(self.cat_ids)}
        self.cat_img_map: dict[int, list[int]] = {number: [] for number in content.categories}  # for filter_data
        for item in content.objects:
            self.cat_img_map[item.category_id].append(item.image.id)
        return [self._record(content.images[image_id], items) for image_id, items in content.by_image().items()]

    def _record(self, image: CocoImage, items: list[CocoObject]) -> dict[str, Any]:
        described = image._asdict() | {"img_id": image.id}
        record: dict[str, Any] = self.parse_data_info({"raw_img_info": described, "raw_ann_info": []})
        record["instances"] = [
            self._instance(item) for item in items if item.trained_on and item.category_id in self.cat2label
        ]
        return record

    def _instance(self, item: CocoObject) -> dict[str, Any]:
        x, y, width, height = item.box
        instance = {
            "ignore_flag": int(item.crowd),
            "bbox": [x, y, x + width, y + height],
            "bbox_label": self.cat2label[item.category_id],
        }
        return instance if item.mask is None else instance | {"mask": item.mask.segmentation}


@MMDET_DATASETS.register_module()
class DenseBenchLvis(DenseBenchCoco):
    """LVIS v1 with boxes and masks; the classes are those of the file `ann_file`, in the order of their ids."""

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the annotation file; raises :class:`BenchError` if it cannot be used."""
        content = load_lvis(Path(self.ann_file)).coco
        self._metainfo["classes"] = tuple(name for _, name in sorted(content.categories.items()))
        return self._records(content)

    def classes_of_images(self) -> list[set[int]]:
        """The classes of which each image has an object."""
        records = (self.get_data_info(i) for i in range(len(self)))
        return [{item["bbox_label"] for item in record["instances"]} for record in records]


@MMDET_DATASETS.register_module()
class DenseBenchOwnObjects(DenseBenchCoco):
    """Boxes, and masks where there are some, of the user's own data, by the description in `data_root`."""

    def __init__(self, *, data_root: str, part: PartName, **kwargs: Any) -> None:
        self.own = read_own(Path(data_root))
        self.part: PartName = part
        super().__init__(metainfo={"classes": self.own.names}, data_prefix={"img": ""}, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the part's annotations; raises :class:`BenchError` if they cannot be used."""
        found = load_objects(self.own, self.part)
        records = self._records(found.content)
        for record in records:
            picture = found.pictures[record["img_id"]]
            record |= {"img_path": str(picture.path), "turned": picture.turned}
        return records


class _WithObjects(BaseDetDataset):
    """Leaves images without an object out of training."""

    def filter_data(self) -> list[dict[str, Any]]:
        """All images; in training only those with an object."""
        if self.test_mode:
            return list(self.data_list)
        return [one for one in self.data_list if not all(item["ignore_flag"] for item in one["instances"])]


@MMDET_DATASETS.register_module()
class DenseBenchCityscapesInstances(_NotEmpty, _WithObjects):
    """Cityscapes with boxes and masks of 8 classes, read from `*_gtFine_instanceIds.png`; groups are ignored.

    A box encloses the visible pixels of its object completely. In training, images without an object are left out.
    Reading takes about a second for 20 images of Cityscapes' size.
    """

    METAINFO: ClassVar[dict[str, Any]] = {"classes": tuple(CITYSCAPES_THINGS.values())}

    def load_data_list(self) -> list[dict[str, Any]]:
        """All frames sorted by path; raises :class:`BenchError` if there is none or a mask is missing or damaged."""
        images, labels = Path(self.data_prefix["img_path"]), Path(self.data_prefix["seg_map_path"])
        frames = cityscapes.list_frames(images, labels, Strict(), cityscapes_instances.LABEL)
        return [self._record(frame) for frame in frames]

    def _record(self, frame: cityscapes.Frame) -> dict[str, Any]:
        ids = cityscapes_instances.load_ids(frame.label)
        height, width = ids.shape
        return {
            "img_id": frame.id,
            "img_path": str(frame.image),
            "ids_path": str(frame.label),
            "width": width,
            "height": height,
            "instances": [
                {
                    "bbox": list(found.box),
                    "bbox_label": found.label,
                    "ignore_flag": int(found.group),
                    "mask": as_text(
                        run_length.frPyObjects({"counts": found.counts, "size": [height, width]}, height, width)
                    ),
                }
                for found in cityscapes_instances.find_instances(ids)
            ],
        }


def as_text(packed: dict[str, Any]) -> dict[str, Any]:
    """The run lengths that pycocotools gives, with text for bytes: mmdet trains on no object whose mask holds bytes."""
    return {"size": packed["size"], "counts": packed["counts"].decode()}


class _Pairs(Share, BaseSegDataset):
    """Images and their label maps."""

    def _pairs(self, pairs: Iterable[tuple[Path, Path]]) -> list[dict[str, Any]]:
        return [
            {
                "img_path": str(image),
                "seg_map_path": str(labels),
                "label_map": self.label_map,
                "reduce_zero_label": self.reduce_zero_label,
                "seg_fields": [],
            }
            for image, labels in pairs
        ]


@MMSEG_DATASETS.register_module()
class DenseBenchVOCSegmentation(_Pairs):
    """VOC's 21 classes, background first, 255 ignored: the images of the id list `ann_file`, in its order."""

    METAINFO = PascalVOCDataset.METAINFO

    def load_data_list(self) -> list[dict[str, Any]]:
        """All pairs of the list; raises :class:`BenchError` if it is missing, empty or unreadable."""
        photos, labels = Path(self.data_prefix["img_path"]), Path(self.data_prefix["seg_map_path"])
        entries = voc.read_entries(Path(self.ann_file), photos, labels, ".png", Strict())
        return self._pairs((entry.image, entry.annotation) for entry in entries)


@MMSEG_DATASETS.register_module()
class DenseBenchVOCAugmentedSegmentation(_Pairs):
    """VOC's 21 classes on the images of `trainaug.txt` in `data_prefix['sub_data_root']`, the folder of VOC 2012."""

    METAINFO = PascalVOCDataset.METAINFO

    def load_data_list(self) -> list[dict[str, Any]]:
        """All pairs of the list; raises :class:`BenchError` if it is missing, empty or unreadable."""
        entries = voc.read_augmented(Path(self.data_prefix["sub_data_root"]), Strict())
        return self._pairs((entry.image, entry.annotation) for entry in entries)


@MMSEG_DATASETS.register_module()
class DenseBenchADE20K(_Pairs):
    """ADE20K's 150 classes, the images of `part`; pixels of no class are 255."""

    METAINFO = ADE20KDataset.METAINFO

    def __init__(self, *, part: PartName, **kwargs: Any) -> None:
        self.part: PartName = part
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """All pairs of the part; raises :class:`BenchError` if there is none or a label map is missing."""
        pairs = segmentation_pairs(Path(self.data_root), ade20k.NAME, self.part)
        records = self._pairs((pair.image, pair.labels) for pair in pairs)
        return [record | {"pair": pair} for record, pair in zip(records, pairs, strict=True)]


@MMSEG_DATASETS.register_module()
class DenseBenchOwnSegmentation(_Pairs):
    """Label maps of the user's own data, in the classes of the description in `data_root`; 255 is ignored."""

    def __init__(self, *, data_root: str, part: PartName, **kwargs: Any) -> None:
        self.own = read_own(Path(data_root))
        self.part: PartName = part
        super().__init__(metainfo={"classes": self.own.map_names}, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """All pairs of the part; raises :class:`BenchError` if a file is missing or cannot be used."""
        pairs = own_pairs(self.own, self.part)
        records = self._pairs((pair.image, pair.labels) for pair in pairs)
        return [record | {"pair": pair, "turned": pair.turned} for record, pair in zip(records, pairs, strict=True)]


@MMSEG_DATASETS.register_module()
class DenseBenchCityscapes(_Pairs):
    """Cityscapes' layout with left images in PNG (Cityscapes itself) or JPEG, in folders of cities.

    Labels are `*_gtFine_labelTrainIds.png`; the 19 trainIds are the classes, 255 is ignored.
    """

    METAINFO = CityscapesDataset.METAINFO

    def load_data_list(self) -> list[dict[str, Any]]:
        """All pairs sorted by path; raises :class:`BenchError` if there is none or a label map is missing."""
        images, labels = Path(self.data_prefix["img_path"]), Path(self.data_prefix["seg_map_path"])
        return self._pairs((frame.image, frame.label) for frame in cityscapes.list_frames(images, labels, Strict()))
