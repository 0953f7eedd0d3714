"""In-context retrieval: each step against plain loops, the published slips one by one, and perfect cells."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from probe_parts import material_of
from torchvision.transforms import functional

from bench.datasets.pairs import Pair
from bench.errors import BenchError
from bench.metrics.segmentation import segmentation_scores
from bench.metrics.uncertainty import segmentation_shares
from bench.probes import views
from bench.probes.kinds import retrieval
from bench.probes.material import Material
from bench.probes.plans import RetrievalPlan
from bench.probes.segmentation import compare

RNG = np.random.default_rng(0)
PLAN = RetrievalPlan("retrieval", (64, 96), 3, 500, 1, neighbors=40, temperature=0.02, published=False)
PUBLISHED = replace(PLAN, published=True)
COLORS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 255]], np.uint8)
"""Of the classes: what jitter does to them leaves them apart."""


def test_labels_are_counted_by_cell() -> None:
    labels = RNG.integers(0, 3, (64, 96)).astype(np.uint8)
    labels[:20, :30] = 255
    for plan in (PLAN, PUBLISHED):
        counts = retrieval.count_labels(labels, plan)
        for i in range(4):
            for j in range(6):
                block = labels[16 * i : 16 * i + 16, 16 * j : 16 * j + 16].reshape(-1).tolist()
                expected = [block.count(k) for k in range(3)]
                expected[0] += block.count(255) if plan.published else 0
                assert counts[6 * i + j].tolist() == expected


def test_cells_of_rare_classes_are_preferred() -> None:
    counts = np.array([[9, 0, 0], [9, 1, 0], [0, 5, 0], [0, 0, 0], [2, 0, 0]])
    held = [3, 2, 0]  # cells that hold the class
    scores = [sum(held[k] for k in range(3) if row[k]) for row in counts]
    drawn = np.random.default_rng(5).random(5)
    expected = sorted((i for i in range(5) if counts[i].any()), key=lambda i: scores[i] * drawn[i])
    assert retrieval.select(counts, 3, np.random.default_rng(5)).tolist() == expected[:3]
    assert len(retrieval.select(counts, 99, np.random.default_rng(5))) == 4  # none that is all void


def test_cells_look_up_as_an_exact_search_does() -> None:
    memory, cells = RNG.normal(size=(50, 7)), RNG.normal(size=(9, 7))
    memory /= np.linalg.norm(memory, axis=1, keepdims=True)
    shares = RNG.dirichlet(np.ones(3), 50)
    expected = []
    for cell in cells:
        cosines = memory @ cell / np.linalg.norm(cell)
        best = sorted(range(50), key=lambda i: -cosines[i])[:40]
        weights = np.exp(cosines[best] / 0.02)
        expected.append(sum(w * shares[i] for w, i in zip(weights, best, strict=True)) / weights.sum())
    exact = [torch.from_numpy(array) for array in (cells, memory, shares)]
    np.testing.assert_allclose(retrieval.look_up(*exact, PLAN).numpy(), expected, atol=1e-9)
    single = retrieval.look_up(*(array.float() for array in exact), PLAN)
    np.testing.assert_allclose(single.numpy(), expected, atol=1e-4)


def test_jitter_and_labels_are_torchvision_s() -> None:
    image = torch.from_numpy(RNG.random((1, 3, 20, 30))).float()
    draws = iter([0.4, 0.9, 0.1, 0.2, 0.6, 0.3, 0.49, 0.8])  # brightness 1.08, contrast .94, no saturation, hue .06
    rng = cast(np.random.Generator, SimpleNamespace(random=lambda: next(draws)))
    ours = views.jittered(image.clone(), retrieval.AUGMENTATION, rng)
    theirs = functional.adjust_contrast(functional.adjust_brightness(image, 1.08), 0.94)
    torch.testing.assert_close(ours, functional.adjust_hue(theirs, 0.06), atol=1e-5, rtol=0)
    labels = RNG.integers(0, 256, (47, 61)).astype(np.uint8)
    nearest = functional.resize(torch.from_numpy(labels)[None], [64, 96], functional.InterpolationMode.NEAREST)
    assert np.array_equal(views.scaled_labels(labels, (64, 96)), nearest[0].numpy())


def test_the_published_score_is_the_best_renaming_over_all_classes() -> None:
    counts = RNG.integers(0, 40, (3, 4, 4))
    counts[:, 2], counts[:, :, 2] = 0, 0  # a class that nowhere occurs
    renamed = retrieval._renamed(counts)
    shares = segmentation_shares(renamed)
    metrics, found = retrieval._over_all_classes(renamed, {"mIoU": segmentation_scores(renamed.sum(0)).miou}, shares)
    every = [segmentation_scores(counts.sum(0)[:, list(order)]).iou for order in permutations(range(4))]
    assert metrics["mIoU"] == pytest.approx(max(np.nansum(iou) / 4 for iou in every))
    np.testing.assert_allclose(found["mIoU"], shares["mIoU"] * 3 / 4)


def by_color(x: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Perfect cells: one-hot, of the color of the pixel at each cell's center."""
    rgb = x[:, :, 8::16, 8::16] * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]
    red, other = rgb[:, 0] > 0.5, rgb[:, 1:].amax(1) > 0.5
    return torch.stack([~red & ~other, red, ~red & other], 1).float()


def colored(labels: list[NDArray[Any]], folder: Path, mean: tuple[float, ...], std: tuple[float, ...]) -> Material:
    card = SimpleNamespace(mean=mean, std=std, color_order="RGB")
    material = material_of(labels, 3, folder, card=card, cells_of_input=lambda x: by_color(x, mean, std))
    pairs = []
    for pair, label in zip(material.pairs["train"], labels, strict=True):
        Image.fromarray(COLORS[np.where(label == 255, 0, label)]).save(folder / f"{pair.image.stem}-image.png")
        pairs.append(Pair(folder / f"{pair.image.stem}-image.png", pair.labels))
    return replace(material, pairs={"train": pairs, "val": pairs})


def test_labels_that_say_nothing_or_too_much_are_told(tmp_path: Path) -> None:
    void = colored([np.full((64, 96), 255, np.uint8)], tmp_path, (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(BenchError, match="no pixel of the training images"):
        retrieval.remember(PLAN, void)
    with pytest.raises(BenchError, match="has label 7: the protocol knows 0 to 2"):
        retrieval.count_labels(np.full((64, 96), 7, np.uint8), PLAN)


@pytest.mark.parametrize("plan", [PLAN, PUBLISHED], ids=["corrected", "published"])
def test_perfect_cells_give_the_bound_of_their_grid(plan: RetrievalPlan, tmp_path: Path) -> None:
    labels = [np.kron(RNG.integers(0, 3, (4, 6)), np.ones((16, 16), int)).astype(np.uint8) for _ in range(4)]
    labels[1][:16, :16] = 255
    mean, std = (retrieval.MEAN, retrieval.STD) if plan.published else ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    material = colored(labels, tmp_path, mean, std)
    whole = material_of(labels, 3, tmp_path)
    material.__dict__.update(val=whole.val)
    found = retrieval.probe(plan, material)
    cells = torch.from_numpy(np.asarray(whole.val.cells, np.float32))
    bound = np.stack([compare(one, label, "image") for one, label in zip(cells, labels, strict=True)])
    assert 85 < segmentation_scores(bound.sum(0)).miou < 100
    assert found.metrics["mIoU"] == pytest.approx(segmentation_scores(bound.sum(0)).miou, abs=5)
    assert found.images == 4 and 90 < found.training_cells <= 4 * 24
    assert retrieval.probe(plan, material).metrics == found.metrics
