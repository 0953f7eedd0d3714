"""Foreground by clusters: the rules by hand, tables against plain counting, and objects that stand apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from probe_parts import material_of

from bench.probes.kinds import foreground
from bench.probes.plans import ForegroundPlan

RNG = np.random.default_rng(0)
CLUSTERS = np.array(
    [
        [0, 0, 0, 0, 0, 2],
        [0, 1, 1, 1, 1, 2],
        [0, 1, 3, 3, 1, 2],
        [0, 0, 0, 1, 1, 1],
    ]
)


def test_the_rules_choose_by_place() -> None:
    # border cells: nine 0, three 1, three 2 (and one 1 at the corner); all: nine 0, nine 1, three 2, two 3
    border = [0, 0, 0, 0]
    every = [0, 0, 0, 0]
    for i in range(4):
        for j in range(6):
            every[CLUSTERS[i, j]] += 1
            border[CLUSTERS[i, j]] += i in (0, 3) or j in (0, 5)
    expected = [b / sum(border) < e / sum(every) for b, e in zip(border, every, strict=True)]
    assert foreground.from_border(CLUSTERS, 4).tolist() == expected == [False, True, False, True]
    assert foreground.from_center(CLUSTERS, 4).tolist() == [False, True, False, False]  # 1, 1, 3, 3: the first
    assert foreground.from_center(np.array([[2, 0], [0, 1]]), 3).tolist() == [True, False, False]  # too small to cut


@pytest.mark.parametrize("seed", range(3))
def test_tables_are_plain_counts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 0, 5, 255], (20, 30)).astype(np.uint8)
    clusters = rng.integers(0, 4, (4, 6))
    tables = foreground.tabulate(labels, clusters, 5)
    every = [[k == chosen for k in range(5)] for chosen in range(5)]
    for rule, table in zip(foreground.RULES, tables, strict=True):
        if rule == "oracle":
            ious = [iou(count(labels, clusters, choice)) for choice in every]
            assert iou(table) == pytest.approx(max(ious))
        else:
            choice = getattr(foreground, f"from_{rule}")(clusters, 5).tolist()
            assert table.tolist() == count(labels, clusters, choice)


def count(labels: np.ndarray, clusters: np.ndarray, choice: list[bool]) -> list[list[int]]:
    table = [[0, 0], [0, 0]]
    for y in range(20):
        for x in range(30):
            if labels[y, x] != 255:
                table[int(labels[y, x] != 0)][int(choice[clusters[y // 5, x // 5]])] += 1
    return table


def iou(table: np.ndarray | list[list[int]]) -> float:
    union = table[0][1] + table[1][0] + table[1][1]
    return table[1][1] / union if union else 0.0


def test_objects_that_stand_apart_are_found(tmp_path: Path) -> None:
    labels = []
    for k in range(3):
        label = np.zeros((64, 96), np.uint8)
        label[16:48, 16 + 16 * k : 64 + 8 * k] = k + 1
        labels.append(label)
    labels.append(np.full((64, 96), 255, np.uint8))  # nothing counts
    found = foreground.probe(ForegroundPlan("foreground", (64, 96), 2, 20), material_of(labels, 4, tmp_path))
    assert found.arrays["counts"].shape == (4, 3, 2, 2) and found.images == 4
    tables = found.arrays["counts"]
    for i, rule in enumerate(foreground.RULES):
        name = "IoU" if rule == "border" else f"IoU {rule}"
        ious = np.array([iou(table[i]) for table in tables])
        assert ious[3] == 0 and found.metrics[name] == pytest.approx(100 * ious.mean())
        np.testing.assert_allclose(found.shares[name], 100 * (ious - ious.mean()) / 4)
    # One edge cuts a column of cells, and the last image has no foreground.
    assert found.metrics["IoU"] == found.metrics["IoU oracle"] == pytest.approx(100 * (1 + 32 / 40 + 1 + 0) / 4)
