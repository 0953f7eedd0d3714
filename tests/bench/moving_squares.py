"""A small data root in DAVIS' layout: a red and a blue square that move over green noise."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

FRAMES, HEIGHT, WIDTH = 5, 48, 64


def write_videos(root: Path, names: tuple[str, ...] = ("a", "b"), *, year: str = "2017", listed: bool = True) -> Path:
    """Write videos of `FRAMES` frames: 2017 has objects 1 and 2 and a pixel of void, 2016 all of them as 255."""
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        images, masks = (root / "DAVIS" / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        noise = rng.integers(0, 60, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        background, first, second = (noise + np.array(bgr, np.uint8) for bgr in ((0, 190, 0), (0, 0, 190), (190, 0, 0)))
        for t in range(FRAMES):
            image, labels = background.copy(), np.zeros((HEIGHT, WIDTH), np.uint8)
            labels[8:24, 4 + 2 * t : 20 + 2 * t] = 1
            labels[28:44, 36 - 2 * t : 60 - 2 * t] = 2
            for number, square in ((1, first), (2, second)):
                image[labels == number] = square[labels == number]
            labels[0, 0] = 255 * (year == "2017")
            stored = labels if year == "2017" else np.where(labels > 0, 255, 0).astype(np.uint8)
            assert cv2.imwrite(str(images / f"{t:05}.jpg"), image)
            assert cv2.imwrite(str(masks / f"{t:05}.png"), stored)
    if listed:
        lists = root / "DAVIS" / "ImageSets" / year
        lists.mkdir(parents=True)
        (lists / "val.txt").write_text("\n".join(names) + "\n")
    return root
