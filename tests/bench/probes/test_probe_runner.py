"""A probe run from files to result: what enters the network, what is scored, what is kept."""

from __future__ import annotations

import copy
import json
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from probe_parts import material_of, part_of, perfect_cells

from bench.checkpoints import import_checkpoint
from bench.datasets import check
from bench.datasets.pairs import Pair, segmentation_pairs
from bench.datasets.shares import LABELLED
from bench.errors import BenchError
from bench.metrics.outputs import COUNTS
from bench.metrics.segmentation import segmentation_scores
from bench.metrics.uncertainty import segmentation_shares
from bench.probes.cells import Network, cell_labels, freeze, read_scaled
from bench.probes.features import FILE, Features, features, keep
from bench.probes.material import Material, Part, draw_cells, hold_out
from bench.probes.plans import KINDS, CellPlan, ClassifierPlan, HeadPlan, PropagationPlan
from bench.probes.runner import IMAGE_PROBES, PROBES, run_probe
from bench.probes.segmentation import confusion_matrices
from bench.protocols import load_protocol
from leaderboard.base.errors import FileError
from leaderboard.base.files import file_sha256
from leaderboard.records import Result, read_result_json
from leaderboard.shares import SHARES, read_shares
from pretrain.exported import read_exported, write_exported
from pretrain.nets.architectures import build_backbone

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_checkpoint("random:resnet18:0", name="random", work=tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def network(checkpoint: Path) -> Network:
    return freeze(read_exported(checkpoint), CPU)


def probe(checkpoint: Path, data: Path, folder: Path, protocol: str = "frozen_voc_seg_linear") -> Result:
    loaded = load_protocol(protocol)
    return run_probe(loaded, checkpoint, data, check(data, loaded.dataset).reference(), 0, folder)


def test_a_run_keeps_what_its_result_says(checkpoint: Path, tiny_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "transfers" / "a" / "run"
    result = probe(checkpoint, tiny_data, folder)
    assert read_result_json(result.to_json().encode()) == result
    with np.load(folder / COUNTS) as kept:
        counts, names = kept["counts"], kept["names"].tolist()
    assert names == [pair.image.name for pair in segmentation_pairs(tiny_data, "voc2012_seg", "val")]
    assert result.metrics["mIoU"] == segmentation_scores(counts.sum(0)).miou
    shares = read_shares(folder / SHARES)
    assert shares.names == tuple(names) and result.standard_errors == shares.standard_errors()
    assert all(np.array_equal(shares.metrics[name], found) for name, found in segmentation_shares(counts).items())
    assert result.outputs == {name: file_sha256(folder / name) for name in (COUNTS, SHARES)}
    said = result.probe
    assert said is not None and (said.backbone_tensors, said.channels, said.images_evaluated) == (120, 768, len(names))
    assert said.candidates[f"{said.chosen:g}"] == max(said.candidates.values())
    assert json.loads((folder / "config.json").read_text())["protocol"]["id"] == "frozen_voc_seg_linear"
    # the other probe takes the same features, and a repeated run gives the same result
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "features").rglob(FILE)}
    assert len(files) == 2
    again = probe(checkpoint, tiny_data, folder)
    probe(checkpoint, tiny_data, tmp_path / "transfers" / "b", "frozen_voc_seg_knn")
    assert again.metrics == result.metrics
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "features").rglob(FILE)} == files


def test_cells_are_the_last_two_maps_of_the_normalised_image(network: Network) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    mean, std = (torch.tensor(values)[:, None, None] for values in (network.card.mean, network.card.std))
    x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / std
    with torch.no_grad():
        c4, c5 = network.backbone.features(x)[2:]
    cells = network.cells(images)
    assert cells.shape == (2, 768, 4, 6) and torch.equal(cells[:, :256], c4)
    assert torch.equal(cells[:, 256:], torch.nn.functional.interpolate(c5, (4, 6), mode="bilinear"))


def test_a_backbone_of_bgr_images_sees_them_so(network: Network) -> None:
    card = network.card.model_copy(
        update={"color_order": "BGR", "mean": network.card.mean[::-1], "std": network.card.std[::-1]}
    )
    backbone = copy.deepcopy(network.backbone)
    backbone.conv1.weight.copy_(backbone.conv1.weight.flip(1))  # type: ignore[operator, union-attr]
    swapped = Network(card, backbone, CPU, network.tensors)
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    torch.testing.assert_close(swapped.cells(images), network.cells(images), atol=1e-4, rtol=1e-4)


def test_a_network_with_other_weights_is_refused(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = read_exported(checkpoint)
    built = exported.build()
    with torch.no_grad():
        built.layer3[0].bn1.running_mean[5] += 1e-6  # type: ignore[index, union-attr, operator]
    monkeypatch.setattr(type(exported), "build", lambda self: built)
    with pytest.raises(BenchError, match="does not hold the checkpoint's weights"):
        freeze(exported, CPU)


def test_a_vit_is_probed(tmp_path: Path, tiny_data: Path) -> None:
    torch.manual_seed(0)
    card = read_exported(import_checkpoint("random:resnet18:0", name="random", work=tmp_path)).card
    follows = {"schema_version", "sha256", "parameters", "stem", "norm", "stride_style"}
    facts = card.model_dump(mode="json", exclude=follows) | {"architecture": "vit_tiny_patch16"}
    folder = tmp_path / "vit"
    write_exported(folder, build_backbone("vit_tiny_patch16").state_dict(), facts)
    vit = freeze(read_exported(folder), CPU)
    assert vit.cells(np.zeros((1, 64, 96, 3), np.uint8)).shape == (1, 2 * 192, 4, 6)


def test_perfect_cells_give_the_bound_of_their_grid(tmp_path: Path) -> None:
    """Cells that are the one-hot labels of their centres: the score is that of the labels through the grid and back."""
    rng = np.random.default_rng(0)
    labels = [np.kron(rng.integers(0, 3, (4, 6)), np.ones((16, 16), int)).astype(np.uint8) for _ in range(3)]
    labels[0][:8] = 255
    cells = perfect_cells(labels, 3)
    whole = part_of(labels, cells, tmp_path)
    counts = np.concatenate(list(confusion_matrices(lambda x: [x], 3, whole, CPU)))
    expected = []
    for one, label in zip(cells, labels, strict=True):
        back = torch.nn.functional.interpolate(
            torch.from_numpy(one[None].astype(np.float32)), (64, 96), mode="bilinear"
        )
        valid = label != 255
        pairs = list(zip(label[valid].tolist(), back[0].argmax(0).numpy()[valid].tolist(), strict=True))
        expected.append([[pairs.count((i, j)) for j in range(3)] for i in range(3)])
    assert counts.tolist() == expected
    assert segmentation_scores(counts.sum(0)).miou > 90
    x, y = draw_cells(whole, whole.grid(), classes=3, most=100, seed=0, device=CPU)
    assert torch.equal(x.argmax(1), y)  # each cell stands beside its own label


def test_cells_are_drawn_evenly_and_void_is_left_out(tmp_path: Path) -> None:
    labels = [np.full((32, 32), value, np.uint8) for value in (0, 255, 1, 2)]
    cells = np.arange(4 * 2 * 4, dtype=np.float16).reshape(4, 2, 2, 2)
    whole = part_of(labels, cells, tmp_path)

    def draw(part: Part, most: int = 100, seed: int = 0, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
        return draw_cells(part, part.grid(), classes=classes, most=most, seed=seed, device=CPU)

    x, y = draw(whole)
    assert y.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert x.tolist() == [
        [float(cells[i, c, j, k]) for c in range(2)] for i in (0, 2, 3) for j in range(2) for k in range(2)
    ]
    drawn = [draw(whole, 5, seed)[0][:, 0].tolist() for seed in range(40)]
    assert all(len(set(one)) == 5 for one in drawn) and len({tuple(one) for one in drawn}) > 20
    assert draw(whole, 5, 3)[0][:, 0].tolist() == drawn[3]
    last = whole.take(np.array([2, 3])).take(np.array([1]))
    assert draw(last)[0].tolist() == x[8:].tolist() and last.cells is cells
    with pytest.raises(BenchError, match="no cell"):
        draw(whole.take(np.array([1])))
    with pytest.raises(BenchError, match="has label 2: the protocol knows 0 to 1"):
        draw(whole, classes=2)


@pytest.mark.parametrize("count", [2, 7, 100])
def test_held_out_images_are_a_share_of_all(count: int) -> None:
    fitted, held = hold_out(count, 0.2, 0)
    assert sorted([*fitted, *held]) == list(range(count))
    assert len(held) == max(1, round(0.2 * count))
    assert count < 50 or hold_out(count, 0.2, 1)[1].tolist() != held.tolist()


def test_labels_are_those_at_the_centres() -> None:
    labels = np.arange(7 * 10, dtype=np.uint8).reshape(7, 10)
    expected = [[labels[int((i + 0.5) * 7 / 2), int((j + 0.5) * 10 / 3)] for j in range(3)] for i in range(2)]
    assert cell_labels(labels, 2, 3).tolist() == expected


def test_images_are_scaled_by_pillow_from_stored_rgb(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = np.asarray(Image.fromarray(pixels).resize((96, 64), Image.Resampling.BILINEAR))
    assert np.array_equal(read_scaled(Pair(tmp_path / "a.png", tmp_path), (64, 96)), expected)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:50])
    for name in ("b.png", "c.png"):
        with pytest.raises(BenchError, match=f"{name}.*data check"):
            read_scaled(Pair(tmp_path / name, tmp_path), (64, 96))


def test_a_full_disk_is_an_error_and_not_a_signal(tmp_path: Path) -> None:
    """A file-size limit stands for it, which is met while the rows are computed."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def rows() -> Iterator[Features]:
        yield np.ones((2, 3000), np.float16)
        (table,) = tmp_path.glob(f"{FILE}*")
        assert table.stat().st_blocks * 512 + 8192 > table.stat().st_size, "the space of later rows is only promised"
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1]))
        yield np.ones((998, 3000), np.float16)

    try:
        with pytest.raises(FileError, match=f"cannot write .*{FILE}.unfinished: the disk is full"):
            keep(tmp_path, (1000, 3000), rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.glob(f"{FILE}*"))


def test_a_killed_computation_leaves_no_features(
    network: Network, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = segmentation_pairs(tiny_data, "voc2012_seg", "val")
    with monkeypatch.context() as patch:
        patch.setattr("bench.probes.features.BATCH", 2)
        patch.setattr("bench.probes.features.read_scaled", lambda pair, size: dies(pair.image, pairs[3]))
        with pytest.raises(KeyboardInterrupt):
            features(network, pairs, (64, 64), tmp_path)
    assert not (tmp_path / FILE).exists()
    found = features(network, pairs, (64, 64), tmp_path)
    images = np.stack([read_scaled(pair, (64, 64)) for pair in pairs])
    np.testing.assert_allclose(found, network.cells(images).numpy(), rtol=2e-3, atol=2e-3)


def dies(path: Path, last: Pair) -> np.ndarray[Any, Any]:
    if path == last.image:
        raise KeyboardInterrupt
    return np.zeros((64, 64, 3), np.uint8)


@pytest.mark.parametrize(
    "protocol", [f"frozen_voc_{kind}" for kind in ("seg_linear", "seg_retrieval", "seg_retrieval_published", "lidar")]
)
def test_a_backbone_that_diverged_is_told(network: Network, tiny_data: Path, tmp_path: Path, protocol: str) -> None:
    backbone = copy.deepcopy(network.backbone)
    backbone.conv1.weight.fill_(torch.nan)  # type: ignore[operator, union-attr]
    diverged = Network(network.card, backbone, CPU, network.tensors)
    pairs = {part: segmentation_pairs(tiny_data, "voc2012_seg", part) for part in ("train", "val")}
    plan = load_protocol(protocol).plan
    assert isinstance(plan, CellPlan)
    with pytest.raises(BenchError, match="a cell of random is not finite: has its training diverged"):
        PROBES[type(plan)](plan, Material(diverged, pairs, plan.size, "0" * 64, tmp_path, 0))


@pytest.mark.parametrize("protocol", ["frozen_voc_seg_linear", "frozen_voc_seg_head"])
def test_held_out_images_without_labels_are_told(tmp_path: Path, protocol: str) -> None:
    plan = load_protocol(protocol).plan
    assert isinstance(plan, ClassifierPlan | HeadPlan)
    plan = replace(plan, size=(64, 96), candidates=plan.candidates[:1])
    plan = replace(plan, iterations=1) if isinstance(plan, HeadPlan) else plan
    _, held = hold_out(10, plan.held_out, 0)
    labels = [np.full((64, 96), 255 if i in held else i % 3, np.uint8) for i in range(10)]
    with pytest.raises(BenchError, match=r"none of the held-out training images, on which .* add training images"):
        PROBES[type(plan)](plan, material_of(labels, 3, tmp_path))


def test_every_kind_of_plan_is_executed() -> None:
    assert {*PROBES, *IMAGE_PROBES, PropagationPlan} == set(KINDS.values())


def test_a_fine_tuning_protocol_is_refused(checkpoint: Path, tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="mini_voc_seg_fcn is not a probe"):
        probe(checkpoint, tiny_data, tmp_path, "mini_voc_seg_fcn")


def test_few_labels_are_listed(checkpoint: Path, tiny_data: Path, tmp_path: Path) -> None:
    result = probe(checkpoint, tiny_data, tmp_path, "frozen_voc_seg_linear_p25")
    used = (tmp_path / LABELLED).read_text().splitlines()
    every = {pair.image.name for pair in segmentation_pairs(tiny_data, "voc2012_seg", "train")}
    assert len(every) == 8 and len(used) == 2 and set(used) < every
    assert result.outputs[LABELLED] == file_sha256(tmp_path / LABELLED)
    assert result.probe is not None and 0 < result.probe.training_cells <= 2 * 14 * 14
