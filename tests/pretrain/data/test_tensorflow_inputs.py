"""Crops, resize and color of SimCLR's and BYOL's codes against their formulas, written out in float64 with numpy."""

from __future__ import annotations

import colorsys
import math
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_augment import images

from pretrain.data import tensorflow_crops
from pretrain.data.batches import Loading, crop_batches
from pretrain.data.crops import cut, view_generator
from pretrain.data.tensorflow_color import TensorFlowJitter, ZeroPaddedBlur, byol_code_color, simclr_code_color
from pretrain.data.views import ViewPlan, ViewSpec
from pretrain.errors import PretrainError

Pixels = npt.NDArray[np.float64]
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
CODES = ("byol", "simclr")


def cubic(distance: float, a: float) -> float:
    x = abs(distance)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def written_out(code: str, row: Pixels, size: int) -> Pixels:
    """A row of pixels as `size` cells."""
    cells = np.zeros((size, *row.shape[1:]))
    for i in range(size):
        place = i * len(row) / size if code == "simclr" else (i + 0.5) * len(row) / size - 0.5
        near = range(math.floor(place) - 1, math.floor(place) + 3)
        if code == "simclr":
            cells[i] = sum(cubic(j - place, -0.75) * row[min(max(j, 0), len(row) - 1)] for j in near)
        else:
            weights = {j: cubic(j - place, -0.5) for j in near if 0 <= j < len(row)}
            cells[i] = sum(weight * row[j] for j, weight in weights.items()) / sum(weights.values())
    return cells


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(("height", "width", "size"), [(37, 50, 12), (9, 5, 14), (16, 16, 16), (1, 3, 4)])
def test_the_resize_is_the_formula(code: Any, height: int, width: int, size: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    down = written_out(code, image.astype(np.float64), size)
    expected = written_out(code, down.swapaxes(0, 1), size).swapaxes(0, 1)
    stored = torch.from_numpy(image).permute(2, 0, 1)
    got = tensorflow_crops.resize(code, stored, size)
    # TensorFlow tabulates the weights at 1024 places between two pixels, which we do too.
    torch.testing.assert_close(got.permute(1, 2, 0).double(), torch.from_numpy(expected), rtol=0, atol=0.5)
    spec = ViewSpec("v", size, SCALE, interpolation="bicubic", rules=code)
    levels = cut(stored, (0, 0, width, height), spec, flip=True)
    assert levels.dtype == torch.uint8
    assert torch.equal(levels, got.round().clamp(0, 255).to(torch.uint8).flip(-1))


def test_a_large_crop_is_not_antialiased() -> None:
    """Stripes of one pixel, four to a cell, average out in the one and not in the other."""
    stripes = (torch.arange(64) % 4 == 1).to(torch.uint8).mul(255).expand(3, 64, 64)
    plain, code = (
        cut(stripes, (0, 0, 64, 64), ViewSpec("v", 16, SCALE, interpolation="bicubic", rules=rules), flip=False)
        for rules in ("torchvision", "byol")
    )
    assert (plain[:, 2:-2, 2:-2].float() - 64).abs().max() < 8 < (code.float() - 64).abs().min()


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32), st.sampled_from(CODES))
@settings(max_examples=50, deadline=None)
def test_boxes_lie_in_the_image(width: int, height: int, seed: int, code: Any) -> None:
    left, top, w, h = tensorflow_crops.draw_box(code, np.random.default_rng(seed), width, height, SCALE, RATIO)
    assert min(left, top) >= 0 and min(w, h) >= 1 and left + w <= width and top + h <= height
    if code == "simclr":
        assert w * h >= 0.1 * width * height
        assert (left + w < width or w == width) and (top + h < height or h == height)


def areas(code: Any, width: int, height: int, n: int = 3000) -> Pixels:
    rng = np.random.default_rng(1)
    boxes = [tensorflow_crops.draw_box(code, rng, width, height, SCALE, RATIO) for _ in range(n)]
    return np.array([w * h / (width * height) for _, _, w, h in boxes])


def within_noise(found: Pixels, expected: float) -> bool:
    return abs(found.mean() - expected) < 4 * found.std() / math.sqrt(len(found))


def test_byols_crops_are_cut_to_the_image() -> None:
    """The mean over areas and aspects of what is left of a crop; torchvision's rule shows .435 of a 4 x 3 image."""
    area, log_aspect = np.meshgrid(np.linspace(*SCALE, 801), np.linspace(*np.log(RATIO), 801))
    sides = np.minimum(np.sqrt(area * 12 * np.exp(log_aspect)), 4) * np.minimum(
        np.sqrt(area * 12 / np.exp(log_aspect)), 3
    )
    assert sides.mean() / 12 == pytest.approx(0.52, abs=2e-3)
    assert within_noise(areas("byol", 1600, 1200), sides.mean() / 12)


def test_simclrs_crops_are_uniform_in_height() -> None:
    """By quadrature over aspects and heights, without those that show less than a tenth."""
    shown, weight = 0.0, 0.0
    for aspect in np.linspace(*RATIO, 401):
        heights = np.linspace(math.sqrt(SCALE[0] * 12 / aspect), min(math.sqrt(12 / aspect), 4 / aspect, 3), 401)
        area = aspect * heights**2 / 12
        shown += area[area >= 0.1].sum()
        weight += (area >= 0.1).sum()
    assert within_noise(areas("simclr", 1600, 1200), shown / weight)


def jittered(image: Pixels, op: TensorFlowJitter, drawn: list[float], order: tuple[int, ...]) -> Pixels:
    """One image (H, W, 3), pixel by pixel in HSV."""
    for kind in order:
        amount = drawn[1 + kind]
        if kind == 0:
            image = image + amount if op.adds else image * amount
        elif kind == 1:
            image = (image - image.mean((0, 1))) * amount + image.mean((0, 1))
        else:
            changed = np.empty_like(image)
            for place in np.ndindex(image.shape[:2]):
                h, s, v = colorsys.rgb_to_hsv(*image[place])
                h, s = (h, min(s * amount, 1.0)) if kind == 2 else ((h + amount) % 1.0, s)
                changed[place] = colorsys.hsv_to_rgb(h, s, v)
            image = changed
        image = image.clip(0, 1)
    return image


@pytest.mark.parametrize("op", [TensorFlowJitter(0.8, 0.8, 0.8, 0.2), TensorFlowJitter(0.4, 0.4, 0.2, 0.1, adds=True)])
def test_the_jitter_is_the_formula_in_every_order(op: TensorFlowJitter) -> None:
    rng = np.random.default_rng(0)
    x = images(25, 20, 4)
    drawn = torch.tensor([op.draw(rng) for _ in range(25)])
    drawn[:, 5] = torch.arange(25) % 24
    drawn[24, 0] = 0
    got = op.apply(x.clone(), drawn)
    for k, order in enumerate(permutations(range(4))):
        expected = jittered(x[k].permute(1, 2, 0).double().numpy(), op, drawn[k].tolist(), order)
        torch.testing.assert_close(got[k].permute(1, 2, 0).double(), torch.from_numpy(expected), rtol=0, atol=2e-5)
    assert torch.equal(got[24], x[24]) and not torch.equal(got[:24], x[:24])


def test_what_is_drawn() -> None:
    rng = np.random.default_rng(0)
    for op, brightness in ((TensorFlowJitter(0.4, 1.5, 0.2, 0.1, p=0.8), (0.6, 1.4)), (JITTER, (-0.4, 0.4))):
        table = np.array([op.draw(rng) for _ in range(4000)])
        assert abs(table[:, 0].mean() - 0.8) < 0.03
        for column, (low, high) in enumerate((brightness, (0.0, 2.5), (0.8, 1.2), (-0.1, 0.1)), start=1):
            assert low <= table[:, column].min() < table[:, column].max() <= high
            assert abs(table[:, column].mean() - (low + high) / 2) < 0.03 * (high - low)
        assert set(table[:, 5]) == set(range(24))
    sigmas = np.array([ZeroPaddedBlur((0.1, 2.0), 0.5).draw(rng) for _ in range(2000)])[:, 0]
    assert abs((sigmas > 0).mean() - 0.5) < 0.05 and sigmas[sigmas > 0].min() >= 0.1 and sigmas.max() <= 2


JITTER = TensorFlowJitter(0.4, 1.5, 0.2, 0.1, p=0.8, adds=True)


@pytest.mark.parametrize(("height", "width"), [(60, 44), (19, 30), (100, 3)])
def test_the_blur_is_the_formula_with_black_beyond_the_border(height: int, width: int) -> None:
    x, sigmas = images(3, height, width), torch.tensor([[0.3], [0.0], [1.7]])
    got = ZeroPaddedBlur((0.1, 2.0), 1.0).apply(x.clone(), sigmas)
    assert torch.equal(got[1], x[1])
    radius = height // 20
    for k, sigma in ((0, 0.3), (2, 1.7)):
        taps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * np.float64(np.float32(sigma)) ** 2))
        taps /= taps.sum()
        padded = np.pad(x[k].double().numpy(), ((0, 0), (radius, radius), (radius, radius)))
        rows = sum(tap * padded[:, i : i + height, :] for i, tap in enumerate(taps))
        expected = sum(tap * rows[:, :, i : i + width] for i, tap in enumerate(taps))
        torch.testing.assert_close(got[k].double(), torch.from_numpy(expected), rtol=0, atol=1e-6)


def test_the_kernel_at_224_pixels_has_23_taps() -> None:
    x = torch.zeros(1, 3, 224, 224)
    x[:, :, 112, 112] = 1
    blurred = ZeroPaddedBlur((2.0, 2.0), 1.0).apply(x, torch.tensor([[2.0]]))
    assert (blurred[0, 0, 112] > 0).nonzero().flatten().tolist() == list(range(101, 124))


def test_the_named_operations_are_the_codes() -> None:
    jitter, grey, blur = simclr_code_color((0.1, 2.0))
    assert jitter == TensorFlowJitter(0.8, 0.8, 0.8, 0.2, p=0.8)
    assert (grey.p, blur) == (0.2, ZeroPaddedBlur((0.1, 2.0), p=0.5))  # type: ignore[attr-defined]
    jitter, grey, blur, solarize = byol_code_color((0.1, 2.0), blur=0.1, solarize=0.2)
    assert jitter == TensorFlowJitter(0.4, 0.4, 0.2, 0.1, p=0.8, adds=True)
    assert (blur, solarize.p) == (ZeroPaddedBlur((0.1, 2.0), p=0.1), 0.2)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "make",
    [
        lambda: TensorFlowJitter(-0.1, 0, 0, 0),
        lambda: TensorFlowJitter(0, 0, 0, 0.6),
        lambda: TensorFlowJitter(0, 0, 0, 0, p=2),
        lambda: ZeroPaddedBlur((0.0, 2.0), 0.5),
        lambda: ZeroPaddedBlur((1.0, 2.0), -1),
        lambda: ViewSpec("v", 8, SCALE, rules="byol"),
        lambda: ViewSpec("v", 8, SCALE, rules="other", interpolation="bicubic"),  # type: ignore[arg-type]
    ],
)
def test_impossible_settings_are_refused(make: Any) -> None:
    with pytest.raises(PretrainError):
        make()


@pytest.mark.parametrize("code", CODES)
def test_batches_follow_the_rules(code: Any) -> None:
    """The box of a view is that of the rule, with the view's own generator."""

    class Source:
        root = None

        def __len__(self) -> int:
            return 2

        def decode(self, image_id: int) -> torch.Tensor:
            return torch.full((3, 30, 40), 100 + image_id, dtype=torch.uint8)

    spec = ViewSpec("v", 16, SCALE, interpolation="bicubic", rules=code)
    (crop,) = next(crop_batches(Source(), ViewPlan((spec,)), Loading(2, workers=0)))  # type: ignore[arg-type]
    for image_id, box, pixels in zip(crop.image_id.tolist(), crop.box, crop.pixels, strict=True):
        left, top, w, h = tensorflow_crops.draw_box(code, view_generator(0, 0, image_id, 0), 40, 30, SCALE, RATIO)
        expected = torch.tensor([left / 40, top / 30, (left + w) / 40, (top + h) / 30])
        torch.testing.assert_close(box, expected)
        assert (pixels == 100 + image_id).all()
