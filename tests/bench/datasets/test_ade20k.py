"""ADE20K: what is listed, what label maps mean, and what a data set for fine-tuning holds."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.datasets import ade20k, check, expected_in
from bench.datasets.pairs import segmentation_pairs
from bench.errors import BenchError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two images of each part, whose label maps hold 0 to 150."""
    rng = np.random.default_rng(0)
    for split, folder in (("train", "training"), ("val", "validation")):
        for number in (2, 1):
            name = f"ADE_{split}_0000000{number}"
            for kind in ("images", "annotations"):
                (tmp_path / ade20k.FOLDER / kind / folder).mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (10, 16, 3), np.uint8)
            labels = np.resize(np.arange(151, dtype=np.uint8), (10, 16))
            Image.fromarray(pixels).save(tmp_path / ade20k.FOLDER / "images" / folder / f"{name}.jpg")
            Image.fromarray(labels).save(tmp_path / ade20k.FOLDER / "annotations" / folder / f"{name}.png")
    return tmp_path


def test_pairs_are_listed_and_classes_begin_with_0(root: Path) -> None:
    pairs = segmentation_pairs(root, "ade20k", "val")
    assert [pair.image.name for pair in pairs] == ["ADE_val_00000001.jpg", "ADE_val_00000002.jpg"]
    labels = pairs[0].load_labels()
    assert labels.dtype == np.uint8 and labels[0, :4].tolist() == [255, 0, 1, 2]
    assert set(np.unique(labels).tolist()) == {*range(ade20k.CLASSES), 255}


def test_the_check_knows_it_where_it_is(root: Path) -> None:
    assert "ade20k" in expected_in(root) and "ade20k" not in expected_in(root / ade20k.FOLDER)
    report = check(root, "ade20k")
    assert not report.errors and report.fingerprint
    assert report.reference().val_images == 2
    next((root / ade20k.FOLDER / "annotations" / "validation").iterdir()).unlink()
    assert check(root, "ade20k").errors
    with pytest.raises(BenchError, match="is missing"):
        segmentation_pairs(root, "ade20k", "val")
    with pytest.raises(BenchError, match="no image of train in"):
        segmentation_pairs(root / "elsewhere", "ade20k", "train")


def test_fine_tuning_loads_the_same_labels(root: Path) -> None:
    from bench.openmmlab import prepare_openmmlab
    from transfer_configs.parts import datasets

    prepare_openmmlab()
    from mmengine import DefaultScope
    from mmseg.registry import DATASETS

    config = datasets.ade20k("train", [{"type": "LoadStoredImage"}, {"type": "LoadLabelMap"}])
    with DefaultScope.overwrite_default_scope("mmseg"):
        dataset = DATASETS.build(config | {"data_root": str(root)})
    assert len(dataset) == 2 and len(dataset.metainfo["classes"]) == ade20k.CLASSES
    np.testing.assert_array_equal(
        dataset[0]["gt_seg_map"], segmentation_pairs(root, "ade20k", "train")[0].load_labels()
    )
