from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from toy import Toy, ToyConfig, write_images

from pretrain.data import proposals as searching
from pretrain.data.batches import ImageSource, open_images
from pretrain.discovery import correspondence
from pretrain.discovery.correspondence import Neighbors, Pairs, Proposals, nearest, top_pairs
from pretrain.errors import PretrainError

COUNT = 6


class Described(Toy):
    """Describes a picture by its mean color, and embeds it by that and a constant."""

    def __init__(self) -> None:
        super().__init__(ToyConfig())
        self.backbone = nn.Conv2d(3, 3, 1, bias=False)
        self.backbone.weight.data = torch.eye(3)[:, :, None, None]
        self.backbone.width = 3  # type: ignore[assignment]

    def embed(self, x: Tensor) -> Tensor:
        return self.backbone(x).mean((2, 3)) + 0.5


@pytest.fixture
def source(tmp_path: Path) -> ImageSource:
    return open_images(write_images(tmp_path / "images", COUNT))


@pytest.fixture
def method() -> Described:
    return Described().eval()


def fixed_boxes(image: Tensor, search: str, seed: int) -> Any:
    """More boxes in later images, in the place of a search."""
    return np.array([[0, 0, 9 + k, 12 - k] for k in range(seed + 1)] + [[8, 8, 14, 14], [2, 12, 10, 9]])


@pytest.fixture
def computed(
    source: ImageSource, method: Described, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Path]:
    """Proposals of known boxes, neighbors and pairs."""
    monkeypatch.setattr(correspondence, "selective_search", fixed_boxes)
    files: dict[str, Path] = {}
    stages = (
        Proposals(search="skimage", min_side=8, limit=20),
        Neighbors(number=3, resize=16, size=12, batch=4),
        Pairs(share=0.7, size=8),
    )
    for stage in stages:
        method.products = dict(files)
        with torch.no_grad():
            stage.compute(method, source, tmp_path / f"{stage.name}.npy")
        files[stage.name] = tmp_path / f"{stage.name}.npy"
    return files


def test_each_stage_leaves_one_table(computed: dict[str, Path], tmp_path: Path) -> None:
    tables = {name: np.load(path, mmap_mode="r") for name, path in computed.items()}
    assert {name: (table.shape, table.dtype.name) for name, table in tables.items()} == {
        "proposals": ((COUNT, 20, 4), "uint16"),
        "neighbors": ((COUNT, 3), "int32"),
        "pairs": ((COUNT, 3, 14, 8), "uint16"),
    }
    assert not (tmp_path / "boxes.npy").exists()


def test_proposals_are_the_kept_boxes_of_every_image(computed: dict[str, Path], source: ImageSource) -> None:
    table = np.load(computed["proposals"])
    for index, rows in enumerate(table):
        kept = searching.kept_boxes(
            fixed_boxes(source.decode(index), "", index), min_side=8, max_ratio=3, max_overlap=0.5, limit=20
        )
        assert rows[: len(kept)].tolist() == kept.tolist() and not rows[len(kept) :].any()


def plain_features(images: list[Any], sides: tuple[int, int]) -> Any:
    """Mean colors of pictures (h, w, 3), resized by Pillow, normalized."""
    mean, std = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    resized = [np.asarray(Image.fromarray(image).resize(sides, Image.Resampling.BILINEAR)) for image in images]
    return np.stack([(image / 255 - mean).mean((0, 1)) / std for image in resized])


def test_neighbors_and_pairs_are_those_of_a_plain_search(computed: dict[str, Path], source: ImageSource) -> None:
    """By numpy and Pillow, image by image."""
    pictures = [source.decode(index).permute(1, 2, 0).numpy() for index in range(COUNT)]
    tables = {name: np.load(path) for name, path in computed.items()}

    squares = []
    for picture in pictures:
        height, width = picture.shape[:2]
        to = (16 * width // min(width, height), 16 * height // min(width, height))
        resized = np.asarray(Image.fromarray(picture).resize(to, Image.Resampling.BILINEAR))
        left, top = (to[0] - 12) // 2, (to[1] - 12) // 2
        squares.append(np.ascontiguousarray(resized[top : top + 12, left : left + 12]))
    embedded = plain_features(squares, (12, 12)) + 0.5
    embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
    for index, row in enumerate(tables["neighbors"]):
        cosines = {other: embedded[index] @ embedded[other] for other in range(COUNT) if other != index}
        best = sorted(cosines.values(), reverse=True)[:3]
        assert [cosines[other] for other in row.tolist()] == pytest.approx(best, abs=2e-3)

    for index, picture in enumerate(pictures):
        boxes = [box for box in tables["proposals"][index].astype(int) if box[2]]
        for neighbor, rows in zip(tables["neighbors"][index], tables["pairs"][index].astype(int), strict=True):
            others = [box for box in tables["proposals"][neighbor].astype(int) if box[2]]
            features = []
            for image, found in ((picture, boxes), (pictures[neighbor], others)):
                crops = [np.ascontiguousarray(image[y : y + h, x : x + w]) for x, y, w, h in found]
                rows_of = plain_features(crops, (8, 8))
                features.append(rows_of / np.linalg.norm(rows_of, axis=1, keepdims=True))
            cosine = features[0] @ features[1].T
            kept = [row for row in rows if row[2]]
            assert len(kept) == max(1, int(0.7 * len(boxes)))
            mine = [[box.tolist() for box in boxes].index(row[:4].tolist()) for row in kept]
            theirs = [[box.tolist() for box in others].index(row[4:].tolist()) for row in kept]
            assert len(set(zip(mine, theirs, strict=True))) == len(kept)
            best = np.sort(cosine.ravel())[::-1][: len(kept)]
            assert cosine[mine, theirs].tolist() == pytest.approx(best.tolist(), abs=5e-3)


@settings(max_examples=40)
@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_top_pairs_are_the_largest_cosines(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (torch.from_numpy(rng.standard_normal((k, 4))) for k in (n, m))
    mine, theirs = top_pairs(a, b, 0.1)
    assert len(mine) == len(theirs) == max(1, int(0.1 * n))
    listed = sorted(((float(a[i] @ b[j]), i, j) for i in range(n) for j in range(m)), reverse=True)
    assert [(i, j) for _, i, j in listed[: len(mine)]] == list(zip(mine.tolist(), theirs.tolist(), strict=True))


def test_the_best_pairs_of_an_image_with_itself_are_each_box_with_itself() -> None:
    a = torch.nn.functional.normalize(torch.randn(20, 8, generator=torch.manual_seed(0)).double(), dim=1)
    mine, theirs = top_pairs(a, a, 0.1)
    assert len(mine) == 2 and np.array_equal(mine, theirs)
    torch.testing.assert_close((a[mine] * a[theirs]).sum(1), torch.ones(2).double())


@settings(max_examples=30)
@given(st.integers(3, 40), st.integers(0, 2**32 - 1))
def test_nearest_leaves_out_the_image_itself_and_those_that_cannot_be_read(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = torch.from_numpy(rng.standard_normal((count, 3)))
    rows[-1] = rows[0]  # a copy of the first image
    readable = torch.ones(count, dtype=torch.bool)
    readable[1] = False
    for index, near in enumerate(nearest(rows, readable, count - 2).tolist()):
        others = [other for other in range(count) if other not in (index, 1)]
        assert index not in near and 1 not in near
        expected = sorted((float(rows[index] @ rows[other]) for other in others), reverse=True)
        assert [float(rows[index] @ rows[other]) for other in near] == pytest.approx(expected[: count - 2])


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("moment", ["proposals", "descriptions", "pairs"])
def test_a_stage_that_was_stopped_continues_to_the_same_bytes(
    computed: dict[str, Path],
    source: ImageSource,
    method: Described,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    stage: Any = (
        Proposals(search="skimage", min_side=8, limit=20) if moment == "proposals" else Pairs(share=0.7, size=8)
    )
    method.products = computed
    path = tmp_path / "again" / "product.unfinished"
    path.parent.mkdir()
    calls: list[int] = []

    def stopping(function: Callable[..., Any], after: int) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            if len(calls) == after:
                raise StoppedError
            return function(*args, **kwargs)

        return counted

    name, after = {"proposals": ("kept_boxes", 4), "descriptions": ("normalized", 4), "pairs": ("top_pairs", 8)}[moment]
    with monkeypatch.context() as patch, pytest.raises(StoppedError), torch.no_grad():
        patch.setattr(correspondence, name, stopping(getattr(correspondence, name), after))
        stage.compute(copy.deepcopy(method), source, path)
    before = len(calls)
    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(correspondence, name, stopping(getattr(correspondence, name), -1))
        stage.compute(method, source, path)
    assert path.read_bytes() == computed[stage.name].read_bytes()
    assert len(calls) - before == {"proposals": COUNT - 3, "descriptions": COUNT - 3, "pairs": 3 * (COUNT - 2)}[moment]


def test_a_damaged_image_has_no_boxes_and_is_nobodys_neighbor(
    source: ImageSource, method: Described, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (source.root / source.name(2)).write_bytes(b"no picture")
    files: dict[str, Path] = {}
    for stage in (Proposals(search="skimage", min_side=8, limit=5), Neighbors(resize=16, size=12), Pairs(size=8)):
        method.products = dict(files)
        with torch.no_grad():
            stage.compute(method, source, tmp_path / stage.name)
        files[stage.name] = tmp_path / stage.name
    assert "no boxes for" in caplog.text
    proposals, neighbors, pairs = (np.load(path) for path in files.values())
    assert neighbors.shape == (COUNT, COUNT - 2) and not (neighbors[[0, 1, 3, 4, 5]] == 2).any()
    assert not proposals[2].any() and not pairs[2].any()
    assert proposals[[0, 1, 3, 4, 5], 0, 2].all() and pairs[[0, 1, 3, 4, 5], :, 0, 2].all()


def test_what_cannot_have_neighbors(source: ImageSource, method: Described, tmp_path: Path) -> None:
    with pytest.raises(PretrainError, match="Toy has no embeddings"):
        Neighbors().compute(Toy(ToyConfig()), source, tmp_path / "product")
    single = ImageSource(source.root, [source.name(0)])
    with pytest.raises(PretrainError, match="at least two images"), torch.no_grad():
        Neighbors(resize=16, size=12).compute(method, single, tmp_path / "product")
