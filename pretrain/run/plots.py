"""The page of one or several runs: every logged scalar, plotted over steps, in one HTML file.

Curves are drawn here as SVG, so that the page needs no script to be read; its script adds the values under the
pointer. Names come from run folders and logs: they enter through Jinja's autoescape or as JSON, and a content
security policy admits this style and this script and nothing else. The page loads nothing from the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt

from leaderboard.base.files import write_atomic
from leaderboard.base.html import asset, policy_hash, readable, script_json
from pretrain.run.history import BESIDE, WatchedRun, newest, significant
from pretrain.run.pictures import Pictures

WIDTH, HEIGHT = 360, 196
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 24
POINTS = 400
"""A curve of more log lines is drawn through the means of this many sections, with a band from lowest to highest."""
COLOURS = 8
"""Number of colors in `style.css`; further runs repeat them with dashes."""

Floats = npt.NDArray[np.float64]

_asset = partial(asset, "pretrain.run", "page")


@dataclass(frozen=True)
class Curve:
    """One scalar of one run: steps (P,), and mean, lowest and highest value of the log lines of each point."""

    run: int
    steps: Floats
    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Scale:
    """A linear scale from data to the picture."""

    low: float
    high: float
    start: float
    end: float

    def place(self, values: Floats | float) -> Floats:
        """Positions of values, in the picture's units."""
        return np.asarray(
            self.start + (np.asarray(values) - self.low) / (self.high - self.low) * (self.end - self.start)
        )


GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Loss", ("loss",)),
    ("Collapse or learning", ("std", "rank", "entropy", "usage")),
    ("Similarity", ("positive", "negative", "other")),
    ("Accuracy of the pretext task", ("accuracy",)),
)
"""Title of each group, and words of which a scalar's name has one; a scalar belongs to the first group that fits."""
NOTES = {
    "loss": "the value that is minimized",
    "std": "1: spread over the sphere, 0: collapsed",
    "rank": "effective rank of the embeddings of one batch",
    "positive": "similarity to the positive",
    "negative": "mean similarity to negatives",
    "accuracy": "how often the positive is the most similar",
    "lr": "learning rate",
    "images_per_second": "images per second, all processes",
    "data_wait": "share of the time spent waiting for data",
    "peak_memory_mib": "peak memory of a process, MiB",
}


def write_page(path: Path, runs: Sequence[WatchedRun], pictures: Sequence[Pictures] = ()) -> None:
    """Write the page of `runs`, which keep their history, with `pictures` of what they found, atomically.

    Raises:
        FileError: `path` cannot be written.
    """
    write_atomic(path, render(runs, pictures))


def render(runs: Sequence[WatchedRun], pictures: Sequence[Pictures] = ()) -> str:
    """The page as HTML; equal logs give equal bytes."""
    style, script = _asset("style.css"), _asset("page.js")
    sections: list[dict[str, Any]] = []
    data: list[list[list[list[float | None]]]] = []
    steps = [np.array(run.history.steps, dtype=np.float64) for run in runs if run.history is not None]
    steps += [curve.steps for _, curves in _probed(runs) for curve in curves]
    x = _scale(steps, LEFT, WIDTH - RIGHT, margin=0.0)
    for title, named in _sections(runs):
        charts = []
        for name, curves in named:
            charts.append(_chart(name, curves, len(runs), x) | {"number": len(data)})
            data.append(_data(curves, len(runs)))
        sections.append({"title": title, "charts": charts})
    return _template().render(
        runs=[_row(run, number) for number, run in enumerate(runs)],
        sections=sections,
        pictures=pictures,
        averaged=any(run.history is not None and len(run.history.steps) > POINTS for run in runs),
        style=style,
        script=script,
        style_hash=policy_hash(style),
        script_hash=policy_hash(script),
        data=script_json({"left": LEFT, "right": WIDTH - RIGHT, "low": x.low, "high": x.high, "charts": data}),
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        top=TOP,
        bottom=HEIGHT - BOTTOM,
    )


def thinned(steps: Floats, values: Floats, points: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Step, mean, lowest and highest value of at most `points` sections of equal length (the last may be shorter).

    Values (P,) that are not finite are left out; a section without finite values gives NaN. The step of a section is
    its last one.
    """
    length = max(1, math.ceil(len(steps) / points))
    starts = np.arange(0, len(steps), length)
    ends = np.minimum(starts + length, len(steps)) - 1
    finite = np.isfinite(values)
    counts = np.add.reduceat(finite, starts, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        mean = np.add.reduceat(np.where(finite, values, 0.0), starts) / counts
    low = np.minimum.reduceat(np.where(finite, values, np.inf), starts)
    high = np.maximum.reduceat(np.where(finite, values, -np.inf), starts)
    empty = counts == 0
    return steps[ends], np.where(empty, np.nan, mean), np.where(empty, np.nan, low), np.where(empty, np.nan, high)


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` round numbers in [low, high], whose distance is 1, 2 or 5 times a power of ten."""
    least = (high - low) / most
    power = 10.0 ** math.floor(math.log10(least))
    for factor in (1, 2, 5, 10, 20):
        step = factor * power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return [round(k * step, 12) + 0.0 for k in range(first, last + 1)]
    return []


def short(value: float) -> str:
    """Label of a tick, e.g. 0.05, 2e-05, 12k, 1.5M."""
    for limit, unit in ((1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.4g}{unit}"
    return f"{value:.4g}"


def _sections(runs: Sequence[WatchedRun]) -> Iterator[tuple[str, list[tuple[str, list[Curve]]]]]:
    """Titles and the charts below them: probes, then the scalars in the order in which they were first logged."""
    if probed := _probed(runs):
        yield "Frozen probes", probed
    logged = {name: None for run in runs if run.history is not None for name in run.history.columns}
    left = [name for name in logged if name not in BESIDE]
    sections = []
    for title, words in GROUPS:
        names = [name for name in left if set(name.split("_")) & set(words)]
        left = [name for name in left if name not in names]
        sections.append((title, names))
    sections += [("Other", left), ("Training", [name for name in BESIDE if name in logged])]
    for title, names in sections:
        if names:
            yield title, [(name, list(_curves(runs, name))) for name in names]


def _curves(runs: Sequence[WatchedRun], name: str) -> Iterator[Curve]:
    for number, run in enumerate(runs):
        if run.history is not None and name in run.history.columns:
            values = np.array(run.history.columns[name])
            steps = np.array(run.history.steps, dtype=np.float64)
            yield Curve(number, *thinned(steps, values, POINTS))


def _probed(runs: Sequence[WatchedRun]) -> list[tuple[str, list[Curve]]]:
    """The probes by name, each with its values over steps and a band of one standard error."""
    found = []
    for name in {line.probe: None for run in runs for line in run.probes}:
        curves = []
        for number, run in enumerate(runs):
            lines = [line for line in run.probes if line.probe == name]
            if lines:
                step, value, error = np.array([(line.step, line.value, line.standard_error) for line in lines]).T
                curves.append(Curve(number, step, value, value - error, value + error))
        found.append((name, curves))
    return found


def _chart(name: str, curves: Sequence[Curve], runs: int, x: Scale) -> dict[str, Any]:
    y = _scale([end for curve in curves for end in (curve.low, curve.high)], HEIGHT - BOTTOM, TOP, margin=0.06)
    last: list[str | None] = [None] * runs
    for curve in curves:
        finite = curve.mean[np.isfinite(curve.mean)]
        last[curve.run] = significant(float(finite[-1]) if len(finite) else None)
    return {
        "name": name,
        "note": NOTES.get(name, ""),
        "newest": last,
        "x_ticks": [(_number(float(x.place(tick))), short(tick)) for tick in ticks(x.low, x.high, 6)],
        "y_ticks": [(_number(float(y.place(tick))), short(tick)) for tick in ticks(y.low, y.high, 5)],
        "curves": [
            {
                "run": curve.run,
                "colour": curve.run % COLOURS,
                "dashed": curve.run >= COLOURS,
                "line": _line(x.place(curve.steps), y.place(curve.mean)),
                "band": _band(x.place(curve.steps), y.place(curve.low), y.place(curve.high)),
            }
            for curve in curves
        ],
    }


def _scale(values: Iterable[Floats], start: float, end: float, *, margin: float) -> Scale:
    """Scale that spans the finite values, with a margin on both sides; a little wider where they are all equal."""
    joined = np.concatenate([*values, np.empty(0)])
    joined = joined[np.isfinite(joined)]
    low, high = (float(joined.min()), float(joined.max())) if len(joined) else (0.0, 1.0)
    extra = (high - low) * margin
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        extra = abs(low) * 0.1 or 1.0
    return Scale(low - extra, high + extra, start, end)


def _stretches(*columns: Floats) -> Iterator[list[Floats]]:
    """Sections of consecutive entries that are finite in all columns."""
    finite: npt.NDArray[np.bool_] = np.logical_and.reduce([np.isfinite(column) for column in columns])
    for part in np.split(np.arange(len(finite)), np.flatnonzero(np.diff(finite)) + 1):
        if len(part) and finite[part[0]]:
            yield [column[part] for column in columns]


def _line(x: Floats, y: Floats) -> str:
    """SVG path data; a point between two gaps becomes a line of length 0, which round caps show as a dot."""
    return "".join("M" + "L".join(_points(xs, ys)) + ("h0" if len(xs) == 1 else "") for xs, ys in _stretches(x, y))


def _band(x: Floats, low: Floats, high: Floats) -> str:
    if np.array_equal(low, high, equal_nan=True):
        return ""
    return "".join(
        "M" + "L".join([*_points(xs, lows), *reversed(_points(xs, highs))]) + "Z"
        for xs, lows, highs in _stretches(x, low, high)
    )


def _points(x: Floats, y: Floats) -> list[str]:
    return [f"{_number(a)} {_number(b)}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _data(curves: Sequence[Curve], runs: int) -> list[list[list[float | None]]]:
    """Data for the script: steps and values of each run, both empty where it has none."""
    found: list[list[list[float | None]]] = [[[], []] for _ in range(runs)]
    for curve in curves:
        values = [float(f"{value:.5g}") if math.isfinite(value) else None for value in curve.mean.tolist()]
        found[curve.run] = [list(curve.steps.tolist()), values]
    return found


def _row(run: WatchedRun, number: int) -> dict[str, Any]:
    values = newest(run)
    record = run.record
    return {
        "name": run.name,
        "colour": number % COLOURS,
        "dashed": number >= COLOURS,
        "about": f"{record.recipe.get('name', '')} · {record.method} · {record.architecture} · seed {record.seed}",
        "data": f"{record.data_name}, {record.images} images, batch {record.batch_size}",
        "state": f"training, {values['time left']} left" if "time left" in values else run.state,
        "figures": [values.get(name, "-") for name in ("step", "epoch", "loss", "images/s", "data wait", "memory")],
    }


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=readable
    )
    return environment.from_string(_asset("page.html.jinja"))
