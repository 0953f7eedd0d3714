"""Searches pretraining images for copies of test images: the same bytes, or nearly the same perceptual hash.

The search is exact: every pair is compared, which takes three minutes of one core for 5,000 test images and the 1.28
million of ImageNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from bench.contamination.hashes import WORDS, hash_images
from bench.contamination.images import evaluated_images
from bench.datasets.own.description import is_own, read_own
from bench.errors import BenchError
from leaderboard.base.files import write_atomic
from leaderboard.base.provenance import available_cores
from leaderboard.records import Card, Copies
from pretrain.data.batches import open_images
from pretrain.data.sources import ImageSource
from pretrain.exported import CARD, read_card

NEAREST: Final = 48
"""Most bits of 256 by which a copy's hash differs.

Measured on the project's photographs (3,000 for pretraining, 1,478 of four data sets). Of 4.4 million pairs that are no
copies, the nearest differ by 80 bits. Of 500 photographs, all are found that were saved as JPEG of quality 20, scaled
to 64 pixels, made square, mirrored, brighter, darker or gray (at most 34 bits), and 99.6 % or more of those of which
1 % to 9 % were cut off each side; at 10 % it is 83 %. What has 5 % cut off one side only, or a frame added, is mostly
not found. Among the 3,000, pairs that differ by 14 to 48 bits show the same photograph, from 52 bits on similar things.
"""
_CHUNK: Final = 2**15
"""Pretraining images that are compared at a time, so that their words stay in a core's cache."""
Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Copy:
    """A test image and a pretraining image that shows the same picture."""

    tested: str
    """The test image, relative to the data root."""
    pretrained: str
    """The pretraining image, relative to the folder that was searched."""
    kind: Literal["same bytes", "same picture"]
    bits: int
    """By how many bits their perceptual hashes differ, the least over the test image's crops and mirror images, and of
    both pictures as stored and as their EXIF orientations turn them."""


@dataclass(frozen=True)
class Contamination:
    """What was found for a data set."""

    dataset: str
    tested: int
    """Number of its test images."""
    fingerprint: str
    """Fingerprint of the test images' names and sizes."""
    copies: tuple[Copy, ...]
    """For each test image that has a copy the nearest one, in the order of the test images."""
    plain: int
    """Number of test images that are nearly of one color or damaged, so that only the same bytes are found."""

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data for JSON."""
        return {
            "dataset": self.dataset,
            "tested": self.tested,
            "fingerprint": self.fingerprint,
            "copies": [vars(copy) for copy in self.copies],
            "plain": self.plain,
        }


def search_copies(images: Path, root: Path, work: Path, datasets: Sequence[str] = ()) -> list[Contamination]:
    """Search the pretraining images `images` for copies of the test images of each data set in the data root.

    `images` is what `densebench pretrain --data` takes; `root` may also be a description of own data.
    Hashes are kept below `work`, so that they are computed once.

    Raises:
        BenchError: the data root has no test image, or none of a named data set.
        PretrainError: there is no pretraining image.
    """
    tested = evaluated_images(root)
    if missing := [name for name in datasets if name not in tested]:
        raise BenchError(
            f"{root} has no test image of {missing[0]}; it has {', '.join(tested) or 'none of any data set'}"
        )
    if not tested:
        raise BenchError(f"{root} has no test image of any data set; check it with `densebench data check {root}`")
    folder = work / "image-hashes"
    source = open_images(images)
    known = hash_images(source, folder, tested=False)
    base = read_own(root).folder if is_own(root) else root
    found: dict[str, Contamination] = {}
    for name in datasets or tested:
        queries = ImageSource(base, [path.relative_to(base).as_posix() for path in tested[name]])
        rows = hash_images(queries, folder, tested=True)
        same = next((one for one in found.values() if one.fingerprint == queries.fingerprint()), None)
        found[name] = replace(same, dataset=name) if same else _compare(name, source, known, queries, rows)
    return list(found.values())


def _compare(
    name: str, source: ImageSource, known: npt.NDArray[Any], queries: ImageSource, rows: npt.NDArray[Any]
) -> Contamination:
    order = np.argsort(known[:, 0], kind="stable")
    place = np.minimum(np.searchsorted(known[order, 0], rows[:, 0]), len(known) - 1)
    twins = np.where((known[order[place], 0] == rows[:, 0]) & (rows[:, 0] != 0), order[place], -1)
    looks = known[:, 1:].reshape(len(known), -1, WORDS)
    images, which = np.nonzero(looks.any(axis=2))  # few images are turned: their other look is 0
    nearest, bits = find_nearest(looks[images, which], rows[:, 1:].reshape(-1, WORDS))
    nearest, bits = nearest.reshape(len(rows), -1), bits.reshape(len(rows), -1)
    copies = []
    for index, twin in enumerate(twins.tolist()):
        view = int(bits[index].argmin())
        if twin >= 0:
            copies.append(Copy(queries.name(index), source.name(twin), "same bytes", 0))
        elif bits[index, view] <= NEAREST:
            partner = source.name(int(images[nearest[index, view]]))
            copies.append(Copy(queries.name(index), partner, "same picture", int(bits[index, view])))
    plain = int((~rows[:, 1 : 1 + WORDS].any(axis=1)).sum())
    return Contamination(name, len(rows), queries.fingerprint(), tuple(copies), plain)


def find_nearest(
    known: Words, queries: Words, most: int = NEAREST
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each query the nearest known hash and its distance in bits, where that is at most `most`.

    `known` is (N, 4), `queries` (M, 4). Returns indices (M,), the first of several that are equally near, and distances
    (M,); where no hash is near enough, -1 and 257. Hashes that are all 0 are near to none.
    """
    present = np.asarray(known.any(axis=1))
    columns = [np.ascontiguousarray(known[:, word]) for word in range(WORDS)]
    index = np.full(len(queries), -1, np.int64)
    bits = np.full(len(queries), 64 * WORDS + 1, np.int64)

    def look(number: int) -> None:
        query = queries[number]
        if not query.any():
            return
        for start in range(0, len(present), _CHUNK):
            part = slice(start, start + _CHUNK)
            # half of the bits exclude nearly all pairs
            half = np.bitwise_count(columns[0][part] ^ query[0]) + np.bitwise_count(columns[1][part] ^ query[1])
            near = np.flatnonzero((half <= most) & present[part]) + start
            if not len(near):
                continue
            whole: npt.NDArray[np.int64] = np.bitwise_count(known[near] ^ query).sum(axis=1, dtype=np.int64)
            best = int(whole.argmin())
            if whole[best] < bits[number] and whole[best] <= most:
                index[number], bits[number] = near[best], whole[best]

    with ThreadPoolExecutor(available_cores()) as threads:  # numpy's loops run without the interpreter's lock
        list(threads.map(look, range(len(queries))))
    return index, bits


def mark_card(folder: Path, found: Sequence[Contamination]) -> Card:
    """Write into the card of the exported backbone in `folder` what was found; returns the card.

    What an earlier search found for other data sets stays.

    Raises:
        PretrainError: there is no card, or it is not valid.
        FileError: it cannot be written.
    """
    card = read_card(folder)
    known = {one.dataset: one for one in card.pretraining.copies or ()}
    known |= {one.dataset: Copies(dataset=one.dataset, tested=one.tested, copies=len(one.copies)) for one in found}
    pretraining = card.pretraining.model_copy(update={"copies": tuple(known.values())})
    card = card.model_copy(update={"pretraining": pretraining})
    write_atomic(folder / CARD, card.to_json())
    return card
