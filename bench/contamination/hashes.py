"""Hashes of images: of their bytes, and of what they show.

The perceptual hash has 256 bits. The gray picture, scaled to 32 x 32 pixels whatever its shape, is transformed by a
cosine transform (DCT-II); a bit says whether one of the 16 x 16 lowest coefficients lies above their median. This is
pHash (Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010) with four times its bits.

A picture whose EXIF orientation turns it is hashed as it is stored and as it is seen, because programs that save it
again may do either.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from bench.datasets.pixels import quiet, turn
from leaderboard.base.files import locked, make_folder
from pretrain.data.decode import DamagedImageError, decode_read
from pretrain.data.pictures import open_picture, orientation
from pretrain.data.shards import ShardSource
from pretrain.data.sources import ImageSource
from pretrain.data.tables import by_processes, continue_table

RULE: Final = "dct256-v2"
"""Name of the rule by which hashes are computed, which files of them bear."""
WORDS: Final = 4
"""Words of 64 bits of a perceptual hash."""
CROPS: Final = (0.0, 0.04, 0.08)
"""Shares that are cut off each side of a test image, so that pretraining images are found whose borders are missing."""
VIEWS: Final = 2 * len(CROPS)
"""Perceptual hashes of a test image, or of its turned picture: of each crop, as it is and mirrored."""
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
    """A row for each image of a source: 64 bits of the SHA-256 of its bytes, and `looks` perceptual hashes.

    The first half of these is of the picture as stored: one hash, or `VIEWS` of a test image. The second half is of the
    picture as its EXIF orientation turns it; it is 0 where nothing is turned. A row of a damaged image is all 0.
    """

    def __init__(self, source: ImageSource, *, tested: bool) -> None:
        self.source = source
        self.tested = tested
        self.looks = 2 * (VIEWS if tested else 1)
        self.columns = 1 + WORDS * self.looks

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> npt.NDArray[np.uint64]:
        try:
            content = self.source.content(index)
            pixels = decode_read(lambda: content, lambda: self.source.where(index))
        except (DamagedImageError, OSError):
            return np.zeros(self.columns, np.uint64)
        picture = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
        looks = [self._look(picture)]
        turned = _orientation(content)
        looks.append(np.zeros_like(looks[0]) if turned == 1 else self._look(turn(picture, turned)))
        digest = np.frombuffer(hashlib.sha256(content.tobytes()).digest()[:8], np.uint64)
        return np.concatenate([digest, *looks])

    def _look(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
        """The hashes, one after the other, of a picture in RGB (H, W, 3)."""
        gray = _gray(picture)
        return views(gray).ravel() if self.tested else perceptual_hash(gray)


def _gray(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Luma of ITU-R BT.601 (H, W), in whole levels, of uint8 RGB (H, W, 3)."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.float32)


def _orientation(content: npt.NDArray[np.uint8]) -> int:
    """The EXIF orientation, 1 to 8, of a picture that was decoded."""
    try:
        with quiet(), open_picture(io.BytesIO(content.tobytes())) as picture:
            return orientation(picture)
    except Exception:  # Pillow refuses a few JPEG files that were decoded otherwise, and metadata can be damaged
        return 1


def hash_images(source: ImageSource, folder: Path, *, tested: bool) -> npt.NDArray[Any]:
    """The rows of `Hashes` of all images, uint64 (images, columns), in a file below `folder`.

    They are computed by as many processes as there are cores; after an interruption, those that are there are not
    computed again. About 4 ms per image and core; the file of ImageNet's 1.28 million images has 92 MB. A file serves
    the images of one folder as long as none of their files changes its size or time of change.
    """
    rows = Hashes(source, tested=tested)
    make_folder(folder)
    path = folder / f"{RULE}-{'tested' if tested else 'pretraining'}-{_identity(source)[:32]}.npy"
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)  # before processes are forked: one that inherits OpenCV's threads waits for them without end
    try:
        with locked(folder):
            shape = len(source), rows.columns
            continue_table(path, shape, np.uint64, lambda done: by_processes(rows, done, len(source)))
    finally:
        cv2.setNumThreads(threads)
    return np.asarray(np.load(path, mmap_mode="r"))


def _identity(source: ImageSource) -> str:
    """Hash of where the images of a source are, of their names, and of sizes and times of change of their files.

    The source's fingerprint, of names and sizes, does not tell data sets apart whose pictures are numbered and, not
    being compressed, all of one size.
    """
    digest = hashlib.sha256(b"%s\0%s\n" % (source.fingerprint().encode(), os.fsencode(source.root.resolve())))
    for file in _files(source):
        state = file.stat()
        digest.update(b"%d\0%d\n" % (state.st_size, state.st_mtime_ns))
    return digest.hexdigest()


def _files(source: ImageSource) -> Iterable[Path]:
    """The files that hold the images of a source, in an order that depends on their names alone."""
    if isinstance(source, ShardSource):
        return source.shards
    return (source.root / source.name(index) for index in range(len(source)))
