"""The simulation of intervals: its counts, known cases, and what its tables hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.benchmarks import interval_coverage
from bench.benchmarks.interval_coverage import coverage, main, over_images, over_seeds, population
from bench.errors import BenchError
from bench.metrics.outputs import keep_segmentation


def test_intervals_are_counted() -> None:
    found = coverage([(1.0, (0.0, 2.0)), (1.0, (0.5, 2.5)), (3.0, (2.0, 3.0)), (0.0, (-1.0, 0.0))], 1.0)
    assert (found.covered, found.covered_same, found.width, found.shift) == (0.5, 0.5, 1.5, -0.125)
    assert coverage([(1.0, (0.0, 2.0)), (5.0, (4.0, 6.0))], 1.0, [1.5, 4.5]).covered_same == 1


def test_t_intervals_of_normal_runs_cover_what_they_say() -> None:
    found = over_seeds("normal", 3, 2000, np.random.default_rng(0))
    assert found["t"].covered == pytest.approx(0.95, abs=0.015)
    assert found["bootstrap"].covered < 0.8


def test_the_bootstrap_lies_beside_the_value_where_classes_are_rare() -> None:
    rng = np.random.default_rng(0)
    found = over_images(population(rng, 1000), 40, 60, rng)
    assert found["linearised"].shift == pytest.approx(0, abs=1e-9)
    assert abs(found["bootstrap"].shift) > 0.5
    assert found["linearised"].covered > found["bootstrap"].covered


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interval_coverage, "SIZES", (10,))
    monkeypatch.setattr(interval_coverage, "RESAMPLES", 20)
    monkeypatch.setattr(interval_coverage, "POPULATION", 50)
    counts = population(np.random.default_rng(1), 12)
    folder = tmp_path / "my_protocol" / "seed0"
    folder.mkdir(parents=True)
    keep_segmentation(folder, [str(k) for k in range(12)], counts)
    main([folder / "counts.npz"], draws=3)
    shown = capsys.readouterr().out
    assert "my_protocol, 8 classes" in shown and "linearised" in shown and "heavy tails" in shown
    with pytest.raises(BenchError, match="no confusion matrices"):
        main([folder / "shares.npz"], draws=3)
