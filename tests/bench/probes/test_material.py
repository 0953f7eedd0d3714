"""What probes are made of: which images have labels, and how time is told."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from bench.clock import Clock
from bench.datasets.pairs import Pair
from bench.probes.material import Part

PAIRS = [Pair(Path(f"folder/{i:04d}.jpg"), Path(f"{i}.png")) for i in range(300)]
CELLS = np.zeros((300, 1, 2, 2), np.float16)


def names(part: Part) -> list[str]:
    return [pair.image.name for pair in part.pairs]


def test_labelled_images_have_the_smallest_hashes_of_their_names() -> None:
    whole = Part.whole(PAIRS, CELLS)
    ranked = sorted(names(whole), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    for share, count in ((0.01, 3), (0.05, 15), (0.25, 75)):
        part = whole.labelled(share)
        assert names(part) == sorted(ranked[:count])  # in the order of the data set
        assert part.rows.tolist() == [int(name[:4]) for name in names(part)]
        backwards = Part.whole(PAIRS[::-1], CELLS).labelled(share)
        assert names(backwards) == names(part)[::-1]  # whatever the order of the data set
    assert len(Part.whole(PAIRS[:50], CELLS).labelled(0.01).pairs) == 2  # one to fit to, one to choose by


def test_laps_of_one_name_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 3.0, 7.0])
    monkeypatch.setattr("bench.clock.time.perf_counter", lambda: next(times))
    clock = Clock()
    for what in ("features", "fit", "features"):
        clock.lap(what)
    assert clock.seconds == {"features": 5.0, "fit": 2.0}
