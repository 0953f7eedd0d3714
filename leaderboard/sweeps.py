"""Sweeps in words: what was tried for whom, what was chosen, and where a better value may lie beyond the grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from leaderboard import text
from leaderboard.board import Cell, Track
from leaderboard.records import Result, Sweep

TITLE = "Runs of sweeps: values on held-out training images, which choose settings and are never ranked"
HEADINGS = ["submission", "protocol", "settings", "value", ""]


def sweeps_of(runs: Iterable[Result]) -> list[Sweep]:
    """The different sweeps of `runs`."""
    return list({sweep.to_json(): sweep for run in runs if (sweep := run.sweep) is not None}.values())


def words(settings: Mapping[str, bool | float | str]) -> str:
    """Settings in a few words: `learning rate 0.02, weight decay 0`."""
    return ", ".join(
        f"{name.replace('_', ' ')} {f'{value:g}' if isinstance(value, (int, float)) else value}"
        for name, value in settings.items()
    )


def describe_choice(sweep: Sweep) -> str:
    """What was chosen among how many, in a few words."""
    diverged = sum(one.value is None for one in sweep.tried)
    parts = [f"{words(sweep.settings)}, the best of {len(sweep.tried)}"]
    parts += [f"{diverged} diverged"] if diverged else []
    parts += [f"{name.replace('_', ' ')} at the edge of the grid" for name in sweep.at_edge]
    return "; ".join(parts)


def how_set(runs: Iterable[Result]) -> str:
    """How the settings of `runs` came about, in a sentence for a paper."""
    chosen = [f"{sweep.id}: {describe_choice(sweep)}" for sweep in sweeps_of(runs)]
    if not chosen:
        return "Settings are those of the protocols and were not tuned."
    return (
        "Learning rate and weight decay were chosen for the checkpoint on held-out training images, among the same "
        f"settings as for every other checkpoint ({'. '.join(chosen)}); all other settings are those of the protocols."
    )


def sweep_notes(tracks: Sequence[Track], tried: int) -> list[str]:
    """Notes on the `tried` runs of sweeps, and on rows whose settings lie at the edge of the grid."""
    found = [f"{tried} runs of sweeps stand in no table: `densebench leaderboard sweeps` lists them"] if tried else []
    cells: list[tuple[Cell, str]] = [
        (cell, group.protocol.id) for track in tracks for group in track.groups for cell in group.cells
    ]
    return found + [
        f"{cell.entry.label}, {protocol}: {describe_choice(sweep)}; a better value may lie beyond"
        for cell, protocol in cells
        for sweep in sweeps_of(cell.runs)
        if sweep.at_edge
    ]


def sweep_rows(results: Iterable[Result]) -> list[list[str]]:
    """A row for each run of a sweep, under `HEADINGS`; those whose settings a stored run has are marked."""
    listed = list(results)
    chosen = {
        (result.card.sha256, result.sweep.id, words(result.sweep.settings)): result.sweep
        for result in listed
        if result.sweep is not None and not result.held_out
    }
    rows = []
    for result in sorted(listed, key=_order):
        if result.sweep is None or not result.held_out:
            continue
        settings = words(result.sweep.settings)
        value = text.number(result.metrics[result.protocol.headline], 2) if result.status == "finished" else "failed"
        choice = chosen.get((result.card.sha256, result.sweep.id, settings))
        edge = ", at the edge of the grid" if choice and choice.at_edge else ""
        rows.append([result.card.name, result.sweep.id, settings, value, f"chosen{edge}" if choice else ""])
    return rows


def _order(result: Result) -> tuple[str, str, tuple[float, ...]]:
    """By submission, protocol, and the numbers among the settings."""
    if result.sweep is None:
        return result.card.name, "", ()
    numbers = tuple(float(value) for value in result.sweep.settings.values() if isinstance(value, (int, float)))
    return result.card.name, result.sweep.id, numbers
