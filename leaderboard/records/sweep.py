"""The search for a run's settings: what was tried, on which images it was compared, and what was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from leaderboard.records.base import Identifier, Key, Line, Percent, Record

Setting = bool | int | float | str
Settings = Annotated[dict[Line, Setting], Field(max_length=100)]
FEWEST_VALUES = 3
"""Number of values of a setting below which there is nothing between its edges."""


class Tried(Record):
    """One run of a search."""

    settings: Settings
    key: Key
    """Key of the run's own result, which stays in the store."""
    value: Percent | None
    """Headline metric on held-out training images; `None` for a run that diverged."""


class Sweep(Record):
    """The search that chose the settings of a run, or of which it is a part."""

    id: Identifier
    """Id of the protocol for which settings are chosen."""
    settings: Settings
    """The settings of this run, e.g. `learning_rate`."""
    tried: Annotated[tuple[Tried, ...], Field(max_length=1000)]
    """All runs of the search, in the order of its grid; empty in the result of such a run itself."""
    at_edge: Annotated[tuple[Line, ...], Field(max_length=100)]
    """Settings whose chosen value is the smallest or largest that was tried: a better one may lie beyond."""

    @model_validator(mode="after")
    def _chosen_from_what_was_tried(self) -> Self:
        if self.tried:
            chosen = best_of(self.tried)
            if chosen is None or chosen.settings != self.settings:
                raise ValueError("the settings are not the best of those that were tried")
        if self.at_edge != edges(self.settings, [one.settings for one in self.tried]):
            raise ValueError("at_edge is not what settings and tried give")
        return self


def best_of(tried: Sequence[Tried]) -> Tried | None:
    """The one with the highest value, of equal ones the first; None where all diverged."""
    known = [one for one in tried if one.value is not None]
    return max(known, key=lambda one: one.value or 0.0, default=None)


def edges(settings: Mapping[str, Setting], tried: Sequence[Mapping[str, Setting]]) -> tuple[str, ...]:
    """Names of the numbers in `settings` that are the smallest or largest of three or more that were tried."""
    found = []
    for name, value in settings.items():
        values = sorted({float(one[name]) for one in tried if isinstance(one.get(name), (int, float))})
        if len(values) >= FEWEST_VALUES and value in (values[0], values[-1]):
            found.append(name)
    return tuple(found)
