"""The convolutional head: its arithmetic in plain loops, what its training sees, and perfect cells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from probe_parts import material_of
from torch import nn

from bench.errors import BenchError
from bench.metrics.segmentation import segmentation_scores
from bench.probes.kinds import head
from bench.probes.plans import HeadPlan
from bench.probes.segmentation import compare

RNG = np.random.default_rng(0)
PLAN = HeadPlan(
    "head", (64, 96), 3, hidden=8, batch=4, iterations=60, weight_decay=1e-4, held_out=0.25, candidates=(0.03,)
)
LABELS = [np.kron(RNG.integers(0, 3, (4, 6)), np.ones((16, 16), int)).astype(np.uint8) for _ in range(8)]


def test_the_head_computes_what_its_layers_say() -> None:
    torch.manual_seed(0)
    net = head.build_head(5, 4, 3).double()
    for module in net:
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    x = RNG.normal(size=(5, 3, 4))

    def normal(x: np.ndarray, layer: nn.BatchNorm2d) -> np.ndarray:
        mean, var = layer.running_mean.numpy()[:, None, None], layer.running_var.numpy()[:, None, None]  # type: ignore[union-attr]
        scaled = (x - mean) / np.sqrt(var + 1e-5)
        if layer.affine:
            weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
            scaled = weight[:, None, None] * scaled + bias[:, None, None]
        return scaled

    def weights(number: int) -> np.ndarray:
        layer = net[number]
        assert isinstance(layer, nn.Conv2d)
        return layer.weight.detach().numpy()

    y = np.einsum("chw,dc->dhw", normal(x, net[0]), weights(1)[:, :, 0, 0])  # type: ignore[arg-type]
    y = np.pad(np.maximum(normal(y, net[2]), 0), ((0, 0), (1, 1), (1, 1)))  # type: ignore[arg-type]
    z = np.zeros((4, 3, 4))
    for i in range(3):
        for j in range(4):
            for d in range(4):
                z[d, i, j] = (y[:, i : i + 3, j : j + 3] * weights(4)[d]).sum()
    z = np.maximum(normal(z, net[5]), 0)  # type: ignore[arg-type]
    last = net[7]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    expected = np.einsum("chw,dc->dhw", z, weights(7)[:, :, 0, 0]) + last.bias.detach().numpy()[:, None, None]
    scores = head.scores_of(net.eval(), replace(PLAN, size=(64, 64)))
    with torch.no_grad():
        np.testing.assert_allclose(net(torch.from_numpy(x)[None])[0].numpy(), expected, atol=1e-12)
        square = torch.from_numpy(RNG.normal(size=(16, 5)))
        whole = net(square.T.reshape(1, 5, 4, 4))[0]
        assert torch.equal(scores(square)[0], whole.flatten(1).T)


def test_perfect_cells_give_the_bound_of_their_grid(tmp_path: Path) -> None:
    material = material_of(LABELS, 3, tmp_path)
    found = head.probe(PLAN, material)
    cells = torch.from_numpy(np.asarray(material.val.cells, np.float32))
    bound = np.stack([compare(one, label, "image") for one, label in zip(cells, LABELS, strict=True)])
    assert found.metrics["mIoU"] > segmentation_scores(bound.sum(0)).miou - 10  # margins differ, so borders shift
    trained = head.train_head(PLAN, material.train, material.train.grid(), 0.03, material)
    with torch.no_grad():
        assert np.array_equal(trained(cells).argmax(1).numpy(), material.train.grid())
    assert found.chosen == 0.03 and found.training_cells == 8 * 24 and found.images == 8
    assert head.probe(PLAN, material).metrics == found.metrics  # and again the same


def test_void_cells_teach_nothing(tmp_path: Path) -> None:
    material = material_of(LABELS, 3, tmp_path)
    plan = replace(PLAN, iterations=5)
    grid = material.train.grid()
    grid[:, 1] = 255
    trained = head.train_head(plan, material.train, grid, 0.01, material)
    assert not trained.training
    grid[:] = 255  # nothing left: the head stays as it was drawn
    torch.manual_seed(0)
    drawn = head.build_head(3, 8, 3)
    untrained = head.train_head(plan, material.train, grid, 0.01, material)
    for name, value in drawn.named_parameters():
        assert torch.equal(dict(untrained.named_parameters())[name], value)
        assert not torch.equal(dict(trained.named_parameters())[name], value)


def test_the_first_steps_are_adamw_s(tmp_path: Path) -> None:
    """With batches of all images their order does not matter."""
    material = material_of(LABELS, 3, tmp_path)
    plan = replace(PLAN, iterations=3, batch=8)
    ours = head.train_head(plan, material.train, material.train.grid(), 0.01, material)
    torch.manual_seed(0)
    theirs = head.build_head(3, 8, 3)
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3)
    x = torch.from_numpy(np.asarray(material.train.cells, np.float32))
    y = torch.from_numpy(material.train.grid().astype(np.int64))
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(theirs(x), y).backward()
        optimizer.step()
        schedule.step()
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)


def test_labels_that_are_no_class_are_told(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="classes 0 to 1"):
        head.probe(replace(PLAN, classes=2), material_of(LABELS, 3, tmp_path))
    for change in ({"candidates": ()}, {"held_out": 0.0}, {"batch": 0}, {"weight_decay": -1.0}):
        with pytest.raises(BenchError):
            replace(PLAN, **change)
