"""Two tracks beside each other, and the sweeps behind one: what settings that are chosen for each checkpoint change.

Protocols of two tracks belong together where their ids are equal but for the track (`paper_voc0712_det_c4_24k` and
`fair_voc0712_det_c4_24k`), or where one's is the other's behind its track (`mini_voc_seg_fcn` and
`fair_mini_voc_seg_fcn`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from leaderboard import text
from leaderboard.board import Board, Cell, Group, Track
from leaderboard.errors import LeaderboardError
from leaderboard.records import Result, Sweep
from leaderboard.stats import weighted_sum

BESIDE_TITLE = "Difference: the second minus the first, with half of its 95 % interval where both have several runs"
SWEEPS_TITLE = "Runs of sweeps: values on held-out training images, which choose settings and are never ranked"
SWEEP_HEADINGS = ["submission", "protocol", "settings", "value", ""]


def beside(board: Board, first: str, second: str) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row for each submission and pair of protocols that has a value in one of both tracks.

    Raises:
        LeaderboardError: no protocol of one track has results under the same name in the other.
    """
    pairs = list(_pairs(board, first, second))
    if not pairs:
        raise LeaderboardError(f"no results of {first} and {second} stand under protocols of the same name")
    rows = []
    for name, one, other in pairs:
        for entry in dict.fromkeys(cell.entry for cell in (*one.cells, *other.cells)):
            left, right = one.by_entry.get(entry.id), other.by_entry.get(entry.id)
            settings = "; ".join(dict.fromkeys(_words(sweep.settings) for sweep in _sweeps(right)))
            values = (_figure(left), _figure(right), _difference(left, right))
            rows.append([entry.label, one.architecture, f"{name} {one.protocol.headline}", *values, settings])
    return ["submission", "backbone", "protocol", first, second, "difference", f"settings of {second}"], rows


def sweep_rows(results: Iterable[Result]) -> list[list[str]]:
    """A row for each run of a sweep, under `SWEEP_HEADINGS`; those whose settings a stored run has are marked."""
    listed = list(results)
    chosen = {
        (result.card.sha256, result.sweep.id, _words(result.sweep.settings)): result.sweep
        for result in listed
        if result.sweep is not None and result.sweep.tried
    }
    rows = []
    for result in sorted(listed, key=_order):
        if result.sweep is None or result.sweep.tried:
            continue
        settings = _words(result.sweep.settings)
        value = text.number(result.metrics[result.protocol.headline], 2) if result.status == "finished" else "failed"
        choice = chosen.get((result.card.sha256, result.sweep.id, settings))
        rows.append([result.card.name, result.sweep.id, settings, value, _mark(choice)])
    return rows


def how_set(runs: Iterable[Result]) -> str:
    """How the settings of `runs` came about, in a sentence for a paper."""
    sweeps = {sweep.to_json(): sweep for run in runs if (sweep := run.sweep) is not None}.values()
    if not sweeps:
        return "Settings are those of the protocols and were not tuned."
    chosen = [
        f"{sweep.id}: {_words(sweep.settings)}, of {len(sweep.tried)} that were tried"
        + (f", {_edge(sweep)} at the edge of these" if sweep.at_edge else "")
        for sweep in sweeps
    ]
    return (
        "Learning rate and weight decay were chosen for the checkpoint on held-out training images, among the same "
        f"settings as for every other checkpoint ({'; '.join(chosen)}); all other settings are those of the protocols."
    )


def sweep_notes(tracks: Sequence[Track], tried: int) -> list[str]:
    """Notes on the `tried` runs of sweeps, and on rows whose settings lie at the edge of the grid."""
    found = [f"{tried} runs of sweeps stand in no table: `densebench leaderboard sweeps` lists them"] if tried else []
    found += [
        f"{cell.entry.label}, {group.protocol.id}: the chosen {_edge(sweep)} "
        f"({_words(sweep.settings)}) is at the edge of what was tried; a better one may lie beyond"
        for track in tracks
        for group in track.groups
        for cell in group.cells
        for sweep in _sweeps(cell)
        if sweep.at_edge
    ]
    return list(dict.fromkeys(found))


def _pairs(board: Board, first: str, second: str) -> Iterator[tuple[str, Group, Group]]:
    """The name, and the groups of both tracks on the same data and architecture."""
    groups = [group for track in board.tracks for group in track.current]
    for one in groups:
        for other in groups:
            own, name = one.protocol.id, other.protocol.id.removeprefix(f"{second}_")
            if (
                (one.protocol.track, other.protocol.track) == (first, second)
                and name in (own, own.removeprefix(f"{first}_"))
                and (one.dataset.fingerprint, one.architecture) == (other.dataset.fingerprint, other.architecture)
            ):
                yield name, one, other


def _sweeps(cell: Cell | None) -> list[Sweep]:
    """The sweeps that chose the settings of a cell's runs."""
    runs = () if cell is None else cell.runs
    return [run.sweep for run in runs if run.sweep is not None]


def _figure(cell: Cell | None) -> str:
    if cell is None or cell.summary is None:
        return text.DASH
    return text.figure(cell.summary)


def _difference(left: Cell | None, right: Cell | None) -> str:
    if left is None or right is None or left.summary is None or right.summary is None:
        return text.DASH
    if "images" in (left.summary.over, right.summary.over):  # the same images: their errors are not independent
        return text.number(right.summary.mean - left.summary.mean)
    return text.figure(weighted_sum([(1, right.summary), (-1, left.summary)]))


def _edge(sweep: Sweep) -> str:
    """What was chosen at the edge of the grid."""
    return " and ".join(sweep.at_edge).replace("_", " ")


def _words(settings: Mapping[str, bool | float | str]) -> str:
    """The settings in a few words: `learning rate 0.02, weight decay 0`."""
    return ", ".join(
        f"{name.replace('_', ' ')} {f'{value:g}' if isinstance(value, (int, float)) else value}"
        for name, value in settings.items()
    )


def _mark(sweep: Sweep | None) -> str:
    if sweep is None:
        return ""
    return "chosen, at the edge of the grid" if sweep.at_edge else "chosen"


def _order(result: Result) -> tuple[str, str, tuple[float, ...]]:
    settings = {} if result.sweep is None else result.sweep.settings
    numbers = tuple(float(value) for value in settings.values() if isinstance(value, (int, float)))
    return result.card.name, result.protocol.id.partition("_lr")[0], numbers
