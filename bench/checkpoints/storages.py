"""The values of a checkpoint's tensors: where they lie in the file, and how they become tensors without a copy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

_MOST_DIMENSIONS = 32
_NUMPY_TYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"}


class UnreadableError(Exception):
    """The file is damaged, or beyond the limits for checkpoints. The text says why, without the file's name."""


class BeyondBoundsError(UnreadableError):
    """The file may be complete, but is too large to read, or needs another format. The text says what to do."""


@dataclass(frozen=True)
class Storage:
    """A contiguous block of values of one type in the file."""

    key: str
    dtype: torch.dtype
    count: int
    read: Callable[[Storage], Tensor]
    """Function that returns the bytes of the storage, `uint8` of shape (count * itemsize,)."""

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return self.count * self.dtype.itemsize


@dataclass(frozen=True)
class Odd:
    """A tensor whose values cannot fill a network; `what` says why."""

    what: str


class Stored:
    """A tensor of a torch file: a view of a storage."""

    def __init__(
        self, storage: Any, offset: Any, shape: tuple[Any, ...], stride: tuple[Any, ...], dtype: torch.dtype | None
    ) -> None:
        numbers = (offset, *shape, *stride)
        if not isinstance(storage, Storage) or any(type(n) is not int or not 0 <= n < 2**62 for n in numbers):
            raise UnreadableError("a tensor has no storage, or a size that is not a number")
        if len(shape) != len(stride) or len(shape) > _MOST_DIMENSIONS:
            raise UnreadableError(f"a tensor has {len(shape)} dimensions and {len(stride)} strides")
        self.storage, self.offset, self.shape, self.stride = storage, offset, shape, stride
        self.dtype = dtype or storage.dtype

    def tensor(self) -> Tensor | Odd:
        """The tensor, a view of the file where the file allows it.

        Raises:
            UnreadableError: it reaches beyond its storage, or the storage is damaged.
        """
        if str(self.dtype).startswith("torch.q"):
            return Odd("quantised")
        size = self.dtype.itemsize
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        if math.prod(self.shape) >= 2**62:
            raise UnreadableError(f"a tensor has the shape {self.shape}")
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        if (last + 1) * size > self.storage.bytes:
            raise UnreadableError(f"a tensor of shape {self.shape} reaches beyond its storage {self.storage.key!r}")
        raw = self.storage.read(self.storage)
        raw = raw[: len(raw) // size * size]
        values = (raw.clone() if raw.storage_offset() % size else raw).view(self.dtype)
        return values.as_strided(self.shape, self.stride, values.storage_offset() + self.offset)


class NumpyType:
    """A numpy type as the pickle describes it: first its code (`f4`), then the order of its bytes."""

    def __init__(self, code: str) -> None:
        self.code = code

    def fill(self, state: Any) -> None:
        """Take over the order of bytes."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">") and self.code[:1] not in "<>|=":
            self.code = f"{state[1]}{self.code}"

    @property
    def numpy(self) -> np.dtype[Any] | None:
        """The numpy type, if it is a numeric one that tensors have; else None."""
        return np.dtype(self.code) if self.code.lstrip("<>|=") in _NUMPY_TYPES else None


class NumpyArray:
    """A numpy array as the pickle describes it."""

    def __init__(self) -> None:
        self._values: np.ndarray[Any, Any] | None = None
        self.objects: object = None
        """Content of an array of Python objects: their list, or the only one (`numpy.save` of a dictionary)."""

    @classmethod
    def of(cls, data: Any, kind: Any, shape: Any, order: Any) -> NumpyArray:
        """The array from the arguments with which pickle protocol 5 describes it."""
        array = cls()
        array.fill((1, shape, kind, order == "F", data))
        return array

    def fill(self, state: Any) -> None:
        """Take over version, shape, type, order of axes and data.

        Raises:
            UnreadableError: the data do not fill the shape.
        """
        if not isinstance(state, tuple) or len(state) != 5:
            raise UnreadableError("a numpy array has no state")
        _, shape, kind, fortran, data = state
        if isinstance(kind, NumpyType) and kind.code.lstrip("|").startswith("O") and isinstance(data, list):
            self.objects = data[0] if shape == () and len(data) == 1 else data
        if isinstance(data, str):  # written by Python 2
            data = data.encode("latin-1")
        found = kind.numpy if isinstance(kind, NumpyType) else None
        if found is not None and isinstance(data, bytes | bytearray):  # else texts, dates, objects: no tensor
            self.fill_plain(shape, found, bool(fortran), data)

    def fill_plain(self, shape: Any, kind: np.dtype[Any], fortran: bool, data: bytes | bytearray) -> None:
        """Take over the numbers in `data`.

        Raises:
            UnreadableError: they do not fill the shape.
        """
        if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape):
            raise UnreadableError("a numpy array has no shape")
        if len(shape) > _MOST_DIMENSIONS or math.prod(shape) * kind.itemsize != len(data):
            raise UnreadableError(f"the data of a numpy array do not fill its shape {shape}")
        if kind.str[1:] not in _NUMPY_TYPES:
            return
        values = np.frombuffer(data, kind).reshape(shape, order="F" if fortran else "C")
        self._values = values.astype(kind.newbyteorder("="), copy=False)

    def tensor(self) -> Tensor | None:
        """The array as a tensor; None if it holds no numbers."""
        if self._values is None:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nobody writes into it
            return torch.from_numpy(self._values)
