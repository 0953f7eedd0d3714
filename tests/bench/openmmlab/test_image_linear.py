"""Linear layers on frozen backbones: settings against PyTorch's schedules, steps against a plain loop, and runs."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from classified import CLASSES, VAL, build, classified_folders, loaded, small
from killing import killed_at
from short_protocols import checkpoint, reference
from training_plans import plan_of

from bench.openmmlab import guards, prepare_openmmlab
from bench.openmmlab.runner import run_transfer
from bench.openmmlab.stored_weights import WEIGHTS
from bench.protocols import load_protocol, with_batch
from pretrain.exported import read_exported

prepare_openmmlab()
from mmengine.config import ConfigDict  # noqa: E402
from mmengine.optim import build_optim_wrapper  # noqa: E402
from mmengine.registry import PARAM_SCHEDULERS  # noqa: E402

LINEAR = [f"paper_in1k_linear_{name}" for name in ("moco", "swav", "byol")]
TRAIN_IMAGES = 1_281_167
SGD = {
    # rate, weight decay, Nesterov's momentum, and first weights' deviation of the authors' code
    "paper_in1k_linear_moco": (30.0, 0.0, False, 0.01),
    "paper_in1k_linear_swav": (0.3, 1e-6, False, 0.01),
    "paper_in1k_linear_byol": (0.2 * 1024 / 256, 0.0, True, 2048**-0.5),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classified_folders(tmp_path_factory.mktemp("images") / "data")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("work"))


def optimizer_of(rate: float) -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)


@pytest.mark.parametrize("protocol_id", LINEAR)
def test_settings_are_the_authors(protocol_id: str, data: Path, backbone: Path) -> None:
    rate, decay, nesterov, std = SGD[protocol_id]
    protocol = load_protocol(protocol_id)
    plan = plan_of(protocol)
    iterations = {256: 100 * -(-TRAIN_IMAGES // 256), 1024: 80 * TRAIN_IMAGES // 1024}[plan.batch_size]
    assert (protocol.dataset, plan.iterations, plan.learning_rate, plan.frozen) == ("imagenet", iterations, rate, True)
    model, _ = build(small(protocol_id), data, backbone)
    optimizer = build_optim_wrapper(model, ConfigDict(protocol.config["optim_wrapper"])).optimizer
    (group,) = optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (rate, 0.9, decay, nesterov)
    assert model.head.weight.std().item() == pytest.approx(std, rel=0.1) and not model.head.bias.any()
    guards.check_frozen(model.train().backbone)


@pytest.mark.parametrize("protocol_id", LINEAR[:2])
def test_rates_of_each_epoch_are_those_of_pytorchs_schedule(protocol_id: str) -> None:
    """The authors' code steps it after each epoch; epochs have three iterations here."""
    (schedule,) = copy.deepcopy(load_protocol(protocol_id).config["param_scheduler"])
    rate, steps = SGD[protocol_id][0], 3
    ours, theirs = optimizer_of(rate), optimizer_of(rate)
    assert schedule["end"] == 100 * 5005
    schedule["end"] = 100 * steps
    if protocol_id.endswith("moco"):
        assert schedule["milestones"] == [60 * 5005, 80 * 5005]
        schedule["milestones"] = [60 * steps, 80 * steps]
        epochs: Any = torch.optim.lr_scheduler.MultiStepLR(theirs, [60, 80])
    else:
        assert schedule["every"] == 5005
        schedule["every"] = steps
        epochs = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, 100)
    built = PARAM_SCHEDULERS.build({**schedule, "optimizer": ours})
    for _ in range(100):
        expected = theirs.param_groups[0]["lr"]
        for _ in range(steps):
            assert ours.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-9)
            ours.step()
            built.step()
        theirs.step()
        epochs.step()
    final = plan_of(load_protocol(protocol_id)).final_learning_rate
    assert expected == pytest.approx(final, rel=1e-4)


@pytest.mark.parametrize("batch", [1024, 256])
def test_the_cosine_over_iterations_ends_where_the_plan_says(batch: int) -> None:
    protocol = with_batch(load_protocol(LINEAR[2]), batch)
    plan, (schedule,) = plan_of(protocol), protocol.config["param_scheduler"]
    optimizer = optimizer_of(plan.learning_rate)
    built = PARAM_SCHEDULERS.build({**schedule, "optimizer": optimizer})
    for iteration in (0, 1, plan.iterations // 2, plan.iterations - 1):
        built.last_step = iteration - 1
        optimizer.step()
        built.step()
        done = iteration // schedule["every"] / (plan.iterations / schedule["every"])
        expected = plan.learning_rate * math.cos(math.pi * done / 2) ** 2
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-6)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(plan.final_learning_rate, rel=1e-4)


def test_a_cosine_of_parts_of_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="10 iterations are no multiple of 3"):
        PARAM_SCHEDULERS.build({"type": "SteppedCosineLR", "optimizer": optimizer_of(1.0), "every": 3, "end": 10})


def layer_of(model: Any) -> Any:
    """Weights and biases of the linear layer (classes, channels + 1) in float64."""
    return np.hstack([value.detach().double().numpy().reshape(CLASSES, -1) for value in model.head.parameters()])


@pytest.mark.parametrize("protocol_id", LINEAR[1:])
def test_the_layer_learns_as_a_plain_loop_does_and_the_backbone_not(
    protocol_id: str, data: Path, backbone: Path
) -> None:
    """Three iterations of softmax regression in float64, with momentum and weight decay written out."""
    protocol = small(protocol_id)
    model, config = build(protocol, data, backbone)
    model.train()
    wrapper = build_optim_wrapper(model, ConfigDict(config["optim_wrapper"]))
    samples = loaded(config["train_dataloader"]["dataset"])
    batch = {
        "inputs": [sample["inputs"] for sample in samples], "data_samples": [s["data_samples"] for s in samples],
    }  # fmt: skip
    given = model.data_preprocessor(copy.deepcopy(batch), True)
    cells = model.backbone(given["inputs"])[-1]
    assert not cells.requires_grad
    vectors = np.hstack([cells.double().mean((2, 3)).numpy(), np.ones((len(samples), 1))])
    layer = np.hstack(
        [parameter.detach().double().numpy().reshape(CLASSES, -1) for parameter in model.head.parameters()]
    )
    labels = np.eye(CLASSES)[[sample["data_samples"].label for sample in samples]]
    rate, decay, nesterov, _ = SGD[protocol_id]
    momentum = np.zeros_like(layer)
    for _ in range(3):
        scores = np.exp(vectors @ layer.T)
        slope = (scores / scores.sum(1, keepdims=True) - labels).T @ vectors / len(labels) + decay * layer
        momentum = 0.9 * momentum + slope
        layer = layer - rate * (slope + 0.9 * momentum if nesterov else momentum)
        model.train_step(copy.deepcopy(batch), wrapper)
    np.testing.assert_allclose(layer_of(model), layer, rtol=1e-4, atol=1e-4)
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, read_exported(backbone).tensors[name])


@pytest.mark.parametrize("protocol_id", LINEAR)
def test_a_run_changes_the_layer_alone(protocol_id: str, data: Path, backbone: Path, tmp_path: Path) -> None:
    protocol = small(protocol_id, iterations=3)
    inputs = (protocol, backbone, data, reference(protocol).model_copy(update={"val_images": VAL * CLASSES}), 0)
    result: Any = run_transfer(*inputs, tmp_path)
    assert result.status == "finished" and result.metrics.keys() == {"top-1", "top-5", "class accuracy"}
    given = read_exported(backbone).tensors
    report = result.training
    assert report.head_parameters == report.trainable_parameters == (512 + 1) * CLASSES
    assert report.frozen_parameters == sum(given[name].numel() for name in given if name.endswith(("weight", "bias")))
    assert (report.executed_iterations, report.images_seen) == (3, 12)
    kept = safetensors.torch.load_file(tmp_path / WEIGHTS)
    assert all(torch.equal(kept[f"backbone.{name}"], value) for name, value in given.items())
    assert kept["head.bias"].any()


def test_a_run_that_was_killed_ends_with_the_bits_of_one_that_was_not(
    data: Path, backbone: Path, tmp_path: Path
) -> None:
    protocol = small(LINEAR[2])
    inputs = (protocol, backbone, data, reference(protocol).model_copy(update={"val_images": VAL * CLASSES}), 1)
    whole = run_transfer(*inputs, tmp_path / "whole")
    with killed_at(3):
        run_transfer(*inputs, tmp_path / "killed", checkpoint_seconds=0.0)
    continued = run_transfer(*inputs, tmp_path / "killed", checkpoint_seconds=0.0)
    assert continued.outputs == whole.outputs and {WEIGHTS, "losses.csv"} <= whole.outputs.keys()
