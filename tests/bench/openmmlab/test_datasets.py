"""What the dataset classes read from small folders written here, and from the real data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bench.errors import BenchError
from bench.openmmlab import prepare_openmmlab

prepare_openmmlab()

from mmdet.registry import DATASETS as MMDET_DATASETS  # noqa: E402
from mmdet.registry import MODELS as MMDET_MODELS  # noqa: E402
from mmengine import DefaultScope, Registry  # noqa: E402
from mmseg.registry import DATASETS as MMSEG_DATASETS  # noqa: E402
from mmseg.registry import MODELS as MMSEG_MODELS  # noqa: E402


def build(registry: Registry, config: dict[str, Any]) -> Any:
    """As within a run whose default scope is the registry's, whatever scope other tests have left behind."""
    with DefaultScope.overwrite_default_scope(registry.scope):
        return registry.build(config)


# --- VOC detection


def voc_object(name: str, box: tuple[int, int, int, int], difficult: int | None = 0) -> str:
    sides = "".join(f"<{s}>{v}</{s}>" for s, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    flag = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    # a part with its own box, as in VOC's person layout, must not be taken for an object
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    return f"<object><name>{name}</name>{flag}<bndbox>{sides}</bndbox>{part}</object>"


def write_voc(root: Path, annotations: dict[str, str]) -> Path:
    folder = root / "VOCdevkit/VOC2012"
    for part in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (folder / part).mkdir(parents=True)
    (folder / "ImageSets/Main/train.txt").write_text("".join(f"{name}\n" for name in annotations))
    for name, content in annotations.items():
        size = "<size><width>60</width><height>40</height><depth>3</depth></size>"
        (folder / f"Annotations/{name}.xml").write_text(f"<annotation>{size}{content}</annotation>")
        Image.new("RGB", (60, 40)).save(folder / f"JPEGImages/{name}.jpg")
    return root


def voc(root: Path, **changes: Any) -> Any:
    config = {
        "type": "DenseBenchVOCDetection",
        "data_root": str(root / "VOCdevkit"),
        "ann_file": "VOC2012/ImageSets/Main/train.txt",
        "data_prefix": {"sub_data_root": "VOC2012/"},
        "pipeline": [],
    }
    return build(MMDET_DATASETS, config | changes)


def test_voc_boxes_lose_one_pixel_left_and_above_only(tmp_path: Path) -> None:
    data = voc(
        write_voc(tmp_path, {"2007_000001": voc_object("dog", (1, 1, 60, 40)) + voc_object("cat", (9, 8, 9, 8))})
    )
    instances = data.get_data_info(0)["instances"]
    assert [i["bbox"] for i in instances] == [[0, 0, 60, 40], [8, 7, 9, 8]]  # one pixel is 1 wide and 1 high
    assert [data.metainfo["classes"][i["bbox_label"]] for i in instances] == ["dog", "cat"]


@pytest.mark.parametrize("test_mode", [False, True])
def test_voc_difficult_objects_are_ground_truth_and_marked(tmp_path: Path, test_mode: bool) -> None:
    content = (
        voc_object("dog", (1, 1, 20, 20), 1)
        + voc_object("dog", (5, 5, 9, 9), 0)
        + voc_object("dog", (3, 3, 9, 9), None)
    )
    instances = voc(write_voc(tmp_path, {"a": content}), test_mode=test_mode).get_data_info(0)["instances"]
    assert [i["difficult"] for i in instances] == [True, False, False]
    assert [i["ignore_flag"] for i in instances] == [0, 0, 0]


def test_voc_difficult_and_tiny_objects_reach_the_training_sample(tmp_path: Path) -> None:
    content = voc_object("dog", (1, 1, 20, 20), 1) + voc_object("sheep", (5, 5, 6, 6), 0)
    pipeline = [
        {"type": "LoadStoredImage"},
        {"type": "LoadAnnotations", "with_bbox": True},
        {"type": "PackDetInputs", "meta_keys": ()},
    ]
    sample = voc(write_voc(tmp_path, {"a": content}), pipeline=pipeline)[0]["data_samples"]
    assert sample.gt_instances.bboxes.tensor.tolist() == [[0, 0, 20, 20], [4, 4, 6, 6]]
    assert sample.gt_instances.labels.tolist() == [11, 16]
    assert len(sample.ignored_instances) == 0


def test_voc_minimum_box_size_is_refused(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": voc_object("dog", (1, 1, 20, 20))})
    with pytest.raises(BenchError, match="bbox_min_size"):
        voc(root, filter_cfg={"bbox_min_size": 32})


def test_voc_empty_images_can_be_left_out(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": "", "b": voc_object("dog", (1, 1, 20, 20))})
    assert len(voc(root)) == 2
    assert len(voc(root, filter_cfg={"filter_empty_gt": True})) == 1


def test_voc_subset_of_classes(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": voc_object("dog", (1, 1, 20, 20)) + voc_object("cat", (1, 1, 9, 9))})
    instances = voc(root, metainfo={"classes": ("cat",)}).get_data_info(0)["instances"]
    assert [(i["bbox"], i["bbox_label"]) for i in instances] == [([0, 0, 9, 9], 0)]


def test_voc_years_can_be_joined(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": voc_object("dog", (1, 1, 20, 20))})
    (root / "VOCdevkit/VOC2007").symlink_to("VOC2012")
    names = {"VOC2007": "VOC2007/ImageSets/Main/train.txt", "VOC2012": "VOC2012/ImageSets/Main/train.txt"}
    years = [voc(root, ann_file=file, data_prefix={"sub_data_root": f"{year}/"}) for year, file in names.items()]
    joined = build(MMDET_DATASETS, {"type": "ConcatDataset", "datasets": years})
    assert len(joined) == 2 and joined.metainfo["classes"] == years[0].metainfo["classes"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (voc_object("unicorn", (1, 1, 2, 2)), "is a 'unicorn', which is none of"),
        ("<object><name>dog</name></object>", "missing or unreadable coordinates"),
        ("<object>", "mismatched tag"),
        (voc_object("dog", (1, 1, 2, 2)).replace("<xmax>2", "<xmax>two"), "missing or unreadable coordinates"),
    ],
)
def test_voc_damaged_annotation_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    root = write_voc(tmp_path, {"2007_000042": content})
    with pytest.raises(BenchError, match=rf"2007_000042\.xml.*{message}"):
        voc(root)


def test_voc_missing_file_is_named(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": "", "b": ""})
    (root / "VOCdevkit/VOC2012/Annotations/b.xml").unlink()
    with pytest.raises(BenchError, match=r"b\.xml is missing"):
        voc(root)
    with pytest.raises(BenchError, match=r"absent\.txt is missing"):
        voc(root, ann_file="VOC2012/ImageSets/Main/absent.txt")


# --- COCO


def write_coco(root: Path, categories: list[tuple[int, str]], annotations: list[dict[str, Any]]) -> Path:
    content = {
        "images": [{"id": 7, "file_name": "7.jpg", "width": 60, "height": 40}],
        "categories": [{"id": number, "name": name} for number, name in categories],
        "annotations": [{"id": n, "image_id": 7, "iscrowd": 0, "area": 100} | a for n, a in enumerate(annotations, 1)],
    }
    (root / "instances.json").write_text(json.dumps(content))
    return root


def coco(root: Path, **changes: Any) -> Any:
    config = {
        "type": "DenseBenchCoco",
        "data_root": str(root),
        "ann_file": "instances.json",
        "data_prefix": {"img": ""},
        "metainfo": {"classes": ("person", "dog")},
        "pipeline": [],
    }
    return build(MMDET_DATASETS, config | changes)


def test_coco_labels_follow_the_class_names_not_the_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    boxes = [{"category_id": 18, "bbox": [0, 0, 10, 10]}, {"category_id": 1, "bbox": [5, 5, 20, 20]}]
    root = write_coco(tmp_path, [(18, "dog"), (3, "car"), (1, "person")], boxes)
    data = coco(root)
    assert [(i["bbox_label"], i["bbox"]) for i in data.get_data_info(0)["instances"]] == [
        (1, [0, 0, 10, 10]),
        (0, [5, 5, 25, 25]),
    ]
    assert data.cat_ids == [1, 18]
    assert capfd.readouterr() == ("", "")


def test_coco_crowds_are_ignored_not_trained(tmp_path: Path) -> None:
    boxes = [{"category_id": 1, "bbox": [0, 0, 10, 10], "iscrowd": 1}, {"category_id": 1, "bbox": [0, 0, 9, 9]}]
    data = coco(write_coco(tmp_path, [(1, "person"), (18, "dog")], boxes))
    assert [i["ignore_flag"] for i in data.get_data_info(0)["instances"]] == [1, 0]


def test_coco_images_without_objects_can_be_left_out(tmp_path: Path) -> None:
    root = write_coco(tmp_path, [(1, "person"), (18, "dog")], [])
    assert len(coco(root)) == 1
    with pytest.raises(BenchError, match=r"instances\.json: no image to use"):
        coco(root, filter_cfg={"filter_empty_gt": True})


def test_coco_missing_category_or_file_is_named(tmp_path: Path) -> None:
    root = write_coco(tmp_path, [(1, "person")], [])
    with pytest.raises(BenchError, match="no category 'dog'"):
        coco(root)
    (root / "instances.json").write_text("{")
    with pytest.raises(BenchError, match=r"instances\.json cannot be read as COCO annotations"):
        coco(root)


# --- Cityscapes


def write_cityscapes(root: Path, suffix: str) -> Path:
    for city, frame in (("b", "b_000001_000019"), ("a", "a_000000_000019")):
        image, label = root / "leftImg8bit/train" / city, root / "gtFine/train" / city
        image.mkdir(parents=True)
        label.mkdir(parents=True)
        Image.new("RGB", (8, 4), (255, 0, 0)).save(image / f"{frame}_leftImg8bit.{suffix}")
        Image.fromarray(np.full((4, 8), 18, np.uint8)).save(label / f"{frame}_gtFine_labelTrainIds.png")
        (label / f"{frame}_gtFine_polygons.json").write_text("{}")
    return root


def cityscapes(root: Path, **changes: Any) -> Any:
    config = {
        "type": "DenseBenchCityscapes",
        "data_root": str(root),
        "data_prefix": {"img_path": "leftImg8bit/train", "seg_map_path": "gtFine/train"},
        "pipeline": [],
    }
    return build(MMSEG_DATASETS, config | changes)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_cityscapes_pairs_images_with_train_ids(tmp_path: Path, suffix: str) -> None:
    data = cityscapes(write_cityscapes(tmp_path, suffix))
    names = [Path(data.get_data_info(i)["img_path"]).name for i in range(len(data))]
    assert names == [f"a_000000_000019_leftImg8bit.{suffix}", f"b_000001_000019_leftImg8bit.{suffix}"]
    for i in range(2):
        label = Path(data.get_data_info(i)["seg_map_path"])
        assert label.name == names[i].replace(f"leftImg8bit.{suffix}", "gtFine_labelTrainIds.png")
        assert label.is_file()
    assert len(data.metainfo["classes"]) == 19
    assert data.metainfo["reduce_zero_label"] is False


def test_cityscapes_missing_label_or_empty_folder_is_named(tmp_path: Path) -> None:
    root = write_cityscapes(tmp_path, "png")
    (root / "gtFine/train/b/b_000001_000019_gtFine_labelTrainIds.png").unlink()
    with pytest.raises(BenchError, match=r"b_000001_000019_gtFine_labelTrainIds\.png is missing"):
        cityscapes(root)
    with pytest.raises(BenchError, match="leftImg8bit/val has no"):
        cityscapes(root, data_prefix={"img_path": "leftImg8bit/val", "seg_map_path": "gtFine/val"})


# --- padding comes after normalisation


def test_segmentation_pads_with_the_mean_colour_and_ignored_labels() -> None:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    mean, std = [120.0, 110.0, 100.0], [50.0, 60.0, 70.0]
    preprocessor = build(
        MMSEG_MODELS,
        {"type": "SegDataPreProcessor", "mean": mean, "std": std, "size": (6, 8), "bgr_to_rgb": True}
        | {"pad_val": 0, "seg_pad_val": 255},
    )
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, 4, 4, dtype=torch.int64)))
    image = torch.randint(0, 255, (3, 4, 4), dtype=torch.uint8)
    batch = preprocessor({"inputs": [image], "data_samples": [sample]}, training=True)
    raw = batch["inputs"] * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]
    torch.testing.assert_close(raw[0, :, :4, :4], image.flip(0).float())
    torch.testing.assert_close(raw[0, :, 4:], torch.tensor(mean)[:, None, None].expand(3, 2, 8))
    torch.testing.assert_close(raw[0, :, :, 4:], torch.tensor(mean)[:, None, None].expand(3, 6, 4))
    label = batch["data_samples"][0].gt_sem_seg.data[0]
    assert (label[:4, :4] == 0).all() and (label[4:] == 255).all() and (label[:, 4:] == 255).all()


def test_detection_pads_with_the_mean_colour() -> None:
    preprocessor = build(
        MMDET_MODELS,
        {"type": "DetDataPreprocessor", "mean": [100.0] * 3, "std": [50.0] * 3, "pad_size_divisor": 8, "pad_value": 0},
    )
    images = [torch.full((3, 5, 9), 200, dtype=torch.uint8), torch.full((3, 4, 4), 50, dtype=torch.uint8)]
    inputs = preprocessor({"inputs": images, "data_samples": None})["inputs"]
    assert inputs.shape == (2, 3, 8, 16)
    assert inputs[0, :, :5, :9].unique().tolist() == [2] and inputs[1, :, :4, :4].unique().tolist() == [-1]
    assert inputs[0, :, 5:].unique().tolist() == [0] and inputs[1, :, :, 4:].unique().tolist() == [0]


# --- real data


def test_real_voc(shared_data: Path) -> None:
    data = voc(shared_data, ann_file="VOC2012/ImageSets/Main/val.txt", test_mode=True)
    assert len(data) == 220
    for i in range(len(data)):
        info = data.get_data_info(i)
        boxes = np.array([instance["bbox"] for instance in info["instances"]]).reshape(-1, 4)
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= (info["width"], info["height"])).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_real_coco_and_cityscapes(shared_data: Path) -> None:
    annotations = "annotations/instances_train2017.json"
    images = {"img": "train2017/"}
    data = build(
        MMDET_DATASETS,
        {"type": "DenseBenchCoco", "data_root": str(shared_data / "coco"), "ann_file": annotations}
        | {"data_prefix": images, "pipeline": []},
    )
    assert len(data) == 294
    assert len(data.cat_ids) == 80 and data.cat_ids == sorted(data.cat_ids)
    assert len(cityscapes(shared_data / "cityscapes")) == 120
