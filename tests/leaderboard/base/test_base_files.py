"""Atomic writes: whole or absent, by any number of writers, with a clear error."""

import errno
import hashlib
import os
import resource
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from leaderboard.base import files
from leaderboard.base.errors import DenseBenchError, FileError
from leaderboard.base.files import (
    describe_os_error,
    file_sha256,
    is_leftover,
    locked,
    make_folder,
    read_bounded,
    remove_all_leftovers,
    remove_leftovers,
    require_writable,
    write_atomic,
)


@pytest.mark.parametrize("content", ["ä\r\n", "ä\r\n".encode(), lambda file: file.write("ä\r\n".encode())])
def test_text_bytes_and_functions_are_written_as_they_are(tmp_path, content):
    path = tmp_path / "file"
    write_atomic(path, content)
    assert path.read_bytes() == b"\xc3\xa4\r\n"
    assert list(tmp_path.iterdir()) == [path]
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_full_disk_leaves_the_earlier_file_and_is_named(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "file"
    write_atomic(path, "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=r"cannot write .*file: No space left on device; free space or choose another"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_torch_save_on_a_full_disk_names_the_disk_and_not_its_own_positions(tmp_path):
    """A limit on the file size, in a process of its own, stands for the full disk."""
    code = f"""
import resource, torch
from pathlib import Path
from leaderboard.base.errors import FileError
from leaderboard.base.files import write_atomic
path = Path({str(tmp_path)!r}) / "state.pt"
state = {{"weights": torch.zeros(100_000)}}
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
for content in (lambda file: torch.save(state, file), bytes(10_000)):
    try:
        write_atomic(path, content)
    except FileError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("state.pt: File too large; free space or choose another folder") == 2
    assert list(tmp_path.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 2000


def test_a_missing_folder_and_a_folder_that_is_a_file(tmp_path):
    with pytest.raises(FileError, match=r"cannot write .*: No such file or directory; choose another folder"):
        write_atomic(tmp_path / "none" / "file", "text")
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"cannot write .*: Not a directory"):
        write_atomic(tmp_path / "file" / "x", "text")
    with pytest.raises(DenseBenchError, match=r"cannot make the folder .*: Not a directory"):
        make_folder(tmp_path / "file" / "x")
    make_folder(tmp_path / "a" / "b")
    write_atomic(tmp_path / "a" / "b" / "file", "text")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, RuntimeError])
def test_other_errors_pass_and_leave_nothing(tmp_path, error):
    def fails(file):
        file.write(b"half")
        raise error

    with pytest.raises(error):
        write_atomic(tmp_path / "file", fails)
    assert list(tmp_path.iterdir()) == []


def test_writers_of_one_path_do_not_meet(tmp_path):
    path, contents = tmp_path / "file", [bytes([65 + i]) * 100_000 for i in range(8)]
    threads = [threading.Thread(target=write_atomic, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["run.json", "ä" * 120, "x" * 255])
def test_what_a_killed_writer_leaves_is_known_and_can_be_removed(tmp_path, name):
    path, other = tmp_path / name, tmp_path / "other"

    def killed(file):
        (left,) = set(tmp_path.iterdir()) - {other}
        left.with_name(left.name.replace(f".{os.getpid()}.", ".12.")).write_text("half")

    other.touch()
    write_atomic(path, killed)
    (left,) = set(tmp_path.iterdir()) - {path, other}
    assert is_leftover(left, of=name)
    assert not is_leftover(left, of="other")
    assert not is_leftover(path, of=name)
    remove_leftovers(other)
    assert left.exists()
    remove_leftovers(path)
    assert set(tmp_path.iterdir()) == {path, other}


def test_the_rename_reaches_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(files.os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
    write_atomic(tmp_path / "file", "text")
    assert synced == [(tmp_path / "file").stat().st_ino, tmp_path.stat().st_ino]


def test_all_leftovers_of_a_folder_go_and_nothing_else(tmp_path):
    for name in (".a.json.12.34.tmp", ".b\nc.5.6.tmp", "a.json", ".lock", ".tmp", "x.12.34.tmp"):
        (tmp_path / name).touch()
    remove_all_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", ".tmp", "a.json", "x.12.34.tmp"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_follows_the_umask_and_another_keeps_its_permissions(tmp_path, umask):
    path = tmp_path / "file"
    before = os.umask(umask)
    try:
        write_atomic(path, "new")
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
        path.chmod(0o640)
        write_atomic(path, "newer")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_of_a_symbolic_link_the_target_is_written(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link, target = tmp_path / "link", tmp_path / "elsewhere" / "target"
    link.symlink_to("elsewhere/target")
    for text in ("first", "second"):
        write_atomic(link, text)
        assert link.is_symlink() and target.read_text() == text
    assert list(target.parent.iterdir()) == [target]
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(FileError, match="names itself"):
        write_atomic(link, "third")


def test_only_regular_files_of_a_bounded_length_are_read(tmp_path):
    path, pipe = tmp_path / "file", tmp_path / "pipe"
    path.write_bytes(b"12345")
    os.mkfifo(pipe)
    assert read_bounded(path, 5) == b"12345"
    with pytest.raises(FileError, match=r"file: is longer than 4 bytes"):
        read_bounded(path, 4)
    for other in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(FileError, match="is not a regular file"):
            read_bounded(other, 5)
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "none", 5)


def test_a_folder_is_tried_before_the_work(tmp_path, monkeypatch):
    require_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a").rglob("*")) == [tmp_path / "a" / "b"]

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    with pytest.raises(FileError, match=r"cannot write into .*a: Read-only file system; choose another folder"):
        require_writable(tmp_path / "a")


@pytest.mark.parametrize("nfs", [False, True])
def test_one_writer_at_a_time_holds_a_folder(tmp_path, monkeypatch, nfs):
    def flock(descriptor, operation):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")
        original(descriptor, operation)

    original = files.fcntl.flock
    if nfs:
        monkeypatch.setattr(files.fcntl, "flock", flock)
    inside, most = [], []

    def enter():
        with locked(tmp_path):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 16
    assert [path.name for path in tmp_path.iterdir()] == [".lock"] * nfs
    with pytest.raises(FileError, match="cannot write into"), locked(tmp_path / "none"):
        pass


def test_a_full_disk_is_said_as_such():
    assert describe_os_error(OSError(errno.ENOSPC, "No space left on device")).startswith(
        "the disk is full: free space"
    )
    assert "(x.json)" in describe_os_error(OSError(errno.EDQUOT, "Disk quota exceeded", "x.json"))
    assert describe_os_error(OSError(errno.EACCES, "Permission denied", "x")) == "Permission denied: x"
    assert describe_os_error(OSError("of no number")) == "of no number"


def test_a_device_or_pipe_is_written_into_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomic(pipe, "text")
    assert os.read(reader, 10) == b"text"
    os.close(reader)
    assert list(tmp_path.iterdir()) == [pipe] and pipe.is_fifo()
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    with pytest.raises(FileError, match="No space left on device; free space"):
        write_atomic(full, "text")
    assert full.is_symlink() and Path("/dev/full").is_char_device()
