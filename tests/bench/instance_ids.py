"""Cityscapes' images of instance ids, made of a root that has trainIds alone."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from bench.datasets.names import CITYSCAPES_CLASSES, CITYSCAPES_THINGS

LABEL_IDS = {name: number for number, name in CITYSCAPES_THINGS.items()}


def with_instance_ids(root: Path, target: Path) -> Path:
    """A data root `target` with Cityscapes of `root`: each connected part of a thing is an object, the largest a group.

    Void is 0, and whatever else is no thing is road.
    """
    source, folder = root.absolute() / "cityscapes", target / "cityscapes"
    folder.mkdir(parents=True)
    (folder / "leftImg8bit").symlink_to(source / "leftImg8bit")
    for path in sorted((source / "gtFine").glob("*/*/*_labelTrainIds.png")):
        labels = np.asarray(Image.open(path))
        ids = np.where(labels == 255, 0, 7).astype(np.int32)
        for train_id, name in enumerate(CITYSCAPES_CLASSES):
            if name in LABEL_IDS:
                _, parts = cv2.connectedComponents((labels == train_id).astype(np.uint8))
                ids[parts > 0] = 1000 * LABEL_IDS[name] + parts[parts > 0] - 1
        objects, sizes = np.unique(ids[ids >= 1000], return_counts=True)
        if len(objects) > 2:
            largest = objects[sizes.argmax()]
            ids[ids == largest] = largest // 1000
        written = folder / path.relative_to(source).with_name(path.name.replace("labelTrainIds", "instanceIds"))
        written.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ids.astype(np.uint16)).save(written)
    return target
