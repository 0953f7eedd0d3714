"""Fine-tuning of heads on a frozen backbone: nothing of the backbone changes, and guards see where it would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from short_protocols import changed, checkpoint, reference, short

from bench.datasets import generate
from bench.errors import BenchError
from bench.openmmlab import guards
from bench.openmmlab.build import build_model, prove_backbone, resolve
from bench.openmmlab.runner import evaluate_stored, run_transfer
from bench.openmmlab.stored_weights import WEIGHTS
from bench.protocols import load_protocol
from pretrain.exported import read_exported
from pretrain.nets.architectures import build_backbone

FROZEN = ["frozen_voc_det_frcnn_fpn", "frozen_voc_seg_fpn", "frozen_city_seg_fpn"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generated") / "data"
    generate(root, train=4, val=2, pretrain=0)
    return root


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("work"))


def build(protocol_id: str, folder: Path, architecture: str = "") -> tuple[Any, Any]:
    exported = read_exported(folder)
    card, tensors = exported.card, dict(exported.tensors)
    if architecture:
        card = card.model_copy(update={"architecture": architecture})
        tensors = {name: value.contiguous() for name, value in build_backbone(architecture).state_dict().items()}
    return build_model(resolve(load_protocol(protocol_id), card, folder), tensors, seed=0), tensors


@pytest.mark.parametrize("protocol_id", [FROZEN[0], *(pytest.param(one, marks=pytest.mark.slow) for one in FROZEN[1:])])
def test_no_tensor_of_the_backbone_changes(protocol_id: str, data: Path, backbone: Path, tmp_path: Path) -> None:
    protocol = short(protocol_id)
    result = run_transfer(
        protocol, backbone, data, reference(protocol).model_copy(update={"val_images": 2}), 0, tmp_path
    )
    assert result.status == "finished" and protocol.headline in result.metrics
    tensors = read_exported(backbone).tensors
    kept = safetensors.torch.load_file(tmp_path / WEIGHTS)
    own = {name.removeprefix("backbone."): value for name, value in kept.items() if name.startswith("backbone.")}
    learned = {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    assert learned.keys() <= own.keys()
    assert all(torch.equal(own[name], value) for name, value in learned.items())  # in float32, to the last bit
    report = result.training
    assert report is not None and report.trainable_parameters == report.head_parameters > 0
    assert report.frozen_parameters == sum(value.numel() for name, value in learned.items() if "running" not in name)
    assert evaluate_stored(protocol, backbone, data, tmp_path, tmp_path / "again") == result.metrics


def test_training_does_not_reach_the_backbone_and_guards_see_what_would(backbone: Path) -> None:
    model, tensors = build("frozen_voc_seg_fpn", backbone)
    card = read_exported(backbone).card
    model.train()
    assert model.decode_head.training and model.neck.training
    guards.check_backbone(model.backbone, card, frozen=True)
    with pytest.raises(BenchError, match="parameters are frozen"):
        guards.check_backbone(model.backbone, card)
    model.backbone.layer2[0].bn1.train()
    with pytest.raises(BenchError, match=r"freezes the backbone, but 1 parts train, first layer2\.0\.bn1"):
        guards.check_frozen(model.backbone)
    model.backbone(torch.rand(2, 3, 32, 32))  # which moves that norm's statistics
    with pytest.raises(BenchError, match=r"2 tensors differ, first layer2\.0\.bn1\.running_mean"):
        prove_backbone(model.backbone, tensors)
    model.backbone.layer2[0].bn1.eval()
    model.backbone.conv1.requires_grad_(True)
    with pytest.raises(BenchError, match=r"1 parts train, first conv1\.weight"):
        guards.check_frozen(model.backbone)


def test_a_protocol_that_trains_all_layers_is_as_before(backbone: Path) -> None:
    model, _ = build("mini_voc_seg_fcn", backbone)
    guards.check_trained(model.train())
    protocol = changed(load_protocol("mini_voc_seg_fcn"), lambda config: config["protocol"]["plan"].update(frozen=True))
    assert protocol.sha256 != load_protocol("mini_voc_seg_fcn").sha256


def test_a_vit_gets_the_simple_pyramid(backbone: Path) -> None:
    model, _ = build("frozen_voc_seg_fpn", backbone, "vit_tiny_patch16")
    guards.check_frozen(model.train().backbone)
    maps = model.extract_feat(torch.rand(1, 3, 96, 96))
    assert [one.shape[2] for one in maps] == [12, 6, 3]
    assert model.decode_head(maps).shape == (1, 21, 12, 12)
