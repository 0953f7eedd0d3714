"""Which checkpoints form one row: pretraining runs that differ in nothing but their seed are one method."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

from leaderboard.board import Entry
from leaderboard.records import RANDOM_METHOD, Card, Result

Checkpoint = tuple[str, str]
"""A checkpoint's name and hash."""
_REST = re.compile(r"(?:[-_.+]+|[-_.+]*seed[-_.+]*)\d*$")
"""The part after the method's name that names ending in seeds have in common: `-`, `-seed1`."""


def find_entries(results: Iterable[Result], *, each: bool = False) -> tuple[dict[Checkpoint, Entry], list[str]]:
    """The entry of each checkpoint, and what a reader should know of their names.

    With `each`, every checkpoint is an entry of its own.
    """
    cards: dict[Checkpoint, list[Card]] = defaultdict(list)
    for result in results:
        cards[result.card.name, result.card.sha256].append(result.card)
    rows: dict[Hashable, list[Card]] = defaultdict(list)
    for checkpoint, found in cards.items():
        card = _versions(found)[0]
        rows[checkpoint if each else _row(card)].append(card)
    for members in rows.values():
        members.sort(key=lambda card: (-1 if card.pretraining.seed is None else card.pretraining.seed, card.name))
    entries = {
        (card.name, card.sha256): Entry(label, tuple(members))
        for label, members in _labelled(list(rows.values()))
        for card in members
    }
    return entries, _notes(cards)


def _versions(cards: Sequence[Card]) -> list[Card]:
    """The different cards that results of one checkpoint carry, the most frequent one first."""
    versions: list[Card] = []
    for card in cards:
        if card not in versions:
            versions.append(card)
    return versions if len(versions) == 1 else sorted(versions, key=cards.count, reverse=True)


def _row(card: Card) -> Hashable:
    """A key that is equal for checkpoints that form one row."""
    if card.method == RANDOM_METHOD:
        return RANDOM_METHOD, card.architecture
    seen = card.pretraining
    if seen.group is None:
        return card.name, card.sha256
    network = card.architecture, card.stem, card.norm, card.stride_style, card.color_order, card.mean, card.std
    return card.method, seen.group, seen.epochs, seen.image_views, *network


def _labelled(rows: Sequence[list[Card]]) -> list[tuple[str, list[Card]]]:
    """Each row with a label that no other has: with a piece of its hash where the name alone would be ambiguous."""
    by_name: dict[str, list[list[Card]]] = defaultdict(list)
    for members in rows:
        by_name[_common_name(members)].append(members)
    return [
        (name if len(found) == 1 else f"{name}@{members[0].sha256[:8]}", members)
        for name, found in by_name.items()
        for members in found
    ]


def _common_name(members: Sequence[Card]) -> str:
    """What the names of a row's checkpoints have in common, or else the method's, with an `Identifier`'s characters."""
    names = sorted({card.name for card in members})
    if len(names) == 1:
        return names[0]
    common = _REST.sub("", os.path.commonprefix(names))  # noqa: RUF071 - names, not paths
    return common or _as_identifier(members[0].method)


def _as_identifier(words: str) -> str:
    # A label names folders, and a method's name may be any text, such as ../../x.
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", words).lstrip("._+-")[:80] or "unnamed"


def _notes(cards: Mapping[Checkpoint, Sequence[Card]]) -> list[str]:
    weights: dict[str, set[str]] = defaultdict(set)
    names: dict[str, set[str]] = defaultdict(set)
    for name, sha256 in cards:
        weights[name].add(sha256)
        names[sha256].add(name)
    notes = [
        f"{name}: {len(found)} checkpoints carry this name" for name, found in sorted(weights.items()) if len(found) > 1
    ]
    notes += [
        f"{', '.join(sorted(found))}: one checkpoint under {len(found)} names"
        for _, found in sorted(names.items())
        if len(found) > 1
    ]
    notes += [
        f"{name}: its results carry {len(versions)} different cards; the most frequent is shown"
        for (name, _), found in sorted(cards.items())
        if len(versions := _versions(found)) > 1
    ]
    return notes
