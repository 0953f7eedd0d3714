"""Unpacks archives of data sets: only plain files, only below the target, each whole or absent, so it can go on later.

A member that exists with its full length is left alone: repeating the command after an interruption continues it.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, Final, NamedTuple

from bench.datasets.standard.table import Progress
from bench.errors import BenchError
from leaderboard.base.files import DAMAGED_ZIP, describe_os_error, make_folder

RESERVE: Final = 2**30
"""Bytes that stay free on the disk after everything is unpacked."""
_CHUNK: Final = 2**20
_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = b"PK"
_SYSTEM: Final = ("__MACOSX", ".DS_Store", "Thumbs.db")
"""Names that the systems of those who packed an archive add."""


class Member(NamedTuple):
    """A plain file in an archive."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(
    archive: Path, target: Path, members: str = "*", strip: str = "", progress: Progress = lambda done, total: None
) -> int:
    """Unpack the plain files of a zip or tar (also gzip) archive that match `members` below `target`.

    `strip` is left out of the names of those members that begin with it. `progress` gets bytes of the archive for a
    tar file, and bytes of its members for a zip file. Returns the number of files written; those that exist with their
    full length are not written again.

    Raises:
        BenchError: the archive is damaged or cut short, holds a link, a device or a name outside its folder, or the
            disk has less room than its content takes.
    """
    written = 0
    try:
        _require_room(archive, target, progress)
        with archive.open("rb") as file:
            start = file.read(2)
            file.seek(0)
            found = _zip_members(file, progress) if start == _ZIP else _tar_members(file, start == _GZIP, progress)
            for member in found:
                place = _place(member.name, strip, archive)
                if place is not None and fnmatchcase(member.name, members):
                    written += _write(member, target / place, archive)
    except (*DAMAGED_ZIP, tarfile.TarError, gzip.BadGzipFile) as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        raise BenchError(f"cannot unpack {archive}: {describe_os_error(error)}") from error
    return written


def require_space(folder: Path, needed: int, purpose: str) -> None:
    """Raise BenchError if the disk of `folder`, which need not exist yet, has less room than `needed` bytes."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(existing).free
    if free < needed + RESERVE:
        raise BenchError(
            f"{purpose} takes {needed / 2**30:.1f} GiB below {folder}, where {free / 2**30:.1f} GiB are free and 1 GiB "
            "is to stay free: free space, or choose a data root on another disk"
        )


def _require_room(archive: Path, target: Path, progress: Progress) -> None:
    """Raise BenchError if the disk has less room than the files of `archive` take.

    A gzip file that was cut short states any length in its last bytes. One that states too much is therefore read to
    its end first, which raises EOFError or zlib.error if it is damaged.
    """
    try:
        require_space(target, unpacked_size(archive), f"unpacking {archive.name}")
    except BenchError:
        with archive.open("rb") as file:
            zipped = file.read(len(_GZIP)) == _GZIP
            file.seek(0)
            total = archive.stat().st_size
            with _plain(file, zipped) as plain:
                while zipped and plain.read(_CHUNK):
                    progress(file.tell(), total)
        raise


def unpacked_size(archive: Path) -> int:
    """Bytes that an archive's files take at most: exact for zip, the length of a tar file for tar."""
    length = archive.stat().st_size
    with archive.open("rb") as file:
        start = file.read(2)
        if start == _ZIP:
            try:
                with zipfile.ZipFile(file) as packed:
                    return sum(info.file_size for info in packed.infolist())
            except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
                raise _damaged(archive, error) from error
        if start == _GZIP and length > 4:
            # RFC 1952: the last four bytes are the content's length modulo 2^32; images hardly become longer
            file.seek(-4, os.SEEK_END)
            stated = int.from_bytes(file.read(4), "little")
            return stated + max(0, -(-(length - stated - length // 50) // 2**32)) * 2**32
    return length


def _place(name: str, strip: str, archive: Path) -> Path | None:
    """Where a member goes below the target; None for files of the packer's system. Refuses names that lead outside."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or not parts:
        raise BenchError(
            f"{archive} holds a file named {name!r}, which is not inside its folder: it is not the authors' archive, "
            "or somebody changed it; nothing more is unpacked"
        )
    if any(part in _SYSTEM or part.startswith("._") for part in parts):
        return None
    return Path(*PurePosixPath(name.removeprefix(strip)).parts)


def _write(member: Member, path: Path, archive: Path) -> int:
    """Write one file unless it is there; returns how many were written."""
    try:
        if path.stat().st_size == member.size:
            return 0
    except FileNotFoundError:
        make_folder(path.parent)
    with member.open() as source:
        write_whole(path, lambda sink: shutil.copyfileobj(source, sink, _CHUNK), member.size)
    return 1


def write_whole(path: Path, content: bytes | Callable[[BinaryIO], object], size: int | None = None) -> None:
    """Make `path` a file of `content`, bytes or a function that writes them; it is whole or absent at any moment.

    Unlike `leaderboard.base.files.write_atomic` it does not wait for the disk, which takes hours for a million files,
    and only one process at a time may write a file: what it leaves when it is killed, the next one overwrites. Raises
    EOFError where fewer or more than `size` bytes were written.
    """
    temporary = path.with_name(f".{path.name[:150]}.tmp")
    try:
        with temporary.open("wb") as sink:
            sink.write(content) if isinstance(content, bytes) else content(sink)
            length = sink.tell()
        if size not in (None, length):
            raise EOFError(f"{path.name} has {length:,} of {size:,} bytes")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _zip_members(file: BinaryIO, progress: Progress) -> Iterator[Member]:
    with zipfile.ZipFile(file) as packed:
        infos = packed.infolist()
        total, done = sum(info.file_size for info in infos), 0
        for info in infos:
            kind = info.external_attr >> 28  # of a Unix file mode; 0 where another system packed it
            if kind not in (0, 4, 8):
                raise ValueError(f"{info.filename} is a link or a device")
            if not info.is_dir():
                yield Member(info.filename, info.file_size, partial(packed.open, info))
            done += info.file_size
            progress(done, total)


def _tar_members(file: BinaryIO, zipped: bool, progress: Progress) -> Iterator[Member]:
    total = os.fstat(file.fileno()).st_size
    with _plain(file, zipped) as plain:
        content = _Tail(plain)
        with tarfile.open(fileobj=content, mode="r:", errors="surrogateescape") as packed:  # type: ignore[call-overload]
            while (info := packed.next()) is not None:
                packed.members.clear()  # a million entries would fill the memory
                if info.issym() or info.islnk() or not (info.isreg() or info.isdir()):
                    raise ValueError(f"{info.name} is a link or a device")
                if info.isreg():
                    yield Member(info.name, info.size, partial(packed.extractfile, info))
                progress(file.tell(), total)
        if content.last != bytes(tarfile.BLOCKSIZE):  # `tarfile` also ends where a file was cut between two members
            raise EOFError("it has no end mark")
        while zipped and plain.read(_CHUNK):
            pass  # the checksum follows the last byte


@contextmanager
def _plain(file: BinaryIO, zipped: bool) -> Iterator[Any]:
    if not zipped:
        yield file
        return
    with gzip.GzipFile(fileobj=file) as unzipped:
        yield unzipped


class _Tail:
    """A file that remembers what was read last."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        self.last = self._file.read(size)
        return self.last

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())


def _damaged(archive: Path, error: Exception) -> BenchError:
    reason = (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
    return BenchError(f"{archive} is damaged or cut short: {reason}. Remove it, get it again and repeat the command")
