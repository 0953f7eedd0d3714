"""Corruptions against scipy and Pillow, and a probe whose copies are as good as clean."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from probe_parts import material_of, perfect_cells
from scipy.ndimage import gaussian_filter

from bench.errors import BenchError
from bench.metrics.segmentation import segmentation_scores
from bench.metrics.uncertainty import segmentation_shares
from bench.probes.corruptions import corrupt
from bench.probes.kinds import classifier, robustness
from bench.probes.plans import ClassifierPlan, RobustnessPlan

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (40, 50, 3)).astype(np.uint8)


def test_noise_has_its_strength_and_is_each_image_s_own() -> None:
    flat = np.full((100, 100, 3), 128, np.uint8)
    noisy = corrupt(flat, "noise", 0.1, 5).astype(float)
    assert noisy.mean() == pytest.approx(128, abs=1) and noisy.std() == pytest.approx(25.5, rel=0.02)
    assert np.array_equal(noisy, corrupt(flat, "noise", 0.1, 5))
    others = [corrupt(flat, "noise", 0.1, 6), corrupt(flat, "noise", 0.05, 5)]
    assert all(abs(np.corrcoef(noisy.ravel(), other.ravel())[0, 1]) < 0.03 for other in others)


def test_blur_is_scipy_s() -> None:
    ours = corrupt(PICTURE, "blur", 2.0, 0).astype(float)
    theirs = gaussian_filter(PICTURE.astype(float), (2, 2, 0), mode="mirror", radius=(6, 6, 0))
    assert np.abs(ours - theirs).max() <= 0.51


def test_brightness_contrast_and_jpeg_are_their_formulas() -> None:
    x = PICTURE / 255
    bright, mean = np.clip(x + 0.3, 0, 1), x.mean((0, 1))
    assert np.abs(corrupt(PICTURE, "brightness", 0.3, 0) - 255 * bright).max() <= 0.51
    assert np.abs(corrupt(PICTURE, "contrast", 0.35, 0) - 255 * (mean + 0.35 * (x - mean))).max() <= 0.51
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, "JPEG", quality=15)
    assert np.array_equal(corrupt(PICTURE, "jpeg", 15, 0), np.asarray(Image.open(file)))


def test_metrics_are_means_over_copies(tmp_path: Path) -> None:
    """A network that sees no noise, and takes every bright image for the first one."""
    labels = [np.kron(RNG.integers(0, 3, (4, 6)), np.ones((16, 16), int)).astype(np.uint8) for _ in range(5)]
    cells = torch.from_numpy(perfect_cells(labels, 3)).float()
    calls: list[bool] = []

    def see(images: np.ndarray) -> torch.Tensor:
        calls.append(bool(images.mean() > 200))
        return cells[:1].expand(5, -1, -1, -1) if calls[-1] else cells

    material = material_of(labels, 3, tmp_path, cells=see)
    for pair in material.pairs["val"]:
        Image.fromarray(np.full((64, 96, 3), 100, np.uint8)).save(pair.image)
    common = ((64, 96), 3, 1000, 0.2, (0.001,), {"iterations": 50})
    plan = RobustnessPlan("robustness", *common, corruptions={"noise": (0.1, 0.2), "brightness": (0.6,)})
    found = robustness.probe(plan, material)
    clean = classifier.probe(ClassifierPlan("linear", *common), material)
    assert calls == [False, False, True] and found.chosen == 0.001
    counts = found.arrays["counts"]
    assert counts.shape == (5, 3, 3, 3) and np.array_equal(found.arrays["clean"], clean.arrays["counts"])
    expected = [segmentation_scores(counts[:, copy].sum(0)).miou for copy in range(3)]
    assert found.metrics["mIoU clean"] == found.metrics["mIoU noise"] == clean.metrics["mIoU"] == expected[0]
    assert found.metrics["mIoU brightness"] == expected[2] < expected[0]
    assert found.metrics["mIoU"] == pytest.approx(np.mean(expected))
    shares = [segmentation_shares(counts[:, copy])["mIoU"] for copy in range(3)]
    np.testing.assert_allclose(found.shares["mIoU"], np.mean(shares, 0))


def test_a_copy_beyond_what_is_stored_is_told(tmp_path: Path) -> None:
    """Cells that are finite in float32, but not in the float16 in which those of clean images are stored."""
    labels = [np.kron(RNG.integers(0, 3, (4, 6)), np.ones((16, 16), int)).astype(np.uint8) for _ in range(5)]
    cells = 1e5 * torch.from_numpy(perfect_cells(labels, 3)).float()
    material = material_of(labels, 3, tmp_path, cells=lambda images: cells, card=SimpleNamespace(name="large"))
    for pair in material.pairs["val"]:
        Image.fromarray(np.full((64, 96, 3), 100, np.uint8)).save(pair.image)
    common = ((64, 96), 3, 1000, 0.2, (0.001,), {"iterations": 5})
    with pytest.raises(BenchError, match="a cell of large is not finite in float16"):
        robustness.probe(RobustnessPlan("robustness", *common, corruptions={"noise": (0.1,)}), material)


def test_unknown_corruptions_are_refused() -> None:
    common = ((64, 96), 3, 1000, 0.2, (0.001,), {"iterations": 50})
    for corruptions in ({}, {"snow": (1.0,)}, {"noise": ()}, {"noise": (-1.0,)}):
        with pytest.raises(BenchError):
            RobustnessPlan("robustness", *common, corruptions=corruptions)
