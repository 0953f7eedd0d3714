"""Operations of whole models against sums over their layers, with the shapes that pass through them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from short_protocols import IDS, checkpoint
from torch import nn

from bench.openmmlab.build import build_model, resolve
from bench.openmmlab.operations import count_operations
from bench.protocols import load_protocol
from pretrain.exported import read_exported

ROOT = Path("/data")


def layers_of(model: nn.Module) -> tuple[list[int], list[Any]]:
    """A list to which every convolution and every linear layer adds its operations, and the handles of the hooks."""
    found: list[int] = []

    def add(layer: nn.Module, _: Any, output: torch.Tensor) -> None:
        weight = layer.get_parameter("weight")
        if isinstance(layer, nn.Linear):
            found.append(2 * output.numel() * weight.shape[1])
        elif isinstance(layer, nn.ConvTranspose2d):  # each input cell is multiplied with the whole kernel
            cells = output.numel() // (weight.shape[1] * weight.shape[2] * weight.shape[3])
            found.append(2 * cells * weight.numel())
        else:
            found.append(2 * output.numel() * weight[0].numel())

    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    return found, [m.register_forward_hook(add) for m in model.modules() if isinstance(m, kinds)]


@pytest.mark.parametrize(("protocol_id", "size"), list(zip(IDS, [160, 96, 160, 96], strict=True)))
def test_operations_are_those_of_the_layers(protocol_id: str, size: int, tmp_path: Path) -> None:
    exported = read_exported(checkpoint(tmp_path))
    config = resolve(load_protocol(protocol_id), exported.card, ROOT)
    model = build_model(config, dict(exported.tensors), seed=0).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    in_backbone, hooks = layers_of(model.backbone)
    elsewhere, more = layers_of(nn.ModuleList([part for name, part in model.named_children() if name != "backbone"]))
    counted = count_operations(model, config)
    for hook in hooks + more:
        hook.remove()
    assert (counted.height, counted.width) == (size, size)
    assert (counted.backbone, counted.head) == (sum(in_backbone), sum(elsewhere))
    assert counted.backbone > 0 and elsewhere
    assert model.training and model.backbone.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_detectors_heads_are_counted_for_all_regions_that_it_keeps(tmp_path: Path) -> None:
    """Two fully connected layers of 256, then 21 scores and 4 coordinates; masks 4 x 3x3, doubled, 1 class."""
    exported = read_exported(checkpoint(tmp_path))
    counts = {}
    for regions, detections in ((100, 30), (101, 30), (100, 31)):
        config = resolve(load_protocol("mini_coco_mrcnn_fpn"), exported.card, ROOT)
        config["model"]["test_cfg"]["rpn"]["max_per_img"] = regions
        config["model"]["test_cfg"]["rcnn"]["max_per_img"] = detections
        model = build_model(config, dict(exported.tensors), seed=0)
        counts[regions, detections] = count_operations(model, config).head
    box = 2 * (64 * 49 * 256 + 256 * 256 + 256 * (81 + 4))
    mask = 2 * (2 * 64 * 64 * 9 * 14 * 14 + 64 * 64 * 28 * 28 + 64 * 28 * 28)
    assert counts[101, 30] - counts[100, 30] == box
    assert counts[100, 31] - counts[100, 30] == mask
