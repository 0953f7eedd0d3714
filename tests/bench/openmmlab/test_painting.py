"""Label maps painted from predictions, by the published rule and the corrected one, and the run that writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from object_tables import a_table
from short_protocols import checkpoint, reference, short

from bench.datasets import check, generate
from bench.datasets.discovered import read_discovered
from bench.openmmlab.prepare import prepare_openmmlab
from bench.openmmlab.runner import evaluate_stored, run_transfer
from bench.protocols import load_protocol
from pretrain.discovery.object_table import OUTSIDE, spread

prepare_openmmlab()

from bench.openmmlab.painting import SIDE, TABLE, cells_of_map, paint  # noqa: E402

RNG = np.random.default_rng(0)


def blocks(count: int) -> np.ndarray:
    masks = np.zeros((count, 12, 14), bool)
    for mask in masks:
        top, left = RNG.integers(0, 9), RNG.integers(0, 11)
        mask[top : top + RNG.integers(0, 6), left : left + RNG.integers(1, 6)] = True
    return masks


@pytest.mark.parametrize("published", [True, False])
def test_painting_is_the_plain_procedure(published: bool) -> None:
    different = 0
    for _ in range(60):
        masks, clusters = blocks(6), RNG.integers(0, 20, 6)
        scores = RNG.choice([0.3, 0.92, 0.95, 0.99], 6) + 0.0001 * np.arange(6)
        canvas = np.zeros((12, 14), np.uint8)
        overwritten = False
        for i in sorted(range(6), key=lambda i: -scores[i]):
            if scores[i] < 0.9 and scores.max() >= 0.9:
                continue
            if scores.max() < 0.9 and scores[i] < scores.max():
                continue
            # the published code indexes rows by the mask's zeros and ones
            taken = canvas[masks[i].astype(np.uint8)].any() if published else canvas[masks[i]].any()
            if not taken:
                overwritten |= bool(canvas[masks[i]].any())
                canvas[masks[i]] = 1 + clusters[i]
        assert np.array_equal(paint(masks, clusters, scores, published=published), canvas)
        different += overwritten
    assert (different > 0) == published


def test_an_image_without_predictions_is_background() -> None:
    none = np.zeros((0, 5, 7), bool)
    assert not paint(none, np.zeros(0, int), np.zeros(0), published=True).any()
    whole = np.ones((1, 1, 7), bool)  # an image of one row, all of it an object
    assert (paint(whole, np.array([4]), np.array([0.1]), published=True) == 5).all()


@pytest.mark.parametrize("size", [(100, 60), (300, 130), (7, 500)])
def test_rows_hold_the_map_as_cells(size: tuple[int, int]) -> None:
    labels = RNG.integers(0, 21, size).astype(np.uint8)
    row = cells_of_map(labels, "a.jpg")
    cell = int(row["cell"])
    back = spread(row, *size)
    assert cell == -(-max(size) // SIDE) and back.max() < OUTSIDE
    assert np.array_equal(back[cell // 2 :: cell, cell // 2 :: cell], labels[cell // 2 :: cell, cell // 2 :: cell])
    if cell == 1:
        assert np.array_equal(back, labels)


@pytest.mark.slow
def test_the_table_of_a_run_takes_the_place_of_the_discovered_one(tmp_path: Path) -> None:
    data = tmp_path / "data"
    generate(data, train=4, val=2, pretrain=0)
    listed = (data / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt").read_text().split()
    table = a_table([f"{name}.jpg" for name in listed], data / "maskdistill" / "voc2012.npy")
    protocol = short("mini_voc_maskdistill_mrcnn")
    weights = checkpoint(tmp_path / "work")
    result = run_transfer(protocol, weights, data, reference(protocol), 0, tmp_path / "run")
    assert result.status == "finished" and 0 <= result.metrics["mIoU"] <= 100 and "mIoU" in result.standard_errors
    assert evaluate_stored(protocol, weights, data, tmp_path / "run", tmp_path / "again") == result.metrics
    assert not (tmp_path / "again" / TABLE).exists()
    before = check(data, load_protocol("mini_voc_maskdistill").dataset).fingerprint
    table.write_bytes((tmp_path / "run" / TABLE).read_bytes())
    assert set(read_discovered(table, 20)) == {f"{name}.jpg" for name in listed}
    report = check(data, "voc2012_maskdistill")
    assert not report.errors and report.fingerprint != before
