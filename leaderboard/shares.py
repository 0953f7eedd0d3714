"""What each validation image contributes to a metric, to first order: the file `shares.npz` of a run.

A metric of a whole validation set, a function of the images' weights, has a derivative by each image's weight. These
derivatives, at equal weights of 1 and in points of per cent, are the shares; they sum to 0. Their sum of squares gives
the standard error for the draw of the images (the infinitesimal jackknife: Efron, Biometrika 1981), and as two
backbones are measured on the same images, the differences of their shares give the standard error of the difference.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leaderboard.base.errors import FileError
from leaderboard.base.files import DAMAGED_ZIP, read_bounded, write_atomic

Floats = NDArray[np.float64]

SHARES = "shares.npz"
"""The file's name in a run's folder and among a result's outputs."""
MAX_BYTES = 64_000_000
"""Most bytes of the file, and also of its unpacked content."""
LARGEST = 1e6
"""Largest share of an image, in points: a metric is at most 100, and larger ones would make sums infinite."""
_NPY = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>..){'descr': '(?P<type><f8|<U\d{1,5})', 'fortran_order': False, "
    rb"'shape': \((?P<shape>\d{1,9},|\d{1,9}, \d{1,9})\), } *\n",
    re.DOTALL,
)
_MEMBERS = ("names.npy", "metrics.npy", "shares.npy")


@dataclass(frozen=True)
class Shares:
    """The shares of the images called `names` (V,) in each metric: points of per cent (V,), which sum to 0."""

    names: tuple[str, ...]
    metrics: Mapping[str, Floats]

    def __post_init__(self) -> None:
        for metric, shares in self.metrics.items():
            if shares.shape != (len(self.names),) or not np.abs(shares).max(initial=0) <= LARGEST:
                raise ValueError(f"{metric}: one share of at most {LARGEST:g} points per image is needed")

    def standard_error(self, metric: str) -> float:
        """Standard error of the metric for the draw of the images, in points of per cent; 0 where there is one image.

        Raises:
            KeyError: there is no such metric.
        """
        return _error(self.metrics[metric])

    def standard_errors(self) -> dict[str, float]:
        """The standard error of every metric."""
        return {metric: _error(shares) for metric, shares in self.metrics.items()}

    def to_bytes(self) -> bytes:
        """The content of `shares.npz`: `names` (V,), `metrics` (M,), `shares` (M, V) float64."""
        values = np.stack(list(self.metrics.values())) if self.metrics else np.zeros((0, len(self.names)))
        content = io.BytesIO()
        np.savez_compressed(
            content, names=np.array(self.names, str), metrics=np.array(list(self.metrics), str), shares=values
        )
        return content.getvalue()

    def write(self, file: Path) -> None:
        """Write `file` completely or not at all."""
        write_atomic(file, self.to_bytes())


def difference_error(a: Shares, b: Shares, metric: str) -> float | None:
    """Standard error of `a`'s metric minus `b`'s, measured on the same images; None where the images differ.

    Raises:
        KeyError: one of them has no such metric.
    """
    return _error(a.metrics[metric] - b.metrics[metric]) if a.names == b.names else None


def read_shares(file: Path, sha256: str | None = None) -> Shares:
    """Read a file of :meth:`Shares.write`; with `sha256`, exactly the one that has this hash.

    Raises:
        FileError: it is no such file, is too long, or does not have the hash `sha256`; the text names it.
        OSError: it is missing or cannot be opened.
    """
    data = read_bounded(file, MAX_BYTES)
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise FileError(f"{file}: its content was changed: restore it, or remove it")
    try:
        return _parse(data)
    except _DAMAGED as error:
        raise FileError(f"{file}: is damaged or holds no shares: {str(error).splitlines()[0][:200]}") from error


class _MalformedError(Exception):
    """Says why a file holds no valid shares."""


_DAMAGED = (_MalformedError, *DAMAGED_ZIP)


def _parse(data: bytes) -> Shares:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
            raise _MalformedError(f"it unpacks to more than {MAX_BYTES:,} bytes")
        if sorted(archive.namelist()) != sorted(_MEMBERS):
            raise _MalformedError(f"its members are not {', '.join(_MEMBERS)}")
        names, metrics, shares = (_array(_member(archive, member)) for member in _MEMBERS)
    if (names.dtype.kind, metrics.dtype.kind, shares.dtype.kind) != ("U", "U", "f"):
        raise _MalformedError("names and metrics must be text, shares float64")
    if names.ndim != 1 or metrics.ndim != 1 or shares.shape != (len(metrics), len(names)):
        raise _MalformedError("names, metrics and shares differ in length")
    if len(set(metrics.tolist())) != len(metrics):
        raise _MalformedError("a metric occurs twice")
    return Shares(tuple(names.tolist()), dict(zip(metrics.tolist(), shares, strict=True)))


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member's bytes: at most as many as the archive states, even if it holds more."""
    entry = archive.getinfo(name)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _MalformedError("it is packed in another way than numpy's")
    with archive.open(entry) as stream:
        return stream.read(entry.file_size)


def _array(content: bytes) -> NDArray[Any]:
    """The array in the bytes of a `.npy` file of numpy's version 1.0.

    Nothing is unpickled or evaluated, and no memory is allocated beyond these bytes.
    """
    found = _NPY.match(content)
    if not found or len(found[0]) != 10 + int.from_bytes(found["length"], "little"):
        raise _MalformedError("an array is not one of text or float64 as numpy writes them")
    shape, dtype = tuple(int(side) for side in re.findall(rb"\d+", found["shape"])), np.dtype(found["type"].decode())
    if dtype.itemsize == 0 or prod(shape) * dtype.itemsize != len(content) - found.end():
        raise _MalformedError("the length of an array is not what its head says")
    return np.frombuffer(content, dtype, offset=found.end()).reshape(shape)


def _error(shares: Floats) -> float:
    n = len(shares)
    return 0.0 if n < 2 else float(np.sqrt(n / (n - 1) * np.square(shares).sum()))
