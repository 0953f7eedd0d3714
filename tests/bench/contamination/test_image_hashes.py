"""Perceptual hashes against another computation, and the search against all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn

from bench.contamination.hashes import CROPS, VIEWS, perceptual_hash, views
from bench.contamination.search import find_nearest


def smooth(seed: int, height: int, width: int) -> np.ndarray:
    """A gray picture of broad waves with some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = sum(rng.normal() * np.cos(2 * np.pi * (rng.uniform(-6, 6) * x + rng.uniform(-6, 6) * y)) for _ in range(30))
    return (128 + 30 * waves + rng.normal(size=(height, width))).astype(np.float32)


def bits(words: np.ndarray) -> np.ndarray:
    return np.unpackbits(words.view(np.uint8))


def distance(a: np.ndarray, b: np.ndarray) -> int:
    return int((bits(a) != bits(b)).sum())


@pytest.mark.parametrize("seed", range(5))
def test_a_hash_is_that_of_scipys_transform_of_means_of_blocks(seed: int) -> None:
    picture = smooth(seed, 96, 160)
    small = picture.astype(np.float64).reshape(32, 3, 32, 5).mean(axis=(1, 3))
    lowest = dctn(small, type=2)[:16, :16]
    # scipy's transform has a factor of 4 more, which changes no order
    assert (bits(perceptual_hash(picture)) == (lowest > np.median(lowest)).ravel()).all()
    assert bits(perceptual_hash(picture)).sum() == 128


def test_surfaces_of_one_color_have_no_hash() -> None:
    noise = np.random.default_rng(0).normal(200, 3, (64, 64)).astype(np.float32)
    assert not perceptual_hash(noise).any() and not perceptual_hash(np.zeros((5, 7), np.float32)).any()
    assert perceptual_hash(smooth(0, 64, 64)).any()


def test_views_are_crops_and_mirror_images() -> None:
    picture = smooth(1, 100, 150)
    found = views(picture)
    assert found.shape == (VIEWS, 4)
    for number, share in enumerate(CROPS):
        top, left = round(100 * share), round(150 * share)
        crop = picture[top : 100 - top, left : 150 - left]
        assert distance(found[2 * number], perceptual_hash(crop)) == 0
        assert distance(found[2 * number + 1], perceptual_hash(crop[:, ::-1].copy())) == 0
        # the mirror image of a cosine of an odd frequency is its negative, so that exactly those bits may change
        changed = (bits(found[2 * number]) != bits(found[2 * number + 1])).reshape(16, 16)
        assert changed[:, 1::2].mean() > 0.8 and changed[:, ::2].mean() < 0.2


def test_other_pictures_are_far_away() -> None:
    hashes = [perceptual_hash(smooth(seed, 80, 120)) for seed in range(30)]
    assert min(distance(a, b) for i, a in enumerate(hashes) for b in hashes[:i]) > 60


words = st.lists(st.integers(0, 2**64 - 1), min_size=4, max_size=4)
turned_bits = st.lists(st.integers(0, 255), max_size=60)


@settings(max_examples=50, deadline=None)
@given(
    known=st.lists(words, min_size=1, max_size=6),
    flips=st.lists(turned_bits, max_size=6),
)
def test_the_nearest_is_found_among_all(known: list[list[int]], flips: list[list[int]]) -> None:
    """Queries are known hashes of which some bits were turned, and a plain one."""
    base = np.array([*known, [0, 0, 0, 0]], np.uint64)
    queries = [base[0] * np.uint64(0)]
    for number, turned in enumerate(flips):
        query = bits(base[number % len(base)].copy())
        query[turned] ^= 1
        queries.append(np.packbits(query).view(np.uint64))
    index, found = find_nearest(base, np.array(queries), 48)
    for query, i, b in zip(queries, index, found, strict=True):
        distances = [distance(query, other) if other.any() and query.any() else 257 for other in base]
        least = min(distances)
        assert (b, i) == ((least, distances.index(least)) if least <= 48 else (257, -1))


def test_hashes_beyond_one_part_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**64 - 1, (1_000, 4), np.uint64, endpoint=True)
    monkeypatch.setattr("bench.contamination.search._CHUNK", 64)
    index, found = find_nearest(base, base[[0, 63, 64, 999]])
    assert index.tolist() == [0, 63, 64, 999] and found.tolist() == [0, 0, 0, 0]
