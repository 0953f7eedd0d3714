"""The cells of all images in a part of a data set, computed once for all probes of a backbone.

They lie in the folder `features/<hash>` of the work folder, with the hash of everything on which they depend: weights,
the card's normalization and channel order, data, part and size. They can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bench.datasets.pairs import Pair
from bench.errors import BenchError
from bench.probes.cells import BATCH, Network, read_scaled
from bench.probes.plans import STRIDE
from leaderboard.base.errors import FileError
from leaderboard.base.files import describe_os_error, locked, make_folder
from pretrain.data.tables import continue_table

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
    shape = (len(pairs), network.channels, size[0] // STRIDE, size[1] // STRIDE)
    return keep(folder, shape, lambda: _batches(network, pairs, size))


def keep(folder: Path, shape: tuple[int, ...], compute: Callable[[], Iterator[Features]]) -> Features:
    """The table (N, ...) of this shape in the file of `folder`, memory-mapped; computed if it is not there.

    `compute` gives its rows in order, some at a time.

    Raises:
        FileError: the folder cannot be written, or the disk is full; what there was of the file is removed.
    """
    make_folder(folder)
    file = folder / FILE
    with locked(folder):
        if not file.exists():
            unfinished = folder / f"{FILE}.unfinished"
            try:
                # Written, not mapped: on a full disk, a write into a mapped file kills the process.
                unfinished.unlink(missing_ok=True)
                continue_table(unfinished, shape, np.float16, lambda _: chain.from_iterable(compute()))
                unfinished.replace(file)
            except OSError as error:
                with suppress(OSError):
                    unfinished.unlink(missing_ok=True)
                raise FileError(f"cannot write {unfinished}: {describe_os_error(error)}") from error
    return np.load(file, mmap_mode="r")


def features_key(network: Network, fingerprint: str, part: str, size: Sequence[int | str]) -> str:
    """Key of features: 16 digits of the hash of everything on which they depend."""
    card = network.card
    inputs = [card.sha256, card.color_order, card.mean, card.std, fingerprint, part, size, str(network.device.type)]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]


def _batches(network: Network, pairs: Sequence[Pair], size: tuple[int, int]) -> Iterator[Features]:
    for start in range(0, len(pairs), BATCH):
        images = np.stack([read_scaled(pair, size) for pair in pairs[start : start + BATCH]])
        yield finite_halves(network, network.cells(images))


def finite_halves(network: Network, values: Tensor) -> Features:
    """The values of a network in float16.

    Raises:
        BenchError: one of them is not finite.
    """
    halves = values.half()
    if not halves.isfinite().all():
        raise BenchError(f"a cell of {network.card.name} is not finite in float16: has its training diverged?")
    return halves.cpu().numpy()
