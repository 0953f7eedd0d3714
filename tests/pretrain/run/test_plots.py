"""The page: every scalar, gaps where values are missing, nothing from outside, and untrusted texts stay text."""

from __future__ import annotations

import json
import math
import re
from array import array
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.base.errors import FileError
from pretrain.run.folder import RunRecord
from pretrain.run.history import History, WatchedRun
from pretrain.run.plots import POINTS, Floats, render, short, thinned, ticks, write_page

NAN = float("nan")
BESIDE = {"lr": 0.1, "images_per_second": 100.0, "data_wait": 0.02, "peak_memory_mib": 900.0}


def watched(folder: Path, steps: list[int], columns: dict[str, list[float]]) -> WatchedRun:
    """A run with this log, none of which lies on the disk but its record."""
    folder.mkdir(parents=True, exist_ok=True)
    record = RunRecord(
        recipe={"name": "toy"}, recipe_sha256="0" * 64, seed=3, processes=1, data_name="images", data_fingerprint="",
        images=9, batch_size=4, steps_per_epoch=2, planned_steps=100, method="Toy", architecture="resnet18", views=[],
        mean=[0.0] * 3, std=[1.0] * 3, code_commit=None,
    )  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record.__dict__))
    run = WatchedRun(folder, keep_history=True)
    everything = columns | {name: [value] * len(steps) for name, value in BESIDE.items()}
    run.history = History(array("q", steps), {name: array("d", values) for name, values in everything.items()})
    if steps:
        scalars: dict[str, Any] = {name: None if math.isnan(v[-1]) else v[-1] for name, v in columns.items()}
        run.newest = {"step": steps[-1], "epoch": 1.0, "scalars": scalars, **BESIDE, "eta_seconds": 60.0}
    return run


def charts(page: str) -> dict[str, str]:
    return {
        re.findall(r'class="title">([^<]*)<', figure)[0]: figure
        for figure in re.findall(r"<figure.*?</figure>", page, re.DOTALL)
    }


def data(page: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)[0])
    return found


def test_every_scalar_of_every_run_is_a_curve(tmp_path: Path) -> None:
    a = watched(tmp_path / "a", [10, 20, 30], {"loss": [3, 2, 1], "loss_dense": [1, 1, 1], "std": [0.1, NAN, 0.3]})
    b = watched(tmp_path / "b", [10, 20], {"loss": [5, 4], "rank": [NAN, NAN], "slots": [8, 9]})
    page = render([a, b])
    found = charts(page)
    titles = ["loss", "loss_dense", "std", "rank", "slots", "lr", "images_per_second", "data_wait", "peak_memory_mib"]
    assert list(found) == titles
    sections = re.findall(r"<h2>(.*?)</h2>", page)
    assert sections == ["Loss", "Collapse or learning", "Other", "Training"]
    assert found["loss"].count('class="line') == 2 and found["slots"].count('class="line') == 1
    lines = re.findall(r'class="line c0" d="([^"]*)"', found["std"])
    assert lines[0].count("M") == 2 and lines[0].count("h0") == 2  # two points with a gap between them
    assert re.findall(r'class="line c1" d="([^"]*)"', found["rank"]) == [""]
    shown = data(page)["charts"][titles.index("loss")]
    assert shown == [[[10, 20, 30], [3, 2, 1]], [[10, 20], [5, 4]]]
    assert data(page)["charts"][titles.index("std")] == [[[10, 20, 30], [0.1, None, 0.3]], [[], []]]
    assert render([a, b]) == page


def test_curves_lie_where_the_axes_say(tmp_path: Path) -> None:
    run = watched(tmp_path / "a", [0, 50, 100], {"loss": [2.0, 6.0, 4.0]})
    chart = charts(render([run]))["loss"]
    y_ticks = re.findall(r'class="tick y" x="[^"]*" y="([^"]*)" dy="[^"]*">([^<]*)<', chart)
    x_ticks = re.findall(r'class="tick x" x="([^"]*)" y="[^"]*">([^<]*)<', chart)
    rows = {float(label): float(at) for at, label in y_ticks}
    columns = {float(label): float(at) for at, label in x_ticks}
    points = re.findall(r'class="line c0" d="M([^"]*)"', chart)[0].split("L")
    for point, step, value in zip(points, (0, 50, 100), (2.0, 6.0, 4.0), strict=True):
        x, y = map(float, point.split())
        if step in columns:
            assert x == pytest.approx(columns[step], abs=0.11)
        assert y == pytest.approx(rows[value], abs=0.11)
    assert rows[6] < rows[4] < rows[2]


def test_the_page_is_well_formed_and_asks_for_nothing(tmp_path: Path) -> None:
    run = watched(tmp_path / "<b>&amp;", [1, 2], {"loss": [1, 2], "</script><img src=x onerror=alert(1)>": [1, 2]})
    page = render([run])
    assert "<img" not in page and page.count("<script") == 2 and "<b>" not in page
    assert "http://" not in page and "https://" not in page and "url(" not in page
    assert "default-src 'none'" in page and "unsafe" not in page
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(drawing)


def test_runs_with_little_to_show(tmp_path: Path) -> None:
    empty = watched(tmp_path / "b", [], {})
    empty.history = History(array("q"), {})
    assert "Nothing is logged yet" in render([empty])
    constant = charts(render([watched(tmp_path / "c", [7], {"loss": [0.0], "std": [NAN]})]))
    assert "h0" in constant["loss"] and "NaN" not in constant["std"] and "nan" not in constant["std"]


def test_more_runs_than_colours_are_told_apart_by_dashes(tmp_path: Path) -> None:
    runs = [watched(tmp_path / f"r{k}", [1, 2], {"loss": [k, k + 1]}) for k in range(10)]
    chart = charts(render(runs))["loss"]
    assert chart.count(" dashed") == 2
    assert len(set(re.findall(r'class="(line c\d(?: dashed)?)"', chart))) == 10


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    run = watched(tmp_path / "a", [1], {"loss": [1.0]})
    write_page(tmp_path / "page.html", [run])
    assert (tmp_path / "page.html").read_text() == render([run])
    with pytest.raises(FileError, match="cannot write"):
        write_page(tmp_path / "missing" / "page.html", [run])


def test_long_logs_are_thinned_with_a_band(tmp_path: Path) -> None:
    count = 10 * POINTS + 3
    values = np.sin(np.arange(count)).tolist()
    page = render([watched(tmp_path / "a", list(range(1, count + 1)), {"loss": values})])
    assert charts(page)["loss"].count('class="band') == 1 and "through means of several lines" in page
    steps, means = data(page)["charts"][0][0]
    assert len(steps) <= POINTS and steps[-1] == count
    assert means[0] == pytest.approx(np.mean(values[:11]), rel=1e-4)


@given(
    st.lists(st.floats(-1e6, 1e6) | st.sampled_from([NAN, math.inf, -math.inf]), min_size=1, max_size=60),
    st.integers(1, 30),
)
def test_thinning_is_a_mean_between_the_lowest_and_the_highest(values: list[float], points: int) -> None:
    steps: Floats = np.arange(1, len(values) + 1, dtype=np.float64) * 10
    at, mean, low, high = thinned(steps, np.array(values), points)
    length = math.ceil(len(values) / points)
    assert len(at) == math.ceil(len(values) / length) <= points and at[-1] == steps[-1]
    for k in range(len(at)):
        part = [v for v in values[k * length : (k + 1) * length] if math.isfinite(v)]
        if not part:
            assert np.isnan([mean[k], low[k], high[k]]).all()
            continue
        assert (low[k], high[k]) == (min(part), max(part))
        assert mean[k] == pytest.approx(math.fsum(part) / len(part), rel=1e-9, abs=1e-6)


@given(st.floats(-1e8, 1e8), st.floats(1e-8, 1e8), st.integers(3, 8))
def test_ticks_are_round_and_inside(low: float, extent: float, most: int) -> None:
    high = low + extent
    if not extent > 1e-6 * abs(low):
        return
    found = ticks(low, high, most)
    assert 1 <= len(found) <= most
    assert all(low - 1e-6 * extent <= tick <= high + 1e-6 * extent for tick in found)
    steps = np.diff(found)
    if len(steps):
        digits = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
        assert np.allclose(steps, steps[0], rtol=1e-3) and min(abs(digits - k) for k in (1, 2, 5, 10)) < 1e-3


def test_labels() -> None:
    assert [short(v) for v in (0.0, 0.05, -2e-5, 500, 5000, 12000, 1.5e6)] == [
        "0", "0.05", "-2e-05", "500", "5000", "12k", "1.5M",
    ]  # fmt: skip
