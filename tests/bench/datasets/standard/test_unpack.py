"""Archives of data sets: what is unpacked, what is refused, and what an interruption leaves."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.datasets.standard import unpack as module
from bench.datasets.standard.unpack import require_space, unpack, unpacked_size
from bench.errors import BenchError

FILES = {"a/one.txt": b"1" * 700, "a/b/two.bin": bytes(range(256)) * 9, "c.txt": b""}
Maker = Callable[[Path, dict[str, bytes]], Path]


def make_zip(folder: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(folder / "x.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.mkdir("a")
        for name, content in files.items():
            packed.writestr(name, content)
    return folder / "x.zip"


def make_tar(folder: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(folder / "x.tar", "w") as packed:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return folder / "x.tar"


def make_tgz(folder: Path, files: dict[str, bytes]) -> Path:
    plain = make_tar(folder, files)
    (folder / "x.tgz").write_bytes(gzip.compress(plain.read_bytes()))
    return folder / "x.tgz"


makers = pytest.mark.parametrize("make", [make_zip, make_tar, make_tgz])


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@makers
def test_everything_is_unpacked_once(make: Maker, tmp_path: Path) -> None:
    archive, told = make(tmp_path, FILES), []
    assert unpack(archive, tmp_path / "out", progress=lambda done, total: told.append((done, total))) == 3
    assert content(tmp_path / "out") == FILES
    assert told and all(done <= total for done, total in told)
    (tmp_path / "out/a/one.txt").unlink()
    (tmp_path / "out/a/b/two.bin").write_bytes(b"cut")
    (tmp_path / "out/a/b/.two.bin.tmp").write_bytes(b"of a process that was killed")
    assert unpack(archive, tmp_path / "out") == 2
    assert content(tmp_path / "out") == FILES


@makers
def test_only_what_matches_and_without_the_beginning(make: Maker, tmp_path: Path) -> None:
    unpack(make(tmp_path, FILES), tmp_path / "out", members="a/*", strip="a/")
    assert content(tmp_path / "out") == {"one.txt": FILES["a/one.txt"], "b/two.bin": FILES["a/b/two.bin"]}


@makers
@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "/nowhere/out.txt", "a\\..\\out.txt"])
def test_names_that_lead_outside_are_refused(make: Maker, name: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(BenchError, match="not inside its folder"):
        unpack(make(tmp_path / "in", {"good.txt": b"1", name: b"2"}), tmp_path / "in/out")
    assert {path.name for path in tmp_path.rglob("*.txt")} == {"good.txt"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_pipes_are_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as packed:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "/etc/passwd"
        packed.addfile(info)
    with pytest.raises(BenchError, match="link is a link or a device"):
        unpack(tmp_path / "x.tar", tmp_path / "out")


def test_a_link_in_a_zip_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        packed.writestr(info, "/etc/passwd")
    with pytest.raises(BenchError, match="link is a link or a device"):
        unpack(tmp_path / "x.zip", tmp_path / "out")


@makers
@settings(max_examples=20)
@given(share=st.floats(0, 0.999))
def test_a_truncated_archive_is_told_and_leaves_no_half_file(make: Maker, share: float, tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("truncated")
    archive = make(folder, FILES)
    whole = archive.read_bytes()
    if archive.suffix == ".tar":  # it ends with empty blocks to a multiple of 10 KiB: only the first of them counts
        whole = whole.rstrip(b"\0")
    archive.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BenchError, match=r"x\.(zip|tar|tgz) is damaged"):
        unpack(archive, folder / "out")
    found = content(folder / "out") if (folder / "out").exists() else {}
    assert found.items() <= FILES.items()
    shutil.rmtree(folder)


@makers
def test_a_changed_byte_is_found_where_the_format_has_a_checksum(make: Maker, tmp_path: Path) -> None:
    archive = make(tmp_path, {"a.bin": bytes(range(256)) * 40})
    changed = bytearray(archive.read_bytes())
    changed[len(changed) // 3] ^= 0xFF
    archive.write_bytes(changed)
    if make is make_tar:  # tar has none for contents: the hash of the archive is checked before
        unpack(archive, tmp_path / "out")
    else:
        with pytest.raises(BenchError, match="damaged or cut short"):
            unpack(archive, tmp_path / "out")


def test_an_interruption_leaves_whole_files_and_the_next_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make_zip(tmp_path, FILES)
    copy = shutil.copyfileobj

    def stop(source: io.BufferedIOBase, sink: io.BufferedIOBase, length: int) -> None:
        if "two" in str(getattr(sink, "name", "")):
            sink.write(b"half")
            raise KeyboardInterrupt
        copy(source, sink, length)

    monkeypatch.setattr(module.shutil, "copyfileobj", stop)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, tmp_path / "out")
    assert content(tmp_path / "out") == {"a/one.txt": FILES["a/one.txt"]}
    monkeypatch.undo()
    assert unpack(archive, tmp_path / "out") == 2
    assert content(tmp_path / "out") == FILES


def test_files_of_the_packers_system_are_left_out(tmp_path: Path) -> None:
    unpack(make_zip(tmp_path, {"__MACOSX/a.txt": b"1", "b/._a.txt": b"2", "b/a.txt": b"3"}), tmp_path / "out")
    assert content(tmp_path / "out") == {"b/a.txt": b"3"}


@makers
def test_too_little_disk_is_told_before_anything_is_written(
    make: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make(tmp_path, FILES)
    usage = shutil.disk_usage(tmp_path)._replace(free=module.RESERVE + unpacked_size(archive) - 1)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(BenchError, match="GiB are free"):
        unpack(archive, tmp_path / "out/deep")
    assert not (tmp_path / "out").exists()
    require_space(tmp_path / "not/there", unpacked_size(archive) - 1, "it")


@pytest.mark.parametrize("left", range(20, 120, 7))
def test_a_cut_archive_is_told_as_cut_whatever_length_it_seems_to_state(
    left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make_tgz(tmp_path, FILES)
    archive.write_bytes(archive.read_bytes()[:left])
    usage = shutil.disk_usage(tmp_path)._replace(free=module.RESERVE + 10_000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(BenchError, match=r"x\.tgz is damaged or cut short"):
        unpack(archive, tmp_path / "out")


@makers
def test_the_unpacked_size_is_at_least_that_of_the_files(make: Maker, tmp_path: Path) -> None:
    archive = make(tmp_path, FILES)
    total = sum(len(data) for data in FILES.values())
    assert total <= unpacked_size(archive) <= total + (0 if make is make_zip else 20 * 1024)
