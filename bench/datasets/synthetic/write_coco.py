"""Writes scenes in the layout of COCO 2017."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from bench.datasets.names import COCO_CATEGORIES
from bench.datasets.synthetic.scene import Scene
from bench.datasets.synthetic.stage import Mask
from bench.datasets.synthetic.write_voc import bounding_box

_ZOOM: Final = 8
"""Factor by which a mask is enlarged before its outline is traced, so that the polygon runs along pixel edges."""
_TOLERANCE: Final = 0.05
"""A mask whose polygons would miss its area by more than this share is stored as RLE."""


def rle(mask: Mask) -> dict[str, Any]:
    """Uncompressed run lengths of a mask, by column, zeros first: `{"counts": [...], "size": [H, W]}`."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
    bounds = [0, *edges, flat.size]
    return {"counts": [b - a for a, b in pairwise(bounds)], "size": list(mask.shape)}


def polygons(mask: Mask) -> list[list[float]] | None:
    """Outlines [x0, y0, x1, y1, ...] of a mask in pixels; None if it has holes or tiny parts that polygons miss."""
    left, top, right, bottom = bounding_box(mask)
    part = mask[top : bottom + 1, left : right + 1].astype(np.uint8)
    large = part.repeat(_ZOOM, 0).repeat(_ZOOM, 1)
    contours, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(left * _ZOOM, top * _ZOOM))
    height, width = mask.shape
    found, area = [], 0.0
    for contour in contours:
        line = cv2.approxPolyDP(contour, 0.45 * _ZOOM, True)[:, 0].astype(np.float64)
        points = np.clip((line + 0.5) / _ZOOM, 0, (width, height)).round(2)
        if len(points) < 3:
            continue
        area += abs(float(cv2.contourArea(points.astype(np.float32))))
        found.append(points.ravel().tolist())
    if not found or abs(area - mask.sum()) > _TOLERANCE * mask.sum():
        return None
    return found


class CocoWriter:
    """Collects the annotations of one split; `folder` is `coco`, `ids` maps a scene's kinds to category ids."""

    def __init__(self, folder: Path, split: str, ids: Mapping[str, int]) -> None:
        self.images = folder / f"{split}2017"
        self.file = folder / "annotations" / f"instances_{split}2017.json"
        self.ids = ids
        self.records: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.first = 1 if split == "train" else 5_000_001
        self.images.mkdir(parents=True)
        self.file.parent.mkdir(exist_ok=True)

    def image_path(self, image_id: int) -> Path:
        """Path at which the image belongs."""
        return self.images / f"{image_id:012d}.jpg"

    def add(self, image_id: int, scene: Scene) -> None:
        """Annotate one image: each object, and its crowd (if any) as one annotation."""
        height, width = scene.image.shape[:2]
        name = self.image_path(image_id).name
        self.records.append({"id": image_id, "file_name": name, "height": height, "width": width, "license": 1})
        crowd = [instance for instance in scene.instances if instance.crowd]
        for instance in scene.instances:
            if not instance.crowd:
                shape: Any = polygons(instance.mask)
                self._annotate(image_id, instance.kind, instance.mask, shape or rle(instance.mask), 0)
        if crowd:
            union = np.logical_or.reduce([instance.mask for instance in crowd])
            self._annotate(image_id, crowd[0].kind, union, rle(union), 1)

    def _annotate(self, image_id: int, kind: str, mask: Mask, segmentation: Any, iscrowd: int) -> None:
        left, top, right, bottom = bounding_box(mask)
        self.annotations.append(
            {
                "id": self.first + len(self.annotations),
                "image_id": image_id,
                "category_id": self.ids[kind],
                "bbox": [float(left), float(top), float(right - left + 1), float(bottom - top + 1)],
                "area": float(mask.sum()),
                "iscrowd": iscrowd,
                "segmentation": segmentation,
            }
        )

    def finish(self) -> None:
        """Write the annotation file."""
        content = {
            "info": {"description": "DenseBench generated data in the layout of COCO 2017", "version": "1.0"},
            "licenses": [{"id": 1, "name": "CC0 1.0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}],
            "images": self.records,
            "annotations": self.annotations,
            "categories": [{"supercategory": g, "id": i, "name": n} for i, (n, g) in COCO_CATEGORIES.items()],
        }
        self.file.write_text(json.dumps(content) + "\n")
