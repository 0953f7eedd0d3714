"""Lists as people and their editors write them."""

import os
from pathlib import Path

import pytest

from leaderboard.base.errors import FileError
from leaderboard.base.lists import read_lines

WANTED = ["a/ü.jpg", "b c.jpg"]
TEXT = "a/ü.jpg\r\n\n  \nb c.jpg \t\n\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_blank_lines_and_blanks(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "list").write_bytes(TEXT.encode(encoding))
    assert read_lines(tmp_path / "list", 1000) == WANTED


@pytest.mark.parametrize("order", ["be", "le"])
def test_utf16_in_both_orders(tmp_path: Path, order: str) -> None:
    (tmp_path / "list").write_bytes("\ufeff".encode(f"utf-16-{order}") + TEXT.encode(f"utf-16-{order}"))
    assert read_lines(tmp_path / "list", 1000) == WANTED


def test_names_of_any_bytes_still_find_their_files(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"\xfcber.jpg\n")
    assert os.fsencode(read_lines(tmp_path / "list", 1000)[0]) == b"\xfcber.jpg"


@pytest.mark.parametrize("data", [b"a\0\n", TEXT.encode("utf-16-le"), b"\xff\xfea"])
def test_what_is_no_text_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "list").write_bytes(data)
    with pytest.raises(ValueError, match=r"NUL|truncated data"):
        read_lines(tmp_path / "list", 1000)


def test_what_never_ends_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(FileError, match="is not a regular file"):
            read_lines(path, 1000)
    (tmp_path / "long").write_bytes(b"x" * 100_001)
    with pytest.raises(FileError, match="longer than 100,000 bytes"):
        read_lines(tmp_path / "long", 100_000)
