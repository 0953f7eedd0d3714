"""Writes scenes in the layout of PASCAL VOC, and masks like those of the Semantic Boundaries Dataset (SBD)."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from bench.datasets.names import VOC_CLASSES, VOID, voc_palette
from bench.datasets.synthetic.scene import Instance, Scene
from bench.datasets.synthetic.stage import Mask

_FOLDERS: Final = ("Annotations", "JPEGImages", "SegmentationClass", "SegmentationObject")
DIFFICULT_BELOW: Final = 0.4
"""An object of which a smaller share than this is visible is marked difficult."""
_DIFFICULT_PIXELS: Final = 80


def bounding_box(mask: Mask) -> tuple[int, int, int, int]:
    """First column and row, last column and row of a mask's pixels, 0-based and inclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def is_difficult(instance: Instance) -> bool:
    """Whether the object is hardly visible, or tiny."""
    return bool(instance.visible < DIFFICULT_BELOW or instance.mask.sum() < _DIFFICULT_PIXELS)


class VocWriter:
    """Writes annotations and masks of one split after the other; `folder` is `VOCdevkit/VOC2012` or another year's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []
        for name in (*_FOLDERS, "ImageSets/Main", "ImageSets/Segmentation"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def image_path(self, name: str) -> Path:
        """Path at which the image belongs."""
        return self.folder / "JPEGImages" / f"{name}.jpg"

    def add(self, name: str, scene: Scene) -> None:
        """Write the XML and both masks of one image."""
        height, width = scene.image.shape[:2]
        lines = [
            "<annotation>",
            f"\t<folder>{self.folder.name}</folder>",
            f"\t<filename>{escape(name)}.jpg</filename>",
            "\t<source><database>DenseBench generated data</database></source>",
            f"\t<size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
            "\t<segmented>1</segmented>",
            *[_object(instance) for instance in scene.instances],
            "</annotation>",
        ]
        (self.folder / "Annotations" / f"{name}.xml").write_text("\n".join(lines) + "\n")
        classes, objects = masks(scene)
        for kind, mask in (("SegmentationClass", classes), ("SegmentationObject", objects)):
            picture = PillowImage.fromarray(mask)
            picture.putpalette(voc_palette())
            picture.save(self.folder / kind / f"{name}.png")
        self.names.append(name)

    def finish(self, split: str, together: str | None = "trainval") -> None:
        """Write the lists of the images added since the last call, and (if given) the list `together` of all so far."""
        for task in ("Main", "Segmentation"):
            folder = self.folder / "ImageSets" / task
            (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in self.names))
            if together is not None:
                with (folder / f"{together}.txt").open("a") as file:
                    file.writelines(f"{name}\n" for name in self.names)
        self.names = []

    def add_augmented(self, name: str, scene: Scene) -> None:
        """Write the mask of one more image of `trainaug`: like SBD's it has no void pixel."""
        classes = np.zeros(scene.image.shape[:2], np.uint8)
        for instance in scene.instances:
            classes[instance.mask] = VOC_CLASSES.index(instance.kind) + 1
        folder = self.folder / "SegmentationClassAug"
        folder.mkdir(exist_ok=True)
        PillowImage.fromarray(classes).save(folder / f"{name}.png")
        self.names.append(name)

    def finish_augmented(self) -> None:
        """Write the list `trainaug`: the images of `train`, and those that were added since the last call."""
        lists = self.folder / "ImageSets" / "Segmentation"
        more = "".join(f"{name}\n" for name in self.names)
        (lists / "trainaug.txt").write_text((lists / "train.txt").read_text() + more)
        self.names = []


def _object(instance: Instance) -> str:
    left, top, right, bottom = (value + 1 for value in bounding_box(instance.mask))
    flags = f"<truncated>{int(instance.truncated)}</truncated><difficult>{int(is_difficult(instance))}</difficult>"
    box = f"<xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>"
    return (
        f"\t<object><name>{escape(instance.kind)}</name><pose>Unspecified</pose>{flags}<bndbox>{box}</bndbox></object>"
    )


def masks(scene: Scene) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The class mask and the object mask (H, W): outlines and difficult objects are void, as in VOC."""
    shape = scene.image.shape[:2]
    classes, objects = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for number, instance in enumerate(scene.instances, start=1):
        objects[instance.mask] = number
        classes[instance.mask] = VOID if is_difficult(instance) else VOC_CLASSES.index(instance.kind) + 1
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    outline = cv2.morphologyEx(objects, cv2.MORPH_GRADIENT, cross) > 0
    classes[outline] = VOID
    objects[outline | (classes == VOID)] = VOID
    return classes, objects
