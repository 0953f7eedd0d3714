"""LVIS v1's files on the images of a generated data root: COCO's objects under LVIS's numbers, federated."""

import json
from pathlib import Path
from typing import Any

CLASSES = 1203


def with_lvis(root: Path, target: Path) -> Path:
    """A data root `target` with the images of `root` and LVIS's files, whose classes 1, 2, 3, ... are r, c, f, r, ...

    Of class c + 1 it is known that an image with class c has none of it, if it has none; the objects of class 1 are not
    all annotated anywhere.
    """
    (target / "lvis").mkdir(parents=True)
    (target / "coco").symlink_to(root.absolute() / "coco")
    for split in ("train", "val"):
        content = json.loads((root / f"coco/annotations/instances_{split}2017.json").read_text())
        numbers = {one["id"]: number for number, one in enumerate(content["categories"], start=1)}
        objects = [{**one, "category_id": numbers[one["category_id"]]} for one in content["annotations"]]
        for one in objects:
            del one["iscrowd"]
        polygons = [one for one in objects if isinstance(one["segmentation"], list)]  # LVIS has no crowds
        (target / f"lvis/lvis_v1_{split}.json").write_text(
            json.dumps(
                {
                    "images": [_image(one, split, polygons) for one in content["images"]],
                    "annotations": polygons,
                    "categories": [
                        {"id": number, "name": f"class_{number}", "frequency": "rcf"[(number - 1) % 3]}
                        for number in range(1, CLASSES + 1)
                    ],
                }
            )
        )
    return target


def _image(entry: dict[str, Any], split: str, objects: list[dict[str, Any]]) -> dict[str, Any]:
    present = {one["category_id"] for one in objects if one["image_id"] == entry["id"]}
    return {key: entry[key] for key in ("id", "width", "height")} | {
        "coco_url": f"http://images.cocodataset.org/{split}2017/{entry['file_name']}",
        "neg_category_ids": sorted({number % CLASSES + 1 for number in present} - present),
        "not_exhaustive_category_ids": [1],
    }
