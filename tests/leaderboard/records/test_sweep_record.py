"""The record of a search: what is chosen is the best of what was tried, and an edge of the grid is said."""

import pytest
from fabricate import make_result
from pydantic import ValidationError

from leaderboard.records import Sweep, Tried, best_of, edges

GRID = [{"learning_rate": rate, "weight_decay": decay} for rate in (0.01, 0.02, 0.04) for decay in (0.0001, 0.0)]


def tried(*values: float | None) -> tuple[Tried, ...]:
    return tuple(
        Tried(settings=dict(settings), key=f"{place:016x}", value=value)
        for place, (settings, value) in enumerate(zip(GRID, values, strict=True))
    )


def test_the_best_is_chosen_the_first_of_equal_ones_and_none_that_diverged() -> None:
    found = best_of(tried(1.0, 3.0, 3.0, None, 2.0, 0.0))
    assert found is not None and found.settings == GRID[1]
    zeros = best_of(tried(0.0, 0.0, 0.0, None, 0.0, 0.0))
    assert zeros is not None and zeros.settings == GRID[0], "a value of 0 is a value"
    assert best_of(tried(*[None] * 6)) is None


def test_an_edge_is_one_where_there_is_something_between() -> None:
    assert edges(GRID[0], GRID) == edges(GRID[5], GRID) == ("learning_rate",), "of two weight decays each is an edge"
    assert edges(GRID[2], GRID) == edges(GRID[0], []) == ()


def test_a_record_that_contradicts_itself_is_refused() -> None:
    values = tried(1.0, 3.0, 2.0, None, 2.0, 0.0)
    right = Sweep(id="fair_p", settings=dict(GRID[1]), tried=values, at_edge=("learning_rate",))
    assert not make_result(sweep=right).held_out and not make_result().held_out
    assert make_result(sweep=Sweep(id="fair_p", settings=dict(GRID[1]), tried=(), at_edge=())).held_out
    other = Sweep(id="fair_p", settings={"learning_rate": 0.5}, tried=(), at_edge=())
    with pytest.raises(ValidationError, match=r"its sweep says learning rate 0\.5, but 0\.01 was executed"):
        make_result(sweep=other)
    with pytest.raises(ValidationError, match="not the best"):
        Sweep(id="fair_p", settings=dict(GRID[2]), tried=values, at_edge=())
    with pytest.raises(ValidationError, match="at_edge is not"):
        Sweep(id="fair_p", settings=dict(GRID[1]), tried=values, at_edge=())
