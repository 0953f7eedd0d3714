"""Activation checkpointing changes no bit, and keeps less."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from toy import ToyConfig, toy_recipe, write_images

from pretrain.data.batches import open_images
from pretrain.errors import PretrainError
from pretrain.methods import all_recipes
from pretrain.nets.architectures import build_backbone
from pretrain.recipes import SGDConfig, find_recipe, override
from pretrain.run.acceleration import Acceleration
from pretrain.run.recompute import recompute_activations
from pretrain.run.train import train


def backward(network: nn.Module, images: torch.Tensor, dtype: torch.dtype) -> tuple[list[torch.Tensor], int]:
    """Outputs and gradients of two passes before one backward, and the bytes kept between."""
    kept = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    counted = torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor)
    with counted, torch.autocast("cpu", dtype, enabled=dtype is torch.bfloat16):
        outputs = [network(x) for x in images.chunk(2)]
    sum(out.float().square().mean() for out in outputs).backward()  # type: ignore[union-attr]
    return [*(out.detach() for out in outputs), *(p.grad for p in network.parameters() if p.grad is not None)], kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(("name", "splits"), [("resnet18", 1), ("resnet18", 3), ("vit_tiny_patch16", 1)])
def test_gradients_and_running_statistics_are_the_same_bits(name: str, splits: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    plain = build_backbone(name, bn_splits=splits).train()
    saving = copy.deepcopy(plain)
    recompute_activations(saving, saving)
    images = torch.randn(12, 3, 32, 32)
    (expected, all_kept), (found, kept) = backward(plain, images, dtype), backward(saving, images, dtype)
    assert len(found) == len(expected) and all(map(torch.equal, found, expected))
    assert saving.state_dict().keys() == plain.state_dict().keys()
    for key, value in plain.state_dict().items():
        assert torch.equal(saving.state_dict()[key], value), key
    assert kept < 0.6 * all_kept


def test_a_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Of a method with a momentum network, split batch norm, shuffles and a queue."""
    source = open_images(write_images(tmp_path / "images", 8))
    small = ["epochs=2", "batch_size=4", "method.view_size=32", "method.queue=8", "schedule.warmup_epochs=0"]
    recipe = override(find_recipe(all_recipes(), "moco-v2-mini"), [*small, "method.bn_splits=2"])
    states = []
    for recompute in (False, True):
        run = train(
            recipe, source, tmp_path / str(recompute), workers=0, acceleration=Acceleration(recompute=recompute)
        )
        states.append(torch.load(run / "checkpoint.pt", weights_only=True)["method"])
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        assert torch.equal(states[1][key], value), key


def test_any_network_can_be_recomputed(tmp_path: Path) -> None:
    source = open_images(write_images(tmp_path / "images", 4))
    recipe = toy_recipe(epochs=1, method=ToyConfig(dropout=0.0), optimizer=SGDConfig(lr=0.1))
    run = train(recipe, source, tmp_path / "run", workers=0, acceleration=Acceleration(recompute=True))
    assert (run / "finished.json").exists()
    with pytest.raises(PretrainError, match="--compile and --recompute cannot be combined"):
        Acceleration(compile=True, recompute=True)
