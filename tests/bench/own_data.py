"""Small own data sets of each format, written by tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.datasets.own.description import DESCRIPTION

SIZE = (64, 48)
PARTS = {"train": 4, "val": 3}
CLASSES = {3: "bolt", 7: "nut", 20: "washer"}
"""Categories whose numbers are not consecutive."""


def picture(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def save(image: Image.Image, file: Path, orientation: int | None = None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    image.save(file, exif=exif.tobytes())


def coco_data(root: Path, change: Callable[[dict[str, Any]], None] = lambda content: None, **said: Any) -> Path:
    """Two objects with masks in each image; `change` edits the content of train in place."""
    for part, count in PARTS.items():
        images, annotations = [], []
        for i in range(count):
            number = 100 + i
            save(picture(i + 10 * (part == "val")), root / part / f"{i}.png")
            images.append({"id": number, "file_name": f"{i}.png", "width": 64, "height": 48})
            for k, category in enumerate([3, (7, 20)[i % 2]]):
                x, y, w, h = 4 + 30 * k, 6, 20, 16 + i
                square = [x, y, x + w, y, x + w, y + h, x, y + h]
                annotations.append(
                    {
                        "id": len(annotations) + 1, "image_id": number, "category_id": category, "bbox": [x, y, w, h],
                        "area": w * h, "iscrowd": 0, "segmentation": [square],
                    }
                )  # fmt: skip
        categories = [{"id": key, "name": name} for key, name in CLASSES.items()]
        content = {"images": images, "annotations": annotations, "categories": categories}
        if part == "train":
            change(content)
        (root / f"{part}.json").write_text(json.dumps(content))
    parts = {part: {"images": part, "annotations": f"{part}.json"} for part in PARTS}
    return describe(root, format="coco", classes=CLASSES, **parts, **said)


def masks_data(root: Path, values: tuple[int, ...] = (0, 1, 2, 3, 4), **said: Any) -> Path:
    """Masks of vertical stripes of `values`, one more pixel row of the last value in each image."""
    for part, count in PARTS.items():
        for i in range(count):
            save(picture(i + 10 * (part == "val")), root / "images" / part / f"{i}.png")
            columns = np.repeat(np.array(values, np.uint8), -(-64 // len(values)))[:64]
            mask = np.tile(columns, (48, 1))
            mask[: i + 1] = values[-1]
            save(Image.fromarray(mask), root / "masks" / part / f"{i}.png")
    parts = {part: {"images": f"images/{part}", "annotations": f"masks/{part}"} for part in PARTS}
    classes = {value: f"kind {value}" for value in values}
    return describe(root, **({"format": "masks", "classes": classes, **parts} | said))


def yolo_data(root: Path, lines: str = "0 0.5 0.5 0.25 0.5\n1 0.2 0.3 0.1 0.1\n", **said: Any) -> Path:
    """Two boxes in each image; `lines` are those of train/0."""
    for part, count in PARTS.items():
        for i in range(count):
            save(picture(i + 10 * (part == "val")), root / "images" / part / f"{i}.png")
            file = root / "labels" / part / f"{i}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            first = part == "train" and i == 0
            file.write_text(lines if first else "0 0.5 0.5 0.25 0.5\n1 0.2 0.3 0.1 0.1\n")
    parts = {part: {"images": f"images/{part}", "annotations": f"labels/{part}"} for part in PARTS}
    return describe(root, format="yolo", classes=["weed", "crop"], **parts, **said)


def voc_data(root: Path, xml: str = "", **said: Any) -> Path:
    """An object in each image; `xml` is the text of train/0."""
    for part, count in PARTS.items():
        for i in range(count):
            save(picture(i + 10 * (part == "val")), root / part / "images" / f"{i}.png")
            file = root / part / "xml" / f"{i}.xml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(xml if xml and part == "train" and i == 0 else voc_xml())
    parts = {part: {"images": f"{part}/images", "annotations": f"{part}/xml"} for part in PARTS}
    return describe(root, format="voc", classes=["rust", "crack"], **parts, **said)


def voc_xml(
    name: str = "rust", box: tuple[float, ...] = (11, 6, 30, 25), size: tuple[int, int] = SIZE, **more: str
) -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    corners = "".join(f"<{key}>{value}</{key}>" for key, value in sides)
    flags = "".join(f"<{key}>{value}</{key}>" for key, value in more.items())
    return (
        f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>"
        f"<object><name>{name}</name>{flags}<bndbox>{corners}</bndbox></object></annotation>"
    )


def describe(root: Path, **said: Any) -> Path:
    """Write a description, as JSON, which YAML contains; keys of mappings stay numbers."""
    import yaml

    (root / DESCRIPTION).write_text(yaml.safe_dump({"name": "mine"} | said))
    return root
