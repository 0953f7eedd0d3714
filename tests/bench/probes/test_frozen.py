"""The frozen probe solves its regression, scores what it says, and compares with random initialisation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.benchmarks.rounds import start
from bench.datasets.check import check
from bench.errors import BenchError
from bench.probes import frozen
from bench.probes.frozen import (
    Labelled,
    Precision,
    Probe,
    cell_features,
    difference,
    fit,
    load,
    probe,
    read_splits,
)

CPU = torch.device("cpu")


def test_the_regression_is_solved() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 5, dtype=torch.float64, generator=generator)
    y = torch.randint(3, (300,), generator=generator)
    weight, bias = fit(x, y, 3)
    # The problem is strictly convex but for a shift of all biases: where the gradient is zero is the solution.
    logits = x.numpy() @ weight.numpy().T + bias.numpy()
    excess = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(3)[y.numpy()]
    assert np.abs(excess.T @ x.numpy() / 300 + frozen.PENALTY * weight.numpy()).max() < 1e-5
    assert np.abs(excess.mean(0)).max() < 1e-5


def test_images_and_labels_are_those_of_the_data_set(tiny_data: Path) -> None:
    report = check(tiny_data, "voc2012_seg")
    splits = read_splits(tiny_data, "voc2012_seg")
    assert {name: split.names for name, split in splits.items()} == {
        name: [path.name for path in split.images] for name, split in report.splits.items()
    }
    for split in splits.values():
        assert split.pixels.shape == (len(split.names), 3, *frozen.SIZE)
        assert split.labels.shape == (len(split.names), *frozen.SIZE)
    names = list(report.splits["val"].histogram)
    found = {names[k] for k in np.unique(splits["val"].labels.numpy()).tolist() if k < len(names) - 1}
    assert found <= {name for name, pixels in report.splits["val"].histogram.items() if pixels}


def test_features_are_c4_beside_c5_whatever_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load("random:resnet18:3", CPU)
    pixels = torch.randint(0, 256, (3, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = cell_features(loaded, pixels)
    x = (pixels / 255 - loaded.mean.view(3, 1, 1)) / loaded.std.view(3, 1, 1)
    with torch.no_grad():
        c4, c5 = loaded.backbone.features(x)[2:]
    torch.testing.assert_close(found[:, :256], c4)
    # Cell (1, 2) lies a quarter of a C5 cell before the centre of its second, and as much behind that of its first.
    expected = sum(w * v * c5[:, :, i, j] for i, w in ((0, 0.75), (1, 0.25)) for j, v in ((0, 0.25), (1, 0.75)))
    torch.testing.assert_close(found[:, 256:, 1, 2], expected)
    monkeypatch.setattr(frozen, "CHUNK", 2)
    torch.testing.assert_close(cell_features(loaded, pixels), found)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_classes_that_differ_in_colour_are_told_apart(precision: Precision) -> None:
    """Red left, green right: even random features tell them, except along the border."""
    height, width = frozen.SIZE
    pixels = torch.zeros(6, 3, height, width, dtype=torch.uint8)
    pixels[:, 0, :, : width // 2], pixels[:, 1, :, width // 2 :] = 200, 200
    labels = torch.zeros(6, height, width, dtype=torch.uint8)
    labels[:, :, width // 2 :] = 1
    labels[:, 0] = 255
    split = Labelled([str(k) for k in range(6)], pixels, labels)
    loaded = load("random:resnet18", CPU)
    found = probe(loaded, {"train": split, "val": split}, precision)
    assert found.counts.sum() == 6 * (height - 1) * width
    assert found.miou > 95


def test_the_difference_is_paired() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 50, (12, 3, 3))
    better = counts + 40 * np.eye(3, dtype=np.int64)
    one, other = Probe(counts, 0.0), Probe(better, 0.0)
    assert difference(one, [one, one]) == (0.0, 0.0, 0.0)
    over, low, high = difference(other, [one])
    assert 0 < low < over < high
    assert over == pytest.approx(other.miou - one.miou)


def test_the_command_compares_with_random_networks(
    tiny_data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "RANDOM_SEEDS", (0,))
    monkeypatch.setattr(frozen, "ITERATIONS", 3)
    arguments = {"data": tiny_data, "dataset": ["cityscapes"], "device": "cpu"}
    frozen.main(["random:resnet18:0", "random:resnet18:7"], **arguments, as_json=True)  # type: ignore[arg-type]
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["checkpoint"] for row in rows] == ["random:resnet18:0", "random:resnet18:0", "random:resnet18:7"]
    reference, same, other = (row["cityscapes"] for row in rows)
    assert "over_random" not in reference
    assert (same["over_random"], same["low"], same["high"]) == (0.0, 0.0, 0.0)
    assert other["miou"] == pytest.approx(reference["miou"] + other["over_random"])
    frozen.main(["random:resnet18:7"], **arguments)  # type: ignore[arg-type]
    assert f"{other['miou']:.2f}" in capsys.readouterr().out


def test_what_cannot_be_probed_is_refused(tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BenchError, match="coco2017 cannot be probed"):
        frozen.main(["random:resnet18"], data=tiny_data, dataset=["coco2017"])
    with pytest.raises(BenchError, match="holds no data set to probe"):
        frozen.main(["random:resnet18"], data=tmp_path)
    with pytest.raises(SystemExit):
        start(lambda: frozen.main(["nowhere.pth"], data=tiny_data, dataset=["cityscapes"], device="cpu"))
    assert "nowhere.pth" in capsys.readouterr().err
