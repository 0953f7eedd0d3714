from __future__ import annotations

import json
import math
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from leaderboard.records import Pretraining, Source
from pretrain.data.batches import ImageSource, open_images
from pretrain.discovery import attention
from pretrain.discovery.attention import ObjectLabels, ObjectMasks, object_mask, whitened
from pretrain.discovery.object_table import box_of, cells_of, row_type, spread
from pretrain.errors import PretrainError
from pretrain.export import export
from pretrain.exported import write_exported
from pretrain.method import Method
from pretrain.methods import all_recipes, maskdistill
from pretrain.methods.maskdistill import MaskDistill, MaskDistillConfig
from pretrain.nets.architectures import ViTArchitecture, build_backbone, find_architecture
from pretrain.nets.vit import VisionTransformer
from pretrain.recipes import find_recipe, override
from pretrain.run.folder import read_record
from pretrain.run.stages import product_of
from pretrain.run.train import train

COUNT, PATCH = 6, 8


def plain_mask(
    query: Tensor, keys: Tensor, columns: int, heads: int, mass: float, share: float
) -> npt.NDArray[np.bool_]:
    """The object by loops over patches, with the whole table of similarities and a search from the seed."""
    q, k = query.tolist(), keys.tolist()
    count = len(k[0])
    logits = [sum(sum(a * b for a, b in zip(q[h], k[h][n], strict=True)) for h in range(heads)) for n in range(count)]
    logits = [value / heads for value in logits]
    total, so_far, kept = sum(logits), 0.0, [False] * count
    for n in sorted(range(count), key=lambda n: logits[n]):
        so_far += logits[n] / total
        kept[n] = so_far > 1 - mass
    value = [logit if keep else 0.0 for logit, keep in zip(logits, kept, strict=True)]
    chosen = sorted(range(count), key=lambda n: -value[n])[: max(1, int(share * count))]
    alike = [
        [sum(sum(a * b for a, b in zip(head[n], head[m], strict=True)) for head in k) for m in range(count)]
        for n in range(count)
    ]
    seed = chosen[0]
    nodes = [n for n in chosen if alike[seed][n] > 0]
    member = [sum(alike[n][m] for n in nodes) > 0 for m in range(count)]
    mask = np.zeros((count // columns, columns), bool)
    waiting = deque([divmod(seed, columns)])
    while waiting:
        y, x = waiting.popleft()
        if 0 <= y < mask.shape[0] and 0 <= x < columns and member[y * columns + x] and not mask[y, x]:
            mask[y, x] = True
            waiting += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    return mask


@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    heads=st.integers(1, 3),
    shift=st.floats(-1, 2),
)
@settings(max_examples=30, deadline=None)
def test_an_object_is_that_of_plain_loops(seed: int, shape: tuple[int, int], heads: int, shift: float) -> None:
    """Also where logits are negative, so that suppressed patches outrank them."""
    rng = np.random.default_rng(seed)
    query = torch.from_numpy(rng.standard_normal((3, 4)) + shift)
    keys = torch.from_numpy(rng.standard_normal((3, math.prod(shape), 4)) + shift)
    mask = object_mask(query, keys, shape[1], heads=heads, mass=0.5, share=0.4)
    assert np.array_equal(mask, plain_mask(query, keys, shape[1], heads, 0.5, 0.4))
    assert mask.any()


def test_an_object_is_what_is_like_its_most_attended_patch_and_connected_with_it() -> None:
    """Two bright squares of which one is attended to: both are alike, one is connected."""
    kind = torch.zeros(6, 9)
    kind[1:3, 1:3] = kind[3:5, 6:8] = 1
    keys = torch.stack([2 * kind.flatten() - 1, torch.ones(54) * 0.1], 1)[None].double()
    keys[0, 10, 1] += 1
    mask = object_mask(torch.tensor([[1.0, 1.0]]).double(), keys, 9, heads=1, mass=0.5, share=0.4)
    expected = np.zeros((6, 9), bool)
    expected[1:3, 1:3] = True
    assert np.array_equal(mask, expected)


def test_queries_and_keys_are_those_of_the_last_blocks_attention() -> None:
    torch.manual_seed(0)
    network = VisionTransformer(12, 3, depth=4, patch=4, grid=4, registers=2).double().eval()
    x = torch.randn(2, 3, 8, 12).double()
    seen: list[Tensor] = []
    handle = network.blocks[-1].attn.qkv.register_forward_hook(lambda m, i, o: seen.append(o))
    network.tokens(x)
    handle.remove()
    q, k = network.last_queries_and_keys(x)
    assert q.shape == k.shape == (2, 3, 1 + 2 + 6, 4)
    for head in range(3):
        assert torch.equal(q[:, head], seen[0][:, :, 4 * head : 4 * head + 4])
        assert torch.equal(k[:, head], seen[0][:, :, 12 + 4 * head : 16 + 4 * head])


def a_row(height: int, width: int, cell: int, cells: npt.NDArray[Any]) -> Any:
    row = np.zeros((), row_type(5))
    row["height"], row["width"], row["cell"], row["cells"] = height, width, cell, 255
    row["cells"][: cells.shape[0], : cells.shape[1]] = cells
    return row


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seen=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=50, deadline=None)
def test_cells_are_enlarged_as_pixels_are_looked_up(size: tuple[int, int], seen: tuple[int, int], seed: int) -> None:
    """Enlarged cell by cell, cut to the resized image, then resized by the nearest."""
    height, width = seen
    cells = np.random.default_rng(seed).integers(0, 3, (-(-height // 4), -(-width // 4)))
    row = a_row(height, width, 4, cells)
    assert np.array_equal(cells_of(row), cells)
    large = cells.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]
    found = spread(row, *size)
    for y in range(size[0]):
        for x in range(size[1]):
            at = int((y + 0.5) * height / size[0]), int((x + 0.5) * width / size[1])
            assert found[y, x] == large[at]


def test_a_box_encloses_the_object_in_the_image() -> None:
    cells = np.zeros((3, 4), np.uint8)
    cells[1, 2:] = 7
    row = a_row(20, 30, 8, cells)  # of an image twice as large: cells of 16 pixels, the last row and column cut off
    assert box_of(row, 40, 60) == (16, 32, 32, 60)
    assert box_of(a_row(20, 30, 8, np.zeros((3, 4))), 40, 60) == (0, 40, 0, 60)
    assert box_of(a_row(0, 0, 8, np.zeros((0, 0))), 5, 4) == (0, 5, 0, 4)


def test_descriptions_are_divided_by_their_spread_and_length() -> None:
    x = np.random.default_rng(0).standard_normal((20, 5)) + 3
    x[:, 4] = 2.0
    deviation = x.std(0)
    deviation[4] = 1
    expected = x / deviation
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(whitened(torch.from_numpy(x)).numpy(), expected, atol=1e-12)


@pytest.fixture
def source(tmp_path: Path) -> ImageSource:
    """Pictures of noise with a square, of different shapes, the fourth of which is damaged."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(COUNT):
        pixels = rng.integers(0, 60, (40 + 7 * index, 64, 3), dtype=np.uint8)
        pixels[10:30, 8 * index : 8 * index + 20] = [(255, 0, 0), (0, 255, 0)][index % 2]
        Image.fromarray(pixels).save(folder / f"{index}.png")
    (folder / "3.png").write_bytes(b"no picture")
    return open_images(folder)


@pytest.fixture
def method() -> Method:
    torch.manual_seed(1)
    network = VisionTransformer(12, 3, depth=4, patch=PATCH, grid=4).eval()
    for parameter in network.parameters():  # far from a start, so that patches differ
        torch.nn.init.normal_(parameter, std=0.3)
    return MaskDistill(MaskDistillConfig(), network)


STAGES = ObjectMasks(shorter=32, longest=48, heads=2), ObjectLabels(clusters=2)


@torch.no_grad()
def computed(stage: Any, method: Method, source: ImageSource, path: Path, seed: int = 0) -> npt.NDArray[Any]:
    torch.manual_seed(seed)
    stage.compute(method, source, path)
    table: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return table


def test_the_tables_of_both_stages(source: ImageSource, method: Method, tmp_path: Path) -> None:
    masks = computed(STAGES[0], method, source, tmp_path / "masks.npy")
    assert masks["image"].tolist() == [f"{index}.png".encode() for index in range(COUNT)]
    assert masks["height"].tolist() == [30, 32, 32, 0, 34, 37]
    assert masks["width"].tolist() == [48, 43, 37, 0, 32, 32]  # the first would be longer than 48
    assert (masks["cells"][3] == 255).all() and masks["cells"].shape[1:] == (6, 6)
    assert set(np.unique(cells_of(masks[0]))) <= {0, 1} and (cells_of(masks[0]) == 1).any()
    assert (masks["cells"][0][4:] == 255).all()
    method.products = {"masks": tmp_path / "masks.npy"}
    labels = computed(STAGES[1], method, source, tmp_path / "labels.npy")
    assert np.array_equal(labels["cells"] % 255 > 0, masks["cells"] == 1)
    kinds = [int(cells_of(row).max()) for row in labels if row["height"]]
    assert set(kinds) == {1, 2}
    assert not (tmp_path / "described.npy").exists()


def test_clusters_are_those_of_the_boxes_class_tokens(source: ImageSource, method: Method, tmp_path: Path) -> None:
    """Descriptions by hand from the boxes; at the end each object is nearest to the mean of its own cluster."""
    masks = computed(STAGES[0], method, source, tmp_path / "masks.npy")
    method.products = {"masks": tmp_path / "masks.npy"}
    labels = computed(STAGES[1], method, source, tmp_path / "labels.npy")
    seen = [index for index in range(COUNT) if index != 3]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (method.plan.mean, method.plan.std))
    tokens = []
    for index in seen:
        image = source.decode(index)
        top, bottom, left, right = box_of(masks[index], *image.shape[1:])
        x = (image[:, top:bottom, left:right] / 255 - mean) / std
        whole = torch.zeros(1, 3, -(-x.shape[1] // PATCH) * PATCH, -(-x.shape[2] // PATCH) * PATCH)
        whole[0, :, : x.shape[1], : x.shape[2]] = x
        tokens.append(method.backbone.tokens(whole)[0, 0].detach())  # type: ignore[operator]
    points = whitened(torch.stack(tokens)).numpy()
    kinds = np.array([cells_of(labels[index]).max() for index in seen])
    means = np.stack([points[kinds == kind].mean(0) for kind in (1, 2)])
    nearest = ((points[:, None] - means) ** 2).sum(2).argmin(1)
    assert np.array_equal(nearest + 1, kinds)


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("stop", [1, 4])
def test_a_stopped_stage_continues_to_the_same_bytes(
    stage: int,
    stop: int,
    source: ImageSource,
    method: Method,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped between any two images, of the masks, and of the descriptions of their boxes."""
    computed(STAGES[0], method, source, tmp_path / "masks.npy")
    method.products = {"masks": tmp_path / "masks.npy"}
    (tmp_path / "whole").mkdir()
    (tmp_path / "part").mkdir()
    computed(STAGES[stage], method, source, tmp_path / "whole" / "product", seed=5)
    seen = 0

    def normalized(*args: Any) -> Tensor:
        nonlocal seen
        if seen == stop:
            raise KeyboardInterrupt
        seen += 1
        return real(*args)

    real = attention.normalized
    monkeypatch.setattr(attention, "normalized", normalized)
    with pytest.raises(KeyboardInterrupt):
        computed(STAGES[stage], method, source, tmp_path / "part" / "product", seed=5)
    monkeypatch.setattr(attention, "normalized", real)
    computed(STAGES[stage], method, source, tmp_path / "part" / "product", seed=5)
    assert (tmp_path / "part" / "product").read_bytes() == (tmp_path / "whole" / "product").read_bytes()


def test_what_cannot_be_done_is_said(source: ImageSource, method: Method, tmp_path: Path) -> None:
    with pytest.raises(PretrainError, match="takes 5 heads, but the network has 3"):
        computed(ObjectMasks(shorter=32, longest=48), method, source, tmp_path / "masks.npy")
    computed(STAGES[0], method, source, tmp_path / "masks.npy")
    method.products = {"masks": tmp_path / "masks.npy"}
    for clusters, message in ((6, "5 images that can be read are too few for 6"), (0, "clusters are 1 to 254")):
        with pytest.raises(PretrainError, match=message):
            computed(ObjectLabels(clusters=clusters), method, source, tmp_path / "labels.npy")
    method.backbone = torch.nn.Conv2d(3, 2, 4)
    with pytest.raises(PretrainError, match="by the class token of a ViT"):
        computed(STAGES[0], method, source, tmp_path / "masks.npy")


def test_recipes_train_nothing_and_start_from_a_transformer() -> None:
    for recipe in maskdistill.RECIPES:
        assert (recipe.epochs, recipe.needs_init) == (0, True)
        assert isinstance(find_architecture(recipe.backbone), ViTArchitecture)
    method = find_recipe(all_recipes(), "maskdistill-mini").method.build()
    assert isinstance(method.backbone, VisionTransformer) and method.backbone.style == "dino"
    with pytest.raises(PretrainError, match="leave its epochs at 0"):
        method([])
    with pytest.raises(PretrainError, match="must be at least 1"):
        replace(maskdistill.RECIPES[0], stages=())


@pytest.mark.slow
def test_a_run_is_its_stages(source: ImageSource, tmp_path: Path) -> None:
    """From an exported backbone to the tables, which a run with other clusters shares as far as it is the same."""
    torch.manual_seed(0)
    network = build_backbone("vit_tiny_patch16")
    facts: dict[str, Any] = {
        "name": "vit",
        "method": "random",
        "architecture": "vit_tiny_patch16",
        "color_order": "RGB",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "pretraining": Pretraining.known(),
        "source": Source(format="random", file="none", sha256="0" * 64, key_prefix=""),
        "license": None,
        "code_commit": None,
    }
    write_exported(tmp_path / "vit", network.state_dict(), facts)
    small = ["method.backbone=vit_tiny_patch16", "stages.labels.clusters=2", "stages.masks.shorter=32"]
    recipe = override(find_recipe(all_recipes(), "maskdistill-mini"), small)
    run = train(recipe, source, tmp_path / "run", init=tmp_path / "vit", stages=tmp_path / "stages")
    assert json.loads((run / "finished.json").read_text())["executed_steps"] == 0
    stages = tmp_path / "stages"
    found = [product_of(run, number, name, stages) for number, name in ((1, "masks"), (2, "labels"))]
    masks, labels = (np.load(path) for path in found if path is not None)
    assert np.array_equal(masks["cells"] == 1, labels["cells"] % 255 > 0)
    with pytest.raises(PretrainError, match="has trained nothing"):
        export(run)
    assert read_record(run).mean == [0.485, 0.456, 0.406]
    write_exported(tmp_path / "half", network.state_dict(), facts | {"mean": (0.5, 0.5, 0.5)})
    assert read_record(train(recipe, source, tmp_path / "halves", init=tmp_path / "half")).mean == [0.5, 0.5, 0.5]
    halves = product_of(tmp_path / "halves", 1, "masks")
    assert halves is not None and not (stages / halves.parent.name).exists()  # another stage
    other = override(recipe, ["stages.labels.clusters=3"])
    train(other, source, tmp_path / "other", init=tmp_path / "vit", stages=tmp_path / "stages")
    names = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "stages").iterdir())
    assert names == ["1-masks", "2-labels", "2-labels"]
