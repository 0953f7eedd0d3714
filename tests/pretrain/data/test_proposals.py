from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pretrain.data.proposals import Boxes, kept_boxes, overlaps, require, selective_search
from pretrain.errors import PretrainError

BOXES = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=30
)


def shared(a: Boxes, b: Boxes) -> float:
    """Intersection over union, pixel by pixel."""
    canvas = np.zeros((2, 40, 40), dtype=bool)
    for layer, (left, top, width, height) in zip(canvas, (a, b), strict=True):
        layer[top : top + height, left : left + width] = True
    return float(canvas.all(0).sum() / canvas.any(0).sum())


def plainly_kept(boxes: Boxes, least: int, ratio: float, overlap: float, limit: int) -> list[list[int]]:
    kept: list[Any] = []
    for box in boxes:
        w, h = box[2:]
        if w < least or h < least or w / h > ratio or h / w > ratio:
            continue
        if all(shared(box, other) <= overlap for other in kept):
            kept.append(box)
    return [box.tolist() for box in (kept or [boxes[0]])[:limit]]


@settings(max_examples=50)
@given(BOXES, st.integers(1, 12), st.integers(1, 6))
def test_boxes_are_kept_as_published(given_boxes: list[tuple[int, ...]], least: int, limit: int) -> None:
    boxes = np.array(given_boxes)
    kept = kept_boxes(boxes, min_side=least, max_ratio=3, max_overlap=0.5, limit=limit)
    assert kept.tolist() == plainly_kept(boxes, least, 3, 0.5, limit)
    assert all(shared(kept[i], kept[j]) <= 0.5 for i in range(len(kept)) for j in range(i))


@settings(max_examples=30)
@given(BOXES)
def test_overlaps_are_shares_of_pixels(given_boxes: list[tuple[int, ...]]) -> None:
    boxes = np.array(given_boxes)
    assert overlaps(boxes, boxes[0]).tolist() == pytest.approx([shared(box, boxes[0]) for box in boxes])


def scene() -> torch.Tensor:
    """A red and a blue rectangle, the blue one of two shades, on a noisy green ground."""
    rng = np.random.default_rng(0)
    image = np.full((96, 128, 3), (30, 160, 40), dtype=np.int64)
    image[20:60, 12:52] = 220, 30, 30
    image[30:80, 70:90] = 30, 30, 220
    image[30:80, 90:110] = 90, 90, 250
    image += rng.integers(-6, 7, image.shape)
    return torch.from_numpy(image.clip(0, 255).astype(np.uint8)).permute(2, 0, 1).contiguous()


@pytest.mark.parametrize("search", ["skimage", "opencv"])
def test_objects_are_found_and_the_seed_decides_the_order(search: Any) -> None:
    if search == "opencv" and not hasattr(cv2, "ximgproc"):
        pytest.skip("OpenCV is here without ximgproc")
    found = selective_search(scene(), search, seed=3)
    assert found.shape[1] == 4 and found.dtype == np.int64
    for thing in ([12, 20, 40, 40], [70, 30, 40, 50], [0, 0, 128, 96]):
        assert overlaps(found, np.array(thing)).max() > 0.9, thing
    assert (found[:, :2] >= 0).all() and (found[:, 2:] > 0).all()
    assert (found[:, 0] + found[:, 2] <= 128).all() and (found[:, 1] + found[:, 3] <= 96).all()
    assert len(np.unique(found, axis=0)) == len(found)
    selective_search(scene(), search, seed=8)
    assert np.array_equal(selective_search(scene(), search, seed=3), found)
    other = selective_search(scene(), search, seed=4)
    assert sorted(other.tolist()) == sorted(found.tolist()) and not np.array_equal(other, found)


def test_an_image_of_one_color_is_one_box() -> None:
    plain = torch.full((3, 30, 40), 128, dtype=torch.uint8)
    assert selective_search(plain, "skimage", seed=0).tolist() == [[0, 0, 40, 30]]


def test_what_is_missing_is_said_before_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    require("skimage")
    monkeypatch.delattr(cv2, "ximgproc", raising=False)
    with pytest.raises(PretrainError, match="install opencv-contrib-python-headless in the place of"):
        require("opencv")


def test_real_photographs_have_boxes_of_every_size(shared_data: Path) -> None:
    path = next((shared_data / "pretrain/images").glob("*.jpg"))
    image = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
    sides = selective_search(image, "skimage", seed=0)[:, 2:].max(1)
    assert len(sides) > 10 and sides.min() < 40 and sides.max() > 100
