"""Diagrams: every mark lies where its value belongs, words are safe, and nothing is left out silently."""

import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from fabricate import make_card, make_protocol, make_result
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboard.analysis import analyse
from leaderboard.board import Entry, Standing
from leaderboard.build import build
from leaderboard.diagrams import diagrams
from leaderboard.diagrams.axes import Axis, round_ends
from leaderboard.diagrams.cost import Point, cost, pareto_front
from leaderboard.diagrams.rows import MOST
from leaderboard.page import render
from leaderboard.records import Cost, InitialWeights, Pretraining, Stage
from leaderboard.stats import Estimate
from leaderboard.store import ResultStore

SEG, DET = "mini_voc_seg_fcn", "mini_voc_det_frcnn_fpn"
HOSTILE = "</title></svg><script>alert(1)</script>\uffff\u202e & \"'"
MINUTES = {"moco": 10, "densecl": 20, "dear": 40}
VALUES = {
    "random": {SEG: [10.0, 10.5, 11.0], DET: [1.0, 1.5, 2.0]},
    "moco": {SEG: [20.0, 20.5, 21.0], DET: [5.0, 5.5, 6.0]},
    "densecl": {SEG: [30.0, 30.5, 32.0], DET: [5.1, 5.4, 6.2]},
    "dear": {SEG: [20.0, 19.0, 18.5], DET: [0.2, 0.4, 0.3]},
    "given": {SEG: [25.0, 26.0, 25.5], DET: [7.0, 7.5, 8.0]},
}


def pretrained(minutes, processes=1, **facts):
    spent = Cost(seconds=60 * minutes, images_per_second=9, device="CPU", processes=processes, peak_memory_mib=1)
    return Pretraining.known(cost=spent, **facts)


def made(values=VALUES, protocols=None):
    """Results of `values`; those of MINUTES tell what they cost."""
    cards = {
        name: make_card(name, **({"pretraining": pretrained(MINUTES[name])} if name in MINUTES else {}))
        for name in values
    }
    return [
        make_result(cards[name], (protocols or {}).get(id_, id_), seed, value)
        for name, found in values.items()
        for id_, seeds in found.items()
        for seed, value in enumerate(seeds)
    ]


@pytest.fixture(scope="module")
def track():
    (only,) = analyse(made()).tracks
    return only


def drawn(track, kind):
    """The diagram and its elements."""
    diagram = {one.kind: one for one in diagrams(track)}[kind]
    return diagram, elements(diagram)


def elements(diagram):
    root = ElementTree.fromstring(diagram.file())
    for element in root.iter():
        element.tag = element.tag.removeprefix("{http://www.w3.org/2000/svg}")
    return root


def of_class(root, *names):
    return [e for e in root.iter() if set(names) <= set(e.get("class", "").split())]


def scale(root, *names, at="x", logarithmic=False):
    """From values to pixels, by the labels along an axis: straight through the first and the last, and all fit."""
    ticks = [(float(e.text), float(e.get(at))) for e in of_class(root, *names, "tick")]
    of = math.log if logarithmic else float
    (low, start), *_, (high, end) = ticks

    def place(value):
        return start + (of(value) - of(low)) / (of(high) - of(low)) * (end - start)

    assert [pixel for _, pixel in ticks] == pytest.approx([place(value) for value, _ in ticks], abs=0.1)
    return place


def test_ranks_lie_on_their_axis(track):
    diagram, root = drawn(track, "ranks")
    place = scale(root)
    rows = [row for row in track.standings if row.mean_rank_interval is not None]
    assert len(rows) == len(VALUES)
    dots, whiskers = of_class(root, "dot"), of_class(root, "whisker")
    assert [float(e.get("cx")) for e in dots] == pytest.approx([place(row.mean_rank) for row in rows], abs=0.1)
    for end, which in (("x1", 0), ("x2", 1)):
        expected = [place(row.mean_rank_interval[which]) for row in rows]
        assert [float(e.get(end)) for e in whiskers] == pytest.approx(expected, abs=0.1)
    heights = [float(e.get("cy")) for e in dots]
    assert heights == sorted(heights) == [float(e.get("y1")) for e in whiskers]
    assert [e.text for e in of_class(root, "number")] == [str(row.tier) for row in rows]
    assert len(of_class(root, "first", "tier")) == sum(row.tier == 1 for row in rows)
    assert len(of_class(root, "joined")) == sum(a.tier == b.tier for a, b in pairwise(rows))
    assert all(f"{row.entry.label}: rank {row.mean_rank:.1f}" in diagram.summary for row in rows)
    assert "Left out" not in diagram.reading


def test_scores_are_as_strong_as_they_are_high(track):
    diagram, root = drawn(track, "scores")
    cells = [cell for row in track.standings for cell in row.cells]
    top = max(abs(cell.score.mean) for cell in cells)
    squares = of_class(root, "heat")
    assert [float(e.get("fill-opacity")) for e in squares] == pytest.approx(
        [abs(cell.score.mean) / top * 0.5 for cell in cells], abs=1e-3
    )
    assert ["below" in e.get("class") for e in squares] == [cell.score.mean < 0 for cell in cells]
    assert any(cell.score.mean < 0 for cell in cells)
    shown = [e.text for e in root.iter("text")]
    for cell in cells:
        half = "" if cell.score.half is None else f" ± {cell.score.half:.1f}"
        assert f"{cell.score.mean:.1f}{half}" in shown
    assert f"up to {top:.1f}" in diagram.reading


def test_costs_lie_on_their_axes(track):
    diagram, root = drawn(track, "cost")
    x, y = scale(root, "x", logarithmic=True), scale(root, "y", at="y")
    points = {e.find("title").text: e for e in root.iter("g")}
    assert set(points) == {*MINUTES, "random"}
    evaluation = 2 * (71.5 + 1) / 60
    for place, row in enumerate(track.standings, 1):
        if row.entry.label not in points:
            continue
        circle, number = (points[row.entry.label].find(tag) for tag in ("circle", "text"))
        minutes = MINUTES.get(row.entry.label, 0) + evaluation
        assert float(circle.get("cx")) == pytest.approx(x(minutes), abs=0.1)
        assert float(circle.get("cy")) == pytest.approx(y(row.score.mean), abs=0.1)
        assert number.text == str(place)
        whisker = points[row.entry.label].find("line")
        assert (whisker is None) == row.entry.is_random
        if whisker is not None:
            ends = [float(whisker.get(end)) for end in ("y1", "y2")]
            assert ends == pytest.approx([y(end) for end in row.score.interval], abs=0.1)
    best = {name for name, e in points.items() if "best" in e.find("circle").get("class")}
    assert best == {"random", "moco", "densecl"}
    (stairs,) = of_class(root, "front")
    corners = [float(step.split("V")[0]) for step in stairs.get("d").split("H")[1:-1]]
    assert corners == sorted(float(points[name].find("circle").get("cx")) for name in best)[1:]
    assert "Left out: 1 whose cards tell no cost" in diagram.reading and "minutes" in diagram.reading


def test_cost_is_of_one_checkpoint_with_its_stages():
    stages = (Stage(name="first", sha256="0" * 64, seconds=30, image_views=0),)
    init = InitialWeights(name="public", sha256="1" * 64)
    cards = [
        make_card(
            f"two-seed{seed}",
            method="Two",
            pretraining=pretrained(minutes, 4, seed=seed, group="0" * 16, stages=stages, init=init),
        )
        for seed, minutes in enumerate((1, 3))
    ]
    others = [make_result(name, SEG, 0, 20.0 + i) for i, name in enumerate(["random", *MINUTES])]
    (track,) = analyse([*others, *(make_result(card, SEG, 0, 30.0) for card in cards)]).tracks
    row = next(row for row in track.standings if row.entry.label == "two")
    assert cost(row) == pytest.approx(4 * (2 * 60 + 30) + 71.5)
    assert "What the weights cost with which a pretraining began" in drawn(track, "cost")[0].reading


numbers = st.integers(0, 6).map(float)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8))
def test_the_front_is_what_nothing_beats(pairs):
    row = Standing(Entry("x", (make_card(),)), (), 0)
    points = [Point(i, row, seconds, Estimate(score, None, 0)) for i, (seconds, score) in enumerate(pairs)]

    def beaten(point):
        return any(
            other.seconds <= point.seconds
            and other.score.mean >= point.score.mean
            and (other.seconds, other.score.mean) != (point.seconds, point.score.mean)
            for other in points
        )

    assert {point.place for point in pareto_front(points)} == {p.place for p in points if not beaten(p)}


@settings(deadline=None, max_examples=50)
@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e4), st.integers(2, 12))
def test_ticks_are_round_and_within_the_axis(low, span, most):
    axis = Axis(low, low + span, 10, 110)
    ticks = axis.ticks(most)
    assert 1 <= len(ticks) <= most
    assert all(axis.low - 1e-6 * span <= tick <= axis.high + 1e-6 * span for tick in ticks)
    steps = {f"{b - a:.3e}"[:5] for a, b in pairwise(ticks)}
    assert steps <= {"1.000", "2.000", "5.000"} and len(steps) <= 1


@settings(deadline=None, max_examples=50)
@given(st.floats(1e-3, 1e3), st.floats(1, 1e4))
def test_ends_of_a_logarithmic_axis_are_its_first_and_last_ticks(low, factor):
    start, end = round_ends(low, low * factor)
    assert start <= low * (1 + 1e-9) and low * factor <= end * (1 + 1e-9) and start < end
    ticks = Axis(start, end, 0, 1, logarithmic=True).ticks(100)
    assert (ticks[0], ticks[-1]) == (start, end)
    assert {f"{tick:.0e}"[0] for tick in ticks} <= {"1", "2", "5"}


def test_a_row_that_is_not_comparable_is_counted():
    values = VALUES | {"part": {SEG: [50.0, 51.0, 52.0]}, "once": {SEG: [22.0], DET: [5.0]}}
    (track,) = analyse(made(values)).tracks
    drawn = diagrams(track)
    found = {one.kind: one.reading for one in drawn}
    assert found["ranks"].endswith("Left out: 1 without a test, 1 with other protocols.")
    assert found["cost"].endswith("Left out: 2 whose cards tell no cost, 1 with other protocols.")
    assert "Left out" not in found["scores"]
    (once,) = [part for part in drawn[1].summary.split("; ") if part.startswith("once: ")]
    assert once.count("(1)") == 2 and drawn[1].summary.count("(1)") == 2


def test_few_rows_and_many():
    (alone,) = analyse(made({"moco": VALUES["moco"]})).tracks
    assert diagrams(alone) == []
    many = {"random": VALUES["random"]} | {f"m{i}": {SEG: [i + 0.0, i + 1.0], DET: [2.0, 3.0]} for i in range(50)}
    (track,) = analyse(made(many)).tracks
    found = {one.kind: one for one in diagrams(track)}
    assert set(found) == {"ranks", "scores"}
    assert all(f"Left out: {51 - MOST} further" in one.reading for one in found.values())
    assert len(of_class(elements(found["ranks"]), "dot")) == MOST


def test_only_runs_that_failed_are_shown_as_failed():
    """Where random initialisation makes no errors, no row has a score."""
    solved = "mini_city_seg_fcn"
    values = {name: found | {solved: [100.0 if name == "random" else 90.0]} for name, found in VALUES.items()}
    values["moco"] |= {DET: [None]}
    (track,) = analyse(made(values)).tracks
    diagram, root = drawn(track, "scores")
    words = [e.text for e in root.iter("text")]
    assert words.count("failed") == 1 and "city" not in " ".join(words).lower()
    assert diagram.reading.endswith("Left out: 1 protocols without a score.")


def test_strangers_words_are_only_text():
    seg, det = make_protocol(SEG, short_title=HOSTILE[:60]), make_protocol(DET)
    for diagram in diagrams(analyse(made(protocols={SEG: seg, DET: det})).tracks[0]):
        root = elements(diagram)
        assert not list(root.iter("script"))
        assert root.find("title").text == diagram.title and root.find("desc").text
        assert not [e for e in root.iter() if e.get("style")]
        if diagram.kind == "scores":
            assert "<script>" in root.find("desc").text


def test_the_page_and_the_files_show_the_same(tmp_path):
    store = ResultStore(tmp_path / "results")
    for result in made():
        store.add(result)
    report = build(store.folder, site=tmp_path / "page", diagrams=tmp_path / "svg")
    names = [f"mini.resnet18.{kind}.svg" for kind in ("cost", "ranks", "scores")]
    assert sorted(path.name for path in (tmp_path / "svg").iterdir()) == names
    page = (tmp_path / "page" / "index.html").read_text()
    assert page.count('<svg class="diagram"') == 3 and render(report.board) == page
    for diagram in diagrams(report.board.tracks[0]):
        assert (
            diagram.body in page
            and diagram.body in (tmp_path / "svg" / f"mini.resnet18.{diagram.kind}.svg").read_text()
        )
    assert build(store.folder, diagrams=tmp_path / "svg", check=True).problems == []
