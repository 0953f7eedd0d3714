"""Shares of the training images: by a plain computation, without replacement, nested, and another one in each fold."""

import hashlib
import os
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.datasets.shares import count_of, hold_out, take_share
from bench.errors import BenchError
from bench.protocols import load_protocol
from bench.tracks import PAPER

NAMES = [f"{number:012d}.jpg" for number in range(400)]


def plainly(share: float, fold: int) -> set[str]:
    keys = {hashlib.sha256((name if fold == 0 else f"{fold}/{name}").encode()).digest(): name for name in NAMES}
    return {keys[key] for key in sorted(keys)[: round(share * len(NAMES))]}


@settings(max_examples=20)
@given(st.sampled_from([0.01, 0.05, 0.1, 0.25, 1.0]), st.integers(0, 4))
def test_a_share_is_the_smallest_digests(share: float, fold: int) -> None:
    positions = take_share(NAMES, share, fold)
    assert positions == sorted(set(positions)) and len(positions) == count_of(share, len(NAMES))
    assert {NAMES[position] for position in positions} == plainly(share, fold)
    turned = NAMES[::-1]
    assert {turned[position] for position in take_share(turned, share, fold)} == plainly(share, fold)


def test_a_larger_share_contains_a_smaller_one_and_folds_differ() -> None:
    for fold in range(5):
        shares = [set(take_share(NAMES, share, fold)) for share in (0.01, 0.05, 0.1, 0.25, 1.0)]
        assert all(small < large for small, large in pairwise(shares))
    tenths = [frozenset(take_share(NAMES, 0.1, fold)) for fold in range(5)]
    assert len(set(tenths)) == 5 and all(len(one & two) < 15 for one in tenths for two in tenths if one != two)


def test_the_list_never_changes() -> None:
    """Results name it by their hash."""
    assert take_share(NAMES, 0.01) == [28, 65, 271, 382]
    assert take_share(NAMES, 0.01, 1) == [2, 66, 73, 241]


def test_names_that_are_not_utf_8_are_ordered_by_their_bytes() -> None:
    files = [b"\xe9.jpg", b"a.jpg", b"b.jpg", b"c.jpg"]
    names = [os.fsdecode(file) for file in files]
    for prefix, first in (
        (b"", take_share(names, 0.5)),
        (b"3/", take_share(names, 0.5, 3)),
        (b"held-out/", hold_out(names, 2)),
    ):
        ordered = sorted(range(4), key=lambda place: hashlib.sha256(prefix + files[place]).digest())
        assert first == sorted(ordered[:2])


def test_few_images_are_two_or_all() -> None:
    assert [count_of(0.01, images) for images in (1, 2, 50, 150, 300, 118_287)] == [1, 2, 2, 2, 3, 1_183]


@settings(max_examples=20)
@given(st.sampled_from([0.01, 0.1, 0.5, 1, 3, 39]), st.integers(1, 10))
def test_what_is_held_out_has_the_smallest_digests_and_is_whole(amount: float, size: int) -> None:
    """`size` images are one unit, as those of a city are."""
    units = [f"city{number // size}" for number in range(40 * size)]
    count = max(2, round(amount * 40)) if amount < 1 else int(amount)
    keys = {hashlib.sha256(f"held-out/{unit}".encode()).digest(): unit for unit in set(units)}
    held = {keys[key] for key in sorted(keys)[:count]}
    assert hold_out(units, amount) == [place for place, unit in enumerate(units) if unit in held]
    assert len(hold_out(units, amount)) == count * size


def test_something_is_left_to_train_on() -> None:
    assert hold_out(["a", "b", "a"], 1) in ([0, 2], [1])
    for units, amount in ((["a", "b", "a"], 2), (["a", "b"], 0.1), ([], 0.1)):
        with pytest.raises(BenchError, match="to be held out of the training images: there are too few"):
            hold_out(units, amount)


def test_the_protocols_train_on_the_share_that_they_plan() -> None:
    for protocol_id in (*PAPER.protocols, *PAPER.further):
        protocol = load_protocol(protocol_id)
        dataset = protocol.config["train_dataloader"]["dataset"]
        (asked,) = {part.get("share", 1.0) for part in dataset.get("datasets", [dataset])}
        assert asked == protocol.plan.labels  # type: ignore[union-attr]
        assert asked == 1.0 or protocol_id.endswith(f"_p{100 * asked:g}")
