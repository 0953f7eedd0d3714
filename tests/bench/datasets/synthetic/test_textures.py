import numpy as np
import pytest

from bench.datasets.synthetic.textures import PERIODS, SIDE, TEXTURES, noise, sample, tile


@pytest.mark.parametrize("name", TEXTURES)
def test_tiles_fill_the_unit_range_and_have_structure(name):
    values = tile(name)
    assert values.shape == (SIDE, SIDE)
    assert values.dtype == np.float32
    assert values.min() == 0
    assert values.max() == 1
    assert values.std() > 0.1


@pytest.mark.parametrize("name", TEXTURES)
def test_tiles_are_periodic(name):
    """The step across the seam is no larger than the largest step between two neighbouring rows or columns."""
    values = tile(name)
    for axis in (0, 1):
        inside = np.abs(np.diff(values, axis=axis)).mean(axis=1 - axis).max()
        seam = np.abs(np.take(values, 0, axis) - np.take(values, -1, axis)).mean()
        assert seam <= 1.1 * inside


def test_textures_differ_from_each_other():
    shapes = np.stack([tile(name).ravel() - tile(name).mean() for name in TEXTURES])
    correlation = np.corrcoef(shapes) - np.eye(len(TEXTURES))
    assert np.abs(correlation).max() < 0.9


def test_sampling_reads_the_tile_at_its_nodes_and_wraps_around():
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    scale = PERIODS / SIDE
    for shift in (0, PERIODS, -2 * PERIODS):
        np.testing.assert_allclose(sample("cells", x * scale + shift, y * scale), tile("cells"), atol=1e-6)


def test_noise_is_normalised_and_falls_with_frequency():
    field = noise(1.5)
    assert abs(field.mean()) < 1e-6
    assert field.std() == pytest.approx(1, abs=1e-5)
    spectrum = np.abs(np.fft.rfft2(field))
    low, high = spectrum[1:8, 1:8].mean(), spectrum[80:120, 80:120].mean()
    assert low / high == pytest.approx((np.hypot(100, 100) / np.hypot(4, 4)) ** 1.5, rel=0.6)
