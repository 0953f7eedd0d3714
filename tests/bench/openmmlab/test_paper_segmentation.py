"""The segmentation protocols of track paper: as built at full size, and as run at reduced size."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from augmented_voc import with_train_aug
from reduced_segmentation import PAPER_SEGMENTATION, reduced
from short_protocols import checkpoint, reference

from bench.metrics.outputs import COUNTS
from bench.openmmlab import prepare_openmmlab
from bench.openmmlab.build import build_model, resolve
from bench.openmmlab.runner import evaluate_stored, run_transfer
from bench.openmmlab.stored_weights import WEIGHTS
from bench.protocols import load_protocol
from pretrain.exported import ExportedBackbone, read_exported

prepare_openmmlab()

VOC, CITY = PAPER_SEGMENTATION
HEADINGS = (
    "Purpose", "Metric", "Architecture", "Schedule", "Published", "Differs from the papers", "Tested", "Cost"
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated data with the list train_aug."""
    root = with_train_aug(tiny_data, tmp_path_factory.mktemp("paper") / "data")
    (root / "cityscapes").symlink_to(tiny_data / "cityscapes")
    return root


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory: pytest.TempPathFactory) -> ExportedBackbone:
    return read_exported(checkpoint(tmp_path_factory.mktemp("work"), "resnet50"))


@pytest.mark.parametrize(("protocol_id", "crop", "cells", "classes"), [(VOC, 512, 64, 21), (CITY, 769, 97, 19)])
def test_a_resnet50_at_full_size(
    protocol_id: str, crop: int, cells: int, classes: int, resnet50: ExportedBackbone
) -> None:
    """Shapes alone: tensors of the meta device have no values."""
    protocol = load_protocol(protocol_id)
    model = build_model(resolve(protocol, resnet50.card, Path("/data")), dict(resnet50.tensors), seed=0).to("meta")
    batch = protocol.plan.batch_size  # type: ignore[union-attr]
    assert (batch * protocol.plan.iterations) == 320_000  # type: ignore[union-attr]
    maps = model.extract_feat(torch.empty(batch, 3, crop, crop, device="meta"))
    assert [tuple(one.shape[1:]) for one in maps[2:]] == [(1024, cells, cells), (2048, cells, cells)]
    assert model.decode_head(maps).shape == model.auxiliary_head(maps).shape == (batch, classes, cells, cells)
    # three convolutions, the third of 2048 + 512 channels, their norms, and a classifier with bias
    head = 9 * 512 * (2048 + 512 + 2048 + 512) + 3 * 2 * 512 + 513 * classes
    assert sum(parameter.numel() for parameter in model.decode_head.parameters()) == head
    auxiliary = 9 * 256 * 1024 + 2 * 256 + 257 * classes
    assert sum(parameter.numel() for parameter in model.auxiliary_head.parameters()) == auxiliary


@pytest.mark.parametrize(("protocol_id", "crop", "tested"), [(VOC, 512, 512), (CITY, 769, 1025)])
def test_the_pipelines_at_full_size(protocol_id: str, crop: int, tested: int, data: Path, backbone: Path) -> None:
    from mmseg.registry import DATASETS

    config = resolve(load_protocol(protocol_id), read_exported(backbone).card, data)
    train, test = (DATASETS.build(config[f"{name}_dataloader"]["dataset"]) for name in ("train", "test"))
    assert len(train) == (8 if protocol_id == VOC else 4) and len(test) == (4 if protocol_id == VOC else 2)
    np.random.seed(0)
    seen = [train[i % len(train)] for i in range(8)]
    assert all(max(one["inputs"].shape[1:]) <= crop and one["inputs"].dtype == torch.uint8 for one in seen)
    assert all(one["inputs"].shape[1:] == one["data_samples"].gt_sem_seg.shape for one in seen)
    assert len({one["inputs"].shape for one in seen}) > 1  # of half the size and less than a crop, some of them
    one = test[0]
    assert min(one["inputs"].shape[1:]) == tested
    assert one["data_samples"].gt_sem_seg.shape == one["data_samples"].ori_shape


@pytest.mark.parametrize("protocol_id", PAPER_SEGMENTATION)
def test_it_trains_evaluates_and_stores(protocol_id: str, data: Path, backbone: Path, tmp_path: Path) -> None:
    protocol = reduced(protocol_id)
    result = run_transfer(protocol, backbone, data, reference(protocol), 0, tmp_path / "run")
    assert result.status == "finished" and set(result.metrics) == {"mIoU", "mAcc", "aAcc"}
    report = result.training
    assert report is not None and report.frozen_parameters == 0 and report.backbone_tensors == 100
    assert (report.executed_iterations, report.images_seen) == (2, 4)
    header, *rows = (tmp_path / "run/losses.csv").read_text().splitlines()
    assert {"decode.loss_ce", "aux.loss_ce", "loss"} <= set(header.split(","))
    rates = [float(row.split(",")[header.split(",").index("learning_rate")]) for row in rows]
    assert rates == pytest.approx([0.01, 0.0001])
    with np.load(tmp_path / "run" / COUNTS) as kept:
        matrix: Any = kept["counts"].sum(0)
    assert 100 * np.trace(matrix) / matrix.sum() == pytest.approx(result.metrics["aAcc"])
    before = safetensors.torch.load_file(backbone / "backbone.safetensors")
    after = safetensors.torch.load_file(tmp_path / "run" / WEIGHTS)
    moved = [
        name for name, tensor in before.items() if not torch.equal(tensor.half(), after[f"backbone.{name}"].half())
    ]
    assert all(name in moved for name in before if name.endswith("conv1.weight"))  # the stem, too
    if protocol_id == VOC:
        assert evaluate_stored(protocol, backbone, data, tmp_path / "run", tmp_path / "again") == result.metrics


@pytest.mark.parametrize("protocol_id", PAPER_SEGMENTATION)
def test_the_file_says_what_a_reader_needs(protocol_id: str) -> None:
    text = load_protocol(protocol_id).docstring
    places = [text.find(f"\n{heading}") for heading in HEADINGS]
    assert -1 not in places and places == sorted(places)
    assert "Computed, not measured" in text[places[-1] :]
