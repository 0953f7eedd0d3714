"""Measures without labels against plain linear algebra."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from probe_parts import material_of

from bench.errors import BenchError
from bench.probes.kinds import rank
from bench.probes.plans import LidarPlan, RankPlan

RNG = np.random.default_rng(0)


def entropy_rank(values: NDArray[np.float64]) -> float:
    p = values / values.sum()
    return float(np.exp(-sum(one * np.log(one) for one in p if one > 0)))


@pytest.mark.parametrize("values", [[1.0, 1.0, 1.0, 1.0], [5.0, 0.0, 0.0], [3.0, 2.0, 0.5, -1e-18]])
def test_the_effective_rank_is_that_of_the_entropy(values: list[float]) -> None:
    found = rank.effective_rank(np.array(values))
    assert found == pytest.approx(entropy_rank(np.clip(values, 0, None)))
    assert 1 - 1e-12 <= found <= len(values) + 1e-12


def test_rankme_is_that_of_the_singular_values(tmp_path: Path) -> None:
    labels = [RNG.integers(0, 3, (64, 96)).astype(np.uint8) for _ in range(5)]
    material = material_of(labels, 3, tmp_path, card=SimpleNamespace(architecture="resnet18"))
    cells = RNG.normal(size=(5, 300, 4, 6)) * RNG.uniform(0.01, 3, 300)[:, None, None]
    material.val.__dict__["cells"] = cells.astype(np.float16)
    found = rank.probe_rank(RankPlan("rank", (64, 96)), material)
    flat = material.val.cells.astype(np.float64).transpose(0, 2, 3, 1).reshape(-1, 300)
    for name, x in (
        ("RankMe", flat),
        ("RankMe shallow", flat[:, :256]),
        ("RankMe deep", flat[:, 256:]),
        ("RankMe images", flat.reshape(5, 24, 300).mean(1)),
    ):
        spectrum = np.linalg.svd(x, compute_uv=False)
        assert found.metrics[name] == pytest.approx(100 * entropy_rank(spectrum) / min(x.shape), rel=1e-6)
    assert found.images == 5 and found.training_cells == 0 and not found.shares


def test_lidar_is_that_of_the_whitened_scatter() -> None:
    means, views = RNG.normal(size=(9, 6)), RNG.normal(size=(40, 6))
    within = views.T @ views / 40
    between = np.cov(means.T, bias=True)
    scale = (np.trace(between) + np.trace(within)) / 6
    values, vectors = np.linalg.eigh(within / scale + 0.01 * np.eye(6))
    whitening = vectors @ np.diag(values**-0.5) @ vectors.T
    spectrum = np.linalg.eigvalsh(whitening @ (between / scale) @ whitening)
    expected = 100 * entropy_rank(spectrum) / 6
    assert rank.lidar_share(means, within, 0.01) == pytest.approx(expected)
    assert rank.lidar_share(9 * means, 81 * within, 0.01) == pytest.approx(expected)  # of any unit
    assert rank.lidar_share(np.ones((4, 3)), np.zeros((3, 3)), 0.01) <= 100  # collapsed onto one point


def test_lidar_takes_the_views_of_every_image(tmp_path: Path) -> None:
    labels = [np.zeros((64, 96), np.uint8) for _ in range(3)]
    seen: list[torch.Tensor] = []
    card = SimpleNamespace(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), color_order="RGB")

    def cells(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x

    material = material_of(labels, 3, tmp_path, card=card, channels=3, cells_of_input=cells)
    for pair in material.pairs["val"]:
        Image.fromarray(RNG.integers(0, 256, (64, 96, 3)).astype(np.uint8)).save(pair.image)
    found = rank.probe_lidar(LidarPlan("lidar", (64, 96), 4, 1e-4), material)
    assert [x.shape for x in seen] == [(4, 3, 64, 96)] * 3
    embeddings = np.stack([x.mean((2, 3)).double().numpy() for x in seen])
    spread = embeddings - embeddings.mean(1, keepdims=True)
    within = np.einsum("nqc,nqd->cd", spread, spread) / 12
    assert found.metrics["LiDAR"] == pytest.approx(rank.lidar_share(embeddings.mean(1), within, 1e-4))
    with pytest.raises(BenchError):
        LidarPlan("lidar", (64, 96), 1, 1e-4)
