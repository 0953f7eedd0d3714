from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF
from torchvision.transforms.v2 import functional as tv

from pretrain.data import autoaugment
from pretrain.data.augment import ColorJitter, Grayscale, Solarize
from pretrain.data.autoaugment import POLICIES, AutoAugment, Either
from pretrain.errors import PretrainError

OP = AutoAugment()
MEASURED = (*autoaugment._SIGNED, "Posterize", "Solarize")
"""Operations with a magnitude."""


def images(n: int, size: int = 20) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(n).integers(0, 256, (n, 3, size, size), dtype=np.uint8))


def expected(image: torch.Tensor, name: str, level: int, sign: int) -> torch.Tensor:
    """torchvision's first interface on one image, with the magnitudes written as a table."""
    linear = [i / 9 for i in range(10)]
    factor = 1 + sign * 0.9 * linear[level]
    if name == "Rotate":
        return TF.rotate(image, sign * 30 * linear[level], InterpolationMode.NEAREST)
    if name == "ShearX":
        degrees = math.degrees(sign * 0.3 * linear[level])
        return TF.affine(image, 0.0, [0, 0], 1.0, [degrees, 0.0], InterpolationMode.NEAREST)
    if name in ("Color", "Contrast", "Sharpness"):
        change = {"Color": TF.adjust_saturation, "Contrast": TF.adjust_contrast, "Sharpness": TF.adjust_sharpness}
        return change[name](image, factor)
    if name == "Posterize":
        return TF.posterize(image, [8, 8, 7, 7, 6, 6, 5, 5, 4, 4][level])
    if name == "Solarize":
        return TF.solarize(image, 256 - 256 * linear[level])
    return {"AutoContrast": TF.autocontrast, "Equalize": TF.equalize, "Invert": TF.invert}[name](image)


def test_every_policy_is_its_two_operations_one_after_the_other() -> None:
    """Sample by sample, with both signs, all in one batch; grey levels stay whole.

    torchvision's two interfaces round a few values of saturation, contrast and sharpness differently.
    """
    cases = [(policy, on, sign) for policy in range(25) for on in ((1, 1), (1, 0), (0, 1), (0, 0)) for sign in (-1, 1)]
    x = images(len(cases))
    drawn, wanted = [], []
    for image, (policy, on, sign) in zip(x, cases, strict=True):
        numbers = [float(policy)]
        for (name, _, level), applied in zip(POLICIES[policy], on, strict=True):
            signed = sign if name in ("ShearX", "Rotate", "Color", "Contrast", "Sharpness") else 1
            numbers.append(signed * (level or 0) / 9 if applied else math.nan)
            if applied:
                image = expected(image, name, level or 0, sign)
        drawn.append(numbers)
        wanted.append(image)
    got = OP.apply(x / 255, torch.tensor(drawn))
    apart = (255 * got - torch.stack(wanted)).abs()
    assert torch.equal((255 * got).round() / 255, got)
    assert apart.max() < 2.5
    for (policy, _, _), values in zip(cases, apart, strict=True):
        exact = {name for name, _, _ in POLICIES[policy]} <= {"Rotate", "ShearX", "Posterize", "Solarize", "Equalize"}
        assert (values > 0.5).float().mean() <= (0 if exact else 0.02), POLICIES[policy]


def on_one_image(image: torch.Tensor, name: str, m: float) -> torch.Tensor:
    """torchvision's second interface, which works on tensors."""
    bits = 8 - round(4 * m)
    operations = {
        "ShearX": lambda: tv.affine(image, angle=0.0, translate=[0, 0], scale=1.0, shear=[math.degrees(0.3 * m), 0.0]),
        "Rotate": lambda: tv.rotate(image, 30 * m),
        "Color": lambda: tv.adjust_saturation(image, 1 + 0.9 * m),
        "Contrast": lambda: tv.adjust_contrast(image, 1 + 0.9 * m),
        "Sharpness": lambda: tv.adjust_sharpness(image, 1 + 0.9 * m),
        "Posterize": lambda: tv.posterize(image, bits),
        "Solarize": lambda: tv.solarize(image, 256 * (1 - m)),
        "AutoContrast": lambda: tv.autocontrast(image),
        "Equalize": lambda: tv.equalize(image),
        "Invert": lambda: tv.invert(image),
    }
    return operations[name]()


@pytest.mark.parametrize("size", [2, 3, 33, 96, 160, 224])
@pytest.mark.parametrize("name", autoaugment._OPERATIONS)
def test_an_operation_on_a_batch_is_torchvisions_on_each_image_bit_by_bit(name: str, size: int) -> None:
    """All magnitudes side by side, each on images with little and with much contrast."""
    signs = (-1, 1) if name in autoaugment._SIGNED else (1,)
    magnitudes = sorted(sign * level / 9 for sign in signs for level in range(1, 10)) if name in MEASURED else [0.0]
    applied = [(name, m) for m in magnitudes for _ in range(2)]
    x = images(len(applied), size)
    x[::2] = x[::2] // 8 + 100
    got = autoaugment._OPERATIONS[name](x.clone(), applied).to(torch.uint8)
    for image, result, (_, m) in zip(x, got, applied, strict=True):
        assert torch.equal(result, on_one_image(image, name, m)), m


def test_drawn_policies_and_magnitudes_follow_the_table() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([OP.draw(rng) for _ in range(20000)])
    assert drawn.shape[1] == OP.parameters
    counts = np.bincount(drawn[:, 0].astype(int), minlength=25)
    assert counts.min() > 20000 / 25 * 0.85 and counts.max() < 20000 / 25 * 1.15
    for policy, steps in enumerate(POLICIES):
        rows = drawn[drawn[:, 0] == policy]
        for (name, p, level), column in zip(steps, rows[:, 1:].T, strict=True):
            assert np.mean(~np.isnan(column)) == pytest.approx(p, abs=0.08), (policy, name)
            values = set(np.round(9 * column[~np.isnan(column)]).tolist())
            signed = name in ("ShearX", "Rotate", "Color", "Contrast", "Sharpness") and level
            if p:
                assert values == ({level, -level} if signed else {level or 0})


def test_a_draw_takes_the_same_count_of_numbers_always() -> None:
    both = Either((OP,), (ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8), Grayscale(0.2)))
    for op, count in ((OP, 5), (both, 1 + 5 + 6 + 1)):
        for seed in range(20):
            rng, other = np.random.default_rng(seed), np.random.default_rng(seed)
            assert len(op.draw(rng)) == op.parameters
            other.random(count)
            assert rng.random() == other.random()


def test_either_gives_each_sample_its_own_operations() -> None:
    op = Either((Solarize(0.5, p=1.0),), (Grayscale(1.0), Solarize(0.0, p=1.0)), p=0.3)
    rng = np.random.default_rng(1)
    drawn = torch.tensor([op.draw(rng) for _ in range(400)])
    assert drawn[:, 0].mean().item() == pytest.approx(0.3, abs=0.06)
    x = images(400, 4) / 255
    got = op.apply(x.clone(), drawn)
    for image, result, first in zip(x, got, drawn[:, 0].tolist(), strict=True):
        if first:
            wanted = torch.where(image >= 0.5, 1 - image, image)
        else:
            luma = 0.2989 * image[0] + 0.587 * image[1] + 0.114 * image[2]
            wanted = 1 - luma.expand(3, 4, 4)
        torch.testing.assert_close(result, wanted, rtol=0, atol=1e-6)


def test_either_with_one_choice_is_that_choice() -> None:
    jitter = ColorJitter(0.4, 0.4, 0.4, 0.1)
    rng = np.random.default_rng(2)
    x = images(6, 5) / 255
    for p, columns in ((1.0, slice(1, 7)), (0.0, slice(2, 8))):
        op = Either((jitter,), (Grayscale(1.0),), p) if p else Either((Grayscale(1.0),), (jitter,), p)
        drawn = torch.tensor([op.draw(rng) for _ in range(6)])
        assert torch.equal(op.apply(x.clone(), drawn), jitter.apply(x.clone(), drawn[:, columns]))
    with pytest.raises(PretrainError, match="probability"):
        Either((), (), 1.5)
