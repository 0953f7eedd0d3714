"""Probes on the data sets of central squares, COCO-Stuff-27 and CUB-200, and on ADE20K: what counts, and whole runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.checkpoints import import_checkpoint
from bench.datasets import check
from bench.datasets.masks import load_foreground
from bench.datasets.pairs import segmentation_pairs
from bench.errors import BenchError
from bench.probes.cells import read_scaled
from bench.probes.runner import run_probe
from bench.protocols import load_protocol
from leaderboard.records import Result

RNG = np.random.default_rng(0)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three training and two validation images of each data set, wider than high; objects are brighter."""
    root = tmp_path_factory.mktemp("squares")
    for split, ade, count in (("train", "training", 3), ("val", "validation", 2)):
        for i in range(count):
            labels = np.zeros((64, 96), np.uint8)
            labels[16:48, 32:64] = 1
            pixels = 60 + 120 * labels[:, :, None] + RNG.integers(0, 40, (64, 96, 3))
            save(root / f"coco/{split}2017/{i}.jpg", pixels)
            save(root / f"coco/stuffthingmaps27/{split}2017/{i}.png", np.where(labels, 3, 26))
            save(root / f"CUB_200_2011/images/a/{split}{i}.jpg", pixels)
            save(root / f"CUB_200_2011/segmentations/a/{split}{i}.png", 200 * labels)
            save(root / f"ADEChallengeData2016/images/{ade}/{i}.jpg", pixels)
            save(root / f"ADEChallengeData2016/annotations/{ade}/{i}.png", 150 * labels)
        names = "".join(f"{i}\n" for i in range(count))
        for path, text in (
            (f"coco/curated/{split}2017/Coco164kFull_Stuff_Coarse_7.txt", names),
            (f"CUB_200_2011/lists/{split}.txt", "".join(f"a/{split}{i}\n" for i in range(count))),
        ):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
    return root


def run(protocol: str, root: Path, folder: Path, **plan: object) -> Result:
    loaded = load_protocol(protocol)
    loaded = replace(loaded, plan=replace(loaded.plan, **plan))
    checkpoint = import_checkpoint("random:resnet18:0", name="random", work=folder)
    reference = check(root, loaded.dataset).reference()
    return run_probe(loaded, checkpoint, root, reference, 0, folder / "transfers" / protocol)


@pytest.mark.parametrize("dataset", ["cocostuff27", "cub200"])
def test_pictures_and_masks_are_central_squares(root: Path, dataset: str) -> None:
    (first, *_) = pairs = segmentation_pairs(root, dataset, "train")
    assert [pair.image.stem[-1] for pair in pairs] == ["0", "1", "2"]
    whole = np.asarray(Image.open(first.image))
    assert np.array_equal(read_scaled(first, (64, 64)), whole[:, 16:80])
    labels = first.load_labels()
    assert labels.shape == (64, 64) and (labels[16:48, 16:48] == (3 if dataset == "cocostuff27" else 1)).all()
    assert (labels == (26 if dataset == "cocostuff27" else 0)).mean() == 0.75


def test_foreground_is_the_first_channel_above_half(tmp_path: Path) -> None:
    values = np.array([[0, 127, 128, 255]], np.uint8)
    save(tmp_path / "gray.png", values)
    save(tmp_path / "color.png", np.stack([values, 255 - values, values, values], 2))
    for name in ("gray.png", "color.png"):
        assert load_foreground(tmp_path / name).tolist() == [[0, 0, 1, 1]]
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(BenchError, match=r"bad\.png cannot be read"):
        load_foreground(tmp_path / "bad.png")


def test_clusters_of_stuff_are_named_and_some_images_are_enough(root: Path, tmp_path: Path) -> None:
    result = run("frozen_stuff27_clusters", root, tmp_path, size=(64, 64), images=2, runs=1)
    assert result.probe is not None and result.probe.training_cells == 2 * 16
    assert 0 < result.metrics["mIoU"] <= 100 and result.probe.images_evaluated == 2
    again = run("frozen_stuff27_clusters", root, tmp_path, size=(64, 64), images=5, runs=1)  # there are three
    assert again.probe is not None and again.probe.training_cells == 3 * 16
    assert len(list((tmp_path / "features").iterdir())) == 3  # val, all of train, and some of it


def test_birds_are_measured_in_squares(root: Path, tmp_path: Path) -> None:
    result = run("frozen_cub_foreground", root, tmp_path, clusters=2, size=(128, 128))
    assert 0 < result.metrics["IoU oracle"] <= 100 and {"IoU", "IoU center", "accuracy"} < result.metrics.keys()
    with np.load(tmp_path / "transfers/frozen_cub_foreground/counts.npz") as kept:
        assert kept["counts"].sum((2, 3)).tolist() == [[64 * 64] * 3] * 2


def test_what_none_of_ade_s_classes_covers_does_not_count(root: Path, tmp_path: Path) -> None:
    result = run("frozen_ade_seg_knn", root, tmp_path, size=(64, 96))
    assert result.metrics["mIoU"] == 100  # there is one class, the last


def test_what_is_missing_is_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="cub200: images and masks of val are not complete"):
        segmentation_pairs(tmp_path, "cub200", "val")
