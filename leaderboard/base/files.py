"""Files that are either complete or absent: what a killed process or a full disk leaves behind is the earlier file."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from leaderboard.base.errors import FileError

_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.\d+\.\d+\.tmp")
_LONGEST = 150
"""Bytes of a file's name that its temporary file repeats: a name may have 255."""


def write_atomic(path: Path, content: str | bytes | Callable[[BinaryIO], object]) -> None:
    """Make `path` a file of `content`; at any moment it is the earlier file or the whole new one.

    `content` is text (written as UTF-8, line ends as they are), bytes, or a function that writes into the open file
    that it gets. The bytes go to a temporary file in the same folder, which must exist; they reach the disk, and only
    then take the name. Several processes and threads may write the same path: the last one to finish stays.

    Raises:
        FileError: the folder cannot be written or the disk is full; `path` is as it was and nothing is left over.
    """
    temporary = path.with_name(f".{_shortened(path.name)}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
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


def is_leftover(path: Path, of: str) -> bool:
    """Whether `path` is the temporary file of a writer of the file named `of` (at work, or killed)."""
    found = _TEMPORARY.fullmatch(path.name)
    return found is not None and found["name"] == _shortened(of)


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of `path` left behind. Only for who knows that no other process writes it now."""
    for file in list(path.parent.iterdir()):
        if is_leftover(file, path.name):
            _remove(file)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _shortened(name: str) -> str:
    return name.encode()[:_LONGEST].decode(errors="ignore")


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # as its folder is none or may not be changed, nothing was written there
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
    mend = "free space or choose another folder" if cause.errno in _SPACE else "choose another folder"
    return FileError(f"{what}: {cause.strerror or cause}; {mend}")
