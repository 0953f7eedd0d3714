"""Reads both kinds of files of `torch.save`, and plain pickles of numpy arrays, without running any code of them.

Since PyTorch 1.6, `torch.save` writes a zip archive: `data.pkl` and a member for each storage, with a checksum that is
verified before the member is used. People unpack such archives and pack them again, with compression or in another
folder; these are read, too. Earlier versions wrote several pickles and then the storages.
"""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor
from typing_extensions import Buffer

from bench.checkpoints.numpy_files import is_npz, read_npz
from bench.checkpoints.pickles import read_pickle
from bench.checkpoints.storages import BeyondBoundsError, Storage, UnreadableError
from leaderboard.base.files import DAMAGED_ZIP
from leaderboard.base.printable import printable_name

MOST_PICKLE = 64 * 2**20
"""Most bytes of the pickle of a torch file, which holds names and shapes."""
MOST_INFLATED = 2 * 2**30
"""Most bytes to which compressed members may unpack; members that are not compressed need no memory."""
MOST_PLAIN = 2 * 2**30
"""Most bytes of a pickle that holds the arrays themselves."""
_MAGIC = 0x1950A86A20F9469CFC6C
"""The number at the beginning of every file of `torch.save` before PyTorch 1.6."""
_LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Header of a member of a zip archive: signature, length of its name and of its extra field."""


class _File:
    """The bytes of a file, which the system reads when they are used. Changes to them do not reach the file."""

    def __init__(self, source: Path | bytes) -> None:
        if isinstance(source, bytes):
            mapped = mmap.mmap(-1, max(len(source), 1))
            mapped[: len(source)] = source
        else:
            with source.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.stream = cast(BinaryIO, mapped)  # it has read, readline and tell
        self.bytes = torch.frombuffer(mapped, dtype=torch.uint8)

    def part(self, start: int, size: int) -> Tensor:
        if not 0 <= start <= start + size <= len(self.bytes):
            raise UnreadableError("a part lies beyond the file's end")
        return self.bytes[start : start + size]


@dataclass(frozen=True)
class TorchFile:
    """Content of a file: the tree of its pickle with `Stored` tensors, and notes for the reader."""

    tree: object
    notes: tuple[str, ...] = ()
    plain: bool = False
    """Whether it is a pickle that `torch.save` did not write."""


class NoTorchZipError(Exception):
    """A zip archive of another kind; the text says of which."""


def read_zip(source: Path | bytes) -> TorchFile:
    """The content of a zip archive of `torch.save`, in a file or in memory; or the arrays of a `.npz` file.

    Raises:
        NoTorchZipError: it is an archive of another kind.
        UnreadableError, ForbiddenError: as for `read_pickle`; or a checksum is wrong.
        zipfile.BadZipFile, OSError: it is not a complete archive.
    """
    with _zip(source) as archive:
        members = {info.filename: info for info in archive.infolist() if not info.is_dir()}
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
        if is_npz(names):
            return TorchFile(read_npz(archive), plain=True)
        if len(members) < len(names):
            raise UnreadableError("two members of the archive have one name")
        pickles = [n for n in names if n.rpartition("/")[2] == "data.pkl" and not n.startswith("__MACOSX/")]
        if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
            raise NoTorchZipError(
                "a TorchScript program, which is code; save `model.state_dict()` of it as safetensors instead"
            )
        if len(pickles) != 1:
            example = ", ".join(printable_name(name) for name in names[:3]) or "nothing"
            inside = any(name.endswith((".pth", ".pt", ".tar", ".safetensors", ".pkl", ".ckpt")) for name in names)
            advice = "; unpack it and give the file inside" if inside else ""
            raise NoTorchZipError(f"a zip archive, but not one of torch.save (it holds {example}){advice}")
        return _Archive(source, members, pickles[0].removesuffix("data.pkl")).read()


def _zip(source: Path | bytes) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source)


class _Archive:
    """A zip archive of `torch.save` while it is read."""

    def __init__(self, source: Path | bytes, members: dict[str, zipfile.ZipInfo], root: str) -> None:
        self.source, self.file, self.members, self.root = source, _File(source), members, root
        # torch.serialization.set_crc32_options(False) leaves all checksums at 0.
        self.checked = any(info.CRC for info in members.values())
        self._read: dict[str, Tensor] = {}
        self._inflated = 0

    def read(self) -> TorchFile:
        order = self.members.get(f"{self.root}byteorder")
        if order is not None and order.file_size == 3 and bytes(self._bytes(order)) == b"big":
            raise BeyondBoundsError("it was written on a big-endian machine: load and save it with PyTorch there")
        info = self.members[f"{self.root}data.pkl"]
        if info.file_size > MOST_PICKLE:
            raise BeyondBoundsError(
                f"its {printable_name(info.filename)} has {info.file_size / 2**20:,.0f} MiB, which no checkpoint has"
            )
        tree = read_pickle(io.BytesIO(self._bytes(info)), self._storage)
        notes = () if self.checked else ("the archive carries no checksums, so a damaged value would not be noticed",)
        return TorchFile(tree, notes)

    def _storage(self, wanted: tuple[Any, ...]) -> Storage:
        dtype, key, _, count = wanted[:4]
        if dtype is None or not isinstance(key, str) or type(count) is not int or count < 0:
            raise UnreadableError("a storage has no type, name or size")
        return Storage(key, dtype, count, self._values)

    def _values(self, storage: Storage) -> Tensor:
        name = f"{self.root}data/{storage.key}"
        info = self.members.get(name)
        if info is None:
            raise UnreadableError(f"the archive lacks {printable_name(name)}")
        if info.file_size < storage.bytes:
            raise UnreadableError(f"{printable_name(name)} has {info.file_size} bytes instead of {storage.bytes}")
        if name not in self._read:
            self._read[name] = self._member(info)
        return self._read[name]

    def _bytes(self, info: zipfile.ZipInfo) -> memoryview:
        return _memory(self._member(info))

    def _member(self, info: zipfile.ZipInfo) -> Tensor:
        """The bytes of a member, whose checksum is verified."""
        name = printable_name(info.filename)
        if info.flag_bits & 1:
            raise UnreadableError(f"{name} is encrypted")
        if info.compress_type == zipfile.ZIP_STORED:
            values = self._stored(info)
        else:
            self._inflated += info.file_size
            if self._inflated > MOST_INFLATED:
                raise BeyondBoundsError(
                    f"compressed, and unpacks to more than {MOST_INFLATED / 2**30:.0f} GiB; "
                    "unpack it and pack it without compression (zip -0)"
                )
            values = self._unpacked(info)
        if self.checked and zlib.crc32(_memory(values)) != info.CRC:
            raise UnreadableError(f"the checksum of {name} is wrong: its bytes were changed after it was saved")
        return values

    def _stored(self, info: zipfile.ZipInfo) -> Tensor:
        header = bytes(self.file.part(info.header_offset, _LOCAL_HEADER.size).numpy())
        signature, name, extra = _LOCAL_HEADER.unpack(header)
        if signature != b"PK\x03\x04" or info.compress_size != info.file_size:
            raise UnreadableError(f"the archive's directory does not fit {printable_name(info.filename)}")
        return self.file.part(info.header_offset + _LOCAL_HEADER.size + name + extra, info.file_size)

    def _unpacked(self, info: zipfile.ZipInfo) -> Tensor:
        values = torch.empty(info.file_size, dtype=torch.uint8)
        view, done = _memory(values), 0
        try:
            with _zip(self.source) as archive, archive.open(info) as member:
                while chunk := member.read(2**20):
                    view[done : done + len(chunk)] = chunk
                    done += len(chunk)
        except DAMAGED_ZIP as error:
            if self.checked or not isinstance(error, zipfile.BadZipFile):
                raise UnreadableError(
                    f"{printable_name(info.filename)} cannot be unpacked ({printable_name(error)})"
                ) from error
        if done != info.file_size:
            raise UnreadableError(f"{printable_name(info.filename)} unpacks to {done} bytes, not {info.file_size}")
        return values


def read_pickles(path: Path) -> TorchFile:
    """The content of a file of pickles: what `torch.save` wrote before PyTorch 1.6, or a plain pickle of numpy arrays.

    Raises:
        UnreadableError, ForbiddenError: as for `read_pickle`.
        OSError: it cannot be read.
    """
    file = _File(path)
    first = read_pickle(file.stream)
    if type(first) is int and first == _MAGIC:
        return _Legacy(file).read()
    if len(file.bytes) > MOST_PLAIN:
        raise BeyondBoundsError(f"a plain pickle of more than {MOST_PLAIN / 2**30:.0f} GiB")
    return TorchFile(first, plain=True)


class _Legacy:
    """The old kind of file: pickles (magic number, version, machine, tree, keys of storages), then the storages."""

    def __init__(self, file: _File) -> None:
        self.file = file
        self._types: dict[str, torch.dtype] = {}
        self._places: dict[str, tuple[int, int]] = {}

    def read(self) -> TorchFile:
        stream = self.file.stream
        version, machine = read_pickle(stream), read_pickle(stream)
        if version != 1001 or not isinstance(machine, dict):
            raise UnreadableError("its header is not that of torch.save")
        if machine.get("little_endian") is False:
            raise BeyondBoundsError("it was written on a big-endian machine: load and save it with PyTorch there")
        tree = read_pickle(stream, self._storage)
        keys = read_pickle(stream)
        if not isinstance(keys, list):
            raise UnreadableError("it lacks the list of its storages")
        place = stream.tell()
        for key in keys:
            if not isinstance(key, str) or key not in self._types:
                raise UnreadableError("it lists a storage that no tensor uses")
            count = int(self.file.part(place, 8).clone().view(torch.int64).item())
            size = count * self._types[key].itemsize
            self.file.part(place + 8, max(size, -1))  # it lies within the file
            self._places[key] = (place + 8, size)
            place += 8 + size
        return TorchFile(tree)

    def _storage(self, wanted: tuple[Any, ...]) -> Storage:
        dtype, key, _, count = wanted[:4]
        if dtype is None or not isinstance(key, str) or type(count) is not int or count < 0:
            raise UnreadableError("a storage has no type, name or size")
        if self._types.setdefault(key, dtype) != dtype:
            raise UnreadableError(f"the storage {printable_name(key)} has two types")
        view = wanted[4] if len(wanted) > 4 else None
        if view is None:
            return Storage(key, dtype, count, self._values)
        name, offset, count = view  # written by PyTorch 0.3 and earlier
        if type(offset) is not int or type(count) is not int or offset < 0 or count < 0:
            raise UnreadableError(f"the view {printable_name(name)} of a storage has no size")
        skipped = offset * dtype.itemsize
        return Storage(key, dtype, count, lambda storage: self._values(storage)[skipped : skipped + storage.bytes])

    def _values(self, storage: Storage) -> Tensor:
        if storage.key not in self._places:
            raise UnreadableError(f"the values of storage {printable_name(storage.key)} are missing")
        start, size = self._places[storage.key]
        if size < storage.bytes:
            raise UnreadableError(f"the storage {printable_name(storage.key)} is shorter than its tensors")
        return self.file.part(start, size)


def _memory(values: Tensor) -> memoryview:
    """The bytes of a `uint8` tensor, without a copy."""
    return memoryview(cast(Buffer, values.numpy()))
