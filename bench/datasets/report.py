"""What `check` found in a data set: counts, label histogram, problems, fingerprint."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, NoReturn

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from bench.errors import BenchError
from leaderboard.base.printable import printable
from leaderboard.base.terminal import Console, cells
from leaderboard.records import DatasetReference

Severity = Literal["error", "warning"]
Unit = Literal["objects", "pixels", "images"]
"""What the histogram of a data set counts for each class."""

_SHOWN: Final = 5
"""At most this many problems of one sort are listed one by one; the rest are counted."""


class Problem(NamedTuple):
    """One problem, with the file or id that it concerns."""

    severity: Severity
    message: str


class Findings:
    """Collects problems while a data set is read; many of one sort become a few lines, equal ones are listed once."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root
        self.errors = 0
        """Number of errors found."""
        self._problems: dict[tuple[Severity, str], dict[str, None]] = {}

    def name(self, path: Path) -> str:
        """Name of a file in messages: its path below the data root with slashes, or else the whole path."""
        inside = self.root is not None and path.is_relative_to(self.root)
        return path.relative_to(self.root).as_posix() if self.root is not None and inside else str(path)

    def error(self, sort: str, message: str) -> None:
        """Report a problem that makes the data set unusable. `sort` names its kind in the plural (`missing images`)."""
        self.errors += 1
        self._problems.setdefault(("error", sort), {})[printable(message)] = None

    def warning(self, sort: str, message: str) -> None:
        """Report something that its owner should know, although the data set can be used."""
        self._problems.setdefault(("warning", sort), {})[printable(message)] = None

    def problems(self) -> tuple[Problem, ...]:
        """All problems, errors first; for each sort the first few, then how many more there are."""
        lines = []
        for (severity, sort), messages in sorted(self._problems.items(), key=lambda item: item[0][0] != "error"):
            lines += [Problem(severity, message) for message in islice(messages, _SHOWN)]
            if len(messages) > _SHOWN:
                lines.append(Problem(severity, f"... and {len(messages) - _SHOWN} more {sort}"))
        return tuple(lines)


class Strict(Findings):
    """Findings of a reader: an error is raised at once, and warnings are left to the check."""

    def error(self, sort: str, message: str) -> NoReturn:
        """Raise `BenchError`."""
        raise BenchError(f"{printable(message)}; `densebench data check` tells all that is wrong")

    def warning(self, sort: str, message: str) -> None:
        """Do nothing: `densebench data check` shows warnings."""


@dataclass
class Split:
    """Content of one split."""

    images: list[Path] = field(default_factory=list)
    annotations: list[Path] = field(default_factory=list)
    """Every file, besides the images, on which the split's meaning depends."""
    counts: Counter[str] = field(default_factory=Counter)
    """Numbers of objects, difficult objects, images without objects, ..."""
    histogram: Counter[str] = field(default_factory=Counter)
    """Number of objects or pixels of each class, by name."""


@dataclass(frozen=True)
class DatasetReport:
    """The outcome of a check."""

    dataset: str
    root: Path
    unit: Unit
    """Unit that the histogram counts."""
    splits: dict[str, Split]
    problems: tuple[Problem, ...]
    fingerprint: str
    """Fingerprint of the files; empty if no image was found."""
    fingerprint_rule: str
    named_by: str = ""
    """The kind of ids by which the histogram names classes where the files hold no names; else empty."""
    classes: tuple[str, ...] | None = None
    """Names of the classes, by label, of data of the user's own; None for the usual data sets."""

    @property
    def only_in_val(self) -> tuple[str, ...]:
        """Classes that are evaluated and never trained on."""
        if not {"train", "val"} <= self.splits.keys() or not any(self.splits["train"].histogram.values()):
            return ()
        train, val = self.splits["train"].histogram, self.splits["val"].histogram
        return tuple(name for name in val if val[name] and not train[name] and name != "void")

    @property
    def errors(self) -> tuple[str, ...]:
        """The messages of all errors."""
        return tuple(problem.message for problem in self.problems if problem.severity == "error")

    def require(self) -> None:
        """Raise `BenchError` with the first error, if there is one."""
        if self.errors:
            more = " (`densebench data check` tells what else is wrong)" if len(self.errors) > 1 else ""
            raise BenchError(f"{self.dataset} in {self.root} cannot be used: {self.errors[0]}{more}")

    def reference(self) -> DatasetReference:
        """The record that goes into results. Raises `BenchError` if the data set has errors."""
        self.require()
        return DatasetReference(
            name=self.dataset,
            fingerprint=self.fingerprint,
            train_images=len(self.splits["train"].images),
            val_images=len(self.splits["val"].images),
            classes=self.classes,
        )

    def to_dict(self) -> dict[str, Any]:
        """The whole report as plain data for JSON."""
        return {
            "dataset": self.dataset,
            "root": str(self.root),
            "ok": not self.errors,
            "splits": {
                name: {"images": len(split.images), **split.counts, "histogram": dict(split.histogram)}
                for name, split in self.splits.items()
            },
            "histogram_unit": self.unit,
            "only_in_val": list(self.only_in_val),
            "problems": [{"severity": severity, "message": message} for severity, message in self.problems],
            "fingerprint": self.fingerprint or None,
            "fingerprint_rule": self.fingerprint_rule,
        }

    def render(self) -> RenderableType:
        """Tables of counts and labels, then the problems, for a `rich` console."""
        colour = {"error": "red", "warning": "yellow"}
        lines = [f"[{colour[p.severity]}]{p.severity}[/]: {escape(p.message)}" for p in self.problems]
        parts: list[RenderableType] = [f"[bold]{self.dataset}[/] in {escape(str(self.root))}"]
        if any(split.images for split in self.splits.values()):
            parts += [self._counts(), self._labels()]
            if absent := self._names(present=False):
                parts.append(f"no {self.unit} of {len(absent)} classes: {escape(', '.join(absent))}")
            if self.only_in_val:
                parts.append(f"in val only, so never trained on: {escape(', '.join(self.only_in_val))}")
        verdict = "[red]cannot be used[/]" if self.errors else "[green]can be used[/]"
        known = f"; fingerprint {self.fingerprint[:16]} ({self.fingerprint_rule})" if self.fingerprint else ""
        parts += [*lines, f"{verdict}{known}"]
        return Group(*parts)

    def print(self, console: Console | None = None) -> None:
        """Print `render()`; to standard output if no console is given."""
        (console or Console()).print(self.render(), soft_wrap=True)

    def _names(self, *, present: bool) -> list[str]:
        """Classes that occur in any split (`present`), or those that occur in none."""
        names = dict.fromkeys(name for split in self.splits.values() for name in split.histogram)
        return [name for name in names if any(split.histogram[name] for split in self.splits.values()) == present]

    def _counts(self) -> Table:
        names = list(dict.fromkeys(name for split in self.splits.values() for name in split.counts))
        table = Table("split", "images", *names)
        for column in table.columns[1:]:
            column.justify = "right"
        for name, split in self.splits.items():
            table.add_row(*cells([name, f"{len(split.images):,}", *[f"{split.counts[key]:,}" for key in names]]))
        return table

    def _labels(self) -> Table:
        table = Table(
            f"class{self.named_by and f' (by {self.named_by})'}", *[f"{name} {self.unit}" for name in self.splits]
        )
        names = self._names(present=True)
        sums = [max(sum(split.histogram.values()), 1) for split in self.splits.values()]
        for column in table.columns[1:]:
            column.justify = "right"
        for name in names:
            shares = [
                f"{split.histogram[name]:,} ({100 * split.histogram[name] / total:.1f} %)"
                for split, total in zip(self.splits.values(), sums, strict=True)
            ]
            table.add_row(*cells([name, *shares]))
        return table
