"""The store: one JSON file a run in one flat folder, written atomically and never edited."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leaderboard.base.errors import RecordError
from leaderboard.base.files import make_folder, write_atomic
from leaderboard.errors import LeaderboardError
from leaderboard.records import MAX_BYTES, Result, read_result_json

MOST_NAMED = 10
"""An error names this many bad files and counts the rest."""


class ResultStore:
    """A folder of result files. A folder that does not exist yet is an empty store; `add` makes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def add(self, result: Result) -> Path:
        """Write `result` as `result.file_name`; the file appears whole or not at all.

        Adding the same result again changes nothing. A failed run gives way to a later run of the same key; a
        finished one never does.

        Raises:
            LeaderboardError: a finished run of this key is stored already, with other content.
        """
        path = self.folder / result.file_name
        stored = [self.folder / name for name in self._names(result.key)]
        for old in stored:
            there = _read(old)
            if old == path and there == result:
                return path
            if there.status == "finished":
                raise LeaderboardError(f"{old}: this run is stored already and results are never overwritten")
        make_folder(self.folder)
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

    def load(self) -> tuple[list[Result], list[str]]:
        """The usable results in the order of their file names, and a line for each file that is not usable.

        Not usable is a file that is damaged, was edited so that it contradicts itself, lies under another name than
        its content gives, or holds a run that another file holds too.
        """
        with collection_paused():
            return self._load()

    def _load(self) -> tuple[list[Result], list[str]]:
        results: list[Result] = []
        problems: list[str] = []
        seen: dict[str, str] = {}
        for name in self._names():
            path = os.path.join(self.folder, name)  # noqa: PTH118 - ten thousand Paths take their time
            try:
                result = _read(path)
            except LeaderboardError as error:
                problems.append(str(error))
                continue
            if result.file_name != name:
                problems.append(f"{path}: its content belongs into {result.file_name}; restore the file or its name")
            elif result.key in seen:
                problems.append(f"{path}: {seen[result.key]} holds the same run; keep one of them")
            else:
                seen[result.key] = name
                results.append(result)
        return results, problems

    @staticmethod
    def describe(problems: list[str]) -> str:
        """The first of many problems, one a line, and how many more there are."""
        more = [f"... and {len(problems) - MOST_NAMED} more"] if len(problems) > MOST_NAMED else []
        return "\n".join([*problems[:MOST_NAMED], *more])

    def keys(self) -> frozenset[str]:
        """Keys of all stored runs, read from the file names alone."""
        return frozenset(name.removesuffix(".json").rpartition("--")[2] for name in self._names())

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
    """Keep the garbage collector from walking ten thousand results again and again: it doubles the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read(path: Path | str) -> Result:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return read_result_json(file.read(MAX_BYTES + 1))
    except OSError as error:
        raise LeaderboardError(f"{path}: cannot be read ({error.strerror})") from error
    except RecordError as error:
        raise LeaderboardError(f"{path}: {error}; run it again") from error
