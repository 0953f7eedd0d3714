"""Downloads from a host on this machine: whole, interrupted, replaced, damaged."""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.datasets.standard.fetch import fetch, verify
from bench.datasets.standard.table import Archive
from bench.errors import BenchError

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Host(http.server.BaseHTTPRequestHandler):
    """Serves `CONTENT`; a test says how."""

    ranges = True
    breaks_after: int | None = None
    asked: list[str] = []

    def do_GET(self) -> None:
        Host.asked.append(self.headers.get("Range", ""))
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
            return
        if self.path != "/x.zip":
            self.send_error(404)
            return
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted and Host.ranges else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start:][: Host.breaks_after])

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(Host, "ranges", True)
    monkeypatch.setattr(Host, "breaks_after", None)
    monkeypatch.setattr(Host, "asked", [])


def archive(host: str, **changes: Any) -> Archive:
    facts = {"size": len(CONTENT), "digest": f"sha256:{SHA256}", **changes}
    return Archive("x.zip", "", f"{host}/x.zip", **facts)


def test_an_archive_arrives_and_is_checked(host: str, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = fetch(archive(host), tmp_path / "new", lambda done, total: told.append((done, total)))
    assert path == tmp_path / "new/x.zip" and path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT)) and [p.name for p in path.parent.iterdir()] == ["x.zip"]


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(host: str, ranges: bool, tmp_path: Path) -> None:
    Host.breaks_after = 3_000
    with pytest.raises(BenchError, match="interrupted"):
        fetch(archive(host), tmp_path)
    assert (tmp_path / "x.zip.part").read_bytes() == CONTENT[:3_000]
    Host.breaks_after, Host.ranges = None, ranges
    assert fetch(archive(host), tmp_path).read_bytes() == CONTENT
    assert Host.asked == ["", "bytes=3000-"]


def test_what_arrived_whole_before_is_not_asked_for_again(host: str, tmp_path: Path) -> None:
    (tmp_path / "x.zip.part").write_bytes(CONTENT)
    assert fetch(archive(host), tmp_path).read_bytes() == CONTENT and Host.asked == []


def test_what_is_longer_than_the_hosts_file_is_started_again(host: str, tmp_path: Path) -> None:
    (tmp_path / "x.zip.part").write_bytes(CONTENT + b"more")
    assert fetch(archive(host, size=None), tmp_path).read_bytes() == CONTENT
    assert Host.asked == [f"bytes={len(CONTENT) + 4}-", ""]


def test_other_bytes_than_the_published_ones_are_refused_and_removed(host: str, tmp_path: Path) -> None:
    (tmp_path / "x.zip.part").write_bytes(b"other")  # of a file that the host has replaced
    with pytest.raises(BenchError, match=r"is not the x\.zip that is published"):
        fetch(archive(host), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert fetch(archive(host), tmp_path).read_bytes() == CONTENT


def test_another_length_than_the_published_one_is_refused_before_anything_is_loaded(host: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="it was replaced"):
        fetch(archive(host, size=7), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_gone_is_told(host: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="the host answers 404"):
        fetch(Archive("y.zip", "", f"{host}/y.zip"), tmp_path)


def test_no_other_kind_of_address_is_opened(host: str, tmp_path: Path) -> None:
    for url in (f"{host}/away", "file:///etc/passwd"):
        with pytest.raises(BenchError):
            fetch(Archive("z.zip", "", url), tmp_path)
    assert not (tmp_path / "z.zip").exists()


def test_an_archive_without_an_address_is_not_downloaded(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="without registering"):
        fetch(Archive("x.zip", ""), tmp_path)


def test_a_file_is_verified_by_length_and_hash(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(CONTENT)
    verify(path, Archive("x.zip", "", size=len(CONTENT), digest=f"md5:{hashlib.md5(CONTENT).hexdigest()}"))
    verify(path, Archive("x.zip", ""))
    with pytest.raises(BenchError, match=r"has 10,240 bytes, x\.zip has 3: remove it"):
        verify(path, Archive("x.zip", "", size=3))
    with pytest.raises(BenchError, match="md5 differs"):
        verify(path, Archive("x.zip", "", digest="md5:" + 32 * "0"))
