"""The cells of all images in a part of a data set, computed once for all probes of a backbone.

They lie in the folder `features/<hash>` of the work folder, with the hash of everything on which they depend: weights,
the card's normalization and channel order, data, part and size. They can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.datasets.pairs import Pair
from bench.errors import BenchError
from bench.probes.cells import BATCH, Network, read_scaled
from bench.probes.plan import STRIDE
from leaderboard.base.files import locked, make_folder

Features = NDArray[np.float16]
"""Cells of N images (N, C, H / 16, W / 16), in a memory-mapped file."""
FILE = "cells.npy"


def features(network: Network, pairs: Sequence[Pair], size: tuple[int, int], folder: Path) -> Features:
    """The cells of the images of `pairs`, scaled to `size`, from the file in `folder`; computed if it is not there.

    If another process computes the same cells, this one waits for it. They are rounded to float16, and every probe
    converts these values to float32.

    Raises:
        BenchError: an image cannot be read, or a value is not finite in float16.
        FileError: the folder cannot be written.
    """
    make_folder(folder)
    file = folder / FILE
    with locked(folder):
        if not file.exists():
            unfinished = folder / f"{FILE}.unfinished"
            _compute(network, pairs, size, unfinished)
            unfinished.replace(file)
    return np.load(file, mmap_mode="r")


def features_key(network: Network, fingerprint: str, part: str, size: tuple[int, int]) -> str:
    """Key of features: 16 digits of the hash of everything on which they depend."""
    card = network.card
    inputs = [card.sha256, card.color_order, card.mean, card.std, fingerprint, part, size, str(network.device.type)]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]


def _compute(network: Network, pairs: Sequence[Pair], size: tuple[int, int], file: Path) -> None:
    shape = (len(pairs), network.channels, size[0] // STRIDE, size[1] // STRIDE)
    table: np.memmap[Any, np.dtype[np.float16]] = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        file, mode="w+", dtype=np.float16, shape=shape
    )
    for start in range(0, len(pairs), BATCH):
        images = np.stack([read_scaled(pair.image, size, pair.turned) for pair in pairs[start : start + BATCH]])
        cells = network.cells(images).half()
        if not cells.isfinite().all():
            raise BenchError(f"a cell of {network.card.name} is not finite in float16: has its training diverged?")
        table[start : start + len(images)] = cells.cpu().numpy()
    table.flush()
