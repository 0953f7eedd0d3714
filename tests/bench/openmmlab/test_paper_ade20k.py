"""ADE20K's protocol of track paper: what it shares with VOC's, what is built at full size, and a small run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from reduced_segmentation import reduced
from short_protocols import checkpoint, reference
from training_plans import plan_of

from bench.datasets import ade20k
from bench.metrics.outputs import COUNTS
from bench.openmmlab import guards
from bench.openmmlab.build import build_model, resolve
from bench.openmmlab.runner import run_transfer
from bench.protocols import load_protocol
from pretrain.exported import read_exported

ADE, VOC = "paper_ade20k_fcn_d8_80k", "paper_voc12aug_seg_fcn_d8_20k"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of each part: a class in each half, and a strip that is not evaluated."""
    root, rng = tmp_path_factory.mktemp("ade20k"), np.random.default_rng(0)
    for folder in ("training", "validation"):
        for kind in ("images", "annotations"):
            (root / ade20k.FOLDER / kind / folder).mkdir(parents=True)
        for number in range(4):
            labels = np.full((64, 80), 1 + number, np.uint8)
            labels[:, 40:], labels[:8] = 150, 0
            pixels = rng.integers(0, 256, (64, 80, 3), np.uint8)
            Image.fromarray(pixels).save(root / ade20k.FOLDER / "images" / folder / f"{number}.jpg")
            Image.fromarray(labels).save(root / ade20k.FOLDER / "annotations" / folder / f"{number}.png")
    return root


def test_it_differs_from_vocs_in_data_classes_and_iterations() -> None:
    """As SlotCon's configuration differs from its own of VOC."""
    ours, voc = (dict(load_protocol(name).config) for name in (ADE, VOC))
    assert {key for key in ours if ours[key] != voc[key]} == {
        "protocol", "model", "train_dataloader", "test_dataloader", "train_cfg", "param_scheduler"
    }  # fmt: skip
    for loader in ("train_dataloader", "test_dataloader"):
        one, other = (config[loader]["dataset"]["pipeline"] for config in (ours, voc))
        assert one == other
    for head in ("decode_head", "auxiliary_head"):
        assert ours["model"][head] | {"num_classes": 21} == voc["model"][head]
        assert ours["model"][head]["num_classes"] == ade20k.CLASSES
    assert ours["train_cfg"]["max_iters"] == 80_000
    assert ours["param_scheduler"][0] | {"end": 20_000} == voc["param_scheduler"][0]


@pytest.mark.slow
def test_what_is_built_at_full_size(backbone: Path) -> None:
    protocol, exported = load_protocol(ADE), read_exported(backbone)
    model = build_model(resolve(protocol, exported.card, Path("/data")), dict(exported.tensors), seed=0)
    guards.check_segmenter(model, plan_of(protocol))
    guards.check_trained(model.train())
    model.to("meta")
    maps = model.extract_feat(torch.empty(16, 3, 512, 512, device="meta"))
    assert model.decode_head(maps).shape == model.auxiliary_head(maps).shape == (16, 150, 64, 64)


@pytest.mark.slow
def test_a_small_run_is_whole(data: Path, backbone: Path, tmp_path: Path) -> None:
    protocol = reduced(ADE)
    result: Any = run_transfer(protocol, backbone, data, reference(protocol), 0, tmp_path / "run")
    assert result.status == "finished" and set(result.metrics) == {"mIoU", "mAcc", "aAcc"}
    assert (result.training.images_seen, result.training.frozen_parameters) == (4, 0)
    with np.load(tmp_path / "run" / COUNTS) as kept:
        counts = kept["counts"].sum(0)
    assert counts.sum() == 4 * 56 * 80 and np.flatnonzero(counts.sum(1)).tolist() == [0, 1, 2, 3, 149]
