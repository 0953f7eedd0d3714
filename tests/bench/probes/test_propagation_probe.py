"""Objects followed through videos: from frames and masks to J and F, and a whole run to its result."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from moving_squares import FRAMES, write_videos
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, normalize

from bench.checkpoints import import_checkpoint
from bench.clock import Clock
from bench.datasets import check
from bench.datasets.davis import load_objects
from bench.metrics.outputs import COUNTS
from bench.metrics.video import contour_accuracy, jaccard
from bench.probes.cells import Network, cell_labels, freeze
from bench.probes.kinds.propagation import (
    OBJECTS,
    Labels,
    fine_cells,
    follow_objects,
    fused,
    scaled_size,
    score,
    segment,
    stretched,
)
from bench.probes.plans import PropagationPlan
from bench.probes.propagation import propagate
from bench.probes.runner import run_probe
from bench.protocols import load_protocol
from leaderboard.records import read_result_json
from leaderboard.shares import SHARES, read_shares
from pretrain.exported import read_exported

CPU = torch.device("cpu")
CRW = PropagationPlan("propagation", rules="crw", neighbors=5, context=3, radius=4, temperature=0.05)
DINO = PropagationPlan("propagation", rules="dino", neighbors=5, context=3, radius=4, temperature=0.1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_checkpoint("random:resnet18:0", name="random", work=tmp_path_factory.mktemp("work"))


def network_of(checkpoint: Path) -> Network:
    return freeze(read_exported(checkpoint), CPU)


def colors(images: Tensor) -> Tensor:
    """The mean color of 8 x 8 pixels as their cell."""
    return normalize(avg_pool2d(images - 0.5, 8), dim=1)


def still(size: tuple[int, int]) -> Tensor:
    """Cells that are like no other (C, h, w)."""
    return torch.eye(size[0] * size[1]).view(-1, *size)


def halves(height: int, width: int) -> Labels:
    return np.broadcast_to((np.arange(width) >= width // 2).astype(np.uint8), (height, width)).copy()


@pytest.mark.parametrize("plan", [CRW, DINO], ids=lambda plan: plan.rules)
def test_a_still_video_with_an_object_of_whole_cells_is_followed_perfectly(plan: PropagationPlan) -> None:
    first = halves(96, 160)
    found = list(segment(iter([still((6, 10))] * 4), first, plan))
    assert len(found) == 4
    assert all(np.array_equal(labels, first) for labels in found)
    assert score([first] * 4, iter(found)).tolist() == [[[1, 1]], [[1, 1]]]


def test_masks_are_resized_as_by_opencv() -> None:
    """CRW's code: one-hot masks to cells and soft labels to the frame, bilinearly; sizes need not be whole cells."""
    rng = np.random.default_rng(0)
    first = cv2.resize(rng.integers(0, 3, (5, 6)).astype(np.uint8), (61, 45), interpolation=cv2.INTER_NEAREST)
    cells = normalize(torch.randn(3, 4, 6, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    one_hot = np.stack([first == k for k in range(3)], -1).astype(np.float32)
    soft = torch.from_numpy(cv2.resize(one_hot, (8, 6))).permute(2, 0, 1)
    enlarged = [cv2.resize(labels.permute(1, 2, 0).numpy(), (61, 45)) for labels in propagate(iter(cells), soft, CRW)]
    for got, scores in zip(segment(iter(cells), first, CRW), enlarged, strict=True):
        *_, second, best = np.sort(scores, -1).transpose(2, 0, 1)
        clear = best - second > 1e-5  # elsewhere two labels are equal but for rounding
        assert clear.mean() > 0.98 and np.array_equal(got[clear], scores.argmax(-1)[clear])


def test_dino_reduces_and_enlarges_by_nearest_neighbor_and_stretches() -> None:
    first = np.kron(np.array([[0, 1, 2], [2, 1, 0]], np.uint8), np.ones((20, 20), np.uint8))
    assert scaled_size(DINO, *first.shape) == (480, 704)
    assert scaled_size(DINO, 480, 854) == (480, 832) and scaled_size(DINO, 1080, 608) == (832, 480)
    assert scaled_size(CRW, 45, 61) == (45, 61)
    _, last = segment(iter([still((4, 6))] * 2), first, DINO)
    assert np.array_equal(last[5::10, 5::10], cell_labels(first, 4, 6))
    weak = torch.tensor([[[0.2, 0.8]], [[0.1, 0.3]], [[0.5, 0.5]]])
    torch.testing.assert_close(stretched(weak), torch.tensor([[[0.0, 1]], [[0.0, 1]], [[0.0, 0]]]))


def test_score_leaves_out_the_first_and_the_last_frame() -> None:
    rng = np.random.default_rng(3)
    truths = [rng.integers(0, 3, (20, 30)).astype(np.uint8) for _ in range(5)]
    found = [rng.integers(0, 3, (20, 30)).astype(np.uint8) for _ in range(5)]
    values = score(truths, iter(found))
    assert values.shape == (2, int(truths[0].max()), 3)
    for frame in (0, 1, 2):
        for k in (1, 2):
            pair = truths[frame + 1] == k, found[frame + 1] == k
            assert values[:, k - 1, frame].tolist() == [jaccard(*pair), contour_accuracy(*pair)]
    other = [truths[-1], *found[1:-1], truths[0]]
    assert np.array_equal(score(truths, iter(other)), values)


def test_followed_squares_are_found_by_their_colors_and_not_by_cells_that_are_all_alike(tmp_path: Path) -> None:
    write_videos(tmp_path)

    def blind(images: Tensor) -> Tensor:
        return torch.ones_like(colors(images)) / 3**0.5

    seen, names = follow_objects(CRW, colors, tmp_path, "davis2017", CPU, Clock())
    unseen, _ = follow_objects(CRW, blind, tmp_path, "davis2017", CPU, Clock())
    assert names == ["a", "b"] and seen.images == 2 * FRAMES
    assert seen.metrics["J&F"] == pytest.approx((seen.metrics["J"] + seen.metrics["F"]) / 2)
    assert seen.metrics["J"] > unseen.metrics["J"] + 10


def test_metrics_are_means_over_objects_and_shares_are_their_derivatives(tmp_path: Path) -> None:
    """A video of one object weighs half as much as one of two."""
    write_videos(tmp_path)
    for mask in (tmp_path / "DAVIS/Annotations/480p/b").iterdir():
        assert cv2.imwrite(str(mask), (load_objects(mask, "davis2017") == 1).astype(np.uint8))
    found, _ = follow_objects(CRW, colors, tmp_path, "davis2017", CPU, Clock())
    objects, sums = found.arrays["objects"], found.arrays["J"]
    assert objects.tolist() == [2, 1]

    def metric(weights: np.ndarray) -> float:
        return 100 * float((weights * sums).sum() / (weights * objects).sum())

    assert found.metrics["J"] == pytest.approx(metric(np.ones(2)))
    for video in range(2):
        step = 1e-6 * np.eye(2)[video]
        slope = (metric(1 + step) - metric(1 - step)) / 2e-6
        assert found.shares["J"][video] == pytest.approx(slope, abs=1e-6)


def test_a_resnet_is_read_at_stride_8_without_layer4(checkpoint: Path) -> None:
    network = network_of(checkpoint)
    reference = network_of(checkpoint).backbone
    for module in reference.layer3.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
    images = torch.rand(2, 3, 45, 61)
    cells = fine_cells(network)(images)
    assert cells.shape == (2, 256, 6, 8)
    torch.testing.assert_close(cells.square().sum(1), torch.ones(2, 6, 8))
    mean, std = (torch.tensor(v)[:, None, None] for v in (network.card.mean, network.card.std))
    x = reference.layer1(reference.maxpool(reference.relu(reference.bn1(reference.conv1((images - mean) / std)))))
    torch.testing.assert_close(cells, normalize(reference.layer3(reference.layer2(x)), dim=1))


def test_a_vit_is_read_at_its_patches(tmp_path: Path) -> None:
    network = network_of(import_checkpoint("random:vit_tiny_patch16:0", name="vit", work=tmp_path))
    assert fine_cells(network)(torch.rand(1, 3, 40, 64)).shape == (1, 192, 3, 4)


def test_similarities_of_fused_cells_are_weighted_means() -> None:
    a, b = (normalize(torch.randn(2, c, 3, 4, dtype=torch.float64), dim=1) for c in (5, 7))
    weight = 1.75
    both = fused(lambda _: a, lambda _: b, weight)(torch.empty(0))
    torch.testing.assert_close(both.square().sum(1), torch.ones(2, 3, 4, dtype=torch.float64))
    share = weight**2 / (1 + weight**2)
    assert share == pytest.approx(0.754, abs=5e-4)  # the paper's lambda
    got = both[0].flatten(1).T @ both[1].flatten(1)
    parts = [one[0].flatten(1).T @ one[1].flatten(1) for one in (a, b)]
    torch.testing.assert_close(got, share * parts[0] + (1 - share) * parts[1])
    alone = fused(lambda _: a, lambda _: b, 0.0)(torch.empty(0))
    torch.testing.assert_close(alone[:, 5:], b)
    coarse = fused(lambda _: a, lambda _: b[:, :, ::2, ::2], weight)(torch.empty(0))
    assert coarse.shape == both.shape


def test_a_run_from_files_to_its_result(checkpoint: Path, tmp_path: Path) -> None:
    """Also that its values are those of the cells and rules that the protocol names."""
    write_videos(tmp_path)
    protocol = load_protocol("frozen_davis17_crw")
    dataset = check(tmp_path, protocol.dataset).reference()
    result = run_probe(protocol, checkpoint, tmp_path, dataset, 0, tmp_path / "one")
    assert read_result_json(result.to_json().encode()) == result
    extract = fine_cells(network_of(checkpoint))
    assert result.metrics == follow_objects(protocol.plan, extract, tmp_path, "davis2017", CPU, Clock())[0].metrics
    assert set(result.metrics) == {"J&F", "J", "J recall", "F", "F recall"}
    assert set(result.outputs) == {COUNTS, SHARES, OBJECTS}
    assert result.probe is not None and result.probe.channels == 256
    assert result.probe.images_evaluated == 2 * FRAMES
    shares = read_shares(tmp_path / "one" / SHARES)
    assert shares.names == ("a", "b")
    assert result.standard_errors["J&F"] == pytest.approx(shares.standard_error("J&F"))


def test_the_settings_are_the_papers() -> None:
    wanted = {"crw": ("crw", 10, 20, 12, 0.05), "sfc": ("crw", 15, 20, 15, 0.1), "dino": ("dino", 5, 7, 12, 0.1)}
    for year in ("16", "17"):
        for name, (rules, neighbors, context, radius, temperature) in wanted.items():
            protocol = load_protocol(f"frozen_davis{year}_{name}")
            assert protocol.plan == PropagationPlan("propagation", rules, neighbors, context, radius, temperature)
            assert (protocol.dataset, protocol.headline) == (f"davis20{year}", "J&F")
