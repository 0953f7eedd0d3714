"""Hashes of images: of their bytes, and of what they show.

The perceptual hash has 256 bits. The gray picture, scaled to 32 x 32 pixels whatever its shape, is transformed by a
cosine transform (DCT-II); a bit says whether one of the 16 x 16 lowest coefficients lies above their median. This is
pHash (Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010) with four times its bits.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from leaderboard.base.files import locked, make_folder
from pretrain.data.decode import DamagedImageError, decode_read
from pretrain.data.sources import ImageSource
from pretrain.data.tables import by_processes, continue_table

RULE: Final = "dct256-v1"
"""Name of the rule by which hashes are computed, which files of them bear."""
WORDS: Final = 4
"""Words of 64 bits of a perceptual hash."""
CROPS: Final = (0.0, 0.04, 0.08)
"""Shares that are cut off each side of a test image, so that pretraining images are found whose borders are missing."""
VIEWS: Final = 2 * len(CROPS)
"""Perceptual hashes of a test image: of each crop, as it is and mirrored."""
PLAIN: Final = 4.0
"""Standard deviation, in gray levels, of a scaled picture below which it is a surface of one color: it has no hash."""
_SIDE: Final = 32
_LOWEST: Final = 16
_COSINES: Final = np.cos(np.pi / _SIDE * np.outer(np.arange(_LOWEST), np.arange(_SIDE) + 0.5))


def perceptual_hash(gray: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    """256 bits as uint64 (4,) of a gray picture (H, W); all 0 where it is nearly of one color."""
    small = cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float64)
    if small.std() < PLAIN:
        return np.zeros(WORDS, np.uint64)
    lowest = _COSINES @ small @ _COSINES.T
    return np.packbits(lowest.ravel() > np.median(lowest)).view(np.uint64)


def views(gray: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    """Perceptual hashes (VIEWS, 4) of a gray picture (H, W), of its crops and of their mirror images."""
    height, width = gray.shape
    found = []
    for share in CROPS:
        top, left = round(height * share), round(width * share)
        crop = gray[top : height - top, left : width - left]
        found += [perceptual_hash(crop), perceptual_hash(np.ascontiguousarray(crop[:, ::-1]))]
    return np.stack(found)


class Hashes(Dataset[npt.NDArray[np.uint64]]):
    """A row for each image of a source: 64 bits of the SHA-256 of its bytes, and one or `VIEWS` perceptual hashes.

    A row of a damaged image is all 0.
    """

    def __init__(self, source: ImageSource, *, tested: bool) -> None:
        self.source = source
        self.tested = tested
        self.columns = 1 + WORDS * (VIEWS if tested else 1)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> npt.NDArray[np.uint64]:
        cv2.setNumThreads(1)
        try:
            content = self.source.content(index)
            pixels = decode_read(lambda: content, lambda: self.source.where(index))
        except (DamagedImageError, OSError):
            return np.zeros(self.columns, np.uint64)
        gray = _gray(pixels)
        looks = views(gray) if self.tested else perceptual_hash(gray)
        digest = np.frombuffer(hashlib.sha256(content.tobytes()).digest()[:8], np.uint64)
        return np.concatenate([digest, looks.ravel()])


def _gray(pixels: torch.Tensor) -> npt.NDArray[np.float32]:
    """Luma of ITU-R BT.601 (H, W), in whole levels, of uint8 RGB (3, H, W)."""
    picture = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.float32)


def hash_images(source: ImageSource, folder: Path, *, tested: bool) -> npt.NDArray[Any]:
    """The rows of `Hashes` of all images, uint64 (images, columns), in a file below `folder`.

    They are computed by as many processes as there are cores; after an interruption, those that are there are not
    computed again. About 4 ms per image and core; the file of ImageNet's 1.28 million images has 51 MB.
    """
    rows = Hashes(source, tested=tested)
    make_folder(folder)
    path = folder / f"{RULE}-{'tested' if tested else 'pretraining'}-{source.fingerprint()[:32]}.npy"
    with locked(folder):
        continue_table(path, (len(source), rows.columns), np.uint64, lambda done: by_processes(rows, done, len(source)))
    return np.asarray(np.load(path, mmap_mode="r"))
