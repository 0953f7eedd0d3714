"""What others than the author have checked of a result: tables show this, not what the result's file says of itself.

A check is a file of its own beside the accepted results, `checked/KEY.json`, so that results are never edited. Its
levels: `logs`, a reviewer has had the backbone's weights and every file whose hash the result holds (per-image outputs
and, of a fine-tuning, its losses and weights), and `re-run`, the values have been reproduced exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, ValidationError

from leaderboard.base.errors import FileError
from leaderboard.base.files import describe_os_error, file_sha256, make_folder, read_bounded, write_atomic
from leaderboard.base.printable import printable
from leaderboard.base.validation import first_problem
from leaderboard.records import MAX_BYTES, Result
from leaderboard.records.base import Key, Line, Record, Sha256
from leaderboard.shares import SHARES

FOLDER = "checked"
Level = Literal["logs", "re-run"]
BACKBONE = "backbone.safetensors"


class Check(Record):
    """Content of a check's file."""

    schema_version: Literal[1]
    key: Key
    result: Sha256
    """The `fingerprint` of the result that was checked: another result of the same run has not been."""
    level: Level
    files: Annotated[dict[Line, Sha256], Field(max_length=100)]
    """The files that were checked."""
    checked_at: AwareDatetime


def fingerprint(result: Result) -> str:
    """Hash of all that a result says, except of what it says of its verification."""
    return hashlib.sha256(_as(result, "self-reported").to_json().encode()).hexdigest()


def needed_files(result: Result) -> dict[str, str]:
    """Hashes, by name, of the files that level `logs` needs; those of shares are in the store.

    Empty where the result names no file, so that it cannot reach this level.
    """
    named = {name: sha256 for name, sha256 in result.outputs.items() if name != SHARES}
    return {BACKBONE: result.card.sha256, **named} if named else {}


def hashes_below(folder: Path) -> frozenset[str]:
    """Hashes of all files in `folder` and below it, whatever they are called.

    Raises:
        FileError: one cannot be read.
    """
    try:
        return frozenset(file_sha256(path) for path in sorted(folder.rglob("*")) if path.is_file())
    except OSError as error:
        raise FileError(f"{folder}: cannot be read ({describe_os_error(error)})") from error


def write_check(results: Path, result: Result, level: Level, files: Mapping[str, str], at: datetime) -> Path:
    """Note beside the accepted `results` that `result` was checked; a level is never replaced by a lower one.

    Raises:
        FileError: the folder cannot be written.
    """
    path = results / FOLDER / f"{result.key}.json"
    with suppress(FileError):  # there is none yet, or it is not valid: it is replaced
        if _read(path, result) == "re-run":
            return path
    make_folder(path.parent)
    check = Check(
        schema_version=1, key=result.key, result=fingerprint(result), level=level, files=dict(files), checked_at=at
    )
    write_atomic(path, check.to_json())
    return path


def with_levels(results: Iterable[Result], store: Path) -> tuple[list[Result], list[str]]:
    """The results with the level that checks beside them in `store` give as their `verification`, and what is wrong."""
    folder, problems = store / FOLDER, []
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    found = []
    for result in results:
        level: str = "self-reported"
        if (name := f"{result.key}.json") in there:
            try:
                level = _read(folder / name, result)
            except FileError as error:
                problems.append(f"{error}; the run counts as self-reported")
        found.append(_as(result, level))
    return found, problems


def missing_files(result: Result, attached: Iterable[str]) -> list[str]:
    """Names of the files that level `logs` needs and whose hashes are not among those `attached`."""
    have = frozenset(attached)
    return [name for name, sha256 in needed_files(result).items() if sha256 not in have]


def _as(result: Result, level: str) -> Result:
    return result if result.verification == level else result.model_copy(update={"verification": level})


def _read(path: Path, result: Result) -> Level:
    """The level that a check gives to `result`.

    Raises:
        FileError: it is missing, not valid, or belongs to another result.
    """
    try:
        check = Check.model_validate_json(read_bounded(path, MAX_BYTES), strict=True)
    except ValidationError as error:
        raise FileError(printable(f"{path}: {first_problem(error)}")) from error
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({describe_os_error(error)})") from error
    if (check.key, check.result) != (result.key, fingerprint(result)):
        raise FileError(f"{path}: belongs to another result of this run")
    return check.level
