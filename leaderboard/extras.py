"""What the page may show of a submission beside its results: training curves and pictures, from optional files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from leaderboard.base.errors import FileError
from leaderboard.base.files import describe_os_error, read_bounded
from leaderboard.base.validation import first_problem
from leaderboard.errors import LeaderboardError
from leaderboard.records.base import MAX_BYTES
from leaderboard.records.extras import CURVES, PICTURES, Curve, Curves, Pictures, PictureTable

LARGEST_PICTURES = 200_000_000
"""Most bytes of a file with pictures."""


@dataclass(frozen=True)
class Extras:
    """Curves and pictures by the hash of the weights."""

    curves: Mapping[str, tuple[Curve, ...]] = field(default_factory=dict)
    pictures: Mapping[str, tuple[PictureTable, ...]] = field(default_factory=dict)

    def of(self, weights: set[str]) -> dict[str, Any]:
        """What belongs to `weights`, as plain data in a fixed order; a picture that several tables show is there once.

        Empty if there is nothing.
        """
        addresses: dict[str, int] = {}
        curves = {
            sha256: [curve.model_dump(mode="json") for curve in self.curves[sha256]]
            for sha256 in sorted(weights & self.curves.keys())
        }
        tables = {
            sha256: [
                {
                    "title": table.title,
                    "rows": [
                        [row.name, [addresses.setdefault(one, len(addresses)) for one in row.pictures]]
                        for row in table.rows
                    ],
                }
                for table in self.pictures[sha256]
            ]
            for sha256 in sorted(weights & self.pictures.keys())
        }
        return {"curves": curves, "tables": tables, "pictures": list(addresses)} if curves or tables else {}


def read_extras(folder: Path) -> Extras:
    """What the files `curves.json` and `pictures.json` in `folder` and below it hold.

    Of several curves of the same weights, and of several tables of the same weights and title, the first one counts, in
    the order of the files' paths.

    Raises:
        LeaderboardError: the folder is missing, or a file is not valid.
    """
    if not folder.is_dir():
        raise LeaderboardError(f"{folder}: no such folder; give one with {CURVES} or {PICTURES} in it or below it")
    curves: dict[str, tuple[Curve, ...]] = {}
    for path in sorted(folder.rglob(CURVES)):
        found = _read(path, Curves, MAX_BYTES)
        curves.setdefault(found.sha256, found.curves)
    tables: dict[str, dict[str, PictureTable]] = {}
    for path in sorted(folder.rglob(PICTURES)):
        for table in _read(path, Pictures, LARGEST_PICTURES).tables:
            tables.setdefault(table.sha256, {}).setdefault(table.title, table)
    return Extras(curves, {sha256: tuple(found.values()) for sha256, found in tables.items()})


R = TypeVar("R", Curves, Pictures)


def _read(path: Path, kind: type[R], most: int) -> R:
    try:
        return kind.model_validate_json(read_bounded(path, most), strict=True)
    except ValidationError as error:
        raise LeaderboardError(f"{path}: {first_problem(error)}; remove it, or write it again") from error
    except FileError as error:
        raise LeaderboardError(f"{error}; remove it, or write it again") from error
    except OSError as error:
        raise LeaderboardError(f"{path}: cannot be read ({describe_os_error(error)})") from error
