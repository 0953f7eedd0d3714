from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.benchmarks.region_overlap import best_overlaps, by_attention, enlarged, measure
from bench.datasets.pairs import Pair
from pretrain.discovery.attention import ObjectMasks
from pretrain.nets.vit import VisionTransformer


def test_best_overlap_is_that_of_a_plain_search() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 3, 7, 255], size=(9, 11))
    regions = rng.integers(0, 5, size=(9, 11)) * 100
    expected = []
    for label in (3, 7):
        ious = []
        for region in np.unique(regions):
            a, b = (labels == label), (regions == region) & (labels != 255)
            ious.append((a & b).sum() / (a | b).sum())
        expected.append(max(ious))
    np.testing.assert_allclose(best_overlaps(regions, labels), expected, rtol=1e-12)


def test_the_labels_themselves_overlap_fully_and_one_region_by_the_class_share() -> None:
    labels = np.array([[0, 0, 5, 5], [0, 255, 5, 9]])
    assert best_overlaps(labels, labels).tolist() == [1, 1]
    assert best_overlaps(labels * 0, labels).tolist() == pytest.approx([3 / 7, 1 / 7])
    assert best_overlaps(labels, labels * 0).size == 0


def test_below_zero_is_no_region() -> None:
    labels = np.array([[0, 0, 5, 5], [0, 255, 5, 9]])
    assert best_overlaps(np.where(labels == 9, 0, -1), labels).tolist() == [0, 1]
    assert best_overlaps(labels * 0 - 1, labels).tolist() == [0, 0]


def test_an_object_by_attention_is_maskdistills() -> None:
    torch.manual_seed(0)
    network = VisionTransformer(12, 6, depth=4, patch=4, grid=4).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    pixels = torch.randn(1, 3, 16, 24)
    with torch.no_grad():
        prior, found = by_attention(network, pixels)
        assert np.array_equal(found, ObjectMasks().find(network, pixels))
    assert prior.shape == found.shape == (4, 6) and prior.any() and not prior.all()


def test_regions_are_enlarged_to_the_nearest() -> None:
    assert enlarged(np.array([[1, 2], [3, 4]]), 4, 2).tolist() == [[1, 2], [1, 2], [3, 4], [3, 4]]


def test_every_way_is_measured_and_drawn(tmp_path: Path) -> None:
    """A picture of two halves of different color: superpixels in two groups fit it, and one image has no class."""
    (tmp_path / "photo").mkdir()
    labels = np.zeros((48, 64), np.uint8)
    labels[:, 32:] = 4
    pixels = np.where(labels[:, :, None] > 0, [220, 30, 30], [20, 60, 200]) + np.random.default_rng(0).integers(
        -8, 9, (48, 64, 3)
    )
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photo" / "a.png")
    Image.fromarray(labels).save(tmp_path / "a-labels.png")
    Image.fromarray(labels * 0).save(tmp_path / "b-labels.png")
    pairs = [Pair(tmp_path / "photo" / "a.png", tmp_path / f"{name}-labels.png") for name in "ab"]
    found = measure(pairs, {"colors": torch.nn.AvgPool2d(8)}, clusters=2, side=96, pictures=tmp_path)
    assert all(values.shape == (1,) and 0 < values[0] <= 1 for values in found.values())
    assert found["grouped superpixels, colors"] > 0.9 and found["grouped cells, colors"] > 0.9
    assert found["superpixels"] < 0.5
    assert found["drawn groups"] < 0.9
    assert Image.open(tmp_path / "a.png").size == (64 * 5, 48)
