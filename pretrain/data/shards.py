"""Images in tar shards, with random access: for sets with too many files for a file system.

A shard is an uncompressed tar file. As in the WebDataset convention a member whose name ends like an image is an
image, and every other member (labels, captions) is left alone. The headers are read once with the standard library's
`tarfile` into an index of (shard, offset, size) that is kept in memory, in about a minute for a million images; after
that, an image takes one positioned read, which forked workers do in parallel on the same descriptors.

Streaming readers are not used. They shuffle within a buffer and distribute shards over workers and processes. So the
images in a batch depend on the numbers of these, and a run that is resumed in the middle of an epoch must read
everything before it again. Here step t of an epoch has the same images as from a folder, with any number of workers and
processes. The disadvantage is random instead of sequential reading: keep shards on local disks or in the page cache.
"""

from __future__ import annotations

import os
import re
import tarfile
import weakref
from collections.abc import Iterable, Iterator
from glob import glob, has_magic
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pretrain.data.decode import decode_read
from pretrain.data.sources import ImageSource, is_hidden, is_image
from pretrain.errors import PretrainError

MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""First bytes of compressed files, and the names of the compressions."""
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
OPEN_SHARDS = 256
"""Most shards that a process keeps open; systems often allow 1,024 open files."""
_BLOCK = tarfile.BLOCKSIZE


class Member(NamedTuple):
    """An image in a shard: where its bytes are. Members sort by name, then by shard."""

    name: bytes
    shard: int
    offset: int
    size: int


class ShardSource(ImageSource):
    """Images in tar shards. An image id is a position among the members' names, sorted as bytes.

    How images are distributed over shards changes nothing: the ids, the batches and the fingerprint (sha256 over one
    line `name NUL size LF` per image) are those of a folder into which the shards were unpacked. A name may occur in
    several shards, whose order is then that of the shards' names, but only once in a shard.
    """

    def __init__(self, root: Path, shards: Iterable[Path]):
        self.shards = sorted(shards)
        """The files, by their paths."""
        indexed = [_index(path, number) for number, path in enumerate(self.shards)]
        members = sorted(member for listed, _ in indexed for member in listed)
        if not members:
            raise PretrainError(f"no images in {_counted(self.shards)} under {root}: no member ends like one.")
        super().__init__(root, [os.fsdecode(member.name) for member in members])
        self._shard = np.array([member.shard for member in members], dtype=np.int32)
        self._offset = np.array([member.offset for member in members], dtype=np.int64)
        self._length = np.array([member.size for member in members], dtype=np.int64)
        self._states = [state for _, state in indexed]
        self._open: dict[int, int] = {}
        weakref.finalize(self, _close_all, self._open)

    def where(self, index: int) -> str:
        """The shard and member of image `index`, for messages."""
        return f"{self.shards[self._shard[index]]}: {self.name(index)}"

    def decode(self, index: int) -> Tensor:
        """Image `index` as uint8 RGB (3, H, W).

        Raises:
            DamagedImageError: the member is not a readable image; the message names it.
            PretrainError: the shard was changed or removed since it was indexed.
        """
        descriptor = self._descriptor(int(self._shard[index]))
        return decode_read(lambda: self._read(descriptor, index), lambda: self.where(index))

    def content(self, index: int) -> npt.NDArray[np.uint8]:
        """The bytes of image `index`, encoded.

        Raises:
            OSError: the shard cannot be read.
            PretrainError: it was changed or removed since it was indexed.
        """
        return self._read(self._descriptor(int(self._shard[index])), index)

    def size(self, index: int) -> int:
        """Size of image `index` in bytes, encoded."""
        return int(self._length[index])

    def _read(self, descriptor: int, index: int) -> npt.NDArray[np.uint8]:
        data = np.empty(self._length[index], dtype=np.uint8)
        done, start = 0, int(self._offset[index])
        while done < len(data):
            count = os.preadv(descriptor, [data[done:].data], start + done)
            if not count:
                raise OSError("the shard ends within it")
            done += count
        return data

    def _descriptor(self, shard: int) -> int:
        found = self._open.get(shard)
        if found is not None:
            return found
        if len(self._open) >= OPEN_SHARDS:
            os.close(self._open.pop(next(iter(self._open))))
        path = self.shards[shard]
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise PretrainError(f"cannot read shard {path}: {error.strerror}.") from error
        if _state(descriptor) != self._states[shard]:
            os.close(descriptor)
            raise PretrainError(f"shard {path} was changed since it was indexed; start again.")
        self._open[shard] = descriptor
        return descriptor

    def __getstate__(self) -> dict[str, Any]:
        """The state without descriptors, which are not valid in another process."""
        return self.__dict__ | {"_open": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        weakref.finalize(self, _close_all, self._open)


def expand_shards(pattern: str) -> list[Path]:
    """The shards that a pattern such as `train-{000..146}.tar` or `train-*.tar` names.

    Braces hold a range, with leading zeros where its ends have them, or alternatives (`{train,val}`); in the resulting
    names, `*`, `?` and `[...]` match files. Raises PretrainError where a file does not exist or is not a `.tar`.
    """
    found: dict[str, None] = {}
    for name in _expand_braces(pattern):
        matches = [name] if Path(name).exists() else []
        if not matches and has_magic(name):
            matches = glob(name, recursive=True)  # noqa: PTH207  # the pattern may be absolute, which Path.glob refuses
        if not matches:
            raise PretrainError(f"{name} does not exist; it is one of the shards that {pattern} names.")
        found.update(dict.fromkeys(matches))
    shards = [Path(name) for name in found]
    for path in shards:
        if not is_shard(path.name):
            refuse_compressed([path])
            raise PretrainError(f"{pattern} names {path}, which is not a .tar file.")
    return shards


def is_shard(name: str) -> bool:
    """Whether a file with this name is taken as a shard."""
    return name.lower().endswith(".tar")


def refuse_compressed(paths: Iterable[Path]) -> None:
    """Raise PretrainError if a name in `paths` is that of a compressed tar file."""
    for path in paths:
        if path.name.lower().endswith(COMPRESSED):
            raise PretrainError(_compressed_message(path, "compressed"))


def _compressed_message(path: Path, how: str) -> str:
    return (
        f"{path} is a {how} tar file, in which no image can be read without all before it.\n"
        "Unpack it to a plain .tar (gunzip, unxz, zstd -d ...): images are compressed already and grow little."
    )


def _expand_braces(pattern: str) -> Iterator[str]:
    found = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", pattern)
    if found is None:
        yield pattern
        return
    first, last, listed = found.groups()
    choices: Iterable[str] = listed.split(",") if listed is not None else _range(first, last)
    for choice in choices:
        yield from _expand_braces(pattern[: found.start()] + choice + pattern[found.end() :])


def _range(first: str, last: str) -> Iterator[str]:
    padded = any(end.startswith("0") and len(end) > 1 for end in (first, last))
    width = max(len(first), len(last)) if padded else 0
    step = 1 if int(first) <= int(last) else -1
    return (str(number).zfill(width) for number in range(int(first), int(last) + step, step))


def _index(path: Path, shard: int) -> tuple[list[Member], tuple[int, int]]:
    """The images of a shard, and values that show later whether the file is still the same.

    Raises:
        PretrainError: the file is compressed, damaged, truncated or unreadable, or holds an image as a link, as a
            sparse file, twice, or under a name that no file can have.
    """
    try:
        with path.open("rb") as file:
            state = _state(file.fileno())
            start = file.read(max(map(len, MAGIC)))
            for magic, how in MAGIC.items():
                if start.startswith(magic):
                    raise PretrainError(_compressed_message(path, f"{how}-compressed"))
            file.seek(0)
            members = list(_members(file, path, shard))
    except PretrainError:
        raise
    except OSError as error:
        raise PretrainError(f"cannot read shard {path}: {error.strerror or error}.") from error
    names = {member.name for member in members}
    if len(names) < len(members):
        seen: set[bytes] = set()
        twice = next(m.name for m in members if m.name in seen or seen.add(m.name))  # type: ignore[func-returns-value]
        raise PretrainError(f"shard {path} holds {os.fsdecode(twice)} more than once; write it again.")
    return members, state


def _members(file: Any, path: Path, shard: int) -> Iterator[Member]:
    try:
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # a million entries would fill the memory
                found = _image(member, path)
                if found is not None:
                    yield Member(found, shard, member.offset_data, member.size)
            end = tar.offset
    except (PretrainError, OSError):
        raise
    except Exception as error:  # damaged headers make tarfile raise nearly anything
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise PretrainError(f"shard {path} is damaged or no tar file: {reason}. Copy or write it again.") from error
    _check_end(file, end, path)


def _image(member: tarfile.TarInfo, path: Path) -> bytes | None:
    """The name of a member that is an image, as it would be in a folder; None for other members."""
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    name = "/".join(parts)
    if member.isdir() or not is_image(name) or is_hidden(parts):
        return None
    if "\0" in name or "\n" in name:
        raise PretrainError(f"shard {path} holds an image named {name!a}; rename it.")
    if member.islnk() or member.issym():
        raise PretrainError(
            f"shard {path} holds {name} as a link to {member.linkname}.\n"
            "Write it again with the images themselves: tar --dereference --hard-dereference."
        )
    if member.sparse is not None or not member.isreg():
        raise PretrainError(f"shard {path} holds {name}, which is not a plain file; write it again without --sparse.")
    return os.fsencode(name)


def _check_end(file: Any, end: int, path: Path) -> None:
    """Check that a tar file ends with empty blocks: if `tarfile` stopped elsewhere, later images would be lost."""
    file.seek(end)
    block = file.read(_BLOCK)
    if len(block) < _BLOCK:
        raise PretrainError(f"shard {path} is cut short: it has no end mark. Copy or write it again.")
    if any(block):
        raise PretrainError(f"shard {path} is damaged: no header at byte {end}. Copy or write it again.")
    while rest := file.read(2**20):
        if rest.count(0) < len(rest):
            raise PretrainError(
                f"shard {path} goes on after its end mark, as tar files do that were joined. Give them one by one."
            )


def _state(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns


def _close_all(descriptors: dict[int, int]) -> None:
    while descriptors:
        os.close(descriptors.popitem()[1])


def _counted(shards: list[Path]) -> str:
    return "1 shard" if len(shards) == 1 else f"{len(shards)} shards"
