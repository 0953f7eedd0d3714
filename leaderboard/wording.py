"""What stands behind values, in words: runs and checkpoints, what intervals are over, copies of test images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from leaderboard import text
from leaderboard.board import Cell, Entry
from leaderboard.records import DatasetReference
from leaderboard.stats import Summary

INTERVAL = "± half of the 95 % interval (Student t)"


def counted(number: int, noun: str) -> str:
    """A number and its noun: `1 run`, `3 runs`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def listed(words: Sequence[str]) -> str:
    """At least one word, as `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def runs(summary: Summary) -> str:
    """The runs behind a value: `3 runs of 1 checkpoint`."""
    return f"{counted(summary.n, 'run')} of {counted(summary.units, 'checkpoint')}"


def source(entry: Entry, summary: Summary) -> str:
    """What the interval of a row's value is over, as `text.source`; of random initialization, networks."""
    words = text.source(summary)
    return words.replace("pretraining runs", "networks") if entry.is_random else words


def images(dataset: DatasetReference) -> str:
    """A data set's size: `120 training and 50 validation images`."""
    return f"{dataset.train_images:,} training and {dataset.val_images:,} validation images"


def has_copies(cell: Cell) -> bool:
    """Whether a search found copies of the test images among the pretraining images."""
    return cell.copies is not None and cell.copies.copies > 0


def copies(cell: Cell, of: str = "") -> str:
    """`copies of 3 of the 50 test images are among the pretraining images`; empty where no copy is known.

    `of` names the data set of the test images.
    """
    if cell.copies is None or not has_copies(cell):
        return ""
    where = f" of {of}" * bool(of)
    return (
        f"copies of {cell.copies.copies:,} of the {cell.copies.tested:,} test images{where} are among the pretraining "
        "images"
    )


def meaning(entry: Entry, values: Iterable[tuple[str, Summary]], subject: str = "Values") -> str:
    """Of how many runs a row's values are, what their intervals are over, and of what these say nothing.

    `values` are the row's values, at least one, each with the name of its protocol; protocols are named where their
    values do not all mean the same. `subject` begins each sentence.
    """
    protocols: dict[str, list[str]] = {}
    for protocol, summary in values:
        protocols.setdefault(_meaning(entry, summary), []).append(protocol)
    if len(protocols) == 1:
        return f"{subject} are {next(iter(protocols))}."
    return " ".join(f"{subject} under {listed(names)} are {what}." for what, names in protocols.items())


def scope(entry: Entry, values: Sequence[Summary], random: Entry, zeros: Sequence[Summary]) -> str:
    """How many runs a comparison with random initialization compares, and of what it says nothing, in a sentence.

    `values` and `zeros` are those of the row and of random initialization, at least one each.
    """
    sides = ((_unit(entry), values), (_unit(random), zeros))
    compared = " and ".join(_count([one.units for one in found], noun) for noun, found in sides)
    silent = [f"{noun}s" for noun, found in sides if any(one.over != "pretraining runs" for one in found)]
    drawn = " are for the draw of the validation images and" * all(one.over == "images" for one in (*values, *zeros))
    nothing = f": tests and intervals{drawn} say nothing of other {' or '.join(silent)}" if silent else ""
    return f"Compared are {compared}{nothing}."


def _meaning(entry: Entry, summary: Summary) -> str:
    unit = _unit(entry)
    of = counted(summary.units, "random network" if entry.is_random else "checkpoint")
    those = f"those of {counted(summary.n, 'run')} of {of}{', which are all equal' * (summary.n > 1)}"
    if summary.over is None:
        return f"{those}, without an interval"
    if summary.over == "images":
        # A value of one run that trained takes part in no test: another seed would give another one.
        others = f"{unit}s" if summary.tested else f"seeds or {unit}s"
        given = "these runs" if summary.n > 1 else "this run"
        drawn = f"for the draw of the validation images, given {given}"
        return f"{those}, {INTERVAL} {drawn}: it says nothing of other {others}"
    if summary.over == "seeds":
        return f"means {INTERVAL} over {summary.n} seeds of {of}: it says nothing of other {unit}s"
    return f"means {INTERVAL} over {summary.units} {unit}s ({counted(summary.n, 'run')})"


def _unit(entry: Entry) -> str:
    """What is drawn anew with each checkpoint of a row."""
    return "random network" if entry.is_random else "pretraining run"


def _count(numbers: Sequence[int], noun: str) -> str:
    low, high = min(numbers), max(numbers)
    return counted(high, noun) if low == high else f"{low:,} to {counted(high, noun)}"
