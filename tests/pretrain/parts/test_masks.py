import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pretrain.parts.masks import draw_regions, most_frequent, one_hot, pool


def test_pool_is_the_mean_over_the_mask() -> None:
    torch.manual_seed(0)
    features, masks = torch.randn(2, 5, 3, 3).double(), torch.rand(2, 4, 3, 3).double()
    masks[0, 1] = 0
    vectors, area = pool(features, masks)
    for n in range(2):
        for r in range(4):
            assert area[n, r] == pytest.approx(masks[n, r].sum().item())
            weighted = (features[n] * masks[n, r]).sum((1, 2)) / (masks[n, r].sum() if area[n, r] else 1)
            torch.testing.assert_close(vectors[n, r], weighted)
    assert not vectors[0, 1].any()
    # Masks that divide the map: the means weighted by area are the whole map's.
    hard = F.one_hot(torch.randint(0, 4, (2, 3, 3)), 4).permute(0, 3, 1, 2)
    vectors, area = pool(features, hard > 0)
    torch.testing.assert_close((vectors * area[:, :, None]).sum(1) / 9, features.mean((2, 3)))


def test_what_is_hardly_seen_counts_little() -> None:
    """Sums over less than the least area are divided by that: of a constant map, the area is what is left of it."""
    constant = torch.full((1, 2, 2, 2), 3.0)
    masks = torch.tensor([[[[0.5, 0.25], [0, 0]], [[1, 1], [0, 1]], [[0, 0], [0, 0]]]])
    vectors, area = pool(constant, masks, least_area=1)
    assert area.tolist() == [[0.75, 3, 0]]
    assert vectors.tolist() == [[[2.25, 2.25], [3, 3], [0, 0]]]


def test_one_hot_maps_divide_what_they_name() -> None:
    labels = torch.tensor([[[0, 2], [5, 1]]])
    masks = one_hot(labels, 3, torch.float64)
    assert masks.sum(1).tolist() == [[[1, 1], [0, 1]]]
    assert torch.equal(masks.argmax(1)[labels < 3], labels[labels < 3])


def test_the_most_frequent_label_is_that_of_a_count() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (3, 6, 6))
    cells = most_frequent(torch.from_numpy(labels), 2, count=4)
    for n, r, c in np.ndindex(3, 2, 2):
        assert cells[n, r, c] == np.bincount(labels[n, 3 * r : 3 * r + 3, 3 * c : 3 * c + 3].ravel()).argmax()


def test_regions_are_drawn_uniformly_among_those_present() -> None:
    torch.manual_seed(0)
    cells = torch.tensor([[[3, 3], [3, 9]], [[5, 5], [5, 5]]])
    drawn, count = draw_regions(cells, 4000)
    assert count.tolist() == [2, 1]
    assert set(drawn[0].tolist()) == {3, 9}
    assert (drawn[0] == 3).double().mean().item() == pytest.approx(0.5, abs=0.03)
    assert (drawn[1] == 5).all()


def test_without_replacement_all_that_a_map_holds_come_first() -> None:
    torch.manual_seed(0)
    cells = torch.tensor([[[3, 3], [3, 9]], [[5, 1], [0, 7]]]).repeat(500, 1, 1)
    drawn, held = draw_regions(cells, 3, count=10, replacement=False)
    assert held.tolist() == [2, 4] * 500
    assert all(len(set(row)) == 3 for row in drawn.tolist())
    assert all(set(row[:2]) == {3, 9} for row in drawn[::2].tolist())
    assert all(set(row) < {5, 1, 0, 7} for row in drawn[1::2].tolist())
    assert (drawn[1::2] == 5).any(1).double().mean().item() == pytest.approx(3 / 4, abs=0.06)
    assert (drawn[::2, 0] == 3).double().mean().item() == pytest.approx(1 / 2, abs=0.07)
