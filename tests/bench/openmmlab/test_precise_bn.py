"""Statistics of batch normalization, computed anew, against plain float64 operations."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from short_protocols import changed, checkpoint, reference, short
from torch import Tensor, nn
from torch.nn.functional import batch_norm, conv2d

from bench.errors import BenchError
from bench.openmmlab import runner, stored_weights
from bench.openmmlab.precise_bn import recompute_statistics
from bench.protocols import Protocol, TrainingPlan, all_protocols, load_protocol
from pretrain.nets.batchnorm import SynchronisedBatchNorm


class Model(nn.Module):
    """As much of an mmengine model as is called: two norms, one more that never runs, and one in evaluation mode."""

    def __init__(self, *, shared: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5, momentum=0.3), nn.ReLU(), nn.Conv2d(5, 4, 1), nn.BatchNorm2d(4)
        )
        self.unused, self.fixed = nn.BatchNorm2d(2), nn.BatchNorm2d(4)
        for norm in self.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean.uniform_()  # type: ignore[union-attr]
                norm.running_var.uniform_()  # type: ignore[union-attr]
                norm.weight.data.uniform_()
                norm.bias.data.uniform_()
        if shared:  # the norms that several devices have
            self.layers[1], self.layers[4] = (SynchronisedBatchNorm(self.layers[i]) for i in (1, 4))

    def train(self, mode: bool = True) -> "Model":
        super().train(mode)
        self.fixed.eval()
        return self

    def data_preprocessor(self, batch: Tensor, training: bool) -> dict[str, Tensor]:
        assert training
        return {"inputs": batch / 2}

    def forward(self, inputs: Tensor, mode: str) -> dict[str, Tensor]:
        assert mode == "loss" and self.training and not torch.is_grad_enabled()
        return {"loss": self.fixed(self.layers(inputs)).mean()}


def batches(count: int) -> list[Tensor]:
    """Of different sizes, means and spreads."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2 + i % 3, 3, 6, 5 + i, generator=generator) * (1 + i) + i for i in range(count)]


def expected(model: Model, inputs: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Mean of means and mean of unbiased variances of both norms' inputs, channel by channel, in float64."""
    first, norm, _, second, _ = model.layers
    sums = [[torch.zeros(5).double(), torch.zeros(5).double()], [torch.zeros(4).double(), torch.zeros(4).double()]]
    for batch in inputs:
        x = conv2d(batch.double() / 2, first.weight.double(), first.bias.double())
        normalized = torch.empty_like(x)
        for channel in range(5):
            values = x[:, channel]
            mean, variance = values.mean(), ((values - values.mean()) ** 2).sum() / (values.numel() - 1)
            sums[0][0][channel] += mean / len(inputs)
            sums[0][1][channel] += variance / len(inputs)
            biased = variance * (values.numel() - 1) / values.numel()
            scaled = (values - mean) / (biased + norm.eps).sqrt()
            normalized[:, channel] = scaled * norm.weight[channel].double() + norm.bias[channel].double()
        y = conv2d(normalized.clamp(min=0), second.weight.double(), second.bias.double())
        for channel in range(4):
            sums[1][0][channel] += y[:, channel].mean() / len(inputs)
            sums[1][1][channel] += y[:, channel].var(unbiased=True) / len(inputs)
    return [(mean, variance) for mean, variance in sums]


@pytest.mark.parametrize("shared", [False, True])
def test_statistics_are_means_over_batches(shared: bool) -> None:
    model, data = Model(shared=shared).eval(), batches(5)
    weights = {name: parameter.clone() for name, parameter in model.named_parameters()}
    others = {name: tensor.clone() for name, tensor in model.state_dict().items() if "layers" not in name}
    wanted = expected(model, data[:4])
    recompute_statistics(model, iter(data), 4)
    for norm, (mean, variance) in zip((model.layers[1], model.layers[4]), wanted, strict=True):
        torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(norm.running_var.double(), variance, rtol=1e-5, atol=1e-6)
        assert norm.num_batches_tracked == 4
    assert [model.layers[1].momentum, model.layers[4].momentum, model.unused.momentum] == [0.3, 0.1, 0.1]
    assert all(torch.equal(parameter, weights[name]) for name, parameter in model.named_parameters())
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in others.items())
    assert model.training


def test_the_spread_of_the_batches_means_is_no_part_of_the_variance() -> None:
    """As in fvcore: the variance of all images together would be larger."""
    model = Model()
    constant = [torch.full((2, 3, 6, 6), float(value)) for value in (0, 100)]
    recompute_statistics(model, constant, 2)
    assert float(model.layers[1].running_var.max()) < 1e-6  # type: ignore[union-attr, arg-type, operator]


def test_too_few_batches_are_refused() -> None:
    with pytest.raises(BenchError, match="planned over 3 batches, the loader gave 2"):
        recompute_statistics(Model(), batches(2), 3)


def test_statistics_that_are_not_finite_are_refused() -> None:
    with pytest.raises(BenchError, match=r"layers\.1 are not finite"):
        recompute_statistics(Model(), [torch.full((2, 3, 6, 6), float("inf"))], 1)


class Forgets(nn.BatchNorm2d):
    """Counts its batches and keeps nothing of them."""

    def forward(self, input: Tensor) -> Tensor:
        self.num_batches_tracked += 1  # type: ignore[operator]
        return batch_norm(input, None, None, training=True)


def test_statistics_that_were_not_computed_are_refused() -> None:
    model = Model()
    model.unused.reset_running_stats()  # those of a new layer may stay where it does not run
    recompute_statistics(model, batches(1), 1)
    model.layers[4] = Forgets(4)
    with pytest.raises(BenchError, match=r"layers\.4 ran but its .* are not computed: a fault of Forgets, report it"):
        recompute_statistics(model, batches(1), 1)


def with_precise_bn(protocol: Protocol, images: int) -> Protocol:
    def ask(config: dict[str, Any]) -> None:
        config["protocol"]["plan"]["precise_bn_images"] = images

    return changed(protocol, ask)


def test_a_protocol_asks_for_it_in_its_plan() -> None:
    protocol = load_protocol("mini_voc_seg_fcn")
    assert with_precise_bn(protocol, 8).sha256 != protocol.sha256
    assert isinstance(protocol.plan, TrainingPlan) and protocol.plan.precise_bn_images == 0
    with pytest.raises(ValueError, match="precise_bn_images=6 are not whole batches of 4"):
        dataclasses.replace(protocol.plan, precise_bn_images=6)
    segmentation = [one for one in all_protocols() if one.task == "semantic segmentation"]
    assert all(getattr(one.plan, "precise_bn_images", 0) == 0 for one in segmentation)


def test_a_run_stores_the_new_statistics(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol, before = with_precise_bn(short("mini_voc_seg_fcn", iterations=1), 4), {}

    def looked_at(model: nn.Module, batches: Any, count: int) -> None:
        assert count == 2  # batches of two
        before.update({name: tensor.clone() for name, tensor in model.state_dict().items()})
        recompute_statistics(model, batches, count)

    monkeypatch.setattr(runner, "recompute_statistics", looked_at)
    result = runner.run_transfer(protocol, checkpoint(tmp_path), tiny_data, reference(protocol), 0, tmp_path / "run")
    assert result.status == "finished" and result.seconds["precise_bn"] > 0
    after = safetensors.torch.load_file(tmp_path / "run" / stored_weights.WEIGHTS)
    statistics = [name for name in after if name.endswith(("running_mean", "running_var"))]
    assert len(statistics) > 40
    assert not [name for name in statistics if torch.equal(before[name], after[name])]
    weights = [name for name in after if after[name].dtype == torch.float16]
    assert weights and all(torch.equal(before[name].half(), after[name]) for name in weights)
