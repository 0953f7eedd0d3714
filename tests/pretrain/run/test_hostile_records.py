"""Pipes, endless devices, deep nesting and long numbers where a JSON file is read: one error, at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from toy import toy_recipe

from pretrain.errors import PretrainError
from pretrain.exported import read_card
from pretrain.recipe_files import read_recipe
from pretrain.run.folder import read_record
from pretrain.run.history import LogReader

READERS: dict[str, Callable[[Path], object]] = {
    "run.json": read_record,
    "card.json": read_card,
    "recipe.json": lambda folder: read_recipe(folder / "recipe.json", [toy_recipe()]),
}
CONTENTS = {
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 50_000,
    "long number": b'{"format": ' + b"9" * 5000 + b"}",
    "400 digits": b'{"format": ' + b"9" * 400 + b"}",
    "not UTF-8": b'{"a": "\xff"}',
    "nothing": b"",
    "zeros": bytes(100),
    "a list": b"[1]",
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", *CONTENTS])
def test_it_is_refused(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind in CONTENTS:
        path.write_bytes(CONTENTS[kind])
    else:
        path.symlink_to(kind)
    with pytest.raises(PretrainError) as raised:
        READERS[name](tmp_path)
    assert name in str(raised.value) and len(str(raised.value)) < 1000
    if kind in ("pipe", "/dev/zero"):
        assert "is not a regular file" in str(raised.value)


def test_a_log_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log.jsonl")
    with pytest.raises(PretrainError, match=r"log\.jsonl is not a regular file"):
        LogReader(tmp_path / "log.jsonl").read()


def test_a_line_of_a_log_that_is_nested_deeply_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PretrainError, match="is not a line of a run's log"):
        LogReader(tmp_path / "log.jsonl").parse(b"[" * 100_000)


def test_a_missing_folder_and_one_of_several_runs_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(PretrainError, match=r"there is no folder .*/none: give that of a pretraining run"):
        read_record(tmp_path / "none")
    for name in "dcba":
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").touch()
    with pytest.raises(PretrainError, match=r"it has no run.json; it holds runs: a, b, c, …$"):
        read_record(tmp_path)
