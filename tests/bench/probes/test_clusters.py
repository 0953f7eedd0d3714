"""Unsupervised segmentation: k-means against scikit-learn, names against every permutation, perfect cells."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from probe_parts import material_of
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from bench.errors import BenchError
from bench.metrics.segmentation import confusion_matrix, segmentation_scores
from bench.probes.kinds import clusters
from bench.probes.kmeans import Components, fit_centers, nearest
from bench.probes.plans import ClusterPlan

RNG = np.random.default_rng(0)
X = torch.from_numpy(RNG.normal(size=(400, 6)) @ RNG.normal(size=(6, 6)) + 3)


def plan_of(classes: int, many: int, naming: str, runs: int = 2) -> ClusterPlan:
    return ClusterPlan("clusters", (64, 96), classes, 1000, many, naming, dimensions=9, iterations=50, runs=runs)


def test_centers_are_scikit_learn_s() -> None:
    ours = fit_centers(X, 7, iterations=200, rng=np.random.default_rng(1))
    seeds = fit_centers(X, 7, iterations=0, rng=np.random.default_rng(1))
    theirs = KMeans(7, init=seeds.numpy(), n_init=1, tol=0, max_iter=200).fit(X.numpy())
    np.testing.assert_allclose(ours.numpy(), theirs.cluster_centers_, atol=1e-9)
    assert nearest(X, ours).tolist() == theirs.labels_.tolist()


def test_seeds_are_far_from_one_another() -> None:
    """Of five distinct vectors that occur often, k-means++ never draws one twice."""
    points = torch.eye(5, dtype=torch.float64).repeat(20, 1)
    for seed in range(10):
        centers = fit_centers(points, 5, iterations=0, rng=np.random.default_rng(seed))
        assert sorted(centers.argmax(1).tolist()) == list(range(5))


def test_components_are_scikit_learn_s() -> None:
    ours = Components.of(X, 3)(X).numpy()
    theirs = PCA(3, svd_solver="full").fit_transform(StandardScaler().fit_transform(X.numpy()))
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_hungarian_is_the_best_permutation(seed: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 50, (5, 5))
    counts[3] *= seed % 2  # a class that does not occur
    found = segmentation_scores(counts[:, np.argsort(clusters.name_clusters(counts, "hungarian"))])
    every = [segmentation_scores(counts[:, list(order)]) for order in permutations(range(5))]
    assert np.nansum(found.iou) == pytest.approx(max(np.nansum(one.iou) for one in every))


@pytest.mark.parametrize("seed", range(3))
def test_most_pixels_are_right_by_the_best_permutation(seed: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 50, (5, 5))
    names = clusters.name_clusters(counts, "pixels")
    assert counts[names, range(5)].sum() == max(counts[list(order), range(5)].sum() for order in permutations(range(5)))


def test_majority_is_the_class_of_most_pixels() -> None:
    counts = np.array([[5, 1, 0, 2], [4, 3, 0, 2]])
    assert clusters.name_clusters(counts, "majority").tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize(("many", "naming"), [(3, "hungarian"), (3, "pixels"), (3, "majority")])
def test_perfect_cells_give_the_bound_of_their_grid(many: int, naming: str, tmp_path: Path) -> None:
    labels = [np.kron(RNG.integers(0, 3, (4, 6)), np.ones((20, 17), int)).astype(np.uint8) for _ in range(4)]
    labels[3][:9] = 255
    material = material_of(labels, 3, tmp_path)
    found = clusters.probe(plan_of(3, many, naming), material)
    assert found.metrics == {"mIoU": 100.0, "mAcc": 100.0, "aAcc": 100.0}  # each cell is of one class
    assert found.arrays["counts"].shape == (4, 2, 3, 3) and found.images == 4 and found.training_cells == 4 * 24
    assert found.arrays["counts"].sum() == 2 * sum((label != 255).sum() for label in labels)


def test_pixels_have_the_cluster_of_their_cell() -> None:
    labels = RNG.integers(0, 3, (7, 10)).astype(np.uint8)
    labels[2] = 255
    cells = np.array([[4, 1, 3], [0, 2, 2]])
    plan = plan_of(3, 5, "majority")
    table = clusters.tabulate(labels, cells, plan, "image")
    spread = np.array([[cells[y * 2 // 7, x * 3 // 10] for x in range(10)] for y in range(7)])
    names = np.array([2, 0, 1, 1, 0])
    total = np.zeros((3, 5), int)
    for y, x in zip(*np.nonzero(labels != 255), strict=True):
        total[labels[y, x], spread[y, x]] += 1
    assert dict(zip(*(part.tolist() for part in table), strict=True)) == {
        i: n for i, n in enumerate(total.reshape(-1).tolist()) if n
    }
    names = clusters.name_clusters(total, "majority")
    assert np.array_equal(clusters.renamed([table], plan)[0], confusion_matrix(labels, names[spread], 3))
    with pytest.raises(BenchError, match="image: label 2 is not one of the classes 0 to 1"):
        clusters.tabulate(labels, cells, plan_of(2, 5, "majority"), "image")


def test_a_cluster_plan_is_refused_where_names_cannot_be_given() -> None:
    for change in ((3, 4, "hungarian"), (3, 4, "pixels"), (3, 3, "best")):
        with pytest.raises(BenchError):
            plan_of(*change)


def test_too_few_cells_are_told(tmp_path: Path) -> None:
    material = material_of([np.zeros((64, 96), np.uint8)], 3, tmp_path)
    with pytest.raises(BenchError, match="24 cells, too few for 30 clusters"):
        clusters.probe(plan_of(3, 30, "majority"), material)
