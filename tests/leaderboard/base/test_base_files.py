"""Atomic writes: whole or absent, by any number of writers, with a clear error."""

import errno
import hashlib
import os
import resource
import subprocess
import sys
import threading

import pytest

from leaderboard.base import files
from leaderboard.base.errors import DenseBenchError, FileError
from leaderboard.base.files import file_sha256, is_leftover, make_folder, remove_leftovers, write_atomic


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
