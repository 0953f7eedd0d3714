"""Suggestions for names that are not known: what their user may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

MOST = 3
"""Most names that are suggested."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean A, B? `, with those of the `known` names that are nearest to `name`; empty where none is near."""
    nearest = get_close_matches(name, list(known), n=MOST, cutoff=0.4)
    return f"did you mean {', '.join(nearest)}? " if nearest else ""
