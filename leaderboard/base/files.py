"""Writes files so that they are complete or absent: a killed process or a full disk leaves the earlier file intact."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import stat
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from leaderboard.base.errors import FileError

LOCK = ".lock"
"""Name of the file that the writers of a folder lock, one at a time, where the folder itself cannot be locked."""
DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError)
"""The exceptions that `zipfile` raises for a damaged archive."""
_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.\d+\.\d+\.tmp", re.DOTALL)
_LONGEST = 150
"""The name of a temporary file repeats at most this many bytes of the file's name; a name may have 255 in all."""


def write_atomic(path: Path, content: str | bytes | Callable[[BinaryIO], object]) -> None:
    """Make `path` a file of `content`; at any moment it is the earlier file or the whole new one.

    `content` is text (written as UTF-8, line ends as they are), bytes, or a function that writes into the open file
    that it gets. The bytes go to a temporary file in the same folder, which must exist; once they are on the disk, that
    file is renamed. Several processes and threads may write the same path: the last one to finish stays. A new file
    gets the permissions that the umask leaves, an existing one keeps its own; a symbolic link stays, and its target is
    written. A device or pipe (`/dev/stdout`) is not replaced: the content is written into it.

    Raises:
        FileError: the folder cannot be written or the disk is full; `path` is as it was and nothing is left over.
    """
    if _takes_bytes(path):
        _write_into(path, content)
        return
    path = _target(path)
    temporary = path.with_name(f".{_shortened(path.name)}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as file:
            if path.is_file():
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            _put(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        _remove(temporary)
        cause = _os_error(error)
        if cause is None:
            raise
        raise _file_error(f"cannot write {path}", cause) from error


def make_folder(path: Path) -> None:
    """Make the folder `path` and those above it, if they are missing.

    Raises:
        FileError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _file_error(f"cannot make the folder {path}", error) from error


def require_writable(folder: Path) -> None:
    """Show before long work that its results can be written: make `folder` if it is missing, and a short-lived file.

    Raises:
        FileError: the folder or the file cannot be made.
    """
    make_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise _file_error(f"cannot write into {folder}", error) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only writer of `folder` among all that call this; wait for the present one. The lock ends with a process.

    Raises:
        FileError: the folder is missing or cannot be written.
    """
    try:
        descriptor = _lock(folder)
    except OSError as error:
        raise _file_error(f"cannot write into {folder}", error) from error
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path) -> int:
    """An open descriptor that holds the lock: on the folder itself or, where this is impossible, on a file in it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        os.close(descriptor)
        descriptor = os.open(
            folder / LOCK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666
        )  # NFS locks what can be written
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def read_bounded(path: Path | str, most: int) -> bytes:
    """The bytes of a regular file of at most `most` bytes.

    A pipe, a device or a folder is refused before anything is read: a pipe could wait forever, a device never end.

    Raises:
        FileError: it is not a regular file, or longer; the text names it.
        OSError: it is missing or cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe is opened without a writer, too
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileError(f"{path}: is not a regular file")
        # read() allocates as much as it is asked for; files of the system (/proc) state a length of 0
        wanted = min(most, max(status.st_size, 2**16)) + 1
        data = os.read(descriptor, wanted)
        while len(data) < wanted and (more := os.read(descriptor, wanted - len(data))):
            data += more
    finally:
        os.close(descriptor)
    if len(data) > most:
        raise FileError(f"{path}: is longer than {most:,} bytes")
    return data


def describe_os_error(error: OSError) -> str:
    """What the system refused, on which file and, where the disk is full, what to do."""
    if error.errno in _SPACE:
        where = "" if error.filename is None else f" ({error.filename})"
        return f"the disk is full{where}: free space and repeat the command"
    return f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")


def is_leftover(path: Path, of: str | None = None) -> bool:
    """Whether `path` is the temporary file of a writer (at work, or killed) of the file named `of`, or of any file."""
    found = _TEMPORARY.fullmatch(path.name)
    return found is not None and (of is None or found["name"] == _shortened(of))


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of `path` left behind. Call it only where no other process writes `path` now."""
    for file in list(path.parent.iterdir()):
        if is_leftover(file, path.name):
            _remove(file)


def remove_all_leftovers(folder: Path) -> None:
    """Remove what killed writers of any file in `folder` left behind, as :func:`remove_leftovers` does for one file."""
    for file in list(folder.iterdir()):
        if is_leftover(file):
            _remove(file)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _put(content: str | bytes | Callable[[BinaryIO], object], file: BinaryIO) -> None:
    if callable(content):
        content(file)
    else:
        file.write(content.encode() if isinstance(content, str) else content)


def _takes_bytes(path: Path) -> bool:
    """Whether it is a device or pipe."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def _write_into(path: Path, content: str | bytes | Callable[[BinaryIO], object]) -> None:
    try:
        with path.open("wb") as file:
            _put(content, file)
    except OSError as error:
        raise _file_error(f"cannot write {path}", error) from error


def _target(path: Path) -> Path:
    """The file that is written: `path`, or the target of a symbolic link, which need not exist yet."""
    if not path.is_symlink():
        return path
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise FileError(f"cannot write {path}: the symbolic link names itself; choose another file") from error


def _shortened(name: str) -> str:
    return name.encode()[:_LONGEST].decode(errors="ignore")


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # its folder is missing or read-only, so nothing was written there
        return


def _sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _os_error(error: BaseException) -> OSError | None:
    """The system's error behind `error`: torch.save turns a full disk into a RuntimeError about positions."""
    found: BaseException | None = error
    while type(found) is RuntimeError:
        found = found.__cause__ or found.__context__
    return found if isinstance(found, OSError) else None


def _file_error(what: str, cause: OSError) -> FileError:
    remedy = "free space or choose another folder" if cause.errno in _SPACE else "choose another folder"
    return FileError(f"{what}: {cause.strerror or cause}; {remedy}")
