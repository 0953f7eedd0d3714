"""Every colour operation against torchvision's, sample by sample."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from pretrain.data.augment import (
    BYOL_COLOUR_1,
    BYOL_COLOUR_2,
    MOCO_V1_COLOUR,
    MOCO_V2_COLOUR,
    SIMCLR_COLOUR,
    ColorJitter,
    ColourOp,
    GaussianBlur,
    Grayscale,
    Solarize,
    finish_views,
)
from pretrain.data.autoaugment import AutoAugment, Either
from pretrain.data.tensorflow_color import byol_code_color, simclr_code_color
from pretrain.data.views import IMAGENET_MEAN, IMAGENET_STD, Crop, ViewPlan, ViewSpec
from pretrain.errors import PretrainError

ADJUST = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
ORDERS = list(itertools.permutations(range(4)))
EVERY_OP = (
    ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
    ColorJitter(1.5, 1.2, 0.9, 0.5, p=1.0),
    ColorJitter(0.3, 0.0, 0.3, 0.0, p=0.5),
    Grayscale(0.4),
    GaussianBlur((0.1, 2.0), p=0.5),
    GaussianBlur((3.0, 3.0), p=1.0),
    Solarize(0.5, p=0.4),
)


def draw(op: ColourOp, n: int, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.tensor([op.draw(rng) for _ in range(n)], dtype=torch.float32)


def reference(op: ColourOp, image: Tensor, drawn: list[float]) -> Tensor:
    """What torchvision makes of one image (3, H, W) with these parameters."""
    if drawn[0] == 0:
        return image
    if isinstance(op, ColorJitter):
        for k in ORDERS[int(drawn[5])]:
            if (op.brightness, op.contrast, op.saturation, op.hue)[k]:
                image = ADJUST[k](image, drawn[1 + k])
        return image
    if isinstance(op, GaussianBlur):
        return tv.gaussian_blur(image, [2 * op.radius + 1] * 2, [drawn[0]] * 2)
    if isinstance(op, Solarize):
        return tv.solarize(image, op.threshold)
    return tv.rgb_to_grayscale(image, 3)


def images(n: int, height: int = 40, width: int = 28) -> Tensor:
    """Noise with flat, grey, black, white and saturated patches, where hue and saturation have their special cases."""
    generator = torch.Generator().manual_seed(n)
    x = torch.rand(n, 3, height, width, generator=generator)
    x[:, :, :8] = (x[:, :, :8] * 4).round() / 4
    x[:, :, 8:12] = x[:, :1, 8:12]
    x[:, :, 12:14] = 0.0
    x[:, :, 14:16] = 1.0
    x[:, :, 16:20] = x[:, :, 16:20].round()
    return x


@pytest.mark.parametrize("op", EVERY_OP, ids=str)
def test_equals_torchvision_on_each_sample(op: ColourOp) -> None:
    x, drawn = images(96), draw(op, 96)
    out = op.apply(x.clone(), drawn)
    expected = torch.stack([reference(op, image, row) for image, row in zip(x, drawn.tolist(), strict=True)])
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)
    skipped = drawn[:, 0] == 0
    assert torch.equal(out[skipped], x[skipped])
    p = op.p  # type: ignore[attr-defined]
    assert skipped.any() == (p < 1)
    assert not torch.equal(out, x)


def test_every_order_of_the_jitter_equals_torchvision() -> None:
    op = ColorJitter(0.8, 0.8, 0.8, 0.4)
    drawn = draw(op, 24)
    drawn[:, 5] = torch.arange(24)
    x = images(24)
    expected = torch.stack([reference(op, image, row) for image, row in zip(x, drawn.tolist(), strict=True)])
    torch.testing.assert_close(op.apply(x.clone(), drawn), expected, rtol=0, atol=1e-5)


@given(st.integers(0, 2**32 - 1), st.floats(-0.5, 0.5, width=32))
@settings(max_examples=60, deadline=None)
def test_hue_equals_torchvision_on_every_eight_bit_colour(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.integers(0, 256, (1, 3, 16, 16), dtype=np.uint8)) / 255
    drawn = torch.tensor([[1.0, 1.0, 1.0, 1.0, shift, 0.0]])
    out = ColorJitter(0, 0, 0, 0.5).apply(x.clone(), drawn)
    torch.testing.assert_close(out, tv.adjust_hue(x, float(drawn[0, 4])), rtol=0, atol=1e-5)
    assert out.min() >= 0 and out.max() <= 1 + 1e-6


@pytest.mark.parametrize("op", EVERY_OP, ids=str)
def test_a_sample_does_not_depend_on_its_batch(op: ColourOp) -> None:
    x, drawn = images(12), draw(op, 12, seed=1)
    together = op.apply(x.clone(), drawn)
    for k in range(12):
        alone = op.apply(x[k : k + 1].clone(), drawn[k : k + 1])
        torch.testing.assert_close(together[k : k + 1], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("op", EVERY_OP, ids=str)
def test_no_sample_chosen_and_the_empty_batch(op: ColourOp) -> None:
    x = images(3)
    assert torch.equal(op.apply(x.clone(), torch.zeros(3, op.parameters)), x)
    assert op.apply(x[:0], torch.zeros(0, op.parameters)).shape == (0, 3, 40, 28)


def test_drawn_parameters_follow_their_distributions() -> None:
    n = 20000
    jitter = draw(ColorJitter(0.4, 1.5, 0.2, 0.1, p=0.8), n).numpy()
    for column, (low, high) in enumerate(((0.6, 1.4), (0.0, 2.5), (0.8, 1.2), (-0.1, 0.1)), start=1):
        values = jitter[:, column]
        assert low <= values.min() and values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 4 * (high - low) / math.sqrt(12 * n)
    orders, counts = np.unique(jitter[:, 5], return_counts=True)
    assert orders.tolist() == list(range(24))
    assert abs(counts / n - 1 / 24).max() < 5 * math.sqrt(1 / 24 / n)
    blur = draw(GaussianBlur((0.1, 2.0), p=0.5), n).numpy()[:, 0]
    assert blur[blur > 0].min() >= 0.1 and blur.max() <= 2.0
    assert abs(blur[blur > 0].mean() - 1.05) < 0.03
    for values, p in ((jitter[:, 0], 0.8), (blur > 0, 0.5), (draw(Grayscale(0.2), n)[:, 0].numpy(), 0.2)):
        assert abs(values.mean() - p) < 4 * math.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_blur_is_close_to_pillows(sigma: float) -> None:
    """MoCo blurs with Pillow's box approximation; on this rough image they differ by < 1 of 255 levels on average."""
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).resize(
        (96, 96), Image.Resampling.BICUBIC
    )
    ours = GaussianBlur((sigma, sigma), 1.0).apply(tv.to_image(smooth)[None] / 255, torch.tensor([[sigma]]))[0] * 255
    pillow = tv.to_image(smooth.filter(ImageFilter.GaussianBlur(sigma))).float()
    difference = (ours - pillow).abs()
    assert difference[:, 8:-8, 8:-8].max() < 4
    assert difference[:, 8:-8, 8:-8].mean() < 1


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_blur_of_images_smaller_than_its_kernel(size: int) -> None:
    """Against a direct sum over the taps with the border mirrored as often as needed."""
    op = GaussianBlur((2.0, 2.0), 1.0)
    x = torch.rand(1, 3, size, size + 3)
    weights = [math.exp(-0.5 * (t / 2) ** 2) for t in range(-op.radius, op.radius + 1)]

    def source(i: int, length: int) -> int:
        while not 0 <= i < length:
            i = -i if i < 0 else 2 * (length - 1) - i
            if length == 1:
                return 0
        return i

    expected = torch.zeros(1, 3, size, size + 3, dtype=torch.float64)
    for r, c in itertools.product(range(size), range(size + 3)):
        for (dr, wr), (dc, wc) in itertools.product(enumerate(weights, -op.radius), repeat=2):
            expected[..., r, c] += wr * wc * x[..., source(r + dr, size), source(c + dc, size + 3)]
    expected /= sum(weights) ** 2
    out = op.apply(x.clone(), torch.tensor([[2.0]]))
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=1e-5)


def test_presets_are_those_of_the_papers() -> None:
    jitter = ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8)
    blur = GaussianBlur((0.1, 2.0), p=0.5)
    assert (jitter, Grayscale(0.2), blur) == MOCO_V2_COLOUR
    assert (Grayscale(0.2), ColorJitter(0.4, 0.4, 0.4, 0.4, p=1.0)) == MOCO_V1_COLOUR
    assert (ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8), Grayscale(0.2), blur) == SIMCLR_COLOUR
    byol = (ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.8), Grayscale(0.2))
    assert (*byol, GaussianBlur((0.1, 2.0), p=1.0)) == BYOL_COLOUR_1
    assert (*byol, GaussianBlur((0.1, 2.0), p=0.1), Solarize(0.5, p=0.2)) == BYOL_COLOUR_2


@pytest.mark.parametrize(
    "make",
    [
        lambda: ColorJitter(-0.1, 0, 0, 0),
        lambda: ColorJitter(0, 0, 0, 0.6),
        lambda: Grayscale(1.2),
        lambda: GaussianBlur((0.0, 2.0), 0.5),
        lambda: GaussianBlur((2.0, 1.0), 0.5),
        lambda: Solarize(0.5, -0.1),
    ],
)
def test_impossible_settings_are_refused(make: object) -> None:
    with pytest.raises(PretrainError):
        make()  # type: ignore[operator]


def random_crop(spec: ViewSpec, n: int) -> Crop:
    rng = np.random.default_rng(3)
    pixels = torch.from_numpy(rng.integers(0, 256, (n, 3, spec.size, spec.size), dtype=np.uint8))
    drawn = [[number for op in spec.colour for number in op.draw(rng)] for _ in range(n)]
    return Crop(pixels, torch.rand(n, 4), torch.rand(n) < 0.5, torch.arange(n), torch.tensor(drawn).float())


@pytest.mark.parametrize(
    "colour", [MOCO_V2_COLOUR, MOCO_V1_COLOUR, BYOL_COLOUR_2, ()], ids=["v2", "v1", "byol", "none"]
)
def test_finish_is_the_whole_recipe_of_torchvision(colour: tuple[ColourOp, ...]) -> None:
    spec = ViewSpec("v", 32, (0.2, 1.0), colour=colour)
    crop = random_crop(spec, 40)
    before = crop.pixels.clone()
    view = finish_views(crop, spec, ViewPlan((spec,)))
    for k in range(40):
        image = tv.to_dtype(crop.pixels[k], torch.float32, scale=True)
        drawn = crop.colour[k].tolist()
        for op in colour:
            image, drawn = reference(op, image, drawn[: op.parameters]), drawn[op.parameters :]
        expected = tv.normalize(image, list(IMAGENET_MEAN), list(IMAGENET_STD))
        torch.testing.assert_close(view.pixels[k], expected, rtol=0, atol=5e-5)
    assert torch.equal(crop.pixels, before)
    assert view.box is crop.box and view.flip is crop.flip and view.image_id is crop.image_id


def test_finish_runs_in_float32_under_autocast_and_without_gradients() -> None:
    spec = ViewSpec("v", 24, (0.2, 1.0), colour=MOCO_V2_COLOUR)
    plan = ViewPlan((spec,))
    crop = random_crop(spec, 8)
    plain = finish_views(crop, spec, plan).pixels
    with torch.autocast("cpu", torch.bfloat16), torch.enable_grad():
        mixed = finish_views(crop, spec, plan).pixels
    assert mixed.dtype == torch.float32 and not mixed.requires_grad
    assert torch.equal(mixed, plain)


def test_finish_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ViewSpec("v", 24, (0.2, 1.0), colour=BYOL_COLOUR_2)
    plan = ViewPlan((spec,))
    crop = random_crop(spec, 25)
    whole = finish_views(crop, spec, plan).pixels
    monkeypatch.setattr("pretrain.data.augment._CPU_PIXELS", 4 * 24 * 24)
    torch.testing.assert_close(finish_views(crop, spec, plan).pixels, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize(
    ("colour", "apart"),
    [
        *(((op,), 1e-4) for op in EVERY_OP),
        (MOCO_V2_COLOUR, 1e-4),
        (SIMCLR_COLOUR, 1e-4),
        (BYOL_COLOUR_2, 1e-4),
        (simclr_code_color((0.1, 2.0)), 1e-4),
        (byol_code_color((0.1, 2.0), blur=1.0, solarize=0.2), 1e-4),
        ((AutoAugment(),), 1e-2),
        ((Either((AutoAugment(),), BYOL_COLOUR_1),), 1e-2),
    ],
    ids=lambda value: "+".join(type(op).__name__ for op in value) if isinstance(value, tuple) else "",
)
def test_finish_on_a_gpu_is_finish_on_the_cpu(colour: tuple[ColourOp, ...], apart: float, device: str) -> None:
    """Within 5e-5, but for a share `apart` of the values: those on the two sides of a step by rounding.

    The steps are Solarize's threshold; for AutoAugment, whole grey levels and the nearest pixel, too. Matrix products
    are in full float32, PyTorch's default.
    """
    spec = ViewSpec("v", 96, (0.2, 1.0), colour=colour)
    plan = ViewPlan((spec,))
    crop = random_crop(spec, 64)
    moved = finish_views(crop.to(device), spec, plan)
    assert moved.pixels.device.type == moved.box.device.type == device
    difference = (moved.pixels.cpu() - finish_views(crop, spec, plan).pixels).abs()
    assert (difference > 5e-5).float().mean() < apart
