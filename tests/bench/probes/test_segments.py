"""Segment retrieval: which segments are kept, which class is found, and what is told of bad labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from probe_parts import material_of

from bench.errors import BenchError
from bench.probes.kinds import segments
from bench.probes.plans import SegmentPlan

PLAN = SegmentPlan("segments", (64, 96), clusters=2, iterations=20, classes=4)


def objects(*classes: int) -> list[np.ndarray]:
    """Label maps with an object of each class in the middle; it is made of whole cells."""
    found = []
    for k in classes:
        label = np.zeros((64, 96), np.uint8)
        label[16:48, 32:80] = k
        found.append(label)
    return found


def test_a_segment_is_the_object_and_its_mean_has_unit_length(tmp_path: Path) -> None:
    material = material_of(objects(2), 4, tmp_path)
    mask, vector = segments.segment(PLAN, material.train, 0, material)
    expected = np.zeros((4, 6), bool)
    expected[1:3, 2:5] = True
    assert np.array_equal(mask, expected)
    torch.testing.assert_close(vector, torch.tensor([0.0, 0.0, 1.0, 0.0]))


def test_only_segments_with_a_class_are_remembered(tmp_path: Path) -> None:
    labels = objects(2, 1, 3)
    material = material_of(labels, 4, tmp_path)
    labels[1][16:48, 32:80] = 255  # void after the cells were made: no class
    labels[2][16:40, 32:80] = 1  # most of it
    for pair, label in zip(material.train.pairs, labels, strict=True):
        write(pair.labels, label)
    memory, classes, cells = segments.remember(PLAN, material.train, material)
    assert classes.tolist() == [2, 1] and memory.argmax(1).tolist() == [2, 3] and cells == 2 * 6


def test_perfect_cells_find_their_class(tmp_path: Path) -> None:
    found = segments.probe(PLAN, material_of(objects(1, 2, 3, 2), 4, tmp_path))
    assert found.metrics == {"mIoU": 100.0, "mAcc": 100.0, "aAcc": 100.0}
    assert found.images == 4 and found.training_cells == 4 * 6


def test_labels_that_say_nothing_or_too_much_are_told(tmp_path: Path) -> None:
    material = material_of(objects(0), 4, tmp_path)
    with pytest.raises(BenchError, match="no segment of the training images has a class"):
        segments.probe(PLAN, material)
    material = material_of(objects(3), 4, tmp_path)
    write(material.train.pairs[0].labels, objects(7)[0])
    with pytest.raises(BenchError, match=r"0\.png: label 7 is not one of 0 to 3"):
        segments.probe(PLAN, material)


def write(file: Path, label: np.ndarray) -> None:
    Image.fromarray(label).save(file)
