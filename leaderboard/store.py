"""The store: one JSON file per run in one flat folder, written atomically and never edited.

The shares of the images in a run's metrics lie in `shares/`, in a file named by its hash, which the result holds.
"""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from leaderboard.base.errors import FileError, RecordError
from leaderboard.base.files import (
    describe_os_error,
    locked,
    make_folder,
    read_bounded,
    remove_all_leftovers,
    write_atomic,
)
from leaderboard.base.printable import printable
from leaderboard.errors import LeaderboardError
from leaderboard.records import MAX_BYTES, Result, read_result_json
from leaderboard.shares import SHARES, Shares, read_shares

MOST_NAMED = 10
"""An error names this many bad files and counts the rest."""


@dataclass(frozen=True)
class Unusable:
    """A file of a store from which no result can be read."""

    path: Path
    reason: str

    @property
    def key(self) -> str:
        """Key of the run whose result the file would hold, according to its name."""
        return _key(self.path.name)

    def __str__(self) -> str:
        return printable(f"{self.path}: {self.reason}")


class ResultStore:
    """A folder of result files. A folder that does not exist yet is an empty store; `add` makes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def add(self, result: Result, shares: bytes | None = None) -> Path:
        """Write `result` as `result.file_name`; the file appears whole or not at all.

        Adding the same result again changes nothing. A failed run is replaced by a later run of the same key; a
        finished one never is, and of several written at the same time the first stays. `shares` is the content of the
        run's `shares.npz`; it is stored before the result appears.

        Raises:
            LeaderboardError: a finished run of this key is stored already, with other content; or `shares` are not
                those that the result names.
            FileError: the folder cannot be written.
        """
        make_folder(self.folder)
        with locked(self.folder):
            remove_all_leftovers(self.folder)  # left by killed writers: the lock shows that no other is at work
            if shares is not None:
                self._add_shares(result, shares)
            return self._add(result)

    def _add_shares(self, result: Result, content: bytes) -> None:
        file = self._shares_file(result)
        if file is None or hashlib.sha256(content).hexdigest() != file.stem:
            raise LeaderboardError(f"{result.file_name}: the shares are not those whose hash the result holds")
        make_folder(file.parent)
        remove_all_leftovers(file.parent)
        write_atomic(file, content)

    def _shares_file(self, result: Result) -> Path | None:
        """The file that would hold the shares of a result."""
        sha256 = result.outputs.get(SHARES)
        return None if sha256 is None else self.folder / "shares" / f"{sha256}.npz"

    def shares(self, result: Result) -> Shares | None:
        """What each validation image contributed to the result's metrics; None where this is not stored.

        Raises:
            FileError: the file is damaged or was changed; names it.
        """
        file = self._shares_file(result)
        try:
            return None if file is None else read_shares(file, file.stem)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FileError(f"{file}: cannot be read ({describe_os_error(error)})") from error

    def add_from(self, source: ResultStore) -> int:
        """Add the finished results of `source` that are missing here, with their shares; returns their number.

        Raises:
            LeaderboardError: a file of one of the stores is not usable.
            FileError: shares of `source` cannot be read, or this folder cannot be written.
        """
        have = {result.key for result in self if result.status == "finished"}
        missing = [result for result in source if result.status == "finished" and result.key not in have]
        for result in missing:
            file = source._shares_file(result)
            try:
                self.add(result, None if file is None or not file.exists() else file.read_bytes())
            except OSError as error:
                raise FileError(f"{file}: cannot be read ({describe_os_error(error)})") from error
        return len(missing)

    def _add(self, result: Result) -> Path:
        path = self.folder / result.file_name
        stored = [self.folder / name for name in self._names(result.key)]
        for old in stored:
            there = _read(old)
            if old == path and there == result:
                return path
            if there.status == "finished":
                raise LeaderboardError(f"{old}: this run is stored already and results are never overwritten")
        write_atomic(path, result.to_json())
        for old in stored:
            if old != path:  # the failed run of a checkpoint that has another name now
                old.unlink()
        return path

    def __iter__(self) -> Iterator[Result]:
        """All results, in the order of their file names.

        Raises:
            LeaderboardError: names the damaged files; see `load`.
        """
        results, problems = self.load()
        if problems:
            raise LeaderboardError(self.describe(problems))
        return iter(results)

    def load(self) -> tuple[list[Result], list[Unusable]]:
        """The usable results in the order of their file names, and the files that are not usable.

        A file is not usable if it is damaged, was edited so that it contradicts itself, has another name than its
        content gives, or holds a run that another file holds, too.
        """
        with collection_paused():
            return self._load()

    def _load(self) -> tuple[list[Result], list[Unusable]]:
        results: list[Result] = []
        problems: list[Unusable] = []
        seen: dict[str, str] = {}
        for name in self._names():
            path = os.path.join(self.folder, name)  # noqa: PTH118 - ten thousand Paths take their time
            found = _read_or_why(path)
            if isinstance(found, str):
                problems.append(Unusable(Path(path), found))
            elif found.file_name != name:
                problems.append(Unusable(Path(path), f"its content belongs into {found.file_name}; rename it so"))
            elif found.key in seen:
                problems.append(Unusable(Path(path), f"{seen[found.key]} holds the same run; keep one of them"))
            else:
                seen[found.key] = name
                results.append(found)
        return results, problems

    @staticmethod
    def describe(problems: Sequence[Unusable]) -> str:
        """The first problems, one per line, and how many more there are."""
        more = [f"... and {len(problems) - MOST_NAMED} more"] if len(problems) > MOST_NAMED else []
        return "\n".join([*map(str, problems[:MOST_NAMED]), *more])

    def keys(self) -> frozenset[str]:
        """Keys of all stored runs, read from the file names alone."""
        return frozenset(map(_key, self._names()))

    def find(self, key: str) -> Result | None:
        """The stored run of this key, or `None`.

        Raises:
            LeaderboardError: its file is damaged.
        """
        names = self._names(key)
        return _read(self.folder / names[0]) if names else None

    def _names(self, key: str | None = None) -> list[str]:
        """Sorted file names; with `key` those of one run. Hidden (unfinished) files are left out."""
        if not self.folder.is_dir():
            return []
        ending = ".json" if key is None else f"--{key}.json"
        return sorted(e.name for e in os.scandir(self.folder) if e.name.endswith(ending) and e.name[0] != ".")


@contextmanager
def collection_paused() -> Iterator[None]:
    """Keep the garbage collector from scanning ten thousand results again and again, which doubles the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _key(name: str) -> str:
    """The key at the end of a result file's name."""
    return name.removesuffix(".json").rpartition("--")[2]


def _read(path: Path) -> Result:
    found = _read_or_why(path)
    if isinstance(found, str):
        raise LeaderboardError(str(Unusable(path, found)))
    return found


def _read_or_why(path: Path | str) -> Result | str:
    """The result in a file, or a text that says why there is none and what to do."""
    try:
        return read_result_json(read_bounded(path, MAX_BYTES))
    except FileError as error:
        return f"{str(error).removeprefix(f'{path}: ')}, so it is not a result; move it away"
    except OSError as error:
        return f"cannot be read ({describe_os_error(OSError(error.errno, error.strerror))})"
    except RecordError as error:
        return f"{error}; restore the file, or move it away and run it again"
