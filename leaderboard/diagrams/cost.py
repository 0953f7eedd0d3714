"""Cost and score: hours for one checkpoint against its score, and the rows that no other row beats in both."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from statistics import fmean

from leaderboard import text
from leaderboard.board import Standing, Track
from leaderboard.diagrams.axes import Axis, round_ends
from leaderboard.diagrams.rows import MOST, comparable, left_out
from leaderboard.diagrams.svg import LINE, Diagram, cut, element, label, safe, width
from leaderboard.records import Card
from leaderboard.stats import Estimate

LEFT, TOP, PLOT_WIDTH, PLOT_HEIGHT, BOTTOM = 48, 20, 520, 300, 40
RADIUS = 9
UNITS = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


@dataclass(frozen=True)
class Point:
    """A row with both a cost and a score."""

    place: int
    """Number of the row in the table, from 1."""
    row: Standing
    seconds: float
    score: Estimate


def cost_diagram(track: Track) -> Diagram | None:
    """Points with the numbers of the table's rows; `None` unless two rows have both cost and score."""
    same = comparable(track)
    scored = [(place, row, row.score) for place, row in enumerate(same, 1) if row.score is not None]
    points = [Point(place, row, spent, score) for place, row, score in scored if (spent := cost(row))]
    if len(points) < 2:
        return None
    front = {point.place for point in pareto_front(points)}
    shown = [point for i, point in enumerate(points) if i < MOST or point.place in front]
    missing = left_out(
        (len(scored) - len(points), "whose cards tell no cost"),
        (len(same) - len(scored), "without a score"),
        (len(points) - len(shown), "further rows"),
        (len(track.standings) - len(same), "with other protocols"),
    )
    return _drawn(track, shown, front, missing)


def cost(row: Standing) -> float | None:
    """Seconds for one checkpoint: pretraining, times its processes, and one run of each protocol.

    It is the mean over checkpoints, and over the runs of each protocol. Random initialization is not pretrained. `None`
    where a card states no cost.
    """
    of_cards = [0.0 if row.entry.is_random else _pretraining(card) for card in row.entry.cards]
    known = [seconds for seconds in of_cards if seconds is not None]
    if len(known) < len(of_cards):
        return None
    runs = [cell.finished for cell in row.cells if cell is not None and cell.finished]
    return fmean(known) + sum(fmean(run.wall_seconds for run in of_protocol) for of_protocol in runs)


def _pretraining(card: Card) -> float | None:
    seen = card.pretraining
    if seen.cost is None:
        return None
    return (seen.cost.seconds + sum(stage.seconds for stage in seen.stages)) * seen.cost.processes


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats (costs no more, scores no less, and is better in one of them); cheapest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.seconds, -point.score.mean)):
        last = front[-1] if front else None
        equal = last is not None and (last.seconds, last.score.mean) == (point.seconds, point.score.mean)
        if last is None or equal or point.score.mean > last.score.mean:
            front.append(point)
    return front


def _drawn(track: Track, points: Sequence[Point], front: Set[int], missing: str) -> Diagram:
    most = max(point.seconds for point in points)
    unit, unit_name = next(((size, name) for size, name in UNITS if most >= 2 * size), UNITS[-1])
    costs = [point.seconds / unit for point in points]
    ends = [end for point in points for end in (point.score.interval or (point.score.mean,))]
    x = Axis(*round_ends(min(costs), max(costs)), LEFT, LEFT + PLOT_WIDTH, logarithmic=True)
    low, high = min(ends), max(ends)
    y = Axis(low - (high - low or 1) * 0.05, high + (high - low or 1) * 0.05, TOP + PLOT_HEIGHT, TOP)
    names = [f"{point.place}  {cut(point.row.entry.label)}" for point in points]
    places = [(x.place(point.seconds / unit), y.place(point.score.mean)) for point in points]
    body = _grid(x, y, unit_name)
    body += _stairs([place for place, point in zip(places, points, strict=True) if point.place in front], x)
    body += "".join(_point(point, at, y, point.place in front) for point, at in zip(points, places, strict=True))
    body += "".join(label(name, x.end + 24, TOP + LINE * (i + 0.5)) for i, name in enumerate(names))
    started = any(card.pretraining.init is not None for point in points for card in point.row.entry.cards)
    devices = sorted(_devices(points))
    return Diagram(
        kind="cost",
        title=f"Cost and score, track {track.id}, {track.architecture}",
        reading=f"Cost of one checkpoint in {unit_name}: its pretraining, times the processes, and one run of each "
        "protocol. Score with its 95 % interval; the numbers are the rows of the table. Filled, and joined by the "
        "line: no other row costs less and scores more (the means decide)."
        + (" What the weights cost with which a pretraining began is not counted." if started else "")
        + (f" Measured on different devices: {'; '.join(devices)}." if len(devices) > 1 else "")
        + missing,
        summary="; ".join(
            f"{point.row.entry.label}: {spent:.3g} {unit_name}, score {text.figure(point.score)}"
            f"{', on the front' if point.place in front else ''}"
            for point, spent in zip(points, costs, strict=True)
        ),
        size=(x.end + 34 + width(names), max(TOP + PLOT_HEIGHT + BOTTOM, TOP + LINE * len(points) + 4)),
        body=body,
    )


def _devices(points: Sequence[Point]) -> set[str]:
    rows = [point.row for point in points]
    costs = [card.pretraining.cost for row in rows for card in row.entry.cards]
    runs = [run for row in rows for cell in row.cells if cell is not None for run in cell.finished]
    return {cost.device for cost in costs if cost is not None} | {run.environment.device for run in runs}


def _grid(x: Axis, y: Axis, unit: str) -> str:
    drawn = label("score", 4, TOP / 2, kind="quiet")
    for tick in y.ticks():
        at = y.place(tick)
        drawn += element("line", kind="grid", x1=x.start, x2=x.end, y1=at, y2=at)
        drawn += label(f"{tick:g}", x.start - 8, at, kind="quiet y tick", anchor="end")
    for tick in x.ticks():
        at = x.place(tick)
        drawn += element("line", kind="grid", x1=at, x2=at, y1=y.start, y2=y.end)
        drawn += label(f"{tick:g}", at, y.start + LINE, kind="quiet x tick", anchor="middle")
    return drawn + label(unit, (x.start + x.end) / 2, y.start + 2 * LINE, kind="quiet", anchor="middle")


def _stairs(places: Sequence[tuple[float, float]], x: Axis) -> str:
    """Line from the cheapest point of the front to the right that rises at each further point."""
    first, *rest = sorted(places)
    steps = "".join(f"H{text.number(at)}V{text.number(height)}" for at, height in rest)
    return element(
        "path", kind="front", d=f"M{text.number(first[0])} {text.number(first[1])}{steps}H{text.number(x.end)}"
    )


def _point(point: Point, at: tuple[float, float], y: Axis, best: bool) -> str:
    drawn = element("title", safe(point.row.entry.label))
    if point.score.interval is not None:
        low, high = (y.place(end) for end in point.score.interval)
        drawn += element("line", kind="whisker", x1=at[0], x2=at[0], y1=low, y2=high)
    drawn += element("circle", kind="best point" if best else "point", cx=at[0], cy=at[1], r=RADIUS)
    return element("g", drawn + label(str(point.place), *at, kind="number", anchor="middle"))
