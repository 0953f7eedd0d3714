from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from toy import Toy, ToyConfig

from pretrain.data.batches import ImageSource, open_images
from pretrain.data.regions import Felzenszwalb, Masks, prepare_masks
from pretrain.discovery import masks as stages
from pretrain.discovery.correspondence import normalized
from pretrain.discovery.masks import Clusters, Segments
from pretrain.nets.architectures import build_backbone
from pretrain.parts.losses import unit

COUNT, CELL = 7, 8


class Colors(nn.Module):
    """Maps of a cell for 8 x 8 pixels: finest the mean color, undone from its normalization, then what is not asked."""

    width = 3

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def features(self, x: Tensor) -> list[Tensor]:
        mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
        colors = nn.functional.avg_pool2d(x * std.view(3, 1, 1) + mean.view(3, 1, 1), CELL)
        return [x, self.scale * colors, x[:, :1], x[:, :1]]


@pytest.fixture
def method() -> Toy:
    toy = Toy(ToyConfig()).eval()
    toy.backbone = Colors()
    return toy


@pytest.fixture
def source(tmp_path: Path) -> ImageSource:
    """Pictures of cells, each red, green or blue and bright or dark, of 3 to 6 rows and 4 columns."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for index in range(COUNT):
        kinds = rng.integers(0, 3, (3 + index % 4, 4))
        kinds.flat[:3] = range(3)
        picture = np.eye(3)[kinds] * rng.choice([90, 240], kinds.shape)[:, :, None]
        pixels = picture.astype(np.uint8).repeat(CELL, axis=0).repeat(CELL, axis=1)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index}.png")
    return open_images(tmp_path / "images")


def kinds_of(source: ImageSource, index: int) -> npt.NDArray[np.int64]:
    """Which color each cell of a picture has, whatever its brightness."""
    image: npt.NDArray[np.int64] = source.decode(index).argmax(0).numpy()[::CELL, ::CELL]
    return image


def computed(stage: Any, method: Toy, source: ImageSource, path: Path, seed: int = 0) -> npt.NDArray[np.uint8]:
    torch.manual_seed(seed)
    with torch.no_grad():
        stage.compute(method, source, path)
    table: npt.NDArray[np.uint8] = np.load(path)
    return table


def test_a_group_of_images_shares_its_clusters(source: ImageSource, method: Toy, tmp_path: Path) -> None:
    """Three colors of two brightnesses are three clusters of directions, the same in all images of a group."""
    stage = Clusters("masks", together=3, clusters=(3, 3), side=12)
    table = computed(stage, method, source, tmp_path / "masks.npy")
    assert table.shape == (COUNT, 12, 12) and table.dtype == np.uint8
    for group in ((0, 1, 2), (3, 4, 5), (6,)):
        found: dict[int, set[int]] = {}
        for index in group:
            kinds = kinds_of(source, index)
            rows = ((np.arange(12) + 0.5) * kinds.shape[0] / 12).astype(int)
            columns = ((np.arange(12) + 0.5) * kinds.shape[1] / 12).astype(int)
            for kind in range(3):
                found.setdefault(kind, set()).update(table[index][kinds[rows[:, None], columns] == kind].tolist())
        assert sorted(found.values(), key=min) == [{0}, {1}, {2}]


def test_the_block_of_a_resnet_is_that_of_its_name(source: ImageSource, method: Toy) -> None:
    """CYBORGS clusters `layer2.2` of a ResNet-50, whose stage has a further block."""
    torch.manual_seed(0)
    method.backbone = build_backbone("resnet50").eval()
    pixels = torch.randint(0, 256, (3, 40, 56), dtype=torch.uint8)
    layer = method.backbone.layer2
    with torch.no_grad():
        third = layer[:3](method.backbone.features(normalized(pixels[None], method))[0])
        for block, expected in ((2, third), (3, layer[3](third)), (None, layer[3](third)), (9, layer[3](third))):
            got = Clusters("masks", block=block)._features(method, pixels)
            torch.testing.assert_close(got, unit(expected)[0])
        method.backbone = Colors()
        assert Clusters("masks", block=2)._features(method, pixels).shape == (3, 5, 7)


def test_clusters_are_those_of_plain_k_means(method: Toy) -> None:
    """At the end each cell is in the cluster whose mean is nearest, by numpy; their number is within its bounds."""
    rng = np.random.default_rng(1)
    numbers = set()
    for number in range(12):
        group = [torch.from_numpy(rng.standard_normal((4, h, 5))).float() for h in (5, 6)]
        group = [nn.functional.normalize(features, dim=0) for features in group]
        stage = Clusters("masks", clusters=(2, 6), iterations=100, side=30)
        maps = stage.cluster(group, seed=4, number=number)
        labels = [m[:: 30 // h, ::6][:h] for m, h in zip(maps, (5, 6), strict=True)]
        points = np.concatenate([f.flatten(1).T.double().numpy() for f in group])
        flat = np.concatenate([label.ravel() for label in labels]).astype(int)
        used = np.unique(flat)
        means = np.stack([points[flat == k].mean(0) for k in used])
        distance = ((points[:, None] - means) ** 2).sum(2)
        assert (distance[np.arange(len(points)), np.searchsorted(used, flat)] < distance.min(1) + 1e-6).all()
        numbers.add(len(used))
        again = stage.cluster(group, seed=4, number=number)
        assert all(np.array_equal(a, b) for a, b in zip(maps, again, strict=True))
    assert min(numbers) >= 2 and max(numbers) <= 6 and len(numbers) > 2


def test_there_are_no_more_clusters_than_the_smallest_image_has_cells(method: Toy) -> None:
    rng = np.random.default_rng(2)
    group = [torch.from_numpy(rng.standard_normal((4, h, 3))).float() for h in (2, 20)]
    maps = Clusters("masks", clusters=(50, 60), side=60).cluster(group, seed=0, number=0)
    assert len(np.unique(np.stack(maps))) == 6
    large = [torch.from_numpy(rng.standard_normal((8, 40, 40))).float()]
    (labels,) = Clusters("masks", clusters=(300, 300), iterations=2, side=40).cluster(large, seed=0, number=0)
    assert labels.max() == 255  # what is beyond counts as one


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_stage_that_was_stopped_continues_to_the_same_bytes(
    source: ImageSource, method: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Cut off within and between groups of two; what is drawn depends on the seed."""
    stage = Clusters("masks", together=2, clusters=(2, 9), side=12)
    expected = computed(stage, method, source, tmp_path / "whole.npy", seed=3)
    part = tmp_path / "part.npy"
    whole = (tmp_path / "whole.npy").read_bytes()
    header = len(whole) - COUNT * 144
    part.write_bytes(whole[: header + stop * 144 + 20])
    seen: list[int] = []
    cluster = Clusters.cluster
    monkeypatch.setattr(Clusters, "cluster", lambda *args: seen.append(args[3]) or cluster(*args))
    assert np.array_equal(computed(stage, method, source, part, seed=3), expected)
    assert seen == list(range(stop // 2, 4))
    assert not np.array_equal(computed(stage, method, source, tmp_path / "other.npy", seed=4), expected)


def test_segments_are_detcons(tmp_path: Path, source: ImageSource, method: Toy) -> None:
    table = computed(Segments("masks-0", scale=100, min_size=20, side=16), method, source, tmp_path / "product")
    masks = prepare_masks(source, tmp_path, Felzenszwalb(scale=100, min_size=20), side=16)
    assert np.array_equal(table, masks.maps) and len(np.unique(table)) > 3
    assert torch.equal(Masks(tmp_path / "product").of(torch.tensor([2])), masks.of(torch.tensor([2])))


def test_images_are_resized_or_black(
    source: ImageSource, method: Toy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (source.root / source.name(1)).write_bytes(b"no picture")
    sizes = [tuple(stages._Images(source, resize)[index].shape[1:]) for resize in (None, 48) for index in (0, 1, 3)]
    assert sizes == [(24, 32), (64, 64), (48, 32), (48, 64), (48, 48), (72, 48)]
    table = computed(Clusters("masks", clusters=(3, 3), side=8), method, source, tmp_path / "masks.npy")
    assert "no regions for" in caplog.text and len(np.unique(table[1])) == 1
