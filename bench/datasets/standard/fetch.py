"""Downloads archives from their official addresses: an interrupted download goes on, and what arrives is checked."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

from bench.datasets.standard.table import Archive, Progress
from bench.datasets.standard.unpack import require_space
from bench.errors import BenchError
from leaderboard.base.files import describe_os_error, make_folder

TIMEOUT: Final = 60.0
"""Seconds without a byte after which a download counts as interrupted."""
_CHUNK: Final = 2**20
_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+)")


def fetch(archive: Archive, folder: Path, progress: Progress = lambda done, total: None) -> Path:
    """Download an archive into `folder`, or what is missing of it; returns its path. It is checked by `verify`.

    What has arrived lies in `NAME.part` until it is whole and right.

    Raises:
        BenchError: it has no address, the host or the disk refuses it, or what arrived is not what was promised.
    """
    if not archive.url:
        raise BenchError(f"{archive.name} has no address from which it can be downloaded without registering")
    make_folder(folder)
    path, part = folder / archive.name, folder / f"{archive.name}.part"
    try:
        _receive(archive, part, progress)
    except urllib.error.HTTPError as error:
        raise BenchError(f"{archive.url}: the host answers {error.code} {error.reason}") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise BenchError(
            f"the download of {archive.url} was interrupted: {reason}; repeat the command, and it goes on"
        ) from error
    except OSError as error:
        raise BenchError(f"cannot write {part}: {describe_os_error(error)}") from error
    try:
        verify(part, archive)
    except BenchError:
        part.unlink()
        raise
    part.replace(path)
    return path


def verify(path: Path, archive: Archive, progress: Progress = lambda done, total: None) -> None:
    """Raise BenchError if the file has another length or another hash than the documentation states."""
    size = path.stat().st_size
    if archive.size not in (None, size):
        raise BenchError(f"{path} has {size:,} bytes, {archive.name} has {archive.size:,}: remove it and get it again")
    if not archive.digest:
        return
    kind, _, expected = archive.digest.partition(":")
    digest, done = hashlib.new(kind, usedforsecurity=False), 0
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
            done += len(block)
            progress(done, size)
    if digest.hexdigest() != expected:
        raise BenchError(
            f"{path} is not the {archive.name} that is published ({kind} differs): remove it, get it again"
        )


def _receive(archive: Archive, part: Path, progress: Progress) -> None:
    """Append what is missing to `part`."""
    have = part.stat().st_size if part.is_file() else 0
    if archive.size is not None and have == archive.size:
        return
    request = urllib.request.Request(archive.url, headers={"User-Agent": "densebench"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = _opener().open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        part.unlink()  # it is longer than what the host has now
        _receive(archive, part, progress)
        return
    with response:
        told = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        goes_on = response.status == 206 and told is not None and int(told[1]) == have
        done = have if goes_on else 0
        length = response.headers.get("Content-Length")
        total = int(told[2]) if goes_on and told else (int(length) if length else archive.size)
        if archive.size is not None and total != archive.size:
            raise BenchError(
                f"{archive.url} offers {total or 0:,} bytes, not the {archive.size:,} of the published {archive.name}: "
                "it was replaced; get the published one elsewhere"
            )
        require_space(part.parent, (total or 0) - done, f"downloading {archive.name}")
        with part.open("ab" if goes_on else "wb") as file:
            while block := response.read(_CHUNK):
                file.write(block)
                done += len(block)
                progress(done, total or done)
            file.flush()
            os.fsync(file.fileno())
        if total is not None and done != total:
            raise ConnectionError(f"{done:,} of {total:,} bytes arrived")


def _opener() -> urllib.request.OpenerDirector:
    """Opens http and https addresses, and follows only redirections to such."""
    opener = urllib.request.OpenerDirector()
    handlers: tuple[Any, ...] = (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    )
    for handler in handlers:
        opener.add_handler(handler)
    return opener
