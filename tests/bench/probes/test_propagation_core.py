"""Label propagation against a plain loop over all pairs of cells, and the invariants of its definition."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from bench.errors import BenchError
from bench.probes import propagation
from bench.probes.plans import PropagationPlan, read_probe_plan
from bench.probes.propagation import propagate

CRW = PropagationPlan("propagation", rules="crw", neighbors=4, context=3, radius=3, temperature=0.05)
DINO = dataclasses.replace(CRW, rules="dino", radius=2, temperature=0.1)


def plain(cells: list[Tensor], labels: Tensor, plan: PropagationPlan) -> list[Tensor]:
    """Every key of every cell, one after the other."""
    _, rows, columns = labels.shape
    found = [labels]
    for t in range(1, len(cells)):
        if plan.rules == "crw":
            context = [0, *(max(0, s) for s in range(t - plan.context, t))]
        else:
            context = [0, *range(max(1, t - plan.context), t)]
        now = torch.zeros_like(labels)
        for y in range(rows):
            for x in range(columns):
                keys = []
                for place, s in enumerate(context):
                    for v in range(rows):
                        for u in range(columns):
                            if plan.rules == "dino":
                                counts = abs(y - v) <= plan.radius and abs(x - u) <= plan.radius
                            else:
                                counts = place == 0 or math.hypot(y - v, x - u) < plan.radius
                            if counts:
                                cosine = float(cells[t][:, y, x] @ cells[s][:, v, u])
                                keys.append((cosine, found[s][:, v, u]))
                keys = sorted(keys, key=lambda key: -key[0])[: plan.neighbors]
                weights = [math.exp(cosine / plan.temperature) for cosine, _ in keys]
                now[:, y, x] = sum(w * label for w, (_, label) in zip(weights, keys, strict=True)) / sum(weights)
        found.append(now)
    return found


def video(frames: int, size: tuple[int, int], channels: int = 5, objects: int = 3) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(1)
    cells = torch.randn(frames, channels, *size, generator=generator, dtype=torch.float64)
    labels = torch.rand(objects, *size, generator=generator, dtype=torch.float64)
    return list(normalize(cells, dim=1)), labels / labels.sum(0)


@pytest.mark.parametrize("plan", [CRW, DINO], ids=lambda plan: plan.rules)
def test_propagation_is_the_plain_loop(plan: PropagationPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells in several tiles, and more frames than the context; copies of the first frame in the beginning."""
    monkeypatch.setattr(propagation, "TILE", 3)
    plan = dataclasses.replace(plan, context=2)
    cells, labels = video(5, (4, 5))
    for got, expected in zip(propagate(cells, labels, plan), plain(cells, labels, plan), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("plan", [CRW, DINO], ids=lambda plan: plan.rules)
def test_a_video_that_stands_still_keeps_its_labels(plan: PropagationPlan) -> None:
    """Cells that are like no other: each finds only itself, in the first frame and in all that follow."""
    cells = torch.eye(20, dtype=torch.float64).view(20, 4, 5)
    _, labels = video(1, (4, 5))
    plan = dataclasses.replace(plan, neighbors=2)
    for found in propagate([cells] * 5, labels, plan):
        torch.testing.assert_close(found, labels, rtol=0, atol=1e-3)


def test_labels_stay_a_distribution_and_objects_may_change_places() -> None:
    cells, labels = video(4, (4, 4))
    found = list(propagate(cells, labels, CRW))
    swapped = list(propagate(cells, labels[[2, 0, 1]], CRW))
    for a, b in zip(found, swapped, strict=True):
        torch.testing.assert_close(a.sum(0), torch.ones_like(a[0]))
        torch.testing.assert_close(a[[2, 0, 1]], b)


def test_one_neighbor_copies_its_label() -> None:
    cells, _ = video(2, (4, 4))
    labels = one_hot(torch.arange(16).view(4, 4) % 3, 3).permute(2, 0, 1).double()
    *_, last = propagate(cells, labels, dataclasses.replace(CRW, neighbors=1))
    nearest = (cells[1].flatten(1).T @ cells[0].flatten(1)).argmax(1)
    assert torch.equal(last.flatten(1), labels.flatten(1)[:, nearest])


def test_far_cells_count_in_the_first_frame_alone() -> None:
    """Two cells exactly a radius apart."""
    cells = torch.zeros(2, 1, 4, dtype=torch.float64)
    cells[1] = 1
    here, far = cells.clone(), cells.clone()
    here[:, 0, 0], far[:, 0, 3] = torch.tensor([1.0, 0]), torch.tensor([1.0, 0])
    labels = torch.tensor([[[0.0, 0, 0, 1]], [[1.0, 1, 1, 0]]], dtype=torch.float64)
    sharp = dataclasses.replace(CRW, neighbors=1, radius=3, context=1)
    *_, last = propagate([far, here], labels, sharp)
    assert last[0, 0, 0] == 1  # found in the first frame, three cells away
    blank = cells  # a first frame in which nothing is like it
    *_, last = propagate([blank, far, here], labels, sharp)
    assert last[:, 0, 0].tolist() != [1, 0]


def test_a_circle_without_its_border_and_a_square_with_it() -> None:
    def near(plan: PropagationPlan) -> Tensor:
        corner, quarter = slice(0, 1), slice(0, 5)
        return propagation._near((corner, corner), (quarter, quarter), (5, 5), plan).view(5, 5).int()

    circle = [[1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
    assert near(dataclasses.replace(CRW, radius=4)).tolist() == circle
    assert near(dataclasses.replace(DINO, radius=3)).tolist() == [[1, 1, 1, 1, 0]] * 4 + [[0] * 5]


def test_plans() -> None:
    plan = {"kind": "propagation", "rules": "crw", "neighbors": 10, "context": 20, "radius": 12, "temperature": 0.05}
    assert read_probe_plan(plan) == PropagationPlan("propagation", "crw", 10, 20, 12, 0.05)
    for wrong, message in (({"rules": "other"}, "crw or dino"), ({"radius": 0}, "positive"), ({"size": 3}, "size")):
        with pytest.raises(BenchError, match=message):
            read_probe_plan({**plan, **wrong})
