"""Reading settings from text."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.settings import as_text, parse

finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text("abcdefghij-_", min_size=1).filter(lambda text: text != "none")


@pytest.mark.parametrize(
    ("annotation", "values"),
    [
        (int, st.integers()),
        (float, finite),
        (bool, st.booleans()),
        (str, words),
        (int | None, st.none() | st.integers()),
        (str | None, st.none() | words),
        (tuple[float, float], st.tuples(finite, finite)),
        (tuple[int, ...], st.lists(st.integers()).map(tuple)),
        (Literal["epoch", "step", 3], st.sampled_from(["epoch", "step", 3])),
    ],
)
def test_text_comes_back_as_the_same_value(annotation: Any, values: st.SearchStrategy[Any]) -> None:
    @given(values)
    def check(value: Any) -> None:
        found = parse(as_text(value), annotation)
        assert found == value and type(found) is type(value)

    check()


@pytest.mark.parametrize(
    ("text", "annotation", "expected"),
    [("(0.2, 1)", tuple[float, float], (0.2, 1.0)), ("()", tuple[int, ...], ()), ("5,", tuple[int, ...], (5,))],
)
def test_brackets_and_spaces_in_tuples(text: str, annotation: Any, expected: Any) -> None:
    assert parse(text, annotation) == expected


@pytest.mark.parametrize(
    ("text", "annotation", "message"),
    [
        ("1.5", int, "whole number"),
        ("x", float, "a number"),
        ("nan", float, "finite"),
        ("inf", float, "finite"),
        ("maybe", bool, "true or false"),
        ("1,2,3", tuple[int, int], "2 values"),
        ("batch", Literal["epoch", "step"], "one of epoch, step"),
        ("x", int | None, "none or must be a whole number"),
        ("x", dict, "change it in Python"),
    ],
)
def test_what_does_not_fit_is_refused(text: str, annotation: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text, annotation)
