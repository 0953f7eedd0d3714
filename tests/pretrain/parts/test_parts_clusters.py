import numpy as np
import pytest
import torch
from plain_kmeans import plain_kmeans
from sklearn.cluster import KMeans
from torch import Tensor

from pretrain.parts.clusters import kmeans, start_draws


def points(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize("seed", range(4))
def test_each_set_is_clustered_as_by_the_plain_loop_and_by_scikit_learn(seed: int) -> None:
    x, draws = points(3, 40, 5, seed=seed), torch.from_numpy(np.random.default_rng(seed + 50).random((3, 6)))
    found = kmeans(x, draws)
    for g in range(3):
        labels, centers = plain_kmeans(list(x[g]), draws[g].tolist())
        assert found.labels[g].tolist() == labels
        torch.testing.assert_close(found.centers[g], centers)
    starts = kmeans(x, draws, iterations=0).centers
    fitted = KMeans(6, init=starts[0].numpy(), n_init=1, max_iter=100, tol=0, algorithm="lloyd").fit(x[0].numpy())
    assert found.labels[0].tolist() == fitted.labels_.tolist()
    np.testing.assert_allclose(found.centers[0], fitted.cluster_centers_, rtol=1e-9)


def test_points_left_out_move_no_center() -> None:
    x, draws = points(2, 30, 3), torch.from_numpy(np.random.default_rng(1).random((2, 4)))
    valid = torch.ones(2, 30, dtype=torch.bool)
    valid[:, ::3] = False
    found = kmeans(x, draws, valid=valid)
    for g in range(2):
        alone = kmeans(x[g][valid[g]][None], draws[g : g + 1])
        torch.testing.assert_close(found.centers[g : g + 1], alone.centers)
        assert found.labels[g][valid[g]].tolist() == alone.labels[0].tolist()
    distance = torch.cdist(x, found.centers)
    assert torch.equal(found.labels, distance.argmin(2))


def test_one_cluster_is_the_mean_and_equal_points_are_one_cluster() -> None:
    x = points(2, 10, 3)
    one = kmeans(x, torch.rand(2, 1).double())
    assert not one.labels.any()
    torch.testing.assert_close(one.centers[:, 0], x.mean(1))
    same = kmeans(torch.ones(1, 7, 2), torch.rand(1, 3))
    assert not same.labels.any() and same.centers.isfinite().all()
    two = kmeans(torch.tensor([[[0.0], [1.0], [1.0]]]), torch.tensor([[0.0, 0.5, 0.5, 0.5]]))
    assert two.labels.tolist() == [[0, 1, 1]]


def test_the_order_of_points_gives_their_order_to_labels() -> None:
    """From the same starting points, which the first draw of each chooses."""
    x = torch.cat([points(1, 8, 2) + 20 * k for k in range(3)], dim=1)
    draws = torch.tensor([[0.01, 0.5, 0.5]], dtype=torch.float64)
    turned = x.flip(1)
    groups = (kmeans(x, draws).labels.flip(1), kmeans(turned, draws).labels)
    partitions = [{tuple(np.flatnonzero(labels[0] == k)) for k in range(3)} for labels in groups]
    assert partitions[0] == partitions[1] == {tuple(range(8 * k, 8 * k + 8)) for k in range(3)}


def test_a_seed_decides_the_draws() -> None:
    torch.manual_seed(3)
    first = start_draws(2, 5)
    torch.manual_seed(3)
    assert torch.equal(first, start_draws(2, 5))
    assert first.shape == (2, 5) and bool(((first >= 0) & (first < 1)).all())
